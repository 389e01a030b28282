/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The service over a socket: calls of several callers, what the bus driver and polkit answer, what
 * runs and doors do meanwhile, and bytes that are no message at all, in any order.
 *
 * The input is a program for the other end: each step is a byte that says what, and some that say
 * how. Whatever it does: nothing is opened or started that polkit has not granted, nobody reads a
 * log without a right to it, each call is answered once, and in the end all is shut.
 */

#include "fake-world.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEPS_MAX = 64, CALLERS = 4, CALLS_MAX = STEPS_MAX, QUESTIONS_MAX = 64, TURNS_MAX = 10000 };

#define OURS ":1.9" /* the service's unique name */

typedef struct SentCall {
        uint64_t cookie;
        unsigned caller;
        bool answered, wants_log;
} SentCall;

static struct {
        const uint8_t *data;
        size_t size;

        sd_event *event;
        sd_bus *theirs;
        Bus *bus;
        Broker *broker;

        SentCall calls[CALLS_MAX];
        size_t n_calls;
        sd_bus_message *questions[QUESTIONS_MAX]; /* of the service's, oldest first */
        size_t n_questions;
        bool lost;

        bool opening_granted[CALLERS + 1], log_granted[CALLERS + 1];
        bool profile_granted[FAKE_PROFILES];
} world;

static uint8_t take_byte(void) {
        if (world.size == 0)
                return 0;
        world.size--;
        return *world.data++;
}

static uint64_t take_number(void) {
        static const uint64_t likely[] = {0, 1, 1000000, 60000000, 3600000000, 3600000001};
        uint8_t first = take_byte();
        uint64_t number = 0;

        if (first < 128)
                return likely[first % ELEMENTS(likely)];
        for (int i = 0; i < (first & 7) + 1; i++)
                number = number << 8 | take_byte();
        return number;
}

/* Good until the next. */
static const char *take_text(bool plain) {
        static char text[256];
        size_t n = take_byte(), i = 0;

        for (; i < n && world.size > 0; i++) {
                text[i] = (char) take_byte();
                if (!text[i] || (plain && (text[i] < ' ' || text[i] > '~')))
                        text[i] = '?';
        }
        text[i] = 0;
        return text;
}

static const char *const senders[CALLERS] = {":1.1", ":1.2", ":1.3", ":1.77"};
/* the last is of whoever else calls, in bytes that are a message after all */
static const uint32_t uids[CALLERS + 1] = {0, 1000, 1001, 65534, 1234};

static unsigned find_sender(const char *name) {
        for (unsigned i = 0; i < CALLERS; i++)
                if (strcmp(senders[i], name) == 0)
                        return i;
        return CALLERS;
}

static bool may_open(const char *profile) {
        for (unsigned i = 0; i < ELEMENTS(world.profile_granted); i++)
                if (strcmp(fake_profile_at(i), profile) == 0)
                        return world.profile_granted[i];
        return false;
}

static void on_news(BusNews news, void *userdata) {
        if (news == BUS_LOST)
                world.lost = true;
}

static void on_answer(sd_bus_message *message) {
        uint64_t cookie;

        if (world.lost) /* bytes may have been a call with the cookie of another */
                return;
        require(sd_bus_message_get_reply_cookie(message, &cookie) >= 0);
        for (size_t i = 0; i < world.n_calls; i++) {
                SentCall *call = &world.calls[i];

                if (call->cookie != cookie)
                        continue;
                require(!call->answered);
                call->answered = true;
                if (call->wants_log && !sd_bus_message_is_method_error(message, NULL))
                        require(world.opening_granted[call->caller] ||
                                world.log_granted[call->caller]);
        }
}

