/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The life of a window told as stories: which effects, in which step, and when it wakes. That
 * nothing else can happen is shown by test-window-explore.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <postern/cleanup.h>
#include <postern/window.h>

enum {
        MS = 1000,
        SECOND = 1000 * MS,
        START = 1000 * SECOND,
        DURATION = 120 * SECOND,
};

static unsigned tell(Window *window, WindowEventType type, uint64_t now) {
        WindowEvent event = {.type = type, .step = window->door_step};

        return window_step(window, &event, now, window);
}

static unsigned tell_ended(Window *window, WindowResult result, int exit_status, uint64_t now) {
        WindowEvent event = {
                .type = EVENT_RUN_ENDED,
                .result = result,
                .exit_status = exit_status,
        };

        return window_step(window, &event, now, window);
}

/* OpenOn=start, up to the open door. */
static void make_open(Window *window) {
        window_init(window, true, false, DURATION);
        tell(window, EVENT_BEGIN, START);
        tell(window, EVENT_RUN_READY, START);
        tell(window, EVENT_DOOR_OPENED, START);
        assert_int_equal(window->state, WINDOW_OPEN);
}

/* OpenOn=challenge, up to the open door. */
static void make_challenged(Window *window) {
        window_init(window, true, true, DURATION);
        tell(window, EVENT_BEGIN, START);
        tell(window, EVENT_RUN_READY, START);
        tell(window, EVENT_CHALLENGE_PENDING, START);
        tell(window, EVENT_DOOR_OPENED, START);
        assert_int_equal(window->state, WINDOW_OPEN);
        assert_int_equal(window->door, DOOR_OPEN);
}

