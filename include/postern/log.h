/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * log: to the journal with fields where stderr is connected to it ($JOURNAL_STREAM), else to stderr
 * as "<priority>text FIELD=value". Values are bounded and control bytes escaped, so that no caller
 * can forge a record.
 */

#include <syslog.h>

/* fields: pairs of name and value, ended by NULL; a NULL value is left out. message_id: 32 hex
 * digits or NULL. */
void log_event(int priority, const char *message_id, const char *const *fields, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

#define log_info(...)    log_event(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_error(...)   log_event(LOG_ERR, NULL, NULL, __VA_ARGS__)
