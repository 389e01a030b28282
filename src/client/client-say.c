/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Saying something, and seeing that it arrives. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/client-text.h>
#include <postern/client.h>
#include <stdarg.h>
#include <string.h>

void client_say(const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        va_end(arguments);
        fputs("postern: ", stderr);
        text_write(stderr, text ? text : "Memory ran out", 0);
        fputc('\n', stderr);
}

int client_fail(int error) {
        client_say("That could not be done: %s. See that memory and descriptors are left, and that "
                   "postern is of the service's version (postern --version)",
                   strerror(error < 0 ? -error : error));
        return CLIENT_FAILED;
}

int client_finish_output(void) {
        if (fflush(stdout) != EOF && !ferror(stdout))
                return CLIENT_OK;
        client_say("What was asked for could not be written: %s. See where the output leads, and "
                   "ask again",
                   strerror(errno));
        return CLIENT_FAILED;
}

int client_print_json(const json_t *value) {
        if (json_dumpf(value, stdout, JSON_COMPACT) >= 0)
                (void) fputc('\n', stdout);
        return client_finish_output();
}
