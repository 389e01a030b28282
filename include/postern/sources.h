/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * sources: from how many networks visitors came, in a table that does not grow.
 *
 * A network is an IPv4 /24 or an IPv6 /48: whoever has one address of it has more of them. Only how
 * many there are is anybody's business; the table is not shown, logged or stored.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
        SOURCES_MAX = 256, /* connections; an authority makes about five for each name */
        SOURCES_PREFIX_SIZE = 6,
};

typedef struct Source {
        uint32_t id; /* of the connection, in any form that tells it from others */
        bool is_ipv6;
        uint8_t prefix[SOURCES_PREFIX_SIZE]; /* of IPv4 the first three bytes, then zeros */
} Source;

typedef struct Sources {
        Source connections[SOURCES_MAX];
        unsigned n_connections, n_ipv6;
        unsigned n_networks;
        bool overflowed; /* there were more, which are not in any of these numbers */
} Sources;

/* address: 4 or 16 bytes in network byte order. One that is there already is not added again. */
void sources_add(Sources *sources, uint32_t id, bool is_ipv6, const uint8_t *address);
void sources_merge(Sources *sources, const Sources *more);
