/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* firewalld-routes: by which interfaces strangers come. */

#include <net/if.h>
#include <stddef.h>

enum { FIREWALLD_INTERFACES_MAX = 16 };

typedef struct InterfaceName {
        char text[IF_NAMESIZE];
} InterfaceName;

/* The interfaces that a default route of the main table leads to, IPv4 and IPv6, each once. 0;
 * -E2BIG: there are more than fit; or another negative errno. */
int firewalld_read_interfaces(InterfaceName ret[FIREWALLD_INTERFACES_MAX], size_t *ret_n);
