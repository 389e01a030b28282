/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <postern/finding.h>
#include <postern/profile-value.h>
#include <string.h>

static void test_order_and_levels(void **state) {
        Findings findings = {};

        findings_add(&findings, FINDING_OK, "a", "%i of %i", 1, 2);
        findings_add(&findings, FINDING_ERROR, "b", "no");
        assert_int_equal(findings.n, 2);
        assert_false(findings.lacking);
        assert_string_equal(findings.items[0].subject, "a");
        assert_string_equal(findings.items[0].message, "1 of 2");
        assert_int_equal(findings.items[1].level, FINDING_ERROR);
        assert_string_equal(finding_level_to_string(FINDING_OK), "ok");
        assert_string_equal(finding_level_to_string(FINDING_NOTE), "note");
        assert_string_equal(finding_level_to_string(FINDING_ERROR), "error");
        findings_deinit(&findings);
        assert_int_equal(findings.n, 0);
}

static void test_end_of_the_list(void **state) {
        Findings findings = {};

        for (int i = 0; i < 2 * FINDINGS_MAX; i++)
                findings_add(&findings, FINDING_ERROR, "subject", "%i", i);
        assert_int_equal(findings.n, FINDINGS_MAX);
        assert_string_equal(findings.items[FINDINGS_MAX - 2].message, "94");
        assert_string_equal(findings.items[FINDINGS_MAX - 1].subject, "check");
        assert_int_equal(findings.items[FINDINGS_MAX - 1].level, FINDING_NOTE);
        assert_string_equal(findings.items[FINDINGS_MAX - 1].message,
                            "there is more than one answer holds: mend some of it and ask again");
        findings_deinit(&findings);
}

static void test_texts_are_cut_and_printable(void **state) {
        char subject[2 * FINDING_SUBJECT_MAX], message[2 * FINDING_MESSAGE_MAX];
        Findings findings = {};

        memset(subject, 's', sizeof(subject));
        subject[sizeof(subject) - 1] = 0;
        /* cut within a character of two bytes */
        for (size_t i = 0; i < sizeof(message) - 1; i++)
                message[i] = i == 0 ? 'x' : i % 2 ? '\xc3' : '\xa4';
        message[sizeof(message) - 1] = 0;
        findings_add(&findings, FINDING_OK, subject, "%s", message);
        findings_add(&findings, FINDING_OK, "a\x1b[31m", "b\xff\n");
        assert_int_equal(strlen(findings.items[0].subject), FINDING_SUBJECT_MAX - 1);
        assert_int_equal(strlen(findings.items[0].message), FINDING_MESSAGE_MAX - 1);
        assert_string_equal(findings.items[1].subject, "a?[31m");
        assert_string_equal(findings.items[1].message, "b??");
        for (size_t i = 0; i < findings.n; i++) {
                assert_true(value_is_printable(findings.items[i].subject));
                assert_true(value_is_printable(findings.items[i].message));
        }
        findings_deinit(&findings);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order_and_levels),
                cmocka_unit_test(test_end_of_the_list),
                cmocka_unit_test(test_texts_are_cut_and_printable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
