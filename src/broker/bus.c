/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The connection, the one table of what each method demands, and the answers.
 *
 * Nothing here waits: the name, like everything, is asked for asynchronously.
 */

#include <errno.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/log.h>
#include <string.h>

/* A Call is the message that made it, with a reference of its own. */
#define CALL_TO_MESSAGE(call)    ((sd_bus_message *) (call))
#define MESSAGE_TO_CALL(message) ((Call *) (message))

static void message_unref_cleanup(sd_bus_message **message) {
        sd_bus_message_unref(*message);
}

/*
 * Every method of every interface, and what it demands. One that is not in here is refused, even if
 * an object had it. Reading is open to every local user, and so is waiting for what can be read.
 * What CLOSE_WINDOW and READ_LOG demand, they demand for somebody else's window.
 */
static const struct {
        const char *interface;
        const char *member;
        AuthorityAction action;
} bus_methods[] = {
        {BUS_MANAGER_INTERFACE, "Renew", ACTION_REQUEST_WINDOW},
        {BUS_MANAGER_INTERFACE, "RequestWindow", ACTION_REQUEST_WINDOW},
        {BUS_MANAGER_INTERFACE, "ListProfiles", ACTION_NOT_NEEDED},
        {BUS_MANAGER_INTERFACE, "ListWindows", ACTION_NOT_NEEDED},
        {BUS_MANAGER_INTERFACE, "Check", ACTION_NOT_NEEDED},
        {BUS_WINDOW_INTERFACE, "Close", ACTION_CLOSE_WINDOW},
        {BUS_WINDOW_INTERFACE, "Wait", ACTION_NOT_NEEDED},
        {BUS_WINDOW_INTERFACE, "GetLog", ACTION_READ_LOG},
        {"org.freedesktop.DBus.Properties", "Get", ACTION_NOT_NEEDED},
        {"org.freedesktop.DBus.Properties", "GetAll", ACTION_NOT_NEEDED},
        {"org.freedesktop.DBus.Introspectable", "Introspect", ACTION_NOT_NEEDED},
        {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ACTION_NOT_NEEDED},
        {"org.freedesktop.DBus.Peer", "Ping", ACTION_NOT_NEEDED},
        {"org.freedesktop.DBus.Peer", "GetMachineId", ACTION_NOT_NEEDED},
};

AuthorityAction bus_get_action(sd_bus_message *message) {
        const char *interface = sd_bus_message_get_interface(message);
        const char *member = sd_bus_message_get_member(message);

        /* without an interface a call is ambiguous: refused like one that is unknown */
        for (size_t i = 0; interface && member && i < ELEMENTS(bus_methods); i++)
                if (strcmp(bus_methods[i].interface, interface) == 0 &&
                    strcmp(bus_methods[i].member, member) == 0)
                        return bus_methods[i].action;
        return ACTION_INVALID;
}

/*
 * What reads profiles, or looks which there are. It takes milliseconds where there are a hundred,
 * everybody may ask for it, and a bus lets one uid have some ten thousand calls under way: as many
 * renewals would have to wait behind them. So all of these together get a tenth of the daemon's
 * time, and a few hundredths of a second in advance.
 */
enum {
        LISTINGS_SHARE = 10,
        LISTINGS_ADVANCE_USEC = LISTINGS_SHARE * 30 * 1000,
};

static bool bus_is_listing(sd_bus_message *message) {
        if (sd_bus_message_is_method_call(message, BUS_MANAGER_INTERFACE, "ListProfiles") > 0 ||
            sd_bus_message_is_method_call(message, "org.freedesktop.DBus.ObjectManager",
                                          "GetManagedObjects") > 0)
                return true;
        /* sd-bus looks for all that there is below a path */
        if (strcmp(sd_bus_message_get_interface(message), "org.freedesktop.DBus.Introspectable") ==
            0)
                return strncmp(sd_bus_message_get_path(message), BUS_WINDOW_PREFIX,
                               sizeof(BUS_WINDOW_PREFIX) - 1) != 0;
        return strcmp(sd_bus_message_get_interface(message), "org.freedesktop.DBus.Properties") ==
                       0 &&
               strncmp(sd_bus_message_get_path(message), BUS_PROFILE_PREFIX "/",
                       sizeof(BUS_PROFILE_PREFIX "/") - 1) == 0;
}

