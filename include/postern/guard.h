/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * guard: our other nftables table, which outlives the broker.
 *
 * It holds no deadline. What carries the label of the gate and no stamp of an open window is cut,
 * the same way as in the lease (lease.h), so also when that is gone.
 *
 * A port that somebody else's firewall goes on listing when we are gone has a *ban*: what is new to
 * it and carries no stamp is dropped. It stays until that firewall has closed the port.
 */

#include <postern/lease.h>

#define GUARD_TABLE "postern_guard"

enum { GUARD_BANS_MAX = 128 };

/* bans: without doubles; the same ones in the same order make the same guard. 0 or -ENOMEM. */
int guard_draw(const LeaseMarks *marks, const Port *bans, size_t n_bans, Blueprint **ret);

/* The guard's own rules, for the lease as well: 0 or -ENOMEM. */
int guard_draw_cut(Blueprint *blueprint, const char *chain, const LeaseMarks *marks);
int guard_draw_recheck(Blueprint *blueprint, const char *chain, const LeaseMarks *marks);

/* Connections let in by all windows together since the guard stands; 0 where there is none. */
uint64_t guard_admitted(const Ruleset *ruleset);
/* The same, read from the kernel: 0 or a negative errno. */
int guard_read_admitted(Netlink *netlink, uint64_t *ret);
