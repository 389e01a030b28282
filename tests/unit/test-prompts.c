/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <postern/prompts.h>

#define SECOND ((uint64_t) 1000 * 1000)
#define MINUTE (60 * SECOND)
#define START  (1000 * MINUTE)

static int setup(void **state) {
        static Prompts prompts;

        prompts = (Prompts){0};
        *state = &prompts;
        return 0;
}

static PromptOutcome prompt_once(Prompts *prompts, uid_t uid, uint64_t now, PromptEnd end,
                                 uint64_t *ret_retry_at) {
        PromptOutcome outcome = prompts_begin(prompts, uid, now, ret_retry_at);

        if (outcome == PROMPT_OK)
                prompts_end(prompts, uid, end, now);
        return outcome;
}

static void test_one_at_a_time(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        assert_int_equal(prompts_begin(prompts, 1000, START, &retry_at), PROMPT_OK);
        assert_int_equal(prompts_begin(prompts, 1000, START, &retry_at), PROMPT_OPEN);
        /* however long nobody answers */
        assert_int_equal(prompts_begin(prompts, 1000, START + 60 * MINUTE, &retry_at), PROMPT_OPEN);
        /* another user is not concerned */
        assert_int_equal(prompts_begin(prompts, 0, START, &retry_at), PROMPT_OK);
        assert_int_equal(retry_at, 0);

        prompts_end(prompts, 1000, PROMPT_OVER, START + SECOND);
        assert_int_equal(prompts_begin(prompts, 1000, START + SECOND, &retry_at), PROMPT_OK);
}

static void test_three_in_ten_minutes(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(
                        prompt_once(prompts, 7, START + i * MINUTE, PROMPT_OVER, &retry_at),
                        PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START + 3 * MINUTE, PROMPT_OVER, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + 10 * MINUTE);
        assert_int_equal(prompt_once(prompts, 7, START + 10 * MINUTE - 1, PROMPT_OVER, &retry_at),
                         PROMPT_LIMITED);

        /* in any ten minutes: the first is out of sight, the second not yet */
        assert_int_equal(prompt_once(prompts, 7, START + 10 * MINUTE, PROMPT_OVER, &retry_at),
                         PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START + 10 * MINUTE, PROMPT_OVER, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + 11 * MINUTE);
}

static void test_peace_after_a_no(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        assert_int_equal(prompt_once(prompts, 7, START, PROMPT_DISMISSED, &retry_at), PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START + MINUTE - 1, PROMPT_DISMISSED, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + MINUTE);
        assert_int_equal(prompt_once(prompts, 8, START, PROMPT_DISMISSED, &retry_at), PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START + MINUTE, PROMPT_OVER, &retry_at),
                         PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START + MINUTE, PROMPT_DISMISSED, &retry_at),
                         PROMPT_OK);

        /* the limit lasts longer than the peace */
        assert_int_equal(prompt_once(prompts, 7, START + MINUTE, PROMPT_DISMISSED, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + 10 * MINUTE);
}

/* A prompt that was open for long, and then refused: the peace is counted from its end. */
static void test_peace_outlasts_the_interval(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        assert_int_equal(prompts_begin(prompts, 7, START, &retry_at), PROMPT_OK);
        prompts_end(prompts, 7, PROMPT_DISMISSED, START + 10 * MINUTE);
        assert_true(prompts_count(prompts, START + 11 * MINUTE - 1));
        assert_int_equal(prompts_begin(prompts, 7, START + 11 * MINUTE - 1, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + 11 * MINUTE);
        assert_false(prompts_count(prompts, START + 11 * MINUTE));
        assert_int_equal(prompts_begin(prompts, 7, START + 11 * MINUTE, &retry_at), PROMPT_OK);
}

/* Nobody saw anything: without an agent there is no limit to reach. */
static void test_not_shown(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        for (unsigned i = 0; i < 10; i++)
                assert_int_equal(prompt_once(prompts, 7, START, PROMPT_NOT_SHOWN, &retry_at),
                                 PROMPT_OK);
        assert_false(prompts_count(prompts, START));
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(prompt_once(prompts, 7, START, PROMPT_OVER, &retry_at), PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START, PROMPT_NOT_SHOWN, &retry_at), PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START, PROMPT_OVER, &retry_at), PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 7, START, PROMPT_NOT_SHOWN, &retry_at),
                         PROMPT_LIMITED);
}

/* As many as fit, and one more: it waits, and nobody's prompts are forgotten to make room. */
static void test_full_table(void **state) {
        Prompts *prompts = *state;
        uint64_t retry_at = 0;

        assert_false(prompts_count(prompts, START));
        for (uid_t uid = 0; uid < PROMPTS_UIDS; uid++)
                assert_int_equal(prompt_once(prompts, uid, START + uid, PROMPT_OVER, &retry_at),
                                 PROMPT_OK);
        assert_int_equal(prompt_once(prompts, 5000, START + SECOND, PROMPT_OVER, &retry_at),
                         PROMPT_LIMITED);
        assert_int_equal(retry_at, START + 10 * MINUTE);
        for (uid_t uid = 0; uid < PROMPTS_UIDS; uid++)
                for (unsigned i = 0; i < 3; i++)
                        assert_int_equal(
                                prompt_once(prompts, uid, START + SECOND, PROMPT_OVER, &retry_at),
                                i < 2 ? PROMPT_OK : PROMPT_LIMITED);

        assert_true(prompts_count(prompts, START + SECOND + 10 * MINUTE - 1));
        assert_false(prompts_count(prompts, START + SECOND + 10 * MINUTE));
        assert_int_equal(
                prompt_once(prompts, 5000, START + SECOND + 10 * MINUTE, PROMPT_OVER, &retry_at),
                PROMPT_OK);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_one_at_a_time, setup),
                cmocka_unit_test_setup(test_three_in_ten_minutes, setup),
                cmocka_unit_test_setup(test_peace_after_a_no, setup),
                cmocka_unit_test_setup(test_peace_outlasts_the_interval, setup),
                cmocka_unit_test_setup(test_not_shown, setup),
                cmocka_unit_test_setup(test_full_table, setup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