/* sd-bus answers two of them itself, and has done so when its turn of the event loop is over. */
void bus_on_turn(Bus *bus) {
        uint64_t now = clock_now(CLOCK_MONOTONIC), spent;

        if (bus->listing_begun == 0)
                return;
        spent = clock_now(CLOCK_THREAD_CPUTIME_ID) - bus->listing_begun;
        if (bus->listings_paid_off < now)
                bus->listings_paid_off = now;
        bus->listings_paid_off += spent * LISTINGS_SHARE;
        /* nobody pays for long after a flood */
        if (bus->listings_paid_off > now + 2 * LISTINGS_ADVANCE_USEC)
                bus->listings_paid_off = now + 2 * LISTINGS_ADVANCE_USEC;
        bus->listing_begun = 0;
}

/* One more in a second for each program, when there is no time left for those that want many. */
static bool bus_allow_lister(Bus *bus, const char *sender, uint64_t now) {
        BusLister *unused = NULL;

        for (size_t i = 0; i < BUS_LISTERS; i++) {
                BusLister *lister = &bus->listers[i];

                if (lister->until <= now)
                        unused = lister;
                else if (strcmp(lister->name, sender) == 0)
                        return false;
        }
        if (!unused || strlen(sender) >= sizeof(unused->name))
                return false;
        (void) snprintf(unused->name, sizeof(unused->name), "%s", sender);
        unused->until = now + BUS_LISTER_USEC;
        return true;
}

static bool bus_allow_listing(Bus *bus, sd_bus_message *message) {
        uint64_t now = clock_now(CLOCK_MONOTONIC);
        const char *sender = sd_bus_message_get_sender(message);

        if (bus->listings_paid_off > now + LISTINGS_ADVANCE_USEC &&
            !bus_allow_lister(bus, sender ? sender : "", now))
                return false;
        bus->listing_begun = clock_now(CLOCK_THREAD_CPUTIME_ID);
        return true;
}

/* Sees every message before any object does. */
static int bus_on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;
        uint8_t type;
        int r = sd_bus_message_get_type(message, &type);

        if (r < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return r;
        bus->n_calls++;
        if (bus_get_action(message) == ACTION_INVALID)
                return sd_bus_error_set(error, SD_BUS_ERROR_UNKNOWN_METHOD,
                                        "There is no such method, or it is not offered; name its "
                                        "interface, and see Introspect.");
        /* Nobody is to hear it. The bus counts only calls that it owes an answer, so of these there
         * may be any number. */
        if (bus_get_action(message) == ACTION_NOT_NEEDED &&
            sd_bus_message_get_expect_reply(message) == 0)
                return 1;
        r = bus_check_names(bus, message, error);
        if (r == 0 && bus_is_listing(message) && !bus_allow_listing(bus, message))
                return sd_bus_error_set(
                        error, outcome_to_error_name(OUTCOME_RATE_LIMITED),
                        "Profiles are being asked about too much; ask again in a second.");
        return r;
}

static int bus_on_lost(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;

        bus->callback(BUS_LOST, bus->userdata);
        return 0;
}

static int bus_on_name(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        enum { PRIMARY_OWNER = 1, IN_QUEUE, EXISTS, ALREADY_OWNER };
        Bus *bus = userdata;
        const sd_bus_error *failure = sd_bus_message_get_error(reply);
        uint32_t answer = 0;

        if (!failure && sd_bus_message_read(reply, "u", &answer) >= 0 &&
            (answer == PRIMARY_OWNER || answer == ALREADY_OWNER)) {
                bus->callback(BUS_READY, bus->userdata);
                return 0;
        }

        if (failure && sd_bus_error_has_name(failure, SD_BUS_ERROR_ACCESS_DENIED))
                log_error("The bus does not grant the name " BUS_NAME ". Is its policy installed "
                          "(" BUS_NAME ".conf in system.d), and does this run as root or the "
                          "service's user?");
        else if (failure)
                log_error("The bus did not give the name " BUS_NAME
                          ": %s. See systemctl status dbus.",
                          failure->message ? failure->message : failure->name);
        else
                log_error("The name " BUS_NAME " is taken: another posternd is running. End that "
                          "one first.");
        bus->callback(BUS_REFUSED, bus->userdata);
        return 0;
}

