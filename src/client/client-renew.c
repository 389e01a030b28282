/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Asks for a window, shows how it goes, and ends with its receipt. */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/client-receipt.h>
#include <postern/client-text.h>
#include <postern/clock.h>
#include <signal.h>
#include <string.h>

#define SECOND_USEC ((uint64_t) 1000 * 1000)

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);
DEFINE_CLEANUP(json_t, json_decref);

typedef struct Renew {
        Client *client;
        const char *profile;
        char *window;       /* its object; NULL until it is open */
        json_t *properties; /* as last told; NULL until GetAll() has answered */
        bool closing;       /* Close() was called */
        bool over;          /* Wait() has answered */
        char told[16];      /* the state that was last told of, where there is no live line */
} Renew;

static void clear_line(const Renew *renew) {
        if (renew->client->live)
                fputs("\r\033[K", stderr);
}

static uint64_t time_left(const Renew *renew) {
        /* another host's boot is not ours */
        const char *name = renew->client->host ? "Deadline" : "DeadlineBoottime";
        uint64_t deadline = client_number(renew->properties, name);
        uint64_t now = clock_now(renew->client->host ? CLOCK_REALTIME : CLOCK_BOOTTIME);

        return deadline > now ? deadline - now : 0;
}

/* ": open, 80/tcp, 1:58 left, 3 connections let in" */
static void write_state(FILE *stream, const Renew *renew, const char *state) {
        const json_t *properties = renew->properties;
        uint64_t admitted = client_number(properties, "AdmittedConnections");
        bool open = strcmp(state, "open") == 0, armed = strcmp(state, "armed") == 0;
        char left[TEXT_TIME_MAX];

        fprintf(stream, ": %s", state);
        if (open || armed) {
                fputs(", ", stream);
                receipt_write_ports(stream, properties);
                if (armed)
                        fputs(" while a challenge is pending", stream);
                fprintf(stream, ", %s left", text_left(time_left(renew), left));
        }
        if (admitted > 0)
                fprintf(stream, ", %" PRIu64 " connection%s let in", admitted,
                        admitted == 1 ? "" : "s");
        if (renew->closing && (open || armed))
                fputs(", closing as you asked", stream);
}

/* A line that wraps cannot be written over: where there is no room for all of it, the profile's
 * name is what gives way, as long as some of it is left. */
static void write_live(const char *name, const char *rest) {
        enum { NAME_MIN = 8 };
        size_t width = text_width(stderr) - 1, length = strlen(rest), written;

        written = text_write(stderr, name,
                             width > length + NAME_MIN ? width - length : (size_t) NAME_MIN);
        (void) text_write(stderr, rest, width - written);
}

static void show(Renew *renew) {
        const char *state = client_string(renew->properties, "State");
        _cleanup_free_ char *rest = NULL;
        FILE *stream;
        size_t size;

        if (!renew->client->live) {
                if (strcmp(renew->told, state) == 0)
                        return;
                (void) snprintf(renew->told, sizeof(renew->told), "%s", state);
        }
        stream = open_memstream(&rest, &size);
        if (!stream)
                return;
        write_state(stream, renew, state);
        if (fclose(stream) == EOF)
                return;
        clear_line(renew);
        if (renew->client->live)
                write_live(renew->profile, rest);
        else {
                text_write(stderr, renew->profile, 0);
                text_write(stderr, rest, 0);
                fputc('\n', stderr);
        }
        fflush(stderr);
}

static int on_properties(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;
        const char *interface;

        /* what was told before GetAll() answered is older than its answer */
        if (renew->properties && client_is_from_service(renew->client, message) &&
            sd_bus_message_read(message, "s", &interface) >= 0 &&
            strcmp(interface, CLIENT_WINDOW) == 0 &&
            client_read_properties(message, renew->properties) >= 0)
                show(renew);
        return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Renew *renew = userdata;

        show(renew);
        (void) sd_event_source_set_time(source, usec + SECOND_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Over, one way or the other: status is the loop's, and then the command's. */
static void leave(Renew *renew, int status) {
        (void) sd_event_exit(renew->client->event, status);
}

static int on_over(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;
        const sd_bus_error *problem = sd_bus_message_get_error(message);

        if (!problem) {
                renew->over = true;
                leave(renew, CLIENT_OK);
                return 0;
        }
        clear_line(renew);
        if (sd_bus_is_open(renew->client->bus) <= 0) {
                (void) client_explain(renew->client, NULL, -ECONNRESET);
                /* the service ends with a bus, but not with an ssh */
                if (renew->client->host)
                        client_say("The window goes on until its renewal has ended or its time is "
                                   "up; to close it: %s close %s",
                                   renew->client->command, renew->profile);
                else
                        client_say("If the bus has ended, the window has, too, and the port is "
                                   "shut. To see whether: postern status %s",
                                   renew->profile);
                leave(renew, CLIENT_UNREACHABLE);
        } else if (client_knows_error(problem)) {
                leave(renew, client_explain(renew->client, problem, 0));
        } else {
                client_say("The service ended during the window. The port is shut all the same; "
                           "journalctl -t posternd says more");
                leave(renew, CLIENT_FAILED);
        }
        return 0;
}

/* How it ends Wait() tells. */
static int on_close(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;
        const sd_bus_error *problem = sd_bus_message_get_error(message);

        if (!problem ||
            (!sd_bus_error_has_name(problem, CLIENT_ERROR "NotAuthorized") &&
             !sd_bus_error_has_name(problem, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)))
                return 0;
        clear_line(renew);
        client_say("The window goes on without you: %s", problem->message);
        leave(renew, CLIENT_REFUSED);
        return 0;
}

static int call_async(Renew *renew, const char *member, sd_bus_message_handler_t on_reply) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(renew->client->bus, &message, CLIENT_NAME, renew->window,
                                           CLIENT_WINDOW, member);
        /* closing may take as long as a firewall elsewhere takes */
        if (r >= 0)
                r = sd_bus_call_async(renew->client->bus, NULL, message, on_reply, renew,
                                      CLIENT_NO_TIMEOUT_USEC);
        return r;
}

static void close_window(Renew *renew) {
        int r = call_async(renew, "Close", on_close);

        if (r < 0)
                leave(renew, client_fail(r));
}

/* Before the window is open there is nothing to close yet. Who leaves then takes the question back,
 * if polkit has not said yes; so it is waited for, and closed as soon as it can be. */
static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Renew *renew = userdata;

        clear_line(renew);
        if (renew->closing) {
                client_say(
                        "Not waiting any longer; the window is closed as soon as its renewal has "
                        "ended. To see whether: %s status %s",
                        renew->client->command, renew->profile);
                leave(renew, CLIENT_TOO_LATE);
                return 0;
        }
        client_say("Closing the window of %s", renew->profile);
        renew->closing = true;
        if (renew->window)
                close_window(renew);
        return 0;
}

