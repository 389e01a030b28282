/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What reaches stderr: one line per record, whatever is in it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <string.h>

typedef struct Fixture {
        int saved;
        int pipe[2];
        char text[16384];
} Fixture;

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        fixture->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(pipe2(fixture->pipe, O_CLOEXEC | O_NONBLOCK) >= 0);
        assert_true(dup2(fixture->pipe[1], STDERR_FILENO) >= 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        (void) dup2(fixture->saved, STDERR_FILENO);
        close(fixture->saved);
        close(fixture->pipe[0]);
        close(fixture->pipe[1]);
        free(fixture);
        return 0;
}

static const char *logged(Fixture *fixture) {
        ssize_t n = read(fixture->pipe[0], fixture->text, sizeof(fixture->text) - 1);

        assert_true(n > 0);
        fixture->text[n] = 0;
        return fixture->text;
}

static void test_plain(void **state) {
        log_warning("disk %s", "full");
        assert_string_equal(logged(*state), "<4>disk full\n");
}

static void test_fields(void **state) {
        const char *const fields[] = {"A", "one", "B", NULL, "C", "three", NULL};

        log_event(LOG_NOTICE, MESSAGE_CLOSED, fields, "text");
        assert_string_equal(logged(*state),
                            "<5>text MESSAGE_ID=" MESSAGE_CLOSED " A=one C=three\n");
}

static void test_forged_record(void **state) {
        const char *const fields[] = {"A", "x\n<0>y B=\\z\033[m", NULL};

        log_event(LOG_INFO, NULL, fields, "a\nb\t%s", "\x7f");
        assert_string_equal(logged(*state),
                            "<6>a\\x0ab\\x09\\x7f A=x\\x0a<0>y\\x20B=\\x5cz\\x1b[m\n");
}

static void test_text_of_any_length(void **state) {
        _cleanup_free_ char *text = malloc(100000);
        const char *const fields[] = {"A", text, "B", text, "C", text, NULL};
        const char *line;

        assert_non_null(text);
        memset(text, '\n', 99999);
        text[99999] = 0;

        log_event(LOG_INFO, MESSAGE_ASKED, fields, "%s", text);
        line = logged(*state);
        assert_in_range(strlen(line), 1000, 8000);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        assert_non_null(strstr(line, " C="));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
                cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
                cmocka_unit_test_setup_teardown(test_forged_record, setup, teardown),
                cmocka_unit_test_setup_teardown(test_text_of_any_length, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
