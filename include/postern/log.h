/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * log: to the journal with fields where stderr is connected to it, else to stderr as
 * "<priority>text FIELD=value". Values are bounded and control bytes escaped, so that no caller
 * can forge a record.
 */

#include <syslog.h>

/* Message ids, one for each kind of record that an audit asks for. With them come POSTERN_PROFILE,
 * POSTERN_WINDOW, POSTERN_UID, POSTERN_RESULT as far as they apply. */
#define MESSAGE_ASKED   "f99700a2c2834dd4836166588cca0ff8" /* polkit is asked about a request */
#define MESSAGE_GRANTED "adc6c4c9c6144622864bfaf386ddced4" /* polkit said yes */
#define MESSAGE_REFUSED "f7a8a7c3cb10458aa32cf27982ef1ed4" /* it did not, or could not be asked */
#define MESSAGE_OPENED  "827b0add56954f97b2bc252a995dc4ba" /* a window is open */
#define MESSAGE_CLOSED  "a86e3d9b49e24150a74cde89683383a0" /* a window is closed; POSTERN_RESULT */
#define MESSAGE_OUTPUT  "77568f965c0e44d1beb6497cdc08a2d6" /* a line that a renewal printed */

/* fields: pairs of name and value, ended by NULL; a NULL value is left out. message_id: 32 hex
 * digits or NULL. */
void log_event(int priority, const char *message_id, const char *const *fields, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

#define log_info(...)    log_event(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_error(...)   log_event(LOG_ERR, NULL, NULL, __VA_ARGS__)
