/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * certificate: what a certificate says of itself, with bounds.
 *
 * The root helper reads it from the file (run-certificate.h) and tells the broker, which tells
 * everybody: what stands in a certificate is public. But who issued it, and with what in it, is
 * nobody's of ours; so its names are escaped, and as many as fit are kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        CERTIFICATE_SERIAL_MAX = 128, /* with the final 0, as the next one */
        CERTIFICATE_NAMES_MAX = 2048, /* an authority's hundred names, of twenty bytes each */
};

typedef struct Certificate {
        char serial[CERTIFICATE_SERIAL_MAX]; /* lower-case hex; "" when there is none to read */
        uint64_t not_before;                 /* CLOCK_REALTIME in microseconds; 0: unknown */
        uint64_t not_after;                  /* likewise */
        /* DNS names and addresses, one blank between two; what is not printable, blanks and
         * backslashes are \xHH. */
        char names[CERTIFICATE_NAMES_MAX];
        uint32_t names_left_out; /* so many more did not fit, or are of another kind */
} Certificate;

/* Adds a name of `size` bytes, any bytes, escaped; or counts it as left out. */
void certificate_add_name(Certificate *certificate, const char *name, size_t size);

/* For what comes from elsewhere: is it as above? "" is a serial, too: that of none. */
bool certificate_serial_is_valid(const char *serial);
bool certificate_names_are_valid(const char *names);

/* Less than a third of its lifetime is left at this time (CLOCK_REALTIME, microseconds). Clients
 * renew before, so something is wrong then. False where its dates are not known. */
bool certificate_is_near_end(const Certificate *certificate, uint64_t at);