Call *bus_call_new(sd_bus_message *message) {
        return MESSAGE_TO_CALL(sd_bus_message_ref(message));
}

void bus_fill_caller(sd_bus_message *message, Caller *ret) {
        *ret = (Caller){
                .sender = sd_bus_message_get_sender(message),
                .interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0,
                .action = bus_get_action(message),
        };
}

static int bus_reply_log(sd_bus_message *call, const Answer *answer) {
        _cleanup_(message_unref_cleanup) sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(call, &reply);

        if (r >= 0)
                r = sd_bus_message_append_strv(reply, (char **) answer->lines);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r;
}

static int bus_reply(Bus *bus, sd_bus_message *call, const Answer *answer) {
        char path[BUS_WINDOW_PATH_MAX] = "";
        const char *result = "";
        int exit_status = -1;

        if (answer->renewal) {
                bus_window_format_path(answer->renewal, path);
                result = window_result_to_string(answer->renewal->window.result);
                exit_status = answer->renewal->window.exit_status;
        }

        switch (answer->kind) {
        case REQUEST_RENEW:
                return sd_bus_reply_method_return(call, "sio", result, exit_status, path);
        case REQUEST_WINDOW:
                return sd_bus_reply_method_return(call, "o", path);
        case REQUEST_CLOSE:
                return sd_bus_reply_method_return(call, NULL);
        case REQUEST_WAIT:
                return sd_bus_reply_method_return(call, "si", result, exit_status);
        case REQUEST_LOG:
                return bus_reply_log(call, answer);
        case REQUEST_CHECK:
                return bus_manager_reply_check(call, answer);
        }
        return -EINVAL;
}

/* What nobody has foreseen: sd-bus knows a name for it, and a person needs more than that. */
static int bus_reply_errno(sd_bus_message *call, int error) {
        return sd_bus_reply_method_errnof(call, error,
                                          "The service could not do that (%s): see journalctl -t "
                                          "posternd, and ask again.",
                                          strerror(-error));
}

static void bus_answer(Call *call, const Answer *answer, void *userdata) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = CALL_TO_MESSAGE(call);
        int r;

        if (answer->outcome < 0)
                r = bus_reply_errno(message, answer->outcome);
        else if (answer->outcome != OUTCOME_OK)
                r = sd_bus_reply_method_errorf(message,
                                               outcome_to_error_name((Outcome) answer->outcome),
                                               "%s", answer->text);
        else {
                r = bus_reply(userdata, message, answer);
                if (r < 0) /* nobody is left waiting */
                        r = bus_reply_errno(message, r);
        }

        if (r < 0 && r != -ENOTCONN && r != -ECONNRESET)
                log_error("Cannot answer a call: %s", strerror(-r));
}

static void bus_on_added(const Renewal *renewal, void *userdata) {
        bus_window_emit_added(userdata, renewal);
        bus_manager_emit(userdata, "OpenWindows");
}

static void bus_on_changed(const Renewal *renewal, void *userdata) {
        bus_window_emit_changed(userdata, renewal);
}

static void bus_on_opened(const Renewal *renewal, void *userdata) {
        bus_manager_emit_opened(userdata, renewal);
}

static void bus_on_closed(const Renewal *renewal, void *userdata) {
        bus_manager_emit_closed(userdata, renewal);
        bus_manager_emit(userdata, "OpenWindows");
        bus_profile_emit_closed(userdata, renewal->profile->name);
}

static void bus_on_forgotten(const Renewal *renewal, void *userdata) {
        bus_window_emit_removed(userdata, renewal);
}

