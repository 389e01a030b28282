/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <postern/cleanup.h>
#include <postern/state.h>

#define BOOT_ID "0123456789abcdef0123456789abcdef"

static const char GOLDEN[] = "Version=1\n"
                             "BootId=" BOOT_ID "\n"
                             "RateInterval=3600000000\n"
                             "OpenedAt=1 22 22 333\n"
                             "LastResult=renewed\n"
                             "LastClosedAt=1764000000000000\n"
                             "NotAfter=1771776000000000\n"
                             "NotBefore=1764000000000000\n"
                             "Serial=04d2\n"
                             "NamesLeftOut=3\n"
                             "Names=example.com 192.0.2.1\n";

static State golden_state(void) {
        return (State){
                .boot_id = BOOT_ID,
                .history = {.interval_usec = 3600000000, .n_times = 4, .times = {1, 22, 22, 333}},
                .last_result = RESULT_RENEWED,
                .last_closed_at = 1764000000000000,
                .certificate = {.serial = "04d2",
                                .not_before = 1764000000000000,
                                .not_after = 1771776000000000,
                                .names = "example.com 192.0.2.1",
                                .names_left_out = 3},
        };
}

static void assert_same(const State *a, const State *b) {
        static char text_a[STATE_FILE_MAX], text_b[STATE_FILE_MAX];
        size_t size_a = state_format(a, text_a), size_b = state_format(b, text_b);

        assert_int_equal(size_a, size_b);
        assert_memory_equal(text_a, text_b, size_a);
}

static void test_golden(void **state) {
        State expected = golden_state(), parsed;
        char text[STATE_FILE_MAX];
        size_t size = state_format(&expected, text);

        assert_int_equal(size, sizeof(GOLDEN) - 1);
        assert_memory_equal(text, GOLDEN, size);

        assert_int_equal(state_parse(GOLDEN, sizeof(GOLDEN) - 1, &parsed), 0);
        assert_string_equal(parsed.boot_id, BOOT_ID);
        assert_int_equal(parsed.history.interval_usec, 3600000000);
        assert_int_equal(parsed.history.n_times, 4);
        assert_int_equal(parsed.history.times[3], 333);
        assert_int_equal(parsed.last_result, RESULT_RENEWED);
        assert_int_equal(parsed.last_closed_at, 1764000000000000);
        assert_int_equal(parsed.certificate.not_after, 1771776000000000);
        assert_int_equal(parsed.certificate.not_before, 1764000000000000);
        assert_string_equal(parsed.certificate.serial, "04d2");
        assert_string_equal(parsed.certificate.names, "example.com 192.0.2.1");
        assert_int_equal(parsed.certificate.names_left_out, 3);
}

static void test_every_result(void **state) {
        for (WindowResult result = RESULT_NONE; result <= RESULT_STOPPED; result++) {
                State before = golden_state(), after;
                char text[STATE_FILE_MAX];

                before.last_result = result;
                assert_int_equal(state_parse(text, state_format(&before, text), &after), 0);
                assert_int_equal(after.last_result, result);
        }
}

/* The largest of everything fits. */
static void test_largest(void **state) {
        State before = golden_state(), after;
        char text[STATE_FILE_MAX];
        size_t size;

        before.history.n_times = QUOTA_HISTORY_MAX;
        for (unsigned i = 0; i < QUOTA_HISTORY_MAX; i++)
                before.history.times[i] = INT64_MAX / 2 - QUOTA_HISTORY_MAX + i;
        before.last_result = RESULT_GATE_FAILED;
        before.last_closed_at = INT64_MAX / 2;
        before.certificate.not_after = before.certificate.not_before = INT64_MAX / 2;
        before.certificate.names_left_out = UINT32_MAX;
        memset(before.certificate.serial, 'f', CERTIFICATE_SERIAL_MAX - 1);
        memset(before.certificate.names, 'n', CERTIFICATE_NAMES_MAX - 1);

        size = state_format(&before, text);
        assert_int_equal(state_parse(text, size, &after), 0);
        assert_same(&before, &after);
}

static void test_cut_off_anywhere(void **state) {
        for (size_t size = 0; size < sizeof(GOLDEN) - 1; size++) {
                /* of just this size, so that reading on is seen */
                _cleanup_free_ char *text = malloc(size + 1);
                State parsed = {.certificate.not_after = 7};

                assert_non_null(text);
                memcpy(text, GOLDEN, size);
                assert_int_equal(state_parse(text, size, &parsed), -EBADMSG);
                assert_int_equal(parsed.certificate.not_after, 7);
        }
}

