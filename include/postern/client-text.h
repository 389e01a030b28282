/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * client-text: how `postern` writes times, tables and paragraphs for people.
 *
 * What comes from elsewhere is printed with control characters escaped.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum TextStyle {
        TEXT_PLAIN,
        TEXT_BOLD,
        TEXT_GREEN,
        TEXT_YELLOW,
        TEXT_RED,
} TextStyle;

enum { TEXT_TIME_MAX = 64 };

/* Columns of the terminal behind the stream, 80 if it is none or does not say. */
size_t text_width(FILE *stream);

/* Colours only on a terminal that can, and not where NO_COLOR is set. */
const char *text_style(FILE *stream, TextStyle style);
const char *text_reset(FILE *stream);

/* Writes text with bytes that would move the cursor replaced by '?'; at most width columns (0:
 * all), with an ellipsis where it is cut. Returns the columns written. */
size_t text_write(FILE *stream, const char *text, size_t width);

/* Words wrapped at the stream's width; every line but the first begins with indent spaces, the
 * first stands at column `at` already. Ends the line. */
void text_paragraph(FILE *stream, const char *text, size_t at, size_t indent);

/* CLOCK_REALTIME in microseconds, in the reader's time zone: "2026-11-28 14:03"; "-" for 0. */
const char *text_time(uint64_t usec, char ret[TEXT_TIME_MAX]);
/* The same with seconds, without the day: "14:03:22". */
const char *text_clock(uint64_t usec, char ret[TEXT_TIME_MAX]);
/* "in 3 d", "2 h ago", "now". */
const char *text_relative(uint64_t usec, uint64_t now, char ret[TEXT_TIME_MAX]);
/* "1:58", "1:02:03". */
const char *text_left(uint64_t usec, char ret[TEXT_TIME_MAX]);
