/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * client-receipt: what became of a window.
 */

#include <postern/client.h>
#include <stdio.h>

/* "80/tcp 443/tcp", or "no port". properties: of a window. */
void receipt_write_ports(FILE *stream, const json_t *properties);

/* Reads the closed window at path, of the profile of this name, and writes its receipt to standard
 * output; with --verbose what it printed to standard error. A ClientStatus, which is that of the
 * window's result. */
int receipt_print(Client *client, const char *name, const char *path);
