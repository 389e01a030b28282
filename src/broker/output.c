/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A decoder that lives between writes, a line in the making, and the lines kept.
 *
 * The kept lines stand one after the other, each with its NUL, in a buffer twice as large as they
 * may be: the oldest are dropped by moving `start` up, and only when the end is reached is the rest
 * moved back to the beginning. So nothing is allocated for a line, and a renewal that prints for
 * ever costs the same as one that prints a screen. Once it has ended, only what is kept is worth
 * its memory: there are many ended renewals, and most of them have printed a few lines.
 */

#include <errno.h>
#include <postern/output.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CUT_MARK "…"

enum {
        CUT_MARK_SIZE = sizeof(CUT_MARK) - 1,
        STORE_SIZE = 2 * OUTPUT_KEPT_MAX + OUTPUT_LINE_MAX + 1,
};

struct Output {
        OutputCallback callback;
        void *userdata;

        /* a character that is not complete yet */
        unsigned char partial[4];
        size_t partial_used;
        size_t partial_size;
        bool carriage_return; /* seen; a newline may follow */

        char *line; /* in store */
        size_t line_used;
        size_t line_cut; /* where to cut so that the mark fits behind it */
        bool line_full;

        size_t start; /* of the oldest line kept */
        size_t end;   /* behind the newest one's NUL: where `line` is */
        char store[]; /* STORE_SIZE; after output_shrink() as much as is kept */
};

int output_new(Output **ret, OutputCallback callback, void *userdata) {
        Output *output;

        /* not calloc(): the pages that nothing is printed to are never touched */
        output = malloc(sizeof(*output) + STORE_SIZE);
        if (!output)
                return -ENOMEM;

        *output = (Output){
                .callback = callback,
                .userdata = userdata,
                .line = output->store,
        };
        *ret = output;
        return 0;
}

Output *output_free(Output *output) {
        free(output);
        return NULL;
}

static void output_end_line(Output *output) {
        char *line = output->line;

        line[output->line_used] = '\0';
        output->end += output->line_used + 1;
        while (output->end - output->start > OUTPUT_KEPT_MAX)
                output->start += strlen(output->store + output->start) + 1;

        if (output->callback)
                output->callback(line, output->userdata);

        if (output->end > STORE_SIZE - (OUTPUT_LINE_MAX + 1)) {
                memmove(output->store, output->store + output->start, output->end - output->start);
                output->end -= output->start;
                output->start = 0;
        }

        output->line = output->store + output->end;
        output->line_used = 0;
        output->line_cut = 0;
        output->line_full = false;
}

/* Adds a piece that must not be cut in two, or ends the line's growth with the mark. */
static void output_add(Output *output, const char *piece, size_t size) {
        if (output->line_full)
                return;

        if (output->line_used + size > OUTPUT_LINE_MAX) {
                memcpy(output->line + output->line_cut, CUT_MARK, CUT_MARK_SIZE);
                output->line_used = output->line_cut + CUT_MARK_SIZE;
                output->line_full = true;
                return;
        }

        memcpy(output->line + output->line_used, piece, size);
        output->line_used += size;
        if (output->line_used <= OUTPUT_LINE_MAX - CUT_MARK_SIZE)
                output->line_cut = output->line_used;
}

static void output_add_escaped(Output *output, const unsigned char *bytes, size_t size) {
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < size; i++) {
                const char escaped[] = {'\\', 'x', digits[bytes[i] >> 4], digits[bytes[i] & 15]};

                output_add(output, escaped, sizeof(escaped));
        }
}

static void output_flush_partial(Output *output) {
        output_add_escaped(output, output->partial, output->partial_used);
        output->partial_used = 0;
}

/* C1 controls, line separators, and the characters of Unicode's Bidi_Control, with which a line can
 * be made to read as another. */
static bool is_harmful(uint32_t character) {
        return (character >= 0x80 && character <= 0x9f) || character == 0x061c ||
               character == 0x200e || character == 0x200f ||
               (character >= 0x2028 && character <= 0x202e) ||
               (character >= 0x2066 && character <= 0x2069);
}

/* How long the character is that begins so, or 0 where none does. */
static size_t utf8_size(unsigned char first) {
        if (first >= 0xc2 && first <= 0xdf)
                return 2;
        if (first >= 0xe0 && first <= 0xef)
                return 3;
        if (first >= 0xf0 && first <= 0xf4)
                return 4;
        return 0;
}

