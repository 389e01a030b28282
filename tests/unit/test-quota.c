/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <postern/cleanup.h>
#include <postern/quota.h>

enum {
        SECOND = 1000 * 1000,
};

#define MINUTE (60ULL * SECOND)
#define HOUR   (60 * MINUTE)
#define START  (10 * HOUR)

static int setup(void **state) {
        Quota *quota;

        if (quota_new(&quota) < 0)
                return -1;

        *state = quota;
        return 0;
}

static int teardown(void **state) {
        assert_null(quota_free(*state));
        return 0;
}

/* A window that is over at once: what stays is its time. */
static int open_once(Quota *quota, const char *profile, unsigned count, uint64_t interval_usec,
                     uint64_t now, uint64_t *ret_retry_at) {
        int r = quota_window_begin(quota, profile, count, interval_usec, 1000, now, ret_retry_at);

        if (r == QUOTA_OK)
                quota_window_done(quota, 1000);
        return r;
}

static void test_free_nothing(void **state) {
        assert_null(quota_free(NULL));
}

static void test_questions(void **state) {
        Quota *quota = *state;

        for (unsigned i = 0; i < QUOTA_QUESTIONS_PER_UID; i++)
                assert_int_equal(quota_question_begin(quota, 1000), QUOTA_OK);
        assert_int_equal(quota_question_begin(quota, 1000), QUOTA_TOO_MANY);

        /* Nobody can use up what is another's. */
        assert_int_equal(quota_question_begin(quota, 0), QUOTA_OK);
        quota_question_done(quota, 0);

        quota_question_done(quota, 1000);
        assert_int_equal(quota_question_begin(quota, 1000), QUOTA_OK);
}

static void test_questions_of_all(void **state) {
        Quota *quota = *state;

        for (unsigned i = 0; i < QUOTA_QUESTIONS; i++)
                assert_int_equal(quota_question_begin(quota, 1000 + i), QUOTA_OK);
        assert_int_equal(quota_question_begin(quota, 1), QUOTA_TOO_MANY);

        quota_question_done(quota, 1000);
        assert_int_equal(quota_question_begin(quota, 1), QUOTA_OK);
}

static void test_windows(void **state) {
        Quota *quota = *state;
        uint64_t retry_at = 7;

        for (unsigned i = 0; i < QUOTA_WINDOWS_PER_UID; i++)
                assert_int_equal(quota_window_begin(quota, "a", 100, HOUR, 1000, START, &retry_at),
                                 QUOTA_OK);
        assert_int_equal(quota_window_check(quota, "b", 100, HOUR, 1000, START, &retry_at),
                         QUOTA_TOO_MANY);
        assert_int_equal(quota_window_begin(quota, "b", 100, HOUR, 1000, START, &retry_at),
                         QUOTA_TOO_MANY);
        assert_int_equal(quota_window_check(quota, "b", 100, HOUR, 1001, START, &retry_at),
                         QUOTA_OK);

        quota_window_done(quota, 1000);
        assert_int_equal(quota_window_check(quota, "b", 100, HOUR, 1000, START, &retry_at),
                         QUOTA_OK);
        assert_true(retry_at == 7);
}

static void test_windows_of_all(void **state) {
        Quota *quota = *state;
        uint64_t retry_at;

        for (unsigned i = 0; i < QUOTA_WINDOWS; i++)
                assert_int_equal(
                        quota_window_begin(quota, "a", 100, HOUR, 1000 + i, START, &retry_at),
                        QUOTA_OK);
        assert_int_equal(quota_window_begin(quota, "b", 100, HOUR, 1, START, &retry_at),
                         QUOTA_TOO_MANY);

        /* Every account there can be is taken now, and each still answers for itself. */
        for (unsigned i = 0; i < QUOTA_QUESTIONS; i++)
                assert_int_equal(quota_question_begin(quota, 2000 + i), QUOTA_OK);
        for (unsigned i = 0; i < QUOTA_WINDOWS; i++)
                quota_window_done(quota, 1000 + i);
        for (unsigned i = 0; i < QUOTA_QUESTIONS; i++)
                quota_question_done(quota, 2000 + i);
        assert_int_equal(quota_window_begin(quota, "b", 100, HOUR, 1, START, &retry_at), QUOTA_OK);
}

