/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* run-certificate: what a certificate says of itself, to tell whether it is another one afterwards.
 */

#include <stdint.h>

enum { CERTIFICATE_SERIAL_MAX = 128 };

typedef struct Certificate {
        char serial[CERTIFICATE_SERIAL_MAX]; /* lower-case hex; "" when there is none to read */
        uint64_t not_after;                  /* CLOCK_REALTIME in seconds; 0 likewise */
} Certificate;

/* The first certificate (the leaf) of a PEM file, links followed: certbot's live/ is made of them.
 * What cannot be read is no certificate. */
void certificate_read(const char *path, Certificate *ret);
