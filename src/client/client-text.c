/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Columns are counted as code points: what the service sends is printable, and seldom wide. */

#include <inttypes.h>
#include <postern/client-text.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define USEC_PER_SEC ((uint64_t) 1000 * 1000)

enum {
        WIDTH_DEFAULT = 80,
        WIDTH_MIN = 40,
};

size_t text_width(FILE *stream) {
        struct winsize size;

        if (ioctl(fileno(stream), TIOCGWINSZ, &size) < 0 || size.ws_col < WIDTH_MIN)
                return WIDTH_DEFAULT;
        return size.ws_col;
}

static bool has_colours(FILE *stream) {
        const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");

        return isatty(fileno(stream)) && !(none && *none) && terminal &&
               strcmp(terminal, "dumb") != 0;
}

const char *text_style(FILE *stream, TextStyle style) {
        static const char *const styles[] = {
                [TEXT_PLAIN] = "",          [TEXT_BOLD] = "\033[1m", [TEXT_GREEN] = "\033[32m",
                [TEXT_YELLOW] = "\033[33m", [TEXT_RED] = "\033[31m",
        };

        return has_colours(stream) ? styles[style] : "";
}

const char *text_reset(FILE *stream) {
        return has_colours(stream) ? "\033[0m" : "";
}

static bool is_inside(char byte) {
        return ((unsigned char) byte & 0xc0) == 0x80; /* of a code point that began before */
}

static size_t columns_of(const char *text, size_t length) {
        size_t n = 0;

        for (size_t i = 0; i < length; i++)
                n += !is_inside(text[i]);
        return n;
}

/* Control characters, those of U+0080 to U+009f included. */
static void write_bytes(FILE *stream, const char *text, size_t length) {
        for (size_t i = 0; i < length; i++) {
                unsigned char byte = (unsigned char) text[i];

                if (byte < ' ' || byte == 0x7f)
                        fputc('?', stream);
                else if (byte == 0xc2 && i + 1 < length && (unsigned char) text[i + 1] < 0xa0) {
                        fputc('?', stream);
                        i++;
                } else
                        fputc(byte, stream);
        }
}

size_t text_write(FILE *stream, const char *text, size_t width) {
        size_t length = strlen(text), columns = columns_of(text, length);

        if (width > 0 && columns > width) {
                size_t kept = 0, n = 0;

                /* up to where the code point after the last that fits begins */
                while (text[kept] && (is_inside(text[kept]) || n++ < width - 1))
                        kept++;
                write_bytes(stream, text, kept);
                fputs("…", stream);
                return width;
        }
        write_bytes(stream, text, length);
        return columns;
}

void text_paragraph(FILE *stream, const char *text, size_t at, size_t indent) {
        size_t width = text_width(stream);
        bool first = true; /* of its line */

        while (*text) {
                size_t length = strcspn(text, " "), columns = columns_of(text, length);

                if (!first && at + 1 + columns > width) {
                        fprintf(stream, "\n%*s", (int) indent, "");
                        at = indent;
                        first = true;
                }
                if (!first) {
                        fputc(' ', stream);
                        at++;
                }
                write_bytes(stream, text, length);
                at += columns;
                first = false;
                text += length;
                text += strspn(text, " ");
        }
        fputc('\n', stream);
}

static bool to_local(uint64_t usec, struct tm *ret) {
        time_t seconds = (time_t) (usec / USEC_PER_SEC);

        return usec != 0 && localtime_r(&seconds, ret);
}

const char *text_time(uint64_t usec, char ret[TEXT_TIME_MAX]) {
        struct tm local;

        if (!to_local(usec, &local) || strftime(ret, TEXT_TIME_MAX, "%Y-%m-%d %H:%M", &local) == 0)
                (void) snprintf(ret, TEXT_TIME_MAX, "-");
        return ret;
}

const char *text_clock(uint64_t usec, char ret[TEXT_TIME_MAX]) {
        struct tm local;

        if (!to_local(usec, &local) || strftime(ret, TEXT_TIME_MAX, "%H:%M:%S", &local) == 0)
                (void) snprintf(ret, TEXT_TIME_MAX, "-");
        return ret;
}

const char *text_relative(uint64_t usec, uint64_t now, char ret[TEXT_TIME_MAX]) {
        static const struct {
                uint64_t seconds;
                const char *name;
        } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
        bool past = usec < now;
        uint64_t distance = (past ? now - usec : usec - now) / USEC_PER_SEC;

        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
                uint64_t n = distance / units[i].seconds;

                if (n == 0)
                        continue;
                (void) snprintf(ret, TEXT_TIME_MAX, "%s%" PRIu64 " %s%s", past ? "" : "in ", n,
                                units[i].name, past ? " ago" : "");
                return ret;
        }
        (void) snprintf(ret, TEXT_TIME_MAX, "now");
        return ret;
}

const char *text_left(uint64_t usec, char ret[TEXT_TIME_MAX]) {
        uint64_t seconds = usec / USEC_PER_SEC;

        if (seconds >= 3600)
                (void) snprintf(ret, TEXT_TIME_MAX, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
                                seconds / 3600, seconds / 60 % 60, seconds % 60);
        else
                (void) snprintf(ret, TEXT_TIME_MAX, "%" PRIu64 ":%02" PRIu64, seconds / 60,
                                seconds % 60);
        return ret;
}
