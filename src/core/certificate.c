/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Texts with bounds; nothing here reads a certificate. */

#include <postern/certificate.h>
#include <stdio.h>
#include <string.h>

static bool is_plain(unsigned char c) {
        return c > ' ' && c <= '~' && c != '\\';
}

void certificate_add_name(Certificate *certificate, const char *name, size_t size) {
        char *names = certificate->names;
        size_t length = strlen(names), n = length;

        if (length > 0 && n + 1 < CERTIFICATE_NAMES_MAX)
                names[n++] = ' ';
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) name[i];

                if (n + (is_plain(c) ? 1 : 4) >= CERTIFICATE_NAMES_MAX) {
                        size = 0;
                        break;
                }
                if (is_plain(c))
                        names[n++] = (char) c;
                else
                        n += (size_t) snprintf(names + n, 5, "\\x%02x", c);
        }
        if (size == 0) {
                n = length;
                certificate->names_left_out++;
        }
        names[n] = 0;
}

bool certificate_serial_is_valid(const char *serial) {
        size_t length = strspn(serial, "0123456789abcdef");

        return serial[length] == 0 && length < CERTIFICATE_SERIAL_MAX;
}

bool certificate_names_are_valid(const char *names) {
        size_t n;

        for (n = 0; names[n]; n++) {
                bool is_blank = names[n] == ' ';

                if (n + 1 >= CERTIFICATE_NAMES_MAX || names[n] < ' ' || names[n] > '~')
                        return false;
                /* none at an end, no two in a row */
                if (is_blank && (n == 0 || names[n - 1] == ' ' || !names[n + 1]))
                        return false;
        }
        return true;
}

bool certificate_is_near_end(const Certificate *certificate, uint64_t at) {
        uint64_t lifetime;

        if (certificate->not_before == 0 || certificate->not_after <= certificate->not_before)
                return false;
        lifetime = certificate->not_after - certificate->not_before;
        return at >= certificate->not_after || certificate->not_after - at < lifetime / 3;
}
