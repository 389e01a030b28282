/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * output: what a renewal printed, cut into lines, made harmless, and the last of it kept.
 *
 * Bounded whatever comes in: a line is at most OUTPUT_LINE_MAX bytes after escaping (the rest of it
 * is dropped and marked with "…", which counts), the kept lines with their ends together at most
 * OUTPUT_KEPT_MAX bytes (oldest go first). Control characters, what turns the direction of writing,
 * and invalid UTF-8 are shown as \xHH, so that no escape sequence reaches a terminal or a journal;
 * a tab becomes a blank. A line ends with \n or \r\n.
 */

#include <stddef.h>

enum {
        OUTPUT_LINE_MAX = 1024,
        OUTPUT_KEPT_MAX = 64 * 1024,
};

typedef struct Output Output;
typedef void (*OutputCallback)(const char *line, void *userdata);

/* callback (may be NULL) is called for each finished line. */
int output_new(Output **ret, OutputCallback callback, void *userdata);
Output *output_free(Output *output);

/* Takes bytes as they come; never fails, for it needs no memory that output_new() did not get. */
void output_write(Output *output, const char *data, size_t size);
/* The last line had no newline: finish it. */
void output_finish(Output *output);
/* Nothing will be written to it any more: gives back the memory that its lines do not need, and
 * what it has become in place of `output`. */
Output *output_shrink(Output *output);

/* The last `lines` kept lines, oldest first, NULL-terminated; the strings are owned by output and
 * good until it is written to again. The caller frees the array alone. 0 lines: all. Or -ENOMEM. */
int output_tail(const Output *output, size_t lines, const char ***ret);
