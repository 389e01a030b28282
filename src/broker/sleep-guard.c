/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <postern/sleep-guard.h>
#include <string.h>

#define LOGIND_NAME    "org.freedesktop.login1"
#define LOGIND_PATH    "/org/freedesktop/login1"
#define LOGIND_MANAGER "org.freedesktop.login1.Manager"

struct SleepGuard {
        sd_bus *bus;
        SleepGuardCallback callback;
        void *userdata;
        sd_bus_slot *match;
        sd_bus_slot *lock_call; /* asks for the lock */
        sd_bus_slot *question;  /* is it true? */
        int lock_fd;            /* -1: none */
        bool hold;
};

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);

static bool there_is_no_logind(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
               sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

/* Does not start logind where it does not run. */
static int call_logind(SleepGuard *guard, sd_bus_slot **ret, const char *interface,
                       const char *member, sd_bus_message_handler_t on_reply, const char *types,
                       ...) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *message = NULL;
        va_list list;
        int r;

        r = sd_bus_message_new_method_call(guard->bus, &message, LOGIND_NAME, LOGIND_PATH,
                                           interface, member);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(message, 0);
        if (r < 0)
                return r;
        va_start(list, types);
        r = sd_bus_message_appendv(message, types, list);
        va_end(list);
        if (r >= 0)
                r = sd_bus_call_async(guard->bus, ret, message, on_reply, guard, 0);
        return r;
}

/* Only a plain no is one; but who is not there does not send a host to sleep. */
static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *problem = sd_bus_message_get_error(reply);
        SleepGuard *guard = userdata;
        int sleeping;

        guard->question = sd_bus_slot_unref(guard->question);
        if (problem && there_is_no_logind(problem))
                return 0;
        if (!problem && sd_bus_message_read(reply, "v", "b", &sleeping) >= 0 && !sleeping)
                return 0;
        guard->callback(guard->userdata);
        return 0;
}

static void ask(SleepGuard *guard) {
        int r;

        if (guard->question)
                return;
        r = call_logind(guard, &guard->question, "org.freedesktop.DBus.Properties", "Get",
                        on_answer, "ss", LOGIND_MANAGER, "PreparingForSleep");
        if (r < 0)
                log_warning("Cannot ask logind whether the host goes to sleep: %s", strerror(-r));
}

static int on_prepare(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        SleepGuard *guard = userdata;
        int start;

        if (guard->hold && sd_bus_message_read(message, "b", &start) >= 0 && start)
                ask(guard);
        return 0;
}

static int on_lock(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *problem = sd_bus_message_get_error(reply);
        SleepGuard *guard = userdata;
        int fd;

        guard->lock_call = sd_bus_slot_unref(guard->lock_call);
        if (problem) {
                if (there_is_no_logind(problem))
                        return 0;
                log_warning("logind gives no lock against going to sleep during a window: %s",
                            problem->message);
                /* perhaps for the reason that it is on its way */
                ask(guard);
                return 0;
        }
        if (sd_bus_message_read(reply, "h", &fd) >= 0)
                /* the message's own goes with it */
                guard->lock_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return 0;
}

void sleep_guard_hold(SleepGuard *guard, bool hold) {
        int r;

        if (guard->hold == hold)
                return;
        guard->hold = hold;
        if (!hold) {
                guard->lock_call = sd_bus_slot_unref(guard->lock_call);
                if (guard->lock_fd >= 0)
                        close(guard->lock_fd);
                guard->lock_fd = -1;
                return;
        }
        r = call_logind(guard, &guard->lock_call, LOGIND_MANAGER, "Inhibit", on_lock, "ssss",
                        "sleep", "Postern", "A port is open for a renewal", "delay");
        if (r < 0)
                log_warning("Cannot ask logind for a lock against going to sleep: %s",
                            strerror(-r));
}

int sleep_guard_new(SleepGuard **ret, sd_bus *bus, SleepGuardCallback callback, void *userdata) {
        SleepGuard *guard = calloc(1, sizeof(*guard));
        int r;

        if (!guard)
                return -ENOMEM;
        guard->bus = sd_bus_ref(bus);
        guard->callback = callback;
        guard->userdata = userdata;
        guard->lock_fd = -1;
        r = sd_bus_match_signal_async(bus, &guard->match, LOGIND_NAME, LOGIND_PATH, LOGIND_MANAGER,
                                      "PrepareForSleep", on_prepare, NULL, guard);
        if (r < 0) {
                sleep_guard_free(guard);
                return r;
        }
        *ret = guard;
        return 0;
}

SleepGuard *sleep_guard_free(SleepGuard *guard) {
        if (!guard)
                return NULL;
        sleep_guard_hold(guard, false);
        sd_bus_slot_unref(guard->question);
        sd_bus_slot_unref(guard->match);
        sd_bus_unref(guard->bus);
        free(guard);
        return NULL;
}