static int on_disconnect(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;

        clear_line(renew);
        leave(renew, client_explain(renew->client, NULL, -ECONNRESET));
        return 0;
}

static int watch_signals(Renew *renew) {
        static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
        sigset_t set;
        int r = 0;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTS(signals); i++)
                sigaddset(&set, signals[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        for (size_t i = 0; r >= 0 && i < ELEMENTS(signals); i++)
                r = sd_event_add_signal(renew->client->event, NULL, signals[i], on_signal, renew);
        return r;
}

/* Without its answer nothing can be shown; what went wrong Wait() tells, too. */
static int on_facts(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;
        _cleanup_(json_decref_cleanup) json_t *properties = json_object();
        int r = 0;

        if (sd_bus_message_get_error(message) || !properties ||
            client_read_properties(message, properties) < 0)
                return 0;
        renew->properties = TAKE_POINTER(properties);
        if (renew->client->live)
                r = sd_event_add_time_relative(renew->client->event, NULL, CLOCK_MONOTONIC, 0, 0,
                                               on_tick, renew);
        if (r < 0)
                leave(renew, client_fail(r));
        show(renew);
        return 0;
}

/* The window is open, or the renewal armed: from here on it is watched. */
static int follow(Renew *renew) {
        sd_bus *bus = renew->client->bus;
        int r;

        r = sd_bus_match_signal(bus, NULL, CLIENT_NAME, renew->window,
                                "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                on_properties, renew);
        if (r >= 0)
                r = sd_bus_call_method_async(bus, NULL, CLIENT_NAME, renew->window,
                                             "org.freedesktop.DBus.Properties", "GetAll", on_facts,
                                             renew, "s", CLIENT_WINDOW);
        if (r >= 0)
                r = call_async(renew, "Wait", on_over);
        if (r < 0)
                return client_fail(r);
        if (renew->closing)
                close_window(renew);
        return 0;
}

static int print_id(const Renew *renew) {
        const char *id = strrchr(renew->window, '/') + 1;
        _cleanup_(json_decref_cleanup) json_t *object =
                json_pack("{ssss}", "profile", renew->profile, "window", id);

        if (renew->client->json)
                return object ? client_print_json(object) : client_fail(ENOMEM);
        puts(id);
        return CLIENT_OK;
}

static int request(Renew *renew);

static int on_requested(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Renew *renew = userdata;
        Client *client = renew->client;
        const sd_bus_error *problem = sd_bus_message_get_error(reply);
        const char *path;
        int r;

        clear_line(renew);
        if (problem && !client->asking && client->can_ask && !renew->closing &&
            sd_bus_error_has_name(problem, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)) {
                r = client_start_agent(client);
                if (r >= 0)
                        r = request(renew);
                if (r < 0)
                        leave(renew, client_fail(r));
                return 0;
        }
        if (problem) {
                leave(renew, client_explain(client, problem, 0));
                return 0;
        }
        r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0) {
                renew->window = strdup(path);
                r = renew->window ? 0 : -ENOMEM;
        }
        if (r < 0) {
                leave(renew, client_fail(r));
                return 0;
        }
        if (!client->wait && !renew->closing)
                leave(renew, print_id(renew));
        else {
                r = follow(renew);
                if (r != 0)
                        leave(renew, r);
        }
        return 0;
}

static int request(Renew *renew) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *message = NULL;
        Client *client = renew->client;
        int r;

        r = sd_bus_message_new_method_call(client->bus, &message, CLIENT_NAME, CLIENT_ROOT,
                                           CLIENT_MANAGER, "RequestWindow");
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(message, client->asking);
        if (r >= 0)
                r = sd_bus_message_append(message, "stt", renew->profile, client->duration_usec,
                                          (uint64_t) 0);
        if (r >= 0)
                r = sd_bus_call_async(client->bus, NULL, message, on_requested, renew,
                                      CLIENT_NO_TIMEOUT_USEC);
        return r;
}

int client_renew(Client *client, const char *profile) {
        Renew renew = {.client = client, .profile = profile};
        int r;

        if (client->live)
                write_live(profile, ": asking");
        r = watch_signals(&renew);
        if (r >= 0)
                r = sd_bus_match_signal(client->bus, NULL, "org.freedesktop.DBus.Local", NULL,
                                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnect,
                                        &renew);
        if (r >= 0)
                r = request(&renew);
        if (r >= 0)
                r = sd_event_loop(client->event);
        clear_line(&renew);
        if (r < 0)
                r = client_fail(r);
        else if (renew.over)
                r = receipt_print(client, profile, renew.window);
        json_decref(renew.properties);
        free(renew.window);
        return r;
}
