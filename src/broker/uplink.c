/* SPDX-License-Identifier: GPL-2.0-or-later */

/* From the main table as text: one line a route, of which a router may have very many; the default
 * route is among the first. */

#include <linux/netfilter.h>
#include <postern/cleanup.h>
#include <postern/uplink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LINES_MAX = 65536 };

/* The interface of a line that is a default route. */
static bool read_route4(const char *line, char ret[IFNAMSIZ]) {
        unsigned destination, mask;

        return sscanf(line, "%15s %x %*s %*s %*s %*s %*s %x", ret, &destination, &mask) == 3 &&
               destination == 0 && mask == 0;
}

static bool read_route6(const char *line, char ret[IFNAMSIZ]) {
        char destination[33];
        unsigned length;

        return sscanf(line, "%32s %x %*s %*s %*s %*s %*s %*s %*s %15s", destination, &length,
                      ret) == 3 &&
               length == 0 && strspn(destination, "0") == 32 && strcmp(ret, "lo") != 0;
}

void uplink_find(uint32_t family, Uplink *ret) {
        bool v4 = family == NFPROTO_IPV4;
        _cleanup_fclose_ FILE *file = NULL;
        char line[256], name[IFNAMSIZ];

        *ret = (Uplink){};
        /* through self: visible with ProcSubset=pid, too */
        file = fopen(v4 ? "/proc/self/net/route" : "/proc/self/net/ipv6_route", "re");
        for (unsigned n = 0; file && n < LINES_MAX && fgets(line, sizeof(line), file); n++) {
                if (!(v4 ? read_route4(line, name) : read_route6(line, name)))
                        continue;
                if (*ret->name && strcmp(ret->name, name) != 0) {
                        *ret = (Uplink){};
                        return;
                }
                (void) snprintf(ret->name, sizeof(ret->name), "%s", name);
        }
        if (*ret->name)
                ret->index = if_nametoindex(ret->name);
}
