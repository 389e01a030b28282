/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Talking to the service, and saying what it answered. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <postern/cleanup.h>
#include <postern/client.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);
DEFINE_CLEANUP(json_t, json_decref);

int client_connect(Client *client) {
        int r;

        r = client->host ? client_open_remote(client)
                         : sd_bus_open_system_with_description(&client->bus, "postern");
        if (r >= 0)
                r = sd_event_default(&client->event);
        if (r >= 0)
                r = sd_bus_attach_event(client->bus, client->event, 0);
        /* after the loop there are questions left */
        if (r >= 0)
                r = sd_bus_set_close_on_exit(client->bus, 0);
        if (r < 0) {
                client_explain(client, NULL, r);
                return CLIENT_UNREACHABLE;
        }
        return 0;
}

static void end_agent(Client *client) {
        if (client->agent <= 0)
                return;
        (void) kill(client->agent, SIGTERM);
        (void) kill(client->agent, SIGCONT);
        while (waitpid(client->agent, NULL, 0) < 0 && errno == EINTR)
                ;
        client->agent = 0;
}

void client_disconnect(Client *client) {
        end_agent(client);
        free(client->owner);
        free(client->command);
        /* flushing waits for a connection that an ssh may never make */
        if (sd_bus_is_ready(client->bus) > 0)
                (void) sd_bus_flush(client->bus);
        sd_bus_close_unref(client->bus);
        client_end_remote(client);
        sd_event_unref(client->event);
}

/* Where there is a session, and an agent of its own in a desktop, that one is to ask (--fallback);
 * but without a session polkit does not find one that would stand back. */
int client_start_agent(Client *client) {
        _cleanup_free_ char *session = NULL;
        const char *stand_back = NULL;
        char fd[16];
        int pipe_fds[2];
        struct pollfd ready;

        /* systemd 252 takes no NULL for the name that nobody wants */
        if (sd_pid_get_session(0, &session) >= 0)
                stand_back = "--fallback";
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -errno;
        client->agent = fork();
        if (client->agent < 0) {
                close(pipe_fds[0]);
                close(pipe_fds[1]);
                return -errno;
        }
        if (client->agent == 0) {
                sigset_t none;

                sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
                (void) fcntl(pipe_fds[1], F_SETFD, 0);
                (void) snprintf(fd, sizeof(fd), "%d", pipe_fds[1]);
                execlp("pkttyagent", "pkttyagent", "--notify-fd", fd, stand_back, NULL);
                _exit(127);
        }
        close(pipe_fds[1]);
        ready = (struct pollfd){.fd = pipe_fds[0], .events = POLLIN};
        /* it closes its end when it is registered, and when there is no such program */
        while (poll(&ready, 1, -1) < 0 && errno == EINTR)
                ;
        close(pipe_fds[0]);
        client->asking = true;
        return 0;
}

typedef struct ErrorStatus {
        const char *name;
        ClientStatus status;
} ErrorStatus;

static const ErrorStatus statuses[] = {
        {CLIENT_ERROR "NotAuthorized", CLIENT_REFUSED},
        {SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, CLIENT_REFUSED},
        {CLIENT_ERROR "NoSuchProfile", CLIENT_USAGE},
        {CLIENT_ERROR "BadProfile", CLIENT_USAGE},
        {CLIENT_ERROR "BadDuration", CLIENT_USAGE},
        {CLIENT_ERROR "BadFlags", CLIENT_USAGE},
        {CLIENT_ERROR "NoSuchWindow", CLIENT_FAILED},
        {CLIENT_ERROR "RateLimited", CLIENT_LATER},
        {CLIENT_ERROR "TooManyWindows", CLIENT_LATER},
        {CLIENT_ERROR "GateFailed", CLIENT_FAILED},
        {CLIENT_ERROR "RunFailed", CLIENT_FAILED},
        {CLIENT_ERROR "RenewalFailed", CLIENT_FAILED},
        {CLIENT_ERROR "Stopped", CLIENT_FAILED},
        {CLIENT_ERROR "TimedOut", CLIENT_TOO_LATE},
        {CLIENT_ERROR "Canceled", CLIENT_TOO_LATE},
};

static int explain_unreachable(const Client *client, const char *reason) {
        if (client->host)
                client_say("The service on %s could not be reached: %s. See that ssh %s works "
                           "without a question, that postern is installed there, and that "
                           "you may use its system bus",
                           client->host, reason, client->host);
        else
                client_say("The service could not be reached: %s. See that the system bus runs and "
                           "postern is installed: systemctl status dbus posternd",
                           reason);
        return CLIENT_UNREACHABLE;
}

bool client_knows_error(const sd_bus_error *error) {
        for (size_t i = 0; i < ELEMENTS(statuses); i++)
                if (strcmp(statuses[i].name, error->name) == 0)
                        return true;
        return false;
}

