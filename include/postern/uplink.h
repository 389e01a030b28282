/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* uplink: the interface by which strangers come, if there is just one. */

#include <net/if.h>
#include <stdint.h>

typedef struct Uplink {
        char name[IFNAMSIZ]; /* "": there is none, or more than one */
        uint32_t index;
} Uplink;

/* Of the default routes of a family, NFPROTO_IPV4 or NFPROTO_IPV6. */
void uplink_find(uint32_t family, Uplink *ret);
