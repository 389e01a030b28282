/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Lines of Key=value in a fixed order, so that there is one text for each state and a file that was
 * cut off anywhere is not one.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <postern/cursor.h>
#include <postern/state.h>
#include <stdio.h>
#include <string.h>

static size_t state_append(char *ret, size_t n, const char *key, const char *value) {
        int length = snprintf(ret + n, STATE_FILE_MAX - n, "%s%s", key, value);

        assert(length >= 0 && (size_t) length < STATE_FILE_MAX - n);
        return n + (size_t) length;
}

static size_t state_append_number(char *ret, size_t n, const char *key, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        return state_append(ret, n, key, text);
}

size_t state_format(const State *state, char ret[STATE_FILE_MAX]) {
        const Certificate *certificate = &state->certificate;
        size_t n = 0;

        n = state_append(ret, n, "Version=1\nBootId=", state->boot_id);
        n = state_append_number(ret, n, "\nRateInterval=", state->history.interval_usec);
        n = state_append(ret, n, "\nOpenedAt=", "");
        for (unsigned i = 0; i < state->history.n_times; i++)
                n = state_append_number(ret, n, i > 0 ? " " : "", state->history.times[i]);
        n = state_append(ret, n, "\nLastResult=", window_result_to_string(state->last_result));
        n = state_append_number(ret, n, "\nLastClosedAt=", state->last_closed_at);
        n = state_append_number(ret, n, "\nNotAfter=", certificate->not_after);
        n = state_append_number(ret, n, "\nNotBefore=", certificate->not_before);
        n = state_append(ret, n, "\nSerial=", certificate->serial);
        n = state_append_number(ret, n, "\nNamesLeftOut=", certificate->names_left_out);
        n = state_append(ret, n, "\nNames=", certificate->names);
        return state_append(ret, n, "\n", "");
}

static bool cursor_take_times(Cursor *cursor, QuotaHistory *history) {
        while (cursor->at < cursor->end && *cursor->at != '\n') {
                uint64_t *time = &history->times[history->n_times];

                if (history->n_times == QUOTA_HISTORY_MAX)
                        return false;
                if (history->n_times > 0 && !cursor_take(cursor, " "))
                        return false;
                if (!cursor_take_number(cursor, time))
                        return false;
                if (history->n_times > 0 && *time < time[-1])
                        return false;
                history->n_times++;
        }
        return true;
}

static bool cursor_take_result(Cursor *cursor, WindowResult *ret) {
        for (WindowResult result = RESULT_NONE; result <= RESULT_STOPPED; result++) {
                Cursor try = *cursor;

                if (cursor_take(&try, window_result_to_string(result)) && cursor_take(&try, "\n")) {
                        *cursor = try;
                        *ret = result;
                        return true;
                }
        }
        return false;
}

/* The rest of a line, which may be empty. */
static bool cursor_take_line(Cursor *cursor, char *ret, size_t size) {
        size_t room = (size_t) (cursor->end - cursor->at);
        const char *end = memchr(cursor->at, '\n', room < size ? room : size);
        size_t length = end ? (size_t) (end - cursor->at) : 0;

        if (!end || memchr(cursor->at, 0, length))
                return false;
        memcpy(ret, cursor->at, length);
        ret[length] = 0;
        cursor->at = end;
        return true;
}

static bool cursor_take_certificate(Cursor *cursor, Certificate *ret) {
        uint64_t left_out;

        if (!cursor_take_number(cursor, &ret->not_after) || !cursor_take(cursor, "\nNotBefore=") ||
            !cursor_take_number(cursor, &ret->not_before) || !cursor_take(cursor, "\nSerial=") ||
            !cursor_take_line(cursor, ret->serial, sizeof(ret->serial)) ||
            !cursor_take(cursor, "\nNamesLeftOut=") || !cursor_take_number(cursor, &left_out) ||
            !cursor_take(cursor, "\nNames=") ||
            !cursor_take_line(cursor, ret->names, sizeof(ret->names)))
                return false;
        ret->names_left_out = (uint32_t) left_out;
        return left_out <= UINT32_MAX && certificate_serial_is_valid(ret->serial) &&
               certificate_names_are_valid(ret->names);
}

int state_parse(const char *text, size_t size, State *ret) {
        Cursor cursor = {text, text + size};
        State state = {0};
        bool good;

        good = cursor_take(&cursor, "Version=1\nBootId=") &&
               cursor_take_boot_id(&cursor, state.boot_id) &&
               cursor_take(&cursor, "\nRateInterval=") &&
               cursor_take_number(&cursor, &state.history.interval_usec) &&
               cursor_take(&cursor, "\nOpenedAt=") && cursor_take_times(&cursor, &state.history) &&
               cursor_take(&cursor, "\nLastResult=") &&
               cursor_take_result(&cursor, &state.last_result) &&
               cursor_take(&cursor, "LastClosedAt=") &&
               cursor_take_number(&cursor, &state.last_closed_at) &&
               cursor_take(&cursor, "\nNotAfter=") &&
               cursor_take_certificate(&cursor, &state.certificate) && cursor_take(&cursor, "\n") &&
               cursor.at == cursor.end;
        if (!good)
                return -EBADMSG;

        *ret = state;
        return 0;
}
