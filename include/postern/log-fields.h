/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * log-fields: the fields of one record, put together on the stack: what is said when memory ran out
 * must not need any.
 */

#include <stddef.h>
#include <stdint.h>

enum {
        LOG_FIELDS_MAX = 20, /* of one record; more are left out */
        LOG_NUMBER_SIZE = 24,
};

/* Begins as {}. */
typedef struct LogFields {
        const char *pairs[2 * LOG_FIELDS_MAX + 1]; /* as log_event() takes them */
        char numbers[LOG_FIELDS_MAX][LOG_NUMBER_SIZE];
        size_t n;
} LogFields;

/* name and value must stay as long as the fields. A value that is NULL or "" says nothing, and is
 * left out. */
void log_fields_add(LogFields *fields, const char *name, const char *value);
void log_fields_add_number(LogFields *fields, const char *name, int64_t value);
/* A time or a duration in microseconds; 0 is one that is not known, and left out. */
void log_fields_add_usec(LogFields *fields, const char *name, uint64_t usec);
