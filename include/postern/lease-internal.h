/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* lease-internal: what the lease's drawing and its reading back share. */

#include <postern/lease.h>

enum { LEASE_KEY_SIZE = 8 }; /* each part of a concatenation takes four bytes */

/* Of a window's set: inet_proto . inet_service. */
void lease_element_key(const Port *port, uint8_t ret[LEASE_KEY_SIZE]);

/* 0 once it is over. */
uint64_t lease_until_deadline_msec(const LeaseWindow *window);