static int on_inhibit(sd_bus_message *message) {
        int fd, r;

        if (fake_world.door_breaks)
                return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_ACCESS_DENIED, "no");
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        require(fd >= 0);
        r = sd_bus_reply_method_return(message, "h", fd);
        close(fd);
        return r;
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        uint8_t type = 0;

        (void) sd_bus_message_get_type(message, &type);
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus", "Hello") > 0)
                return sd_bus_reply_method_return(message, "s", OURS);
        /* what is asked about no caller is answered here: a seed means the same when there is more
         * of it */
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus", "AddMatch") > 0)
                return sd_bus_reply_method_return(message, NULL);
        if (sd_bus_message_is_method_call(message, "org.freedesktop.login1.Manager", "Inhibit") > 0)
                return on_inhibit(message);
        if (type == SD_BUS_MESSAGE_METHOD_RETURN || type == SD_BUS_MESSAGE_METHOD_ERROR)
                on_answer(message);
        else if (type == SD_BUS_MESSAGE_METHOD_CALL &&
                 sd_bus_message_get_expect_reply(message) > 0 && world.n_questions < QUESTIONS_MAX)
                world.questions[world.n_questions++] = sd_bus_message_ref(message);
        return 1;
}

/* Until nobody has anything more to say. */
static void settle(void) {
        for (unsigned i = 0; i < TURNS_MAX; i++) {
                int ours = sd_event_run(world.event, 0);
                int theirs = sd_bus_process(world.theirs, NULL);

                if (ours <= 0 && theirs <= 0)
                        return;
        }
        require(false); /* it turns without end */
}

static const char *take_path(void) {
        static char path[sizeof(BUS_PROFILE_PREFIX) + 300];
        const Renewal *renewal = world.broker->renewals;
        uint8_t which = take_byte();

        strcpy(path, BUS_PATH);
        if (which < 0x80) {
                for (int i = which % 8; renewal && i > 0; i--)
                        renewal = renewal->next;
                if (renewal)
                        bus_window_format_path(renewal, path);
                else if (which & 0x40)
                        strcpy(path, BUS_WINDOW_PREFIX "/w000000000000");
        } else if (which < 0xc0)
                (void) snprintf(path, sizeof(path), "%s/%s", BUS_PROFILE_PREFIX,
                                fake_profile_name(which));
        else if (which < 0xd0) {
                (void) snprintf(path, sizeof(path), "%s", take_text(true));
                if (!sd_bus_object_path_is_valid(path))
                        strcpy(path, "/");
        } else if (which < 0xd8)
                strcpy(path, BUS_WINDOW_PREFIX);
        else if (which < 0xe0)
                strcpy(path, BUS_PROFILE_PREFIX);
        else if (which < 0xf0)
                (void) snprintf(path, sizeof(path), "%s/%s", BUS_PROFILE_PREFIX,
                                fake_profile_name(which));
        return path;
}

static const char *take_profile(void) {
        uint8_t which = take_byte();

        return which < 0xf0 ? fake_profile_name(which) : take_text(false);
}

static int append_arguments(sd_bus_message *message, const char *signature) {
        int r = 0;

        for (; *signature && r >= 0; signature++)
                switch (*signature) {
                case 's':
                        r = sd_bus_message_append(message, "s", take_profile());
                        break;
                case 't':
                        r = sd_bus_message_append(message, "t", take_number());
                        break;
                case 'u':
                        r = sd_bus_message_append(message, "u", (uint32_t) take_number());
                        break;
                case 'v':
                        r = sd_bus_message_append(message, "v", "s", take_text(false));
                        break;
                case 'a':
                        r = sd_bus_message_append(message, "a{sv}", 1, "a", "t", take_number());
                        break;
                default:
                        require(false);
                }
        return r;
}

static const struct {
        const char *interface, *member, *signature;
} methods[] = {
        {BUS_MANAGER_INTERFACE, "Renew", "stt"},
        {BUS_MANAGER_INTERFACE, "RequestWindow", "stt"},
        {BUS_MANAGER_INTERFACE, "ListProfiles", ""},
        {BUS_MANAGER_INTERFACE, "ListWindows", ""},
        {BUS_MANAGER_INTERFACE, "Check", "s"},
        {BUS_WINDOW_INTERFACE, "Close", ""},
        {BUS_WINDOW_INTERFACE, "Wait", ""},
        {BUS_WINDOW_INTERFACE, "GetLog", "u"},
        {"org.freedesktop.DBus.Properties", "Get", NULL},
        {"org.freedesktop.DBus.Properties", "GetAll", NULL},
        {"org.freedesktop.DBus.Properties", "Set", NULL},
        {"org.freedesktop.DBus.Introspectable", "Introspect", ""},
        {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""},
        {"org.freedesktop.DBus.Peer", "Ping", ""},
        {BUS_WINDOW_INTERFACE, "Extend", "t"},
        {NULL, "Close", ""},
        {"org.freedesktop.DBus.Peer", "GetMachineId", ""},
};