static void bus_on_owed(const char *profile, void *userdata) {
        bus_manager_emit(userdata, "OwedCloses");
        bus_profile_emit_owed(userdata, profile);
}

const BrokerObserver bus_observer = {
        .answer = bus_answer,
        .added = bus_on_added,
        .changed = bus_on_changed,
        .opened = bus_on_opened,
        .closed = bus_on_closed,
        .forgotten = bus_on_forgotten,
        .owed = bus_on_owed,
};

int bus_append_ports(sd_bus_message *message, const Profile *profile) {
        int r = sd_bus_message_open_container(message, 'a', "s");

        for (size_t i = 0; r >= 0 && i < profile->n_ports; i++) {
                char port[16];

                (void) snprintf(port, sizeof(port), "%u/%s", profile->ports[i].number,
                                protocol_to_string(profile->ports[i].protocol));
                r = sd_bus_message_append(message, "s", port);
        }
        return r < 0 ? r : sd_bus_message_close_container(message);
}

int bus_connect(sd_bus **ret, sd_event *event) {
        sd_bus *connection = NULL;
        int r = sd_bus_open_system(&connection);

        if (r < 0) {
                const char *address = getenv("DBUS_SYSTEM_BUS_ADDRESS");

                log_error("Cannot reach the system bus (%s): %s. Is it running (systemctl status "
                          "dbus)? $DBUS_SYSTEM_BUS_ADDRESS names another one.",
                          address ? address : "/run/dbus/system_bus_socket", strerror(-r));
                return r;
        }

        /* losing the bus is no reason to drop dead: windows are closed first */
        r = sd_bus_set_exit_on_disconnect(connection, 0);
        if (r >= 0)
                r = sd_bus_attach_event(connection, event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0) {
                sd_bus_close_unref(connection);
                return r;
        }

        *ret = connection;
        return 0;
}

bool bus_is_flushed(Bus *bus) {
        uint64_t n = 0;

        return sd_bus_is_open(bus->connection) <= 0 ||
               sd_bus_get_n_queued_write(bus->connection, &n) < 0 || n == 0;
}

int bus_new(Bus **ret, sd_bus *connection, BusCallback callback, void *userdata) {
        Bus *bus = calloc(1, sizeof(*bus));

        if (!bus)
                return -ENOMEM;
        bus->connection = sd_bus_ref(connection);
        bus->callback = callback;
        bus->userdata = userdata;
        *ret = bus;
        return 0;
}

int bus_serve(Bus *bus, Broker *broker) {
        int r;

        bus->broker = broker;

        r = sd_bus_add_filter(bus->connection, NULL, bus_on_message, bus);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus->connection, NULL, "org.freedesktop.DBus.Local",
                                              "/org/freedesktop/DBus/Local",
                                              "org.freedesktop.DBus.Local", "Disconnected",
                                              bus_on_lost, NULL, bus);
        if (r >= 0)
                r = sd_bus_add_object_manager(bus->connection, NULL, BUS_PATH);
        if (r >= 0)
                r = bus_manager_add(bus);
        if (r >= 0)
                r = bus_window_add(bus);
        if (r >= 0)
                r = bus_profile_add(bus);
        return r;
}

int bus_take_name(Bus *bus) {
        return sd_bus_request_name_async(bus->connection, NULL, BUS_NAME, 0, bus_on_name, bus);
}

/* The answer stands in the queue behind every call that came before it. */
static int bus_on_released(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;

        bus->callback(BUS_RELEASED, bus->userdata);
        return 0;
}

int bus_release_name(Bus *bus) {
        return sd_bus_release_name_async(bus->connection, NULL, BUS_NAME, bus_on_released, bus);
}

uint64_t bus_count_calls(const Bus *bus) {
        return bus->n_calls;
}

Bus *bus_free(Bus *bus) {
        if (!bus)
                return NULL;
        bus_window_forget_all(bus);
        bus_profile_forget(bus);
        sd_bus_close_unref(bus->connection);
        free(bus);
        return NULL;
}