static void test_renewal(void **state) {
        Window window;

        window_init(&window, true, false, DURATION);
        assert_true(window_wakeup(&window) == WINDOW_NEVER);

        assert_int_equal(tell(&window, EVENT_BEGIN, START), EFFECT_START_RUN | EFFECT_CHANGED);
        assert_true(window_wakeup(&window) == START + (uint64_t) WINDOW_OPENING_LIMIT_USEC);

        /* The deadline is fixed before the door opens, for the lease needs it. */
        assert_int_equal(tell(&window, EVENT_RUN_READY, START + SECOND),
                         EFFECT_OPEN_DOOR | EFFECT_CHANGED);
        assert_true(window.deadline == START + SECOND + (uint64_t) DURATION);
        assert_int_equal(window.state, WINDOW_OPENING);
        assert_true(window_wakeup(&window) == START + SECOND + (uint64_t) WINDOW_DOOR_LIMIT_USEC);

        assert_int_equal(tell(&window, EVENT_DOOR_OPENED, START + 2 * SECOND),
                         EFFECT_GO | EFFECT_ANNOUNCE_OPEN | EFFECT_CHANGED);
        assert_int_equal(window.state, WINDOW_OPEN);
        assert_true(window.opened_at == START + 2 * SECOND);
        assert_true(window_wakeup(&window) == window.deadline);

        assert_int_equal(tell_ended(&window, RESULT_RENEWED, 0, START + 9 * SECOND),
                         EFFECT_SHUT_DOOR | EFFECT_CHANGED);
        assert_int_equal(window.state, WINDOW_CLOSING);
        assert_true(window_wakeup(&window) == WINDOW_NEVER);

        assert_int_equal(tell(&window, EVENT_DOOR_SHUT, START + 10 * SECOND),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
        assert_int_equal(window.state, WINDOW_CLOSED);
        assert_int_equal(window.result, RESULT_RENEWED);
        assert_int_equal(window.exit_status, 0);

        assert_int_equal(tell(&window, EVENT_TICK, window_wakeup(&window) - 1), 0);
        assert_int_equal(tell(&window, EVENT_TICK, window_wakeup(&window)), EFFECT_FORGET);
}

static void test_without_door(void **state) {
        Window window;

        /* There is nothing to open on a challenge either. */
        for (int on_challenge = 0; on_challenge <= 1; on_challenge++) {
                window_init(&window, false, on_challenge, DURATION);
                tell(&window, EVENT_BEGIN, START);
                assert_int_equal(tell(&window, EVENT_RUN_READY, START),
                                 EFFECT_GO | EFFECT_ANNOUNCE_OPEN | EFFECT_CHANGED);
                assert_int_equal(window.state, WINDOW_OPEN);
                assert_true(window.opened_at == START);
                assert_int_equal(tell(&window, EVENT_CHALLENGE_PENDING, START), 0);

                assert_int_equal(tell_ended(&window, RESULT_FAILED, 3, START + SECOND),
                                 EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
                assert_int_equal(window.result, RESULT_FAILED);
                assert_int_equal(window.exit_status, 3);
        }
}

static void test_deadline(void **state) {
        Window window;

        make_open(&window);
        assert_int_equal(tell(&window, EVENT_TICK, window.deadline - 1), 0);
        assert_int_equal(tell(&window, EVENT_TICK, window.deadline),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_TIMEOUT);

        /* It succeeded after all, a moment late: the exit status is told, the result stands. */
        assert_int_equal(tell_ended(&window, RESULT_RENEWED, 0, window.deadline + 1),
                         EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_TIMEOUT);
        assert_int_equal(window.exit_status, 0);
        assert_int_equal(tell(&window, EVENT_DOOR_SHUT, window.deadline + 2),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
}

static void test_end_is_told_late(void **state) {
        Window window;

        make_open(&window);
        tell_ended(&window, RESULT_RENEWED, 0, window.deadline + SECOND);
        assert_int_equal(window.state, WINDOW_CLOSING);
        assert_int_equal(window.result, RESULT_RENEWED);

        /* Whatever is late otherwise meets a window that has timed out. */
        make_open(&window);
        tell(&window, EVENT_CANCEL, window.deadline);
        assert_int_equal(window.result, RESULT_TIMEOUT);
}

static void test_opened_too_late(void **state) {
        Window window;

        window_init(&window, true, false, SECOND);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(tell(&window, EVENT_DOOR_OPENED, window.deadline),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_TIMEOUT);
        assert_true(window.opened_at == 0);
        assert_false(window.announced_open);

        /* It took all the time there was, and says so: nothing was still running. */
        window_init(&window, true, false, SECOND);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(tell(&window, EVENT_DOOR_REFUSED, window.deadline),
                         EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_GATE_FAILED);
}

static void test_opening_limit(void **state) {
        Window window;

        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        assert_int_equal(tell(&window, EVENT_RUN_READY, window_wakeup(&window)),
                         EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_RUN_FAILED);

        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START + SECOND);
        assert_int_equal(tell(&window, EVENT_TICK, window_wakeup(&window)),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_GATE_FAILED);

        /* The door was on its way still, and is not waited for. */
        assert_int_equal(tell(&window, EVENT_RUN_LOST, START + 100 * SECOND), 0);
        assert_int_equal(tell(&window, EVENT_DOOR_SHUT, START + 101 * SECOND),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
}

static void test_refused(void **state) {
        Window window;

        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(tell(&window, EVENT_DOOR_REFUSED, START),
                         EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(tell(&window, EVENT_RUN_LOST, START),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_GATE_FAILED);
        assert_int_equal(window.exit_status, -1);
}

static void test_never_ran(void **state) {
        Window window;

        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        assert_int_equal(tell_ended(&window, RESULT_RENEWED, 0, START),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_RUN_FAILED);
        assert_int_equal(window.exit_status, -1);

        /* Cancelled before it began: it does not begin. */
        window_init(&window, true, false, DURATION);
        assert_int_equal(tell(&window, EVENT_CANCEL, START),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
        assert_int_equal(tell(&window, EVENT_BEGIN, START), 0);
}

static void test_door_lost(void **state) {
        Window window;

        make_open(&window);
        assert_int_equal(tell(&window, EVENT_DOOR_LOST, START),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_GATE_FAILED);

        /* likewise before it is open */
        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(tell(&window, EVENT_DOOR_LOST, START),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_GATE_FAILED);
}

/* What was opening answers as if nothing had happened. */
static void test_canceled_while_opening(void **state) {
        WindowEvent late = {.type = EVENT_DOOR_OPENED};
        Window window;

        window_init(&window, true, false, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        late.step = window.door_step;
        assert_int_equal(tell(&window, EVENT_CANCEL, START + SECOND),
                         EFFECT_SHUT_DOOR | EFFECT_STOP_RUN | EFFECT_CHANGED);
        assert_int_equal(window_step(&window, &late, START + SECOND, &window), 0);
        assert_int_equal(window.door, DOOR_SHUTTING);
        assert_false(window.announced_open);
        tell(&window, EVENT_RUN_LOST, START + SECOND);
        assert_int_equal(tell(&window, EVENT_DOOR_SHUT, START + 2 * SECOND),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
        assert_int_equal(window.result, RESULT_CANCELED);
}

static void test_challenge(void **state) {
        Window window;

        window_init(&window, true, true, DURATION);
        tell(&window, EVENT_BEGIN, START);
        assert_int_equal(tell(&window, EVENT_RUN_READY, START),
                         EFFECT_GO | EFFECT_ANNOUNCE_OPEN | EFFECT_CHANGED);
        assert_int_equal(window.state, WINDOW_ARMED);
        assert_true(window.opened_at == 0);

        for (uint64_t now = START; now < START + 5 * SECOND; now += SECOND) {
                assert_int_equal(tell(&window, EVENT_CHALLENGE_PENDING, now), EFFECT_OPEN_DOOR);
                assert_int_equal(window.state, WINDOW_ARMED);
                assert_int_equal(tell(&window, EVENT_DOOR_OPENED, now), EFFECT_CHANGED);
                assert_int_equal(window.state, WINDOW_OPEN);
                assert_int_equal(tell(&window, EVENT_CHALLENGE_DONE, now), EFFECT_SHUT_DOOR);
                assert_int_equal(window.state, WINDOW_OPEN);
                assert_int_equal(tell(&window, EVENT_DOOR_SHUT, now), EFFECT_CHANGED);
                assert_int_equal(window.state, WINDOW_ARMED);
                assert_true(window.opened_at == START);
        }

        /* Nothing was due: done with the port shut. */
        assert_int_equal(tell_ended(&window, RESULT_UNCHANGED, 0, START + 6 * SECOND),
                         EFFECT_ANNOUNCE_CLOSED | EFFECT_CHANGED);
}

/* A token may come or go while the door moves. */
static void test_challenge_meets_moving_door(void **state) {
        Window window;

        make_challenged(&window);
        assert_int_equal(tell(&window, EVENT_CHALLENGE_DONE, START), EFFECT_SHUT_DOOR);
        assert_int_equal(tell(&window, EVENT_CHALLENGE_PENDING, START), 0);
        assert_int_equal(tell(&window, EVENT_DOOR_SHUT, START), EFFECT_OPEN_DOOR | EFFECT_CHANGED);
        assert_int_equal(tell(&window, EVENT_CHALLENGE_DONE, START), 0);
        assert_int_equal(tell(&window, EVENT_DOOR_OPENED, START),
                         EFFECT_SHUT_DOOR | EFFECT_CHANGED);

        /* A token that is there before the renewal goes. */
        window_init(&window, true, true, DURATION);
        tell(&window, EVENT_BEGIN, START);
        assert_int_equal(tell(&window, EVENT_CHALLENGE_PENDING, START), 0);
        assert_int_equal(tell(&window, EVENT_RUN_READY, START),
                         EFFECT_OPEN_DOOR | EFFECT_GO | EFFECT_ANNOUNCE_OPEN | EFFECT_CHANGED);
}

static void test_challenge_near_the_deadline(void **state) {
        Window window;

        window_init(&window, true, true, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(tell(&window, EVENT_CHALLENGE_PENDING,
                              window.deadline - WINDOW_REOPEN_MIN_USEC + 1),
                         0);

        window_init(&window, true, true, DURATION);
        tell(&window, EVENT_BEGIN, START);
        tell(&window, EVENT_RUN_READY, START);
        assert_int_equal(
                tell(&window, EVENT_CHALLENGE_PENDING, window.deadline - WINDOW_REOPEN_MIN_USEC),
                EFFECT_OPEN_DOOR);
}

static void test_late_answers(void **state) {
        WindowEvent stale = {.type = EVENT_DOOR_SHUT};
        Window window;

        make_open(&window);
        stale.step = window.door_step;
        tell(&window, EVENT_CANCEL, START);
        assert_int_equal(window_step(&window, &stale, START, &window), 0);
        assert_int_equal(window.door, DOOR_SHUTTING);
        assert_int_equal(window.result, RESULT_CANCELED);
}

static void test_names(void **state) {
        static const char *const results[] = {"",           "renewed", "unchanged", "success",
                                              "failed",     "timeout", "canceled",  "gate-failed",
                                              "run-failed", "stopped"};
        static const char *const states[] = {"opening", "armed", "open", "closing", "closed"};

        for (size_t i = 0; i < ELEMENTS(results); i++)
                assert_string_equal(window_result_to_string(i), results[i]);
        for (size_t i = 0; i < ELEMENTS(states); i++)
                assert_string_equal(window_state_to_string(i), states[i]);

        assert_string_equal(window_result_to_string(ELEMENTS(results)), "?");
        assert_string_equal(window_event_to_string(EVENT_TICK), "tick");
        assert_string_equal(window_event_to_string(EVENT_BEGIN), "begin");
        assert_string_equal(door_state_to_string(DOOR_SHUTTING), "shutting");
        assert_string_equal(run_state_to_string(RUN_GONE), "gone");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_renewal),
                cmocka_unit_test(test_without_door),
                cmocka_unit_test(test_deadline),
                cmocka_unit_test(test_end_is_told_late),
                cmocka_unit_test(test_opened_too_late),
                cmocka_unit_test(test_opening_limit),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_never_ran),
                cmocka_unit_test(test_door_lost),
                cmocka_unit_test(test_canceled_while_opening),
                cmocka_unit_test(test_challenge),
                cmocka_unit_test(test_challenge_meets_moving_door),
                cmocka_unit_test(test_challenge_near_the_deadline),
                cmocka_unit_test(test_late_answers),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
