/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <postern/certificate.h>
#include <postern/cleanup.h>

#define DAY_USEC ((uint64_t) 24 * 60 * 60 * 1000 * 1000)

static void add(Certificate *certificate, const char *name) {
        certificate_add_name(certificate, name, strlen(name));
}

static void test_names_are_escaped(void **state) {
        Certificate certificate = {};

        add(&certificate, "*.example.com");
        certificate_add_name(&certificate, "a\0b c\n\\", 7);
        add(&certificate, "b\xc3\xbc");
        add(&certificate, "");
        assert_string_equal(certificate.names, "*.example.com a\\x00b\\x20c\\x0a\\x5c b\\xc3\\xbc");
        assert_int_equal(certificate.names_left_out, 1);
        assert_true(certificate_names_are_valid(certificate.names));
}

/* As many as fit, whole; one that is shorter still finds room. */
static void test_names_that_do_not_fit(void **state) {
        Certificate certificate = {};
        char name[64];

        for (unsigned i = 0; i < 100; i++) {
                (void) snprintf(name, sizeof(name), "host-%05u.example.com", i);
                add(&certificate, name);
        }
        /* 23 bytes with their blank, the first of which has none */
        assert_int_equal(strlen(certificate.names), 89 * 23 - 1);
        assert_int_equal(certificate.names_left_out, 11);
        add(&certificate, "");
        assert_int_equal(certificate.names_left_out, 12);
        assert_true(certificate_names_are_valid(certificate.names));
}

static void test_longest_name(void **state) {
        char name[CERTIFICATE_NAMES_MAX + 1];
        Certificate certificate = {};

        memset(name, 'a', sizeof(name));
        certificate_add_name(&certificate, name, CERTIFICATE_NAMES_MAX);
        assert_int_equal(certificate.names_left_out, 1);
        assert_string_equal(certificate.names, "");
        certificate_add_name(&certificate, name, CERTIFICATE_NAMES_MAX - 1);
        assert_int_equal(strlen(certificate.names), CERTIFICATE_NAMES_MAX - 1);
        assert_true(certificate_names_are_valid(certificate.names));
        add(&certificate, "b");
        assert_int_equal(certificate.names_left_out, 2);
        assert_int_equal(strlen(certificate.names), CERTIFICATE_NAMES_MAX - 1);
}

/* Where it falls does not matter: no half of an escape stays. */
static void test_escape_at_the_end(void **state) {
        for (size_t length = CERTIFICATE_NAMES_MAX - 8; length < CERTIFICATE_NAMES_MAX; length++) {
                char name[CERTIFICATE_NAMES_MAX];
                Certificate certificate = {};

                memset(name, 'a', sizeof(name));
                name[length - 1] = '\n';
                certificate_add_name(&certificate, name, length);
                assert_int_equal(certificate.names_left_out, length + 3 >= CERTIFICATE_NAMES_MAX);
                assert_int_equal(strlen(certificate.names),
                                 certificate.names_left_out ? 0 : length + 3);
        }
}

static void test_what_is_valid(void **state) {
        static const struct {
                const char *names;
                bool valid;
        } cases[] = {
                {"", true},      {"a", true},     {"a b", true},       {" a", false},
                {"a ", false},   {"a  b", false}, {" ", false},        {"a\nb", false},
                {"a\tb", false}, {"\x7f", false}, {"\xc3\xbc", false},
        };
        char text[CERTIFICATE_NAMES_MAX + 1];

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                assert_int_equal(certificate_names_are_valid(cases[i].names), cases[i].valid);
        memset(text, 'a', sizeof(text));
        text[CERTIFICATE_NAMES_MAX] = 0;
        assert_false(certificate_names_are_valid(text));
        text[CERTIFICATE_NAMES_MAX - 1] = 0;
        assert_true(certificate_names_are_valid(text));
        text[CERTIFICATE_SERIAL_MAX] = 0;
        assert_false(certificate_serial_is_valid(text));
        text[CERTIFICATE_SERIAL_MAX - 1] = 0;
        assert_true(certificate_serial_is_valid(text));
        assert_true(certificate_serial_is_valid(""));
        assert_false(certificate_serial_is_valid("0A"));
        assert_false(certificate_serial_is_valid("0 1"));
}

static void test_near_end(void **state) {
        static const uint64_t begin = 20000 * DAY_USEC, end = begin + 90 * DAY_USEC;
        Certificate certificate = {.not_before = begin, .not_after = end};

        assert_false(certificate_is_near_end(&certificate, begin - DAY_USEC));
        assert_false(certificate_is_near_end(&certificate, begin));
        assert_false(certificate_is_near_end(&certificate, end - 30 * DAY_USEC));
        assert_true(certificate_is_near_end(&certificate, end - 30 * DAY_USEC + 1));
        assert_true(certificate_is_near_end(&certificate, end));
        assert_true(certificate_is_near_end(&certificate, UINT64_MAX));
        /* dates that are not known, or make no sense */
        certificate.not_before = 0;
        assert_false(certificate_is_near_end(&certificate, end));
        certificate.not_before = end;
        assert_false(certificate_is_near_end(&certificate, end));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_are_escaped),
                cmocka_unit_test(test_names_that_do_not_fit),
                cmocka_unit_test(test_longest_name),
                cmocka_unit_test(test_escape_at_the_end),
                cmocka_unit_test(test_what_is_valid),
                cmocka_unit_test(test_near_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
