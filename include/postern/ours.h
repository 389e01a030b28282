/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * ours: where in the ruleset rules of ours stand, and until when that is known.
 *
 * As long as nobody else has changed the ruleset, what is ours stands where we have put it, and the
 * rules of others, of which there may be very many, need not be read again. Each transaction makes
 * just one generation, so one of somebody else's shows as a number that is not the next.
 */

#include <postern/gate-nftables.h>

enum { OURS_MAX = 2 + GATE_PLACES_MAX };

typedef struct Ours {
        uint32_t genid;                /* up to here it is known; 0: it is not */
        RulesetScope scopes[OURS_MAX]; /* our own two tables, and the chains with a gate's rule */
        size_t n_scopes;
} Ours;

/* All of the ruleset was read at the generation before, or ours_read() read it, and then the gates'
 * rules were put at these places alone. */
void ours_set(Ours *ours, uint32_t genid, const GatePlan *places);
/* A transaction of ours made the generation after this one, and moved no gate. */
void ours_pass(Ours *ours, uint32_t genid);
void ours_forget(Ours *ours);

/* The ruleset with all rules that are ours; where that is not known, with all that there are. */
int ours_read(const Ours *ours, Netlink *netlink, Ruleset **ret);
/* The former alone, and of this generation; -ESTALE: there is another, or it is not known. */
int ours_read_at(const Ours *ours, uint32_t genid, Netlink *netlink, Ruleset **ret);
