/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* run-certificate: reads a certificate, to tell whether it is another one after the renewal. */

#include <postern/certificate.h>

/* The first certificate (the leaf) of a PEM file, links followed: certbot's live/ is made of them.
 * What cannot be read is no certificate. */
void certificate_read(const char *path, Certificate *ret);
