/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * log: to the journal with fields where stderr is connected to it, else to stderr as
 * "<priority>text FIELD=value". Values are bounded and control bytes escaped, so that no caller
 * can forge a record.
 */

#include <syslog.h>

/*
 * Message ids, one for each kind of record that an audit asks for. With them come, as far as they
 * apply and are known,
 *
 *   POSTERN_PROFILE, POSTERN_WINDOW, POSTERN_UID (who asked), POSTERN_ACTION (polkit's),
 *   POSTERN_REQUEST      the call: what was asked, what came of it, and the window it opened
 *   POSTERN_PORTS        "80/tcp 443/tcp", or "none"
 *   POSTERN_GATE         where the ports are open
 *   POSTERN_DURATION_USEC, POSTERN_OPENED_AT_USEC, POSTERN_DEADLINE_USEC, POSTERN_CLOSED_AT_USEC
 *                        microseconds; the times CLOCK_REALTIME, as the window's properties are
 *   POSTERN_EXIT_STATUS  0 to 255, 128 + signal, -1: did not run
 *   POSTERN_ADMITTED     connections that were let in
 *   POSTERN_NETWORKS     from so many networks at least
 *   POSTERN_RESULT, POSTERN_HINT
 *   POSTERN_SERIAL_BEFORE, POSTERN_SERIAL, POSTERN_EXPIRES   of the certificate; microseconds
 *   POSTERN_ATTEMPTS, POSTERN_RETRY_USEC   of a close elsewhere: failed so often, and tried again
 */
#define MESSAGE_ASKED     "f99700a2c2834dd4836166588cca0ff8" /* polkit is asked about a request */
#define MESSAGE_GRANTED   "adc6c4c9c6144622864bfaf386ddced4" /* polkit said yes */
#define MESSAGE_REFUSED   "f7a8a7c3cb10458aa32cf27982ef1ed4" /* it did not, or there was no room */
#define MESSAGE_JOINED    "652e4e89eaaa4e58a6637ce5d7a0070c" /* and its window is another's */
#define MESSAGE_ARMED     "f4273743b6bf409c853649ba7e9143ff" /* OpenOn=challenge: the renewal runs */
#define MESSAGE_OPENED    "827b0add56954f97b2bc252a995dc4ba" /* a window is open */
#define MESSAGE_SHUT      "445308efa90c4b819f032ccb24aa0fe2" /* an armed one is not open any more */
#define MESSAGE_RUN_ENDED "8d2e5b8e3f31430096da8231001674a9" /* nothing of its renewal is left */
#define MESSAGE_CLOSED    "a86e3d9b49e24150a74cde89683383a0" /* a window is closed; POSTERN_RESULT */
/* what a window has opened in a firewall elsewhere: it is not closed there, and tried again; */
#define MESSAGE_CLOSE_FAILED "a31a020eb7d24ee3836907e625e84105"
/* an earlier posternd has left it open, or it may yet open by itself; it is closed at last */
#define MESSAGE_CLOSE_OWED "de2627b22b434d2a868ecff7eb1610ca"
#define MESSAGE_CLOSE_DONE "5b12a9d310bd45f2acc5820bbf3923e6"
/* a certificate has less than a third of its lifetime left; POSTERN_EXPIRES */
#define MESSAGE_EXPIRY "1c631dbe2f9c1cfe89b1d965394c319c"
#define MESSAGE_OUTPUT "77568f965c0e44d1beb6497cdc08a2d6" /* a line that a renewal printed */

/* fields: pairs of name and value, ended by NULL; a NULL value is left out. message_id: 32 hex
 * digits or NULL. */
void log_event(int priority, const char *message_id, const char *const *fields, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

#define log_info(...)    log_event(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_error(...)   log_event(LOG_ERR, NULL, NULL, __VA_ARGS__)