static void test_rate(void **state) {
        Quota *quota = *state;
        uint64_t retry_at = 7;

        /* 3 in any hour, at 0, 10 and 20 minutes */
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(open_once(quota, "a", 3, HOUR, START + i * HOUR / 6, &retry_at),
                                 QUOTA_OK);
        assert_true(retry_at == 7);

        assert_int_equal(open_once(quota, "a", 3, HOUR, START + HOUR / 2, &retry_at),
                         QUOTA_RATE_LIMITED);
        assert_true(retry_at == START + HOUR);

        /* One profile's limit is not another's. */
        assert_int_equal(open_once(quota, "b", 3, HOUR, START + HOUR / 2, &retry_at), QUOTA_OK);

        assert_int_equal(open_once(quota, "a", 3, HOUR, START + HOUR - 1, &retry_at),
                         QUOTA_RATE_LIMITED);
        assert_int_equal(open_once(quota, "a", 3, HOUR, START + HOUR, &retry_at), QUOTA_OK);

        /* It slides: the next place is free an hour after the second. */
        assert_int_equal(open_once(quota, "a", 3, HOUR, START + HOUR, &retry_at),
                         QUOTA_RATE_LIMITED);
        assert_true(retry_at == START + HOUR / 6 + HOUR);
}

/* The clock began with the machine: places never used must not pass for old ones, nor for new. */
static void test_rate_after_boot(void **state) {
        Quota *quota = *state;
        uint64_t retry_at;

        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(open_once(quota, "a", 3, HOUR, SECOND + i, &retry_at), QUOTA_OK);
        assert_int_equal(open_once(quota, "a", 3, HOUR, 2 * SECOND, &retry_at), QUOTA_RATE_LIMITED);
        assert_true(retry_at == SECOND + HOUR);
}

static void test_rate_limit_is_changed(void **state) {
        Quota *quota = *state;
        uint64_t retry_at;

        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(open_once(quota, "a", 5, HOUR, START + i, &retry_at), QUOTA_OK);

        assert_int_equal(open_once(quota, "a", 2, HOUR, START + 5, &retry_at), QUOTA_RATE_LIMITED);
        assert_true(retry_at == START + 3 + HOUR);
        assert_int_equal(open_once(quota, "a", 6, HOUR, START + 5, &retry_at), QUOTA_OK);
}

static void test_check_counts_nothing(void **state) {
        Quota *quota = *state;
        uint64_t retry_at;

        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(quota_window_check(quota, "a", 1, HOUR, 1000, START, &retry_at),
                                 QUOTA_OK);
        assert_int_equal(open_once(quota, "a", 1, HOUR, START, &retry_at), QUOTA_OK);

        /* A refused one counts as little. */
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(open_once(quota, "a", 1, HOUR, START + i, &retry_at),
                                 QUOTA_RATE_LIMITED);
        assert_int_equal(open_once(quota, "a", 1, HOUR, START + HOUR, &retry_at), QUOTA_OK);
}

static void test_refused_by_a_cap(void **state) {
        Quota *quota = *state;
        uint64_t retry_at;

        for (unsigned i = 0; i < QUOTA_WINDOWS_PER_UID; i++)
                assert_int_equal(quota_window_begin(quota, "a", 100, HOUR, 1000, START, &retry_at),
                                 QUOTA_OK);
        for (unsigned i = 0; i < 10; i++)
                assert_int_equal(quota_window_begin(quota, "b", 1, HOUR, 1000, START, &retry_at),
                                 QUOTA_TOO_MANY);
        assert_int_equal(quota_window_begin(quota, "b", 1, HOUR, 1001, START, &retry_at), QUOTA_OK);
}

