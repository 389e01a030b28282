/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A list that only grows, up to its end; see finding.h. */

#include <postern/finding.h>
#include <postern/profile-value.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names come from the kernel and from directories, which take any bytes; the bus does not, and a
 * text that was cut may end within a character. */
static void make_printable(char *text) {
        if (value_is_printable(text))
                return;
        for (char *p = text; *p; p++)
                if (*p < ' ' || *p > '~')
                        *p = '?';
}

static char *copy_printable(const char *text, size_t size) {
        char *copy = strndup(text, size - 1);

        if (copy)
                make_printable(copy);
        return copy;
}

static void findings_put(Findings *findings, FindingLevel level, const char *subject,
                         const char *message) {
        Finding finding = {
                .level = level,
                .subject = copy_printable(subject, FINDING_SUBJECT_MAX),
                .message = copy_printable(message, FINDING_MESSAGE_MAX),
        };

        if (finding.subject && finding.message) {
                findings->items[findings->n++] = finding;
                return;
        }
        free(finding.subject);
        free(finding.message);
        findings->lacking = true;
}

void findings_add(Findings *findings, FindingLevel level, const char *subject, const char *format,
                  ...) {
        char message[FINDING_MESSAGE_MAX];
        va_list arguments;

        if (findings->n >= FINDINGS_MAX)
                return;
        if (findings->n == FINDINGS_MAX - 1) {
                findings_put(findings, FINDING_NOTE, "check",
                             "there is more than one answer holds: mend some of it and ask again");
                return;
        }
        va_start(arguments, format);
        (void) vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        findings_put(findings, level, subject, message);
}

void findings_deinit(Findings *findings) {
        for (size_t i = 0; i < findings->n; i++) {
                free(findings->items[i].subject);
                free(findings->items[i].message);
        }
        findings->n = 0;
}

const char *finding_level_to_string(FindingLevel level) {
        switch (level) {
        case FINDING_OK:
                return "ok";
        case FINDING_NOTE:
                return "note";
        case FINDING_ERROR:
                return "error";
        }
        return NULL;
}
