/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One record per event, to the journal or to stderr. Bounded buffers on the stack: saying that
 * memory ran out must not need memory.
 */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/log-fields.h>
#include <postern/log.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <systemd/sd-journal.h>

#define LOG_IDENTIFIER "posternd"

enum {
        LOG_TEXT_MAX = 1536,
        LOG_VALUE_MAX = 512,
        LOG_STORE_MAX = 4096, /* all fields of a record together; what does not fit is left out */
};

/* Is stderr the very stream that systemd named? A shell started from a unit inherits the variable,
 * not the stream. */
static bool log_is_named_stream(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st;
        uint64_t device, inode;

        return stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
               fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == device && st.st_ino == inode;
}

/* dbus-daemon gives what it starts by itself a stream to the journal, and no environment that would
 * say so. */
static bool log_is_journal_socket(void) {
        static const char journal[] = "/run/systemd/journal/stdout";
        struct sockaddr_un peer = {};
        socklen_t size = sizeof(peer);

        return getpeername(STDERR_FILENO, (struct sockaddr *) &peer, &size) >= 0 &&
               peer.sun_family == AF_UNIX &&
               strncmp(peer.sun_path, journal, sizeof(peer.sun_path)) == 0;
}

static bool log_has_journal(void) {
        static int known = -1;

        if (known < 0)
                known = log_is_named_stream() || log_is_journal_socket();
        return known;
}

/* Copies with control bytes, backslashes in a value and (where it must be one word) blanks as \xHH.
 * Returns the length; what does not fit is left out. */
static size_t log_escape(char *ret, size_t size, const char *text, bool word) {
        static const char digits[] = "0123456789abcdef";
        size_t n = 0;

        for (const unsigned char *p = (const unsigned char *) text; *p; p++) {
                if (*p < 0x20 || *p == 0x7f || (word && (*p == ' ' || *p == '\\'))) {
                        if (n + 4 >= size)
                                break;
                        ret[n++] = '\\';
                        ret[n++] = 'x';
                        ret[n++] = digits[*p >> 4];
                        ret[n++] = digits[*p & 15];
                } else {
                        if (n + 1 >= size)
                                break;
                        ret[n++] = (char) *p;
                }
        }

        ret[n] = 0;
        return n;
}

static void log_to_journal(int priority, const char *message_id, const char *const *fields,
                           const char *text) {
        char store[LOG_STORE_MAX];
        char message[LOG_TEXT_MAX + sizeof("MESSAGE=")], level[] = "PRIORITY=6";
        char id[sizeof("MESSAGE_ID=") + 32];
        struct iovec iov[LOG_FIELDS_MAX + 4];
        size_t used = 0;
        int n = 0, length;

        length = snprintf(message, sizeof(message), "MESSAGE=%s", text);
        iov[n++] = (struct iovec){message, (size_t) length};
        level[sizeof("PRIORITY=") - 1] = (char) ('0' + (priority & 7));
        iov[n++] = (struct iovec){level, sizeof(level) - 1};
        iov[n++] = (struct iovec){(char *) "SYSLOG_IDENTIFIER=" LOG_IDENTIFIER,
                                  sizeof("SYSLOG_IDENTIFIER=" LOG_IDENTIFIER) - 1};

        if (message_id) {
                length = snprintf(id, sizeof(id), "MESSAGE_ID=%.32s", message_id);
                iov[n++] = (struct iovec){id, (size_t) length};
        }
        for (size_t i = 0; fields && fields[i] && i < 2 * LOG_FIELDS_MAX; i += 2) {
                size_t size = sizeof(store) - used, filled;

                if (size > LOG_VALUE_MAX)
                        size = LOG_VALUE_MAX;
                if (!fields[i + 1])
                        continue;
                filled = (size_t) snprintf(store + used, size, "%s=", fields[i]);
                if (filled >= size)
                        continue;
                filled += log_escape(store + used + filled, size - filled, fields[i + 1], false);
                iov[n++] = (struct iovec){store + used, filled};
                used += filled;
        }

        (void) sd_journal_sendv(iov, n);
}

static void log_to_stderr(int priority, const char *message_id, const char *const *fields,
                          const char *text) {
        char line[LOG_TEXT_MAX + LOG_STORE_MAX];
        size_t n;

        n = (size_t) snprintf(line, sizeof(line), "<%i>%s", priority & 7, text);
        if (message_id)
                n += (size_t) snprintf(line + n, sizeof(line) - n, " MESSAGE_ID=%s", message_id);
        for (size_t i = 0; fields && fields[i]; i += 2) {
                char value[LOG_VALUE_MAX];
                int r;

                if (!fields[i + 1])
                        continue;
                (void) log_escape(value, sizeof(value), fields[i + 1], true);
                r = snprintf(line + n, sizeof(line) - n, " %s=%s", fields[i], value);
                if (r < 0 || (size_t) r >= sizeof(line) - n - 1)
                        break;
                n += (size_t) r;
        }
        line[n++] = '\n';

        /* one write, so that a record is never mixed with the helper's, which has the same stderr
         */
        while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
                continue;
}

void log_event(int priority, const char *message_id, const char *const *fields, const char *format,
               ...) {
        char raw[LOG_TEXT_MAX], text[LOG_TEXT_MAX];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(raw, sizeof(raw), format, arguments);
        va_end(arguments);
        (void) log_escape(text, sizeof(text), raw, false);

        if (log_has_journal())
                log_to_journal(priority, message_id, fields, text);
        else
                log_to_stderr(priority, message_id, fields, text);
}