/* Against the plainest count there is, for the largest limit and many turns of the ring. */
static void test_any_interval(void **state) {
        static uint64_t opened[4000];
        Quota *quota = *state;
        unsigned limited = 0, used = 0;
        uint64_t retry_at;

        for (uint64_t now = START; used < ELEMENTS(opened); now += (used * 13 % 7 + 1) * SECOND) {
                unsigned recent = 0;

                for (unsigned i = 0; i < used; i++)
                        recent += opened[i] + 600 * SECOND > now;

                if (recent < 100) {
                        assert_int_equal(open_once(quota, "a", 100, 600 * SECOND, now, &retry_at),
                                         QUOTA_OK);
                        opened[used++] = now;
                } else {
                        assert_int_equal(open_once(quota, "a", 100, 600 * SECOND, now, &retry_at),
                                         QUOTA_RATE_LIMITED);
                        assert_true(retry_at == opened[used - 100] + 600 * SECOND);
                        limited++;
                }
        }

        assert_true(limited > 0);
}

/* A thousand profiles a day, each used once: the memory of yesterday's is given back. */
static void test_memory_is_bounded(void **state) {
        Quota *quota = *state;
        size_t after_first = 0;
        uint64_t retry_at;

        for (unsigned day = 0; day < 20; day++) {
                for (unsigned i = 0; i < 1000; i++) {
                        char profile[32];

                        snprintf(profile, sizeof(profile), "p%u-%u", day, i);
                        assert_int_equal(open_once(quota, profile, 5, HOUR, START + day * 24 * HOUR,
                                                   &retry_at),
                                         QUOTA_OK);
                }
                if (day == 0)
                        after_first = mallinfo2().uordblks;
        }

        /* 0 under the sanitizers, which count by themselves */
        assert_true(mallinfo2().uordblks <= after_first + 64 * 1024);
}

/* What was read goes on where it was left, in another life. */
static void test_history_over_a_restart(void **state) {
        Quota *quota = *state, *next;
        QuotaHistory history;
        uint64_t retry_at = 0;

        quota_get_history(quota, "web", &history);
        assert_int_equal(history.n_times, 0);

        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(
                        open_once(quota, "web", 3, HOUR, START + i * 60ULL * SECOND, &retry_at),
                        QUOTA_OK);
        quota_get_history(quota, "web", &history);
        assert_int_equal(history.interval_usec, HOUR);
        assert_int_equal(history.n_times, 3);
        assert_int_equal(history.times[0], START);
        assert_int_equal(history.times[2], START + 120ULL * SECOND);

        assert_int_equal(quota_new(&next), 0);
        assert_int_equal(quota_set_history(next, "web", &history, START + 200ULL * SECOND), 0);
        assert_int_equal(open_once(next, "web", 3, HOUR, START + 200ULL * SECOND, &retry_at),
                         QUOTA_RATE_LIMITED);
        assert_int_equal(retry_at, START + HOUR);
        assert_int_equal(open_once(next, "web", 3, HOUR, START + HOUR, &retry_at), QUOTA_OK);
        quota_free(next);
}

/* A time that is still to come cannot be of this boot: believed, it would lock the profile. */
static void test_history_of_the_future(void **state) {
        Quota *quota = *state;
        QuotaHistory history = {
                .interval_usec = HOUR, .n_times = 3, .times = {START, START + 1, UINT64_MAX / 4}};
        uint64_t retry_at = 0;

        assert_int_equal(quota_set_history(quota, "web", &history, START), 0);
        quota_get_history(quota, "web", &history);
        assert_int_equal(history.n_times, 1);
        assert_int_equal(history.times[0], START);

        history = (QuotaHistory){.interval_usec = HOUR, .n_times = 1, .times = {START + 1}};
        assert_int_equal(quota_set_history(quota, "mail", &history, START), 0);
        assert_int_equal(open_once(quota, "mail", 1, HOUR, START, &retry_at), QUOTA_OK);
}

/* The hundred newest are kept, and the hundredth is the one that counts. */
static void test_history_is_full(void **state) {
        Quota *quota = *state;
        QuotaHistory history;
        uint64_t retry_at = 0;

        for (unsigned i = 0; i < QUOTA_HISTORY_MAX; i++)
                assert_int_equal(open_once(quota, "web", 100, HOUR, START + i, &retry_at),
                                 QUOTA_OK);
        assert_int_equal(open_once(quota, "web", 100, HOUR, START + 200, &retry_at),
                         QUOTA_RATE_LIMITED);
        assert_int_equal(open_once(quota, "web", 100, HOUR, START + HOUR, &retry_at), QUOTA_OK);
        quota_get_history(quota, "web", &history);
        assert_int_equal(history.n_times, QUOTA_HISTORY_MAX);
        assert_int_equal(history.times[0], START + 1);
        assert_int_equal(history.times[QUOTA_HISTORY_MAX - 1], START + HOUR);
}