bool client_is_from_service(Client *client, sd_bus_message *message) {
        const char *sender = sd_bus_message_get_sender(message), *owner;
        sd_bus_creds *creds = NULL;

        if (!sender)
                return false;
        if (client->owner && strcmp(client->owner, sender) == 0)
                return true;
        /* another one since, or somebody else */
        if (sd_bus_get_name_creds(client->bus, CLIENT_NAME, SD_BUS_CREDS_UNIQUE_NAME, &creds) < 0)
                return false;
        free(client->owner);
        client->owner = sd_bus_creds_get_unique_name(creds, &owner) < 0 ? NULL : strdup(owner);
        sd_bus_creds_unref(creds);
        return client->owner && strcmp(client->owner, sender) == 0;
}

int client_explain(const Client *client, const sd_bus_error *error, int r) {
        if (!error || !error->name)
                return explain_unreachable(client, strerror(r < 0 ? -r : r));

        for (size_t i = 0; i < ELEMENTS(statuses); i++) {
                if (strcmp(statuses[i].name, error->name) != 0)
                        continue;
                client_say("%s", error->message);
                if (statuses[i].status == CLIENT_REFUSED && client->host)
                        client_say(
                                "Nobody can be asked for a password over ssh: the user there has "
                                "to be in the group postern, or a polkit rule allow it");
                return statuses[i].status;
        }
        return explain_unreachable(client, error->message ? error->message : error->name);
}

static int call_once(Client *client, const char *path, const char *interface, const char *member,
                     sd_bus_message **ret, sd_bus_error *error, const char *types, va_list list) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(client->bus, &message, CLIENT_NAME, path, interface,
                                           member);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(message, client->asking);
        if (r >= 0 && types)
                r = sd_bus_message_appendv(message, types, list);
        if (r >= 0)
                r = sd_bus_call(client->bus, message, CLIENT_NO_TIMEOUT_USEC, error, ret);
        return r;
}

int client_call(Client *client, const char *path, const char *interface, const char *member,
                sd_bus_message **ret, const char *types, ...) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list list;
        int r;

        for (;;) {
                va_start(list, types);
                r = call_once(client, path, interface, member, ret, &error, types, list);
                va_end(list);
                if (r >= 0)
                        return 0;
                if (client->asking || !client->can_ask ||
                    !sd_bus_error_has_name(&error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                        return client_explain(client, &error, r);
                sd_bus_error_free(&error);
                r = client_start_agent(client);
                if (r < 0)
                        return client_fail(r);
        }
}

int client_properties(Client *client, const char *path, const char *interface, json_t **ret) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *reply = NULL;
        _cleanup_(json_decref_cleanup) json_t *object = json_object();
        int r;

        r = client_call(client, path, "org.freedesktop.DBus.Properties", "GetAll", &reply, "s",
                        interface);
        if (r != 0)
                return r;
        r = object ? client_read_properties(reply, object) : -ENOMEM;
        if (r < 0)
                return client_fail(r);
        *ret = TAKE_POINTER(object);
        return 0;
}

static int call_for_list(Client *client, const char *method, const char *types,
                         const char *const *members, json_t **ret) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *reply = NULL;
        int r;

        r = client_call(client, CLIENT_ROOT, CLIENT_MANAGER, method, &reply, NULL);
        if (r != 0)
                return r;
        r = client_read_list(reply, types, members, ret);
        return r < 0 ? client_fail(r) : 0;
}

int client_list_profiles(Client *client, json_t **ret) {
        static const char *const members[] = {"name", "description", "path", "problem"};

        return call_for_list(client, "ListProfiles", "ssos", members, ret);
}

int client_list_windows(Client *client, json_t **ret) {
        static const char *const members[] = {"id", "profile", "uid", "deadline", "path"};

        return call_for_list(client, "ListWindows", "ssuto", members, ret);
}

int client_find_profile(Client *client, const char *name, json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *profiles = NULL;
        json_t *profile;
        size_t i;
        int r;

        r = client_list_profiles(client, &profiles);
        if (r != 0)
                return r;
        json_array_foreach(profiles, i, profile) {
                if (strcmp(client_string(profile, "name"), name) != 0)
                        continue;
                *ret = json_incref(profile);
                return 0;
        }
        client_say("There is no profile %s: see %s list for those there are", name,
                   client->command);
        return CLIENT_USAGE;
}

const char *client_string(const json_t *object, const char *name) {
        const char *text = json_string_value(json_object_get(object, name));

        return text ? text : "";
}

uint64_t client_number(const json_t *object, const char *name) {
        return (uint64_t) json_integer_value(json_object_get(object, name));
}