static const char *const properties[] = {"Version",
                                         "OpenWindows",
                                         "Id",
                                         "Profile",
                                         "State",
                                         "Result",
                                         "ExitStatus",
                                         "OpenedBy",
                                         "Ports",
                                         "Gate",
                                         "OpenedAt",
                                         "Deadline",
                                         "ClosedAt",
                                         "DeadlineBoottime",
                                         "AdmittedConnections",
                                         "Hint",
                                         "Name",
                                         "NotAfter",
                                         "Description",
                                         "MaxDuration",
                                         "LastResult",
                                         "LastClosedAt",
                                         "NotBefore",
                                         "SerialNumber",
                                         "SerialNumberBefore",
                                         "NotAfterBefore",
                                         "Names",
                                         "NamesLeftOut",
                                         "SourceNetworks",
                                         "SourceNetworksComplete",
                                         "OwedCloses",
                                         "CloseOwed"};

static int append_property(sd_bus_message *message, const char *member) {
        static const char *const interfaces[] = {BUS_MANAGER_INTERFACE, BUS_WINDOW_INTERFACE,
                                                 BUS_PROFILE_INTERFACE, ""};
        const char *interface = interfaces[take_byte() % ELEMENTS(interfaces)];
        int r = sd_bus_message_append(message, "s", interface);

        if (r >= 0 && strcmp(member, "GetAll") != 0)
                r = sd_bus_message_append(message, "s",
                                          properties[take_byte() % ELEMENTS(properties)]);
        if (r >= 0 && strcmp(member, "Set") == 0)
                r = append_arguments(message, "v");
        return r;
}

static void send_message(sd_bus_message *message, unsigned caller) {
        uint8_t how = take_byte();
        bool is_log = strcmp(sd_bus_message_get_member(message), "GetLog") == 0;
        uint64_t cookie = 0;

        if (sd_bus_message_set_sender(message, senders[caller]) < 0)
                return;
        if ((how & 7) == 1)
                (void) sd_bus_message_set_expect_reply(message, 0);
        if (how & 8)
                (void) sd_bus_message_set_allow_interactive_authorization(message, 1);
        if (sd_bus_send(world.theirs, message, &cookie) < 0)
                return;
        if ((how & 7) != 1 && world.n_calls < CALLS_MAX)
                world.calls[world.n_calls++] =
                        (SentCall){.cookie = cookie, .caller = caller, .wants_log = is_log};
}

static void step_call(void) {
        static const char *const others[] = {"", "s", "stta", "ts", "stts", "u", "v", "ssss"};
        size_t method = take_byte() % ELEMENTS(methods);
        const char *signature = methods[method].signature;
        unsigned caller = take_byte() % CALLERS;
        sd_bus_message *message = NULL;
        uint8_t wrong = take_byte();
        int r;

        if (sd_bus_message_new_method_call(world.theirs, &message, OURS, take_path(),
                                           methods[method].interface, methods[method].member) < 0)
                return;
        if (wrong >= 0xe0)
                signature = others[wrong % ELEMENTS(others)];
        r = signature ? append_arguments(message, signature)
                      : append_property(message, methods[method].member);
        if (r >= 0)
                send_message(message, caller);
        sd_bus_message_unref(message);
}

