/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The test is logind: it gives the lock, says that the host goes to sleep, and whether it is true.
 */

#include "bus-pair.h"

#include <fcntl.h>
#include <poll.h>
#include <postern/sleep-guard.h>
#include <stdlib.h>
#include <unistd.h>

#define LOGIND  "org.freedesktop.login1.Manager"
#define PATH    "/org/freedesktop/login1"
#define UNKNOWN "org.freedesktop.DBus.Error.ServiceUnknown"

typedef struct Fixture {
        BusPair pair;
        SleepGuard *guard;
        const char *lock_error;  /* instead of a lock */
        const char *state_error; /* instead of an answer */
        bool sleeping;
        int lock; /* our end of a pipe; at its end when the guard lets go */
        bool is_locked, is_asked, is_told, is_let_go;
} Fixture;

static int on_call(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Fixture *fixture = userdata;
        const char *what, *mode;
        int ends[2], r;

        if (sd_bus_message_is_method_call(message, LOGIND, "Inhibit")) {
                assert_true(sd_bus_message_read(message, "ssss", &what, NULL, NULL, &mode) >= 0);
                assert_string_equal(what, "sleep");
                assert_string_equal(mode, "delay");
                fixture->is_locked = true;
                if (fixture->lock_error)
                        return sd_bus_reply_method_errorf(message, fixture->lock_error, "no");
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                fixture->lock = ends[0];
                r = sd_bus_reply_method_return(message, "h", ends[1]);
                close(ends[1]);
                return r;
        }
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "Get")) {
                fixture->is_asked = true;
                if (fixture->state_error)
                        return sd_bus_reply_method_errorf(message, fixture->state_error, "no");
                return sd_bus_reply_method_return(message, "v", "b", (int) fixture->sleeping);
        }
        return 0;
}

static void on_sleep(void *userdata) {
        Fixture *fixture = userdata;

        fixture->is_told = true;
}

static int on_let_go(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Fixture *fixture = userdata;

        fixture->is_let_go = true;
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

static int set_up(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        fixture->lock = -1;
        bus_pair_open(&fixture->pair);
        assert_true(sd_bus_add_filter(fixture->pair.theirs, NULL, on_call, fixture) >= 0);
        assert_int_equal(sleep_guard_new(&fixture->guard, fixture->pair.ours, on_sleep, fixture),
                         0);
        *state = fixture;
        return 0;
}

static int tear_down(void **state) {
        Fixture *fixture = *state;

        sleep_guard_free(fixture->guard);
        bus_pair_close(&fixture->pair);
        if (fixture->lock >= 0)
                close(fixture->lock);
        free(fixture);
        return 0;
}

static void hold(Fixture *fixture) {
        sleep_guard_hold(fixture->guard, true);
        bus_pair_wait(&fixture->pair, &fixture->is_locked);
}

static void say(Fixture *fixture, int start) {
        sd_bus_message *signal = NULL;

        assert_true(sd_bus_message_new_signal(fixture->pair.theirs, &signal, PATH, LOGIND,
                                              "PrepareForSleep") >= 0);
        /* there is no bus between that would say so */
        assert_true(sd_bus_message_set_sender(signal, "org.freedesktop.login1") >= 0);
        assert_true(sd_bus_message_append(signal, "b", start) >= 0);
        assert_true(sd_bus_send(fixture->pair.theirs, signal, NULL) >= 0);
        sd_bus_message_unref(signal);
}

/* All that has been sent by now is dealt with. */
static void settle(Fixture *fixture) {
        while (sd_event_run(fixture->pair.event, 50 * 1000) > 0)
                ;
}

static void assert_lets_go(Fixture *fixture) {
        sd_event_source *source = NULL;

        assert_true(sd_event_add_io(fixture->pair.event, &source, fixture->lock, POLLHUP, on_let_go,
                                    fixture) >= 0);
        settle(fixture);
        assert_false(fixture->is_let_go);
        sleep_guard_hold(fixture->guard, false);
        bus_pair_wait(&fixture->pair, &fixture->is_let_go);
        sd_event_source_disable_unref(source);
}

static void test_going_to_sleep(void **state) {
        Fixture *fixture = *state;

        fixture->sleeping = true;
        hold(fixture);
        settle(fixture);
        assert_false(fixture->is_told);
        say(fixture, true);
        bus_pair_wait(&fixture->pair, &fixture->is_told);
        assert_lets_go(fixture);
}

/* A signal is somebody's word; what counts is logind's. */
static void test_forged(void **state) {
        Fixture *fixture = *state;

        hold(fixture);
        say(fixture, true);
        bus_pair_wait(&fixture->pair, &fixture->is_asked);
        settle(fixture);
        assert_false(fixture->is_told);
}

static void test_waking_up(void **state) {
        Fixture *fixture = *state;

        fixture->sleeping = true;
        hold(fixture);
        say(fixture, false);
        settle(fixture);
        assert_false(fixture->is_asked);
        assert_false(fixture->is_told);
}

static void test_nothing_open(void **state) {
        Fixture *fixture = *state;

        fixture->sleeping = true;
        say(fixture, true);
        settle(fixture);
        assert_false(fixture->is_asked);
        assert_false(fixture->is_told);
}

/* Without logind a host's sleep is not announced, and a forged announcement has no effect. */
static void test_no_logind(void **state) {
        Fixture *fixture = *state;

        fixture->lock_error = fixture->state_error = UNKNOWN;
        hold(fixture);
        say(fixture, true);
        bus_pair_wait(&fixture->pair, &fixture->is_asked);
        settle(fixture);
        assert_false(fixture->is_told);
}

/* It may be too late for a lock: the window was opened when the host was about to sleep. */
static void test_no_lock_any_more(void **state) {
        Fixture *fixture = *state;

        fixture->lock_error = "org.freedesktop.login1.OperationInProgress";
        fixture->sleeping = true;
        hold(fixture);
        bus_pair_wait(&fixture->pair, &fixture->is_told);
}

/* Whoever cannot say no may be asleep soon. */
static void test_no_answer(void **state) {
        Fixture *fixture = *state;

        fixture->state_error = "org.freedesktop.DBus.Error.Failed";
        hold(fixture);
        say(fixture, true);
        bus_pair_wait(&fixture->pair, &fixture->is_told);
}

/* The lock comes when the window is closed already. */
static void test_lock_comes_late(void **state) {
        Fixture *fixture = *state;
        char byte;

        sleep_guard_hold(fixture->guard, true);
        sleep_guard_hold(fixture->guard, false);
        bus_pair_wait(&fixture->pair, &fixture->is_locked);
        settle(fixture);
        assert_int_equal(read(fixture->lock, &byte, 1), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_going_to_sleep, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_forged, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_waking_up, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_nothing_open, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_no_logind, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_no_lock_any_more, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_no_answer, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_lock_comes_late, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
