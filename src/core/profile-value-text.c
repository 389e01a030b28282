/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Commands and text: how a line becomes arguments, and which characters may stand where. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-value.h>
#include <string.h>

#define BLANKS " \t\r\n"

DEFINE_CLEANUP(char *, value_argv_free);

char **value_argv_free(char **argv) {
        for (char **item = argv; item && *item; item++)
                free(*item);
        free(argv);
        return NULL;
}

int value_argv_append(char ***argv, size_t *n, char *item) {
        char **longer = reallocarray(*argv, *n + 2, sizeof(char *));

        if (!longer)
                return -ENOMEM;
        longer[(*n)++] = item;
        longer[*n] = NULL;
        *argv = longer;
        return 0;
}

static int digit_value(char c, int base) {
        int value = -1;

        if (c >= '0' && c <= '9')
                value = c - '0';
        else if (c >= 'a' && c <= 'f')
                value = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
                value = c - 'A' + 10;
        return value < base ? value : -1;
}

/* *text points behind a backslash, and is moved behind what follows it. */
static int read_escape(const char **text, char *ret) {
        static const char letters[] = "abfnrtvs\\\"'";
        static const char meanings[] = "\a\b\f\n\r\t\v \\\"'";
        const char *p = *text;
        const char *letter = *p ? strchr(letters, *p) : NULL;
        int base, digits, byte = 0;

        if (letter) {
                *ret = meanings[letter - letters];
                *text = p + 1;
                return 0;
        }

        base = *p == 'x' ? 16 : 8;
        digits = *p == 'x' ? 2 : 3;
        if (*p == 'x')
                p++;
        for (int i = 0; i < digits; i++, p++) {
                int value = digit_value(*p, base);

                if (value < 0)
                        return -EINVAL;
                byte = byte * base + value;
        }
        /* an argument cannot hold a zero; \777 is no byte */
        if (byte == 0 || byte > UINT8_MAX)
                return -EINVAL;

        *ret = (char) byte;
        *text = p;
        return 0;
}

/* Reads one argument, which is in `word` then, and moves *text behind it. */
static int read_word(const char **text, char *word) {
        const char *p = *text;
        char quote = 0;
        int r;

        while (*p && (quote || !strchr(BLANKS, *p))) {
                char c = *p++;

                if (c == '\\') {
                        r = read_escape(&p, word++);
                        if (r < 0)
                                return r;
                } else if (quote && c == quote) {
                        quote = 0;
                } else if (!quote && (c == '\'' || c == '"')) {
                        quote = c;
                } else {
                        *word++ = c;
                }
        }
        if (quote)
                return -EINVAL;

        *word = 0;
        *text = p;
        return 0;
}

int value_split_argv(const char *text, char ***ret) {
        _cleanup_(value_argv_free_cleanup) char **argv = NULL;
        _cleanup_free_ char *word = NULL;
        size_t n = 0;
        int r;

        word = malloc(strlen(text) + 1); /* unquoting never makes it longer */
        if (!word)
                return -ENOMEM;

        for (const char *p = text + strspn(text, BLANKS); *p; p += strspn(p, BLANKS)) {
                _cleanup_free_ char *item = NULL;

                r = read_word(&p, word);
                if (r < 0)
                        return r;
                item = strdup(word);
                if (!item)
                        return -ENOMEM;
                r = value_argv_append(&argv, &n, item);
                if (r < 0)
                        return r;
                item = NULL;
        }
        if (!argv)
                return -ENOENT;

        *ret = TAKE_POINTER(argv);
        return 0;
}

/* The code point *text points at, which is moved behind it. False: this is not UTF-8. */
static bool read_code_point(const char **text, uint32_t *ret) {
        static const struct {
                unsigned char mask, lead;
                uint32_t least; /* anything smaller has a shorter form, and only that is UTF-8 */
        } forms[] = {
                {0x80, 0x00, 0},
                {0xe0, 0xc0, 0x80},
                {0xf0, 0xe0, 0x800},
                {0xf8, 0xf0, 0x10000},
        };
        const unsigned char *p = (const unsigned char *) *text;

        for (size_t more = 0; more < ELEMENTS(forms); more++) {
                uint32_t point;

                if ((*p & forms[more].mask) != forms[more].lead)
                        continue;

                point = *p & (unsigned char) ~forms[more].mask;
                for (size_t i = 1; i <= more; i++) {
                        if ((p[i] & 0xc0) != 0x80)
                                return false;
                        point = point << 6 | (p[i] & 0x3f);
                }
                if (point < forms[more].least || point > 0x10ffff ||
                    (point >= 0xd800 && point <= 0xdfff))
                        return false;

                *text += more + 1;
                *ret = point;
                return true;
        }
        return false;
}

static bool is_control(uint32_t point) {
        return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x2028 ||
               point == 0x2029;
}

/* Changes the order in which the rest is shown, so that it reads as something else. */
static bool is_bidirectional_control(uint32_t point) {
        return point == 0x061c || point == 0x200e || point == 0x200f ||
               (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

bool value_is_utf8(const char *text) {
        uint32_t point;

        while (*text)
                if (!read_code_point(&text, &point))
                        return false;
        return true;
}

bool value_is_printable(const char *text) {
        uint32_t point;

        while (*text)
                if (!read_code_point(&text, &point) || is_control(point))
                        return false;
        return true;
}

bool value_is_plain_text(const char *text) {
        uint32_t point;

        if (!value_is_printable(text))
                return false;
        while (*text)
                if (!read_code_point(&text, &point) || is_bidirectional_control(point) ||
                    point == '<' || point == '>' || point == '&')
                        return false;
        return true;
}

bool value_is_path(const char *text) {
        if (*text != '/' || !value_is_printable(text))
                return false;

        for (const char *p = text; p; p = strchr(p + 1, '/'))
                if (strncmp(p, "/..", 3) == 0 && (p[3] == '/' || !p[3]))
                        return false;
        return true;
}