/* polkit's, and what it was asked for. */
static int append_verdict(sd_bus_message *reply, sd_bus_message *question, uint8_t how) {
        const char *sender, *action, *key, *profile = "";
        int yes = how & 1, challenge = (how & 2) != 0;

        require(sd_bus_message_read(question, "(sa{sv})s", NULL, 1, NULL, "s", &sender, &action) >=
                0);
        require(sd_bus_message_enter_container(question, 'a', "{ss}") > 0);
        while (sd_bus_message_enter_container(question, 'e', "ss") > 0) {
                const char *value;

                require(sd_bus_message_read(question, "ss", &key, &value) > 0);
                if (strcmp(key, "profile") == 0)
                        profile = value;
                require(sd_bus_message_exit_container(question) >= 0);
        }
        if (yes && strcmp(action, "org.postern.renewal1.request-window") == 0) {
                world.opening_granted[find_sender(sender)] = true;
                for (unsigned i = 0; i < ELEMENTS(world.profile_granted); i++)
                        world.profile_granted[i] |= strcmp(fake_profile_at(i), profile) == 0;
        }
        if (yes && strcmp(action, "org.postern.renewal1.read-log") == 0)
                world.log_granted[find_sender(sender)] = true;
        return sd_bus_message_append(reply, "(bba{ss})", yes, challenge, how & 4 ? 1 : 0,
                                     "polkit.dismissed", "true");
}

static int append_reply(sd_bus_message *reply, sd_bus_message *question, uint8_t how) {
        const char *member = sd_bus_message_get_member(question), *name;

        if (how >= 0xf0)
                return append_arguments(reply, how & 1 ? "ts" : "v");
        if (strcmp(member, "GetConnectionUnixUser") == 0) {
                require(sd_bus_message_read(question, "s", &name) > 0);
                return sd_bus_message_append(reply, "u", uids[find_sender(name)]);
        }
        if (strcmp(member, "GetNameOwner") == 0)
                return sd_bus_message_append(reply, "s", ":1.1");
        if (strcmp(member, "CheckAuthorization") == 0)
                return append_verdict(reply, question, how);
        return 0;
}

static void step_reply(void) {
        static const char *const errors[] = {"org.freedesktop.DBus.Error.NameHasNoOwner",
                                             "org.freedesktop.DBus.Error.NoReply",
                                             "org.freedesktop.DBus.Error.AccessDenied",
                                             "org.freedesktop.PolicyKit1.Error.Failed"};
        size_t which = world.n_questions ? take_byte() % world.n_questions : 0;
        sd_bus_message *question, *reply = NULL;
        uint8_t how = take_byte();
        int r;

        if (world.n_questions == 0)
                return;
        question = world.questions[which];
        world.n_questions--;
        for (size_t i = which; i < world.n_questions; i++)
                world.questions[i] = world.questions[i + 1];
        if (how >= 0xc0 && how < 0xf0)
                r = sd_bus_message_new_method_errorf(
                        question, &reply, errors[how % ELEMENTS(errors)], "%s", take_text(true));
        else {
                r = sd_bus_message_new_method_return(question, &reply);
                if (r >= 0)
                        r = append_reply(reply, question, how);
        }
        if (r >= 0)
                (void) sd_bus_send(world.theirs, reply, NULL);
        sd_bus_message_unref(reply);
        sd_bus_message_unref(question);
}

/* That somebody has left: from the driver, or from anybody. */
static void step_signal(void) {
        uint8_t how = take_byte();
        const char *name = senders[how % CALLERS];
        sd_bus_message *message = NULL;
        int r;

        if (sd_bus_message_new_signal(world.theirs, &message, "/org/freedesktop/DBus",
                                      "org.freedesktop.DBus", "NameOwnerChanged") < 0)
                return;
        r = sd_bus_message_set_sender(message, how & 0x40 ? ":1.66" : "org.freedesktop.DBus");
        if (r >= 0)
                r = how & 0x80 ? append_arguments(message, "st")
                               : sd_bus_message_append(message, "sss", name, name,
                                                       how & 0x20 ? name : "");
        if (r >= 0)
                (void) sd_bus_send(world.theirs, message, NULL);
        sd_bus_message_unref(message);
}

