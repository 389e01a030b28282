/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <inttypes.h>
#include <postern/log-fields.h>
#include <stdio.h>

void log_fields_add(LogFields *fields, const char *name, const char *value) {
        if (!value || !*value || fields->n >= LOG_FIELDS_MAX)
                return;
        fields->pairs[2 * fields->n] = name;
        fields->pairs[2 * fields->n + 1] = value;
        fields->n++;
}

void log_fields_add_number(LogFields *fields, const char *name, int64_t value) {
        char *text;

        if (fields->n >= LOG_FIELDS_MAX)
                return;
        text = fields->numbers[fields->n];
        (void) snprintf(text, LOG_NUMBER_SIZE, "%" PRIi64, value);
        log_fields_add(fields, name, text);
}

void log_fields_add_usec(LogFields *fields, const char *name, uint64_t usec) {
        if (usec > 0 && usec <= INT64_MAX)
                log_fields_add_number(fields, name, (int64_t) usec);
}
