/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <locale.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <postern/cleanup.h>
#include <postern/output.h>

DEFINE_CLEANUP(Output, output_free);

typedef struct Heard {
        size_t lines;
        char last[OUTPUT_LINE_MAX + 1];
} Heard;

static void hear(const char *line, void *userdata) {
        Heard *heard = userdata;

        assert_true(strlen(line) <= OUTPUT_LINE_MAX);
        memcpy(heard->last, line, strlen(line) + 1);
        heard->lines++;
}

static Output *make(OutputCallback callback, void *userdata) {
        Output *output = NULL;

        assert_int_equal(output_new(&output, callback, userdata), 0);
        return output;
}

static void count(const char *line, void *userdata) {
        (*(size_t *) userdata)++;
}

/* The kept lines, each ended by '|'. */
static char *tail(const Output *output, size_t lines) {
        _cleanup_free_ const char **array = NULL;
        char *text = NULL;
        size_t size;
        FILE *stream;

        assert_int_equal(output_tail(output, lines, &array), 0);
        stream = open_memstream(&text, &size);
        assert_non_null(stream);
        for (const char **line = array; *line; line++)
                fprintf(stream, "%s|", *line);
        fclose(stream);
        return text;
}

/* What these bytes become: all at once, one by one, and cut in two at every place. */
static void assert_becomes(const char *bytes, size_t size, const char *expected, int line) {
        for (size_t cut = 0; cut <= size + 1; cut++) {
                _cleanup_(output_free_cleanup) Output *output = make(NULL, NULL);
                _cleanup_free_ char *text = NULL;

                if (cut <= size) {
                        output_write(output, bytes, cut);
                        output_write(output, bytes + cut, size - cut);
                } else
                        for (size_t i = 0; i < size; i++)
                                output_write(output, bytes + i, 1);
                output_finish(output);

                text = tail(output, 0);
                if (strcmp(text, expected) != 0)
                        fail_msg("line %d, cut at %zu: '%s' is not '%s'", line, cut, text,
                                 expected);
        }
}

#define BECOMES(bytes, expected) assert_becomes(bytes, sizeof(bytes) - 1, expected, __LINE__)

static void test_lines(void **state) {
        BECOMES("", "");
        BECOMES("one\ntwo\n", "one|two|");
        BECOMES("one\n\ntwo", "one||two|");
        BECOMES("\n", "|");
        BECOMES("dos\r\nlines\r\n", "dos|lines|");
        BECOMES("\r\n", "|");
        BECOMES("a\rb\r\r\nc\r", "a\\x0db\\x0d|c\\x0d|");
}

static void test_controls(void **state) {
        BECOMES("a\tb\n", "a b|");
        BECOMES("nul\0l\n", "nul\\x00l|");
        BECOMES("\033[2J\033]0;title\a\n", "\\x1b[2J\\x1b]0;title\\x07|");
        BECOMES("\b\v\f\x7f\n", "\\x08\\x0b\\x0c\\x7f|");
        BECOMES(" ~\n", " ~|");
        /* C1: U+009B is as good as ESC [ on some terminals; U+00A0 is harmless */
        BECOMES("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0\n", "\\xc2\\x80\\xc2\\x9b\\xc2\\x9f\xc2\xa0|");
}

static void test_utf8(void **state) {
        BECOMES("Schlüssel für 例え.jp 🔑\n", "Schlüssel für 例え.jp 🔑|");
        /* the first and the last of each length */
        BECOMES("\xdf\xbf\xe0\xa0\x80\xef\xbf\xbd\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\n",
                "\xdf\xbf\xe0\xa0\x80\xef\xbf\xbd\xf0\x90\x80\x80\xf4\x8f\xbf\xbf|");
        BECOMES("\xed\x9f\xbf\xee\x80\x80\n", "\xed\x9f\xbf\xee\x80\x80|");
        /* alone, overlong, surrogate, too large, never a first byte */
        BECOMES("\x80\xbf\n", "\\x80\\xbf|");
        BECOMES("\xc0\xaf\xc1\xbf\n", "\\xc0\\xaf\\xc1\\xbf|");
        BECOMES("\xe0\x9f\xbf\n", "\\xe0\\x9f\\xbf|");
        BECOMES("\xf0\x8f\xbf\xbf\n", "\\xf0\\x8f\\xbf\\xbf|");
        BECOMES("\xed\xa0\x80\n", "\\xed\\xa0\\x80|");
        BECOMES("\xf4\x90\x80\x80\n", "\\xf4\\x90\\x80\\x80|");
        BECOMES("\xf5\x80\x80\x80\xff\n", "\\xf5\\x80\\x80\\x80\\xff|");
        BECOMES("\x80\x80\x80\x80\x80\x80\n", "\\x80\\x80\\x80\\x80\\x80\\x80|");
        /* broken off: by a letter, a newline, another beginning, the end */
        BECOMES("\xe2\x82z\n", "\\xe2\\x82z|");
        BECOMES("\xe2\x82\n\xe2\r\n", "\\xe2\\x82|\\xe2|");
        BECOMES("\xf0\x9f\xc3\xbc\n", "\\xf0\\x9f\xc3\xbc|");
        BECOMES("\xf0\x9f\x94", "\\xf0\\x9f\\x94|");
}

