/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What is wrong with a profile goes to people who may not read the file: over the bus, to
 * terminals, into the journal. So it is made here alone: bounded, and of nothing but printable
 * ASCII.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-problem.h>
#include <stdarg.h>
#include <string.h>

int profile_problem_set(ProfileOutcome outcome, char **ret, const char *format, ...) {
        char text[PROFILE_PROBLEM_MAX];
        va_list arguments;
        char *problem;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);

        for (char *p = text; *p; p++)
                if (*p < ' ' || *p > '~')
                        *p = '?';

        problem = strdup(text);
        if (!problem)
                return -ENOMEM;

        *ret = problem;
        return outcome;
}

static char lower(char c) {
        return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static size_t least(size_t a, size_t b) {
        return a < b ? a : b;
}

size_t profile_problem_distance(const char *a, const char *b) {
        size_t row[PROFILE_NAME_MAX + 1];
        size_t length = strlen(b);

        if (length > PROFILE_NAME_MAX || strlen(a) > PROFILE_NAME_MAX)
                return SIZE_MAX;

        /* Levenshtein with one row: row[j] is the distance of a's first i letters to b's first j.
         */
        for (size_t j = 0; j <= length; j++)
                row[j] = j;
        for (size_t i = 1; i <= strlen(a); i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= length; j++) {
                        size_t replaced = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

                        diagonal = row[j];
                        row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
                }
        }
        return row[length];
}