/* Whatever one byte is changed to: refused, or what it says now is what is written again. */
static void test_every_byte_changed(void **state) {
        unsigned n_taken = 0;

        for (size_t i = 0; i < sizeof(GOLDEN) - 1; i++)
                for (unsigned c = 0; c < 256; c++) {
                        char text[sizeof(GOLDEN)], again[STATE_FILE_MAX];
                        State parsed;

                        memcpy(text, GOLDEN, sizeof(text));
                        text[i] = (char) c;
                        if (state_parse(text, sizeof(text) - 1, &parsed) < 0)
                                continue;
                        n_taken++;
                        assert_int_equal(state_format(&parsed, again), sizeof(text) - 1);
                        assert_memory_equal(again, text, sizeof(text) - 1);
                }
        assert_in_range(n_taken, sizeof(GOLDEN), 4000);
}

static void test_refused(void **state) {
        static const struct {
                const char *from, *to;
        } changes[] = {
                {"Version=1", "Version=2"},
                {"Version=1\n", "Version=1\r\n"},
                {"BootId=0", "BootId=A"},
                {"BootId=0", "BootId=00"},
                {"3600000000", ""},
                {"3600000000", "03600000000"},
                {"3600000000", "-1"},
                {"3600000000", "4611686018427387904"},
                {"3600000000", "99999999999999999999999999"},
                {"1 22 22 333", "1 22 21 333"}, /* not in order */
                {"1 22 22 333", "1  22"},
                {"1 22 22 333", " 1"},
                {"1 22 22 333", "1 "},
                {"renewed", "renewe"},
                {"renewed", "renewedd"},
                {"NotAfter=1771776000000000\n", "NotAfter=1771776000000000\n\n"},
                {"NotAfter=1771776000000000\n", ""},
                {"04d2", "04D2"},
                {"04d2", "04 d2"},
                {"LeftOut=3", "LeftOut=4294967296"},
                {"LeftOut=3", "LeftOut="},
                {"example.com ", "example.com  "},
                {"example.com ", " example.com "},
                {"example.com ", "ex\001mple.com "},
                {"example.com ", "ex\xc3\xa4mple.com "},
                {"192.0.2.1\n", "192.0.2.1 \n"},
                {"192.0.2.1\n", "192.0.2.1\n\n"},
                {"NotAfter=1771776000000000\n", "NotAfter=1\nNotAfter=1\n"},
                {"LastResult", "Lastresult"},
        };

        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                char text[sizeof(GOLDEN) + 64];
                const char *at = strstr(GOLDEN, changes[i].from);
                State parsed;

                assert_non_null(at);
                (void) snprintf(text, sizeof(text), "%.*s%s%s", (int) (at - GOLDEN), GOLDEN,
                                changes[i].to, at + strlen(changes[i].from));
                assert_int_equal(state_parse(text, strlen(text), &parsed), -EBADMSG);
        }
}

static void test_too_many_times(void **state) {
        char text[STATE_FILE_MAX];
        State before = golden_state(), after;
        size_t size, n = 0;

        for (unsigned i = 0; i < QUOTA_HISTORY_MAX + 1; i++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s7", i > 0 ? " " : "");
        size = n;
        {
                static char whole[2 * STATE_FILE_MAX];
                int length = snprintf(whole, sizeof(whole),
                                      "Version=1\nBootId=" BOOT_ID
                                      "\nRateInterval=1\nOpenedAt=%.*s\nLastResult=\n"
                                      "LastClosedAt=0\nNotAfter=0\nNotBefore=0\nSerial=\n"
                                      "NamesLeftOut=0\nNames=\n",
                                      (int) size, text);

                assert_int_equal(state_parse(whole, (size_t) length, &after), -EBADMSG);
        }
        before.history.n_times = 0;
        assert_int_equal(state_parse(text, state_format(&before, text), &after), 0);
        assert_int_equal(after.history.n_times, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_every_result),
                cmocka_unit_test(test_largest),
                cmocka_unit_test(test_cut_off_anywhere),
                cmocka_unit_test(test_every_byte_changed),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_too_many_times),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