static void step_bytes(void) {
        size_t n = (size_t) take_byte() << 8 | take_byte();

        if (n > world.size)
                n = world.size;
        settle();
        if (!world.lost && sd_bus_flush(world.theirs) >= 0)
                (void) send(sd_bus_get_fd(world.theirs), world.data, n,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        world.data += n;
        world.size -= n;
        world.lost = true; /* what is sent next may be taken for the rest of it */
}

static void step(void) {
        uint8_t what = take_byte(), how;

        switch (what % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
                step_call();
                break;
        case 4:
        case 5:
        case 6:
        case 7:
                settle();
                step_reply();
                break;
        case 8:
                step_signal();
                break;
        case 9:
        case 10:
                how = take_byte();
                fake_runner_tell(take_byte() % 4, how, take_text(true));
                break;
        case 11:
                how = take_byte();
                fake_door_tell(how >> 4, how & 1 ? DOOR_NEWS_LOST : DOOR_NEWS_RESTORED,
                               take_text(true));
                break;
        case 12:
                how = take_byte();
                fake_world.door_refuses = how & 1;
                fake_world.door_breaks = (how & 3) == 2;
                break;
        case 13:
                fake_world_skip(world.broker, take_number() % 7200000000);
                break;
        case 14:
                if (what == 0xfe)
                        step_bytes();
                else if (what == 0xee)
                        broker_stop(world.broker);
                break;
        default:
                if (what == 0xdf) {
                        how = take_byte();
                        fake_challenge_tell(how >> 4, how & 1);
                }
                settle();
                break;
        }
}

static void begin(const uint8_t *data, size_t size) {
        static const BrokerOptions options = {"/c", "/s", "/r", "/x", false};
        sd_bus *ours = NULL;
        int sockets[2];

        memset(&world, 0, sizeof(world));
        world.data = data;
        world.size = size;
        fake_world = (FakeWorld){.may_open = may_open};
        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0);
        require(sd_event_new(&world.event) >= 0);
        require(sd_bus_new(&ours) >= 0 && sd_bus_new(&world.theirs) >= 0);
        require(sd_bus_set_fd(ours, sockets[0], sockets[0]) >= 0);
        require(sd_bus_set_fd(world.theirs, sockets[1], sockets[1]) >= 0);
        require(sd_bus_set_bus_client(ours, 1) >= 0);
        require(sd_bus_set_server(world.theirs, 1, (sd_id128_t){.qwords = {1, 1}}) >= 0);
        require(sd_bus_start(ours) >= 0 && sd_bus_start(world.theirs) >= 0);
        require(sd_bus_attach_event(ours, world.event, 0) >= 0);
        require(sd_bus_add_filter(world.theirs, NULL, on_message, NULL) >= 0);
        settle();
        require(bus_new(&world.bus, ours, on_news, NULL) == 0);
        require(broker_new(&world.broker, world.event, ours, &options, &bus_observer, world.bus) ==
                0);
        require(bus_serve(world.bus, world.broker) >= 0);
        sd_bus_unref(ours);
        settle();
}

static void end(void) {
        settle();
        broker_stop(world.broker);
        settle();
        /* what is open or going on is ended now, and then there is nothing left to wait for */
        for (unsigned i = 0; i < STEPS_MAX && !broker_is_stopped(world.broker); i++) {
                fake_runner_tell(0, 3, "");
                fake_world_skip(world.broker, 20000000);
                settle();
        }
        require(broker_is_stopped(world.broker));
        require(fake_world.n_doors == 0);
        for (size_t i = 0; i < world.n_calls && !world.lost; i++)
                require(world.calls[i].answered);
        for (size_t i = 0; i < world.n_questions; i++)
                sd_bus_message_unref(world.questions[i]);
        broker_free(world.broker);
        bus_free(world.bus);
        sd_bus_close_unref(world.theirs);
        sd_event_unref(world.event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        begin(data, size);
        for (unsigned i = 0; i < STEPS_MAX && world.size > 0; i++)
                step();
        end();
        return 0;
}
