/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * legacy-iptables: which tables of the old x_tables interface are loaded.
 *
 * What stands in them is not visible to nf_tables, so a window cannot promise to open anything on
 * such a host. The files that say so are readable to root alone.
 */

#include <stddef.h>

enum { LEGACY_IPTABLES_MAX = 256 };

/* "ip/filter ip/nat ip6/filter", or "" when there are none. 0, or -EACCES when that may not be read
 * (ret is "" then). */
int legacy_iptables_read(char *ret, size_t size);