/* Overlong forms, surrogates and what lies behind U+10FFFF show in the second byte. */
static bool utf8_continues(const unsigned char *partial, size_t used, unsigned char next) {
        unsigned char low = 0x80, high = 0xbf;

        if (used == 1 && partial[0] == 0xe0)
                low = 0xa0;
        else if (used == 1 && partial[0] == 0xed)
                high = 0x9f;
        else if (used == 1 && partial[0] == 0xf0)
                low = 0x90;
        else if (used == 1 && partial[0] == 0xf4)
                high = 0x8f;

        return next >= low && next <= high;
}

static uint32_t utf8_decode(const unsigned char *bytes, size_t size) {
        uint32_t character = bytes[0] & (0x7f >> size);

        for (size_t i = 1; i < size; i++)
                character = character << 6 | (bytes[i] & 0x3f);

        return character;
}

static void output_finish_partial(Output *output) {
        uint32_t character = utf8_decode(output->partial, output->partial_used);

        if (is_harmful(character))
                output_add_escaped(output, output->partial, output->partial_used);
        else
                output_add(output, (const char *) output->partial, output->partial_used);

        output->partial_used = 0;
}

static bool is_plain(unsigned char byte) {
        return byte >= 0x20 && byte < 0x7f;
}

static void output_take(Output *output, unsigned char byte) {
        if (output->partial_used > 0) {
                if (utf8_continues(output->partial, output->partial_used, byte)) {
                        output->partial[output->partial_used++] = byte;
                        if (output->partial_used == output->partial_size)
                                output_finish_partial(output);
                        return;
                }
                output_flush_partial(output);
        }

        if (output->carriage_return) {
                output->carriage_return = false;
                if (byte != '\n')
                        output_add_escaped(output, (const unsigned char *) "\r", 1);
        }

        if (byte == '\n')
                output_end_line(output);
        else if (byte == '\r')
                output->carriage_return = true;
        else if (byte == '\t')
                output_add(output, " ", 1);
        else if (is_plain(byte))
                output_add(output, (const char *) &byte, 1);
        else {
                output->partial_size = utf8_size(byte);
                if (output->partial_size > 0)
                        output->partial[output->partial_used++] = byte;
                else
                        output_add_escaped(output, &byte, 1);
        }
}

/* Most of what is ever printed: plain letters, with room in the line for the mark behind them. */
static size_t output_take_plain(Output *output, const char *data, size_t size) {
        size_t room = OUTPUT_LINE_MAX - CUT_MARK_SIZE, used = output->line_used, i = 0;

        if (output->partial_used > 0 || output->carriage_return || output->line_full)
                return 0;

        for (; i < size && used < room && is_plain(data[i]); i++)
                output->line[used++] = data[i];

        if (i > 0)
                output->line_used = output->line_cut = used;
        return i;
}

void output_write(Output *output, const char *data, size_t size) {
        size_t i = 0;

        while (i < size) {
                i += output_take_plain(output, data + i, size - i);
                if (i < size)
                        output_take(output, data[i++]);
        }
}

void output_finish(Output *output) {
        output_flush_partial(output);

        if (output->carriage_return) {
                output->carriage_return = false;
                output_add_escaped(output, (const unsigned char *) "\r", 1);
        }

        if (output->line_used > 0)
                output_end_line(output);
}

Output *output_shrink(Output *output) {
        Output *smaller;

        memmove(output->store, output->store + output->start, output->end - output->start);
        output->end -= output->start;
        output->start = 0;
        output->line = NULL;

        smaller = realloc(output, sizeof(*output) + output->end);
        return smaller ? smaller : output;
}

int output_tail(const Output *output, size_t lines, const char ***ret) {
        size_t kept = 0, skip, used = 0;
        const char **tail;

        for (size_t at = output->start; at < output->end; at += strlen(output->store + at) + 1)
                kept++;
        skip = lines > 0 && lines < kept ? kept - lines : 0;

        tail = calloc(kept - skip + 1, sizeof(*tail));
        if (!tail)
                return -ENOMEM;

        for (size_t at = output->start; at < output->end; at += strlen(output->store + at) + 1) {
                if (skip > 0)
                        skip--;
                else
                        tail[used++] = output->store + at;
        }

        *ret = tail;
        return 0;
}