static void test_direction(void **state) {
        BECOMES("\u202atext\u202e\n", "\\xe2\\x80\\xaatext\\xe2\\x80\\xae|");
        BECOMES("\u2066\u2069\n", "\\xe2\\x81\\xa6\\xe2\\x81\\xa9|");
        BECOMES("\u200e\u200f\u061c\n", "\\xe2\\x80\\x8e\\xe2\\x80\\x8f\\xd8\\x9c|");
        BECOMES("\u2028\u2029\n", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9|");
        /* their neighbours are as good as any */
        BECOMES("\u200d\u2010\u2027\u202f\u2065\u206a\n", "\u200d\u2010\u2027\u202f\u2065\u206a|");
}

/* A line of `before` letters and then the piece, which is whole, or cut away as a whole. */
static void test_long_lines(void **state) {
        static const char *const pieces[] = {"x", "ü", "€", "🔑", "\033"};
        static const size_t sizes[] = {1, 2, 3, 4, 4};

        for (size_t i = 0; i < ELEMENTS(pieces); i++)
                for (size_t before = OUTPUT_LINE_MAX - 10; before <= OUTPUT_LINE_MAX + 3;
                     before++) {
                        _cleanup_(output_free_cleanup) Output *output = NULL;
                        char letters[OUTPUT_LINE_MAX + 10];
                        Heard heard = {};
                        size_t length;

                        output = make(hear, &heard);
                        memset(letters, 'a', sizeof(letters));
                        output_write(output, letters, before);
                        output_write(output, pieces[i], strlen(pieces[i]));
                        output_write(output, "\nnext\n", 1);

                        assert_int_equal(heard.lines, 1);
                        length = strlen(heard.last);
                        if (before + sizes[i] <= OUTPUT_LINE_MAX) {
                                assert_int_equal(length, before + sizes[i]);
                                assert_null(strstr(heard.last, "…"));
                        } else {
                                assert_int_equal(length, OUTPUT_LINE_MAX);
                                assert_string_equal(heard.last + length - strlen("…"), "…");
                                assert_int_equal(strspn(heard.last, "a"), length - strlen("…"));
                        }
                }

        {
                /* Never cut within: a whole line of wide characters, and of escapes. */
                _cleanup_(output_free_cleanup) Output *output = NULL;
                Heard heard = {};

                output = make(hear, &heard);
                for (size_t i = 0; i < 1000; i++)
                        output_write(output, "€", 3);
                /* one byte is left, but not for what comes behind the mark */
                output_write(output, "b\n", 2);
                assert_int_equal(strlen(heard.last), 340 * 3 + 3);
                assert_string_equal(heard.last + 339 * 3, "€…");

                for (size_t i = 0; i < 1000; i++)
                        output_write(output, "\033", 1);
                output_write(output, "\nshort\n", 1);
                assert_int_equal(strlen(heard.last), 255 * 4 + 3);
                assert_string_equal(heard.last + 254 * 4, "\\x1b…");

                /* and nothing of it is left for the next */
                output_write(output, "short\n", 6);
                assert_string_equal(heard.last, "short");
                assert_int_equal(heard.lines, 3);
        }
}

/* What comes after the end begins afresh. */
static void test_finish(void **state) {
        _cleanup_(output_free_cleanup) Output *output = make(NULL, NULL);
        _cleanup_free_ char *text = NULL;

        output_finish(output);
        output_write(output, "a\r", 2);
        output_finish(output);
        output_finish(output);
        output_write(output, "\nb\xe2\x82", 4);
        output_finish(output);
        output_write(output, "\xac\n", 2);

        text = tail(output, 0);
        assert_string_equal(text, "a\\x0d||b\\xe2\\x82|\\xac|");
}

static void test_tail(void **state) {
        _cleanup_(output_free_cleanup) Output *output = make(NULL, NULL);
        static const struct {
                size_t lines;
                const char *expected;
        } cases[] = {
                {0, "1|2||3|"}, {1, "3|"},      {2, "|3|"},
                {4, "1|2||3|"}, {5, "1|2||3|"}, {SIZE_MAX, "1|2||3|"},
        };

        output_write(output, "1\n2\n\n3\nunfinished", 17);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *text = tail(output, cases[i].lines);

                assert_string_equal(text, cases[i].expected);
        }
}

/* The same lines, and hardly more memory than they take. */
static void test_shrink(void **state) {
        Output *output;

        for (size_t lines = 0; lines < 20000; lines = lines * 3 + 1) {
                _cleanup_free_ char *before = NULL, *after = NULL;

                output = make(NULL, NULL);
                for (size_t i = 0; i < lines; i++) {
                        char line[32];

                        output_write(output, line, snprintf(line, sizeof(line), "line %zu\n", i));
                }
                before = tail(output, 0);
                output_write(output, "unfinished", 10);
                output = output_shrink(output);
                after = tail(output, 0);
                assert_string_equal(after, before);
                assert_true(malloc_usable_size(output) < strlen(after) + 512);
                output_free(output);
        }
}