static void test_checks(void **state) {
        Quota *quota = *state;
        uint64_t retry_at = 0;

        for (unsigned i = 0; i < QUOTA_CHECKS_PER_UID; i++)
                assert_int_equal(quota_check(quota, 1000, START, &retry_at), QUOTA_OK);
        assert_int_equal(retry_at, 0);
        assert_int_equal(quota_check(quota, 1000, START, &retry_at), QUOTA_RATE_LIMITED);
        assert_true(retry_at > START && retry_at <= START + QUOTA_CHECKS_INTERVAL_USEC);

        /* Nobody can use up what is another's, nor get it back by being many. */
        for (uid_t uid = 1001; uid < 1000 + QUOTA_CHECKERS; uid++)
                assert_int_equal(quota_check(quota, uid, START, &retry_at), QUOTA_OK);
        assert_int_equal(quota_check(quota, 2000, START, &retry_at), QUOTA_RATE_LIMITED);
        assert_int_equal(quota_check(quota, 1000, START, &retry_at), QUOTA_RATE_LIMITED);

        /* retry_at is kept to */
        assert_int_equal(quota_check(quota, 1000, retry_at - 1, &retry_at), QUOTA_RATE_LIMITED);
        assert_int_equal(quota_check(quota, 1000, retry_at, &retry_at), QUOTA_OK);
        assert_int_equal(quota_check(quota, 2000, retry_at, &retry_at), QUOTA_OK);

        /* one that took long is paid for in time, by whom it was for */
        assert_int_equal(quota_check(quota, 1000, START + MINUTE, &retry_at), QUOTA_OK);
        quota_charge_check(quota, 1000, START + MINUTE, 1000);
        assert_int_equal(quota_check(quota, 1000, START + MINUTE, &retry_at), QUOTA_OK);
        quota_charge_check(quota, 1000, START + MINUTE, 3 * SECOND);
        assert_int_equal(quota_check(quota, 1000, START + MINUTE, &retry_at), QUOTA_RATE_LIMITED);
        assert_true(retry_at > START + MINUTE + 45 * SECOND && retry_at < START + 2 * MINUTE);
        assert_int_equal(quota_check(quota, 1000, retry_at, &retry_at), QUOTA_OK);
        quota_charge_check(quota, 1001, START + MINUTE, 3 * SECOND);
        assert_int_equal(quota_check(quota, 1001, START + MINUTE, &retry_at), QUOTA_OK);

        /* and it never becomes more */
        for (uint64_t now = START + HOUR; now < START + 2 * HOUR; now += HOUR / 2) {
                unsigned n = 0;

                for (unsigned i = 0; i < 1000; i++)
                        n += quota_check(quota, 1000, now + i, &retry_at) == QUOTA_OK;
                assert_int_equal(n, QUOTA_CHECKS_PER_UID);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_free_nothing),
                cmocka_unit_test_setup_teardown(test_questions, setup, teardown),
                cmocka_unit_test_setup_teardown(test_questions_of_all, setup, teardown),
                cmocka_unit_test_setup_teardown(test_windows, setup, teardown),
                cmocka_unit_test_setup_teardown(test_windows_of_all, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rate_after_boot, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rate_limit_is_changed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_check_counts_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refused_by_a_cap, setup, teardown),
                cmocka_unit_test_setup_teardown(test_any_interval, setup, teardown),
                cmocka_unit_test_setup_teardown(test_memory_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_history_over_a_restart, setup, teardown),
                cmocka_unit_test_setup_teardown(test_history_of_the_future, setup, teardown),
                cmocka_unit_test_setup_teardown(test_history_is_full, setup, teardown),
                cmocka_unit_test_setup_teardown(test_checks, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
