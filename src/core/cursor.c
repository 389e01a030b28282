/* SPDX-License-Identifier: GPL-2.0-or-later */

/* No copy, no allocation, no locale. */

#include <postern/cursor.h>
#include <string.h>

bool cursor_take(Cursor *cursor, const char *text) {
        size_t size = strlen(text);

        if ((size_t) (cursor->end - cursor->at) < size || memcmp(cursor->at, text, size) != 0)
                return false;
        cursor->at += size;
        return true;
}

bool cursor_take_number(Cursor *cursor, uint64_t *ret) {
        const char *begin = cursor->at;
        uint64_t value = 0;

        while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
                if (value > CURSOR_NUMBER_MAX / 10) /* tenfold it might wrap around */
                        return false;
                value = value * 10 + (uint64_t) (*cursor->at++ - '0');
                if (value > CURSOR_NUMBER_MAX)
                        return false;
        }
        if (cursor->at == begin || (*begin == '0' && cursor->at - begin > 1))
                return false;

        *ret = value;
        return true;
}

bool cursor_take_word(Cursor *cursor, const char *ends, char *ret, size_t size) {
        size_t n = 0;

        while (cursor->at < cursor->end && !strchr(ends, *cursor->at)) {
                if (n + 1 >= size || *cursor->at <= ' ' || *cursor->at > '~')
                        return false;
                ret[n++] = *cursor->at++;
        }
        ret[n] = 0;
        return n > 0;
}

bool cursor_take_boot_id(Cursor *cursor, char ret[33]) {
        size_t n = 32;

        if ((size_t) (cursor->end - cursor->at) < n)
                return false;
        for (size_t i = 0; i < n; i++) {
                char c = *cursor->at++;

                if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
                        return false;
                ret[i] = c;
        }
        ret[n] = 0;
        return true;
}