/* Numbered lines of every length: what is kept is the last of them, without a gap, and as much as
 * fits. */
static void test_oldest_go_first(void **state) {
        _cleanup_(output_free_cleanup) Output *output = make(NULL, NULL);

        for (unsigned number = 0; number < 20000; number++) {
                _cleanup_free_ const char **lines = NULL;
                char line[OUTPUT_LINE_MAX + 2];
                int digits = snprintf(line, sizeof(line), "%u ", number);
                size_t length = digits + (number * 7919) % (OUTPUT_LINE_MAX - 16);
                size_t kept = 0, used = 0;

                memset(line + digits, 'x', length - digits);
                line[length] = '\n';
                output_write(output, line, length + 1);

                if (number % 37 != 0)
                        continue;

                assert_int_equal(output_tail(output, 0, &lines), 0);
                for (; lines[used]; used++)
                        kept += strlen(lines[used]) + 1;
                for (size_t i = 0; i < used; i++)
                        assert_int_equal(strtoul(lines[i], NULL, 10), number + 1 - (used - i));

                assert_true(kept <= OUTPUT_KEPT_MAX);
                assert_true(used == number + 1 || kept > OUTPUT_KEPT_MAX - OUTPUT_LINE_MAX - 1);
        }
}

static void test_empty_lines_are_bounded(void **state) {
        _cleanup_(output_free_cleanup) Output *output = make(NULL, NULL);
        _cleanup_free_ const char **lines = NULL;
        size_t used = 0;

        for (size_t i = 0; i < 4 * OUTPUT_KEPT_MAX; i++)
                output_write(output, "\n", 1);

        assert_int_equal(output_tail(output, 0, &lines), 0);
        while (lines[used])
                used++;
        assert_int_equal(used, OUTPUT_KEPT_MAX);
}

/* `yes`, a gibibyte of it, as it would come through a pipe; less where a tool slows it down. */
static void test_flood(void **state) {
        enum { CHUNK = 64 * 1024 };
        static char chunk[CHUNK];
        const char *size_text = getenv("POSTERN_FLOOD_MIB");
        size_t chunks = (size_text ? strtoul(size_text, NULL, 10) : 1024) * (1024 * 1024 / CHUNK);
        _cleanup_(output_free_cleanup) Output *output = NULL;
        _cleanup_free_ char *text = NULL;
        size_t lines = 0;
        clock_t begin = clock();

        for (size_t i = 0; i < CHUNK; i += 2)
                memcpy(chunk + i, "y\n", 2);

        output = make(count, &lines);
        for (size_t i = 0; i < chunks; i++)
                output_write(output, chunk, CHUNK);

        assert_int_equal(lines, chunks * (CHUNK / 2));
        text = tail(output, 3);
        assert_string_equal(text, "y|y|y|");
        print_message("%zu MiB in %.1f s of processor time\n", chunks / (1024 * 1024 / CHUNK),
                      (double) (clock() - begin) / CLOCKS_PER_SEC);
}

/* Whatever comes in, what comes out is printable UTF-8 without a control. */
static void test_noise(void **state) {
        static const unsigned char likely[] = {0x1b, '\r', '\n', 0xe2, 0x80, 0xae, 0xc2, 0x9b, 'a'};
        _cleanup_(output_free_cleanup) Output *output = NULL;
        uint32_t seed = 1;
        Heard heard = {};

        output = make(hear, &heard);
        for (size_t i = 0; i < 2 * 1000 * 1000; i++) {
                unsigned char byte;

                seed = seed * 1664525 + 1013904223;
                byte = seed >> 24;
                if (seed >> 16 & 1)
                        byte = likely[byte % sizeof(likely)];
                output_write(output, (const char *) &byte, 1);

                if (byte != '\n')
                        continue;
                for (const char *at = heard.last; *at; at++)
                        assert_true((unsigned char) *at >= 0x20 && *at != 0x7f);
                assert_null(strstr(heard.last, "\xe2\x80\xae"));
                assert_null(strstr(heard.last, "\xc2\x9b"));
                assert_true(mbstowcs(NULL, heard.last, 0) != (size_t) -1);
        }
        assert_true(heard.lines > 10000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_controls),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_direction),
                cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_finish),
                cmocka_unit_test(test_tail),
                cmocka_unit_test(test_shrink),
                cmocka_unit_test(test_oldest_go_first),
                cmocka_unit_test(test_empty_lines_are_bounded),
                cmocka_unit_test(test_flood),
                cmocka_unit_test(test_noise),
        };

        /* for mbstowcs() as a second opinion on UTF-8 */
        if (!setlocale(LC_CTYPE, "C.UTF-8"))
                return 1;

        return cmocka_run_group_tests(tests, NULL, NULL);
}
