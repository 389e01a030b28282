/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * finding: what a pre-flight has found, as a list for a person.
 *
 * Everything in it may be shown to every local user, and fits into one reply of the bus: texts are
 * made printable and cut, and there are only so many.
 */

#include <stdbool.h>
#include <stddef.h>

enum {
        FINDINGS_MAX = 96,
        FINDING_SUBJECT_MAX = 256, /* bytes with the terminating 0 */
        FINDING_MESSAGE_MAX = 1024,
};

typedef enum FindingLevel {
        FINDING_OK,
        FINDING_NOTE,
        FINDING_ERROR, /* a window would be refused, or could not do what it is for */
} FindingLevel;

typedef struct Finding {
        FindingLevel level;
        char *subject; /* what it is about: a chain, a port, a program */
        char *message; /* what is so, and what to do where that is wrong */
} Finding;

typedef struct Findings {
        Finding items[FINDINGS_MAX];
        size_t n;
        bool lacking; /* memory ran out: the list is not whole */
} Findings;

/* What does not fit any more is left out; the last one then says so. */
void findings_add(Findings *findings, FindingLevel level, const char *subject, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
void findings_deinit(Findings *findings);

/* "ok", "note", "error" */
const char *finding_level_to_string(FindingLevel level);
