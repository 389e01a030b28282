/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See sources.h. So few need no order to be found in. */

#include <postern/sources.h>
#include <string.h>

static void add(Sources *sources, const Source *source) {
        bool is_known = false;

        for (unsigned i = 0; i < sources->n_connections; i++) {
                const Source *other = &sources->connections[i];
                bool is_same = other->is_ipv6 == source->is_ipv6 &&
                               memcmp(other->prefix, source->prefix, SOURCES_PREFIX_SIZE) == 0;

                if (is_same && other->id == source->id)
                        return;
                is_known |= is_same;
        }
        if (sources->n_connections == SOURCES_MAX) {
                sources->overflowed = true;
                return;
        }
        sources->connections[sources->n_connections++] = *source;
        sources->n_ipv6 += source->is_ipv6;
        sources->n_networks += !is_known;
}

void sources_add(Sources *sources, uint32_t id, bool is_ipv6, const uint8_t *address) {
        Source source = {.id = id, .is_ipv6 = is_ipv6};

        memcpy(source.prefix, address, is_ipv6 ? SOURCES_PREFIX_SIZE : 3);
        add(sources, &source);
}

void sources_merge(Sources *sources, const Sources *more) {
        for (unsigned i = 0; i < more->n_connections; i++)
                add(sources, &more->connections[i]);
        sources->overflowed |= more->overflowed;
}
