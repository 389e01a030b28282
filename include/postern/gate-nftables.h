/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-nftables: where the host's own ruleset denies, and the one rule that lets the lease through.
 *
 * Every base chain on the hook votes, and one drop wins, so the rule has to stand in each chain
 * that denies by default: right before the rule that denies, or last where the policy does. It
 * holds no port, no address and no deadline:
 *
 *     ct label W meta priority STAMP ct label set G counter accept comment "postern:gate"
 *
 * Without the lease's table nothing ever gets W or the stamp, and the rule is inert.
 */

#include <postern/chain-fate.h>
#include <postern/lease.h>
#include <postern/profile.h>
#include <postern/ruleset.h>

enum { GATE_PLACES_MAX = 32 };

typedef struct GatePlan {
        ChainPlace places[GATE_PLACES_MAX];
        size_t n_places; /* 0: nothing denies */

        bool wants_doubts; /* in */
        ChainPlace doubts[CHAIN_DOUBTS_MAX];
        size_t n_doubts;
} GatePlan;

typedef enum GateOutcome {
        GATE_OK = 0,
        GATE_REFUSED, /* *ret_problem names the chain or table in the way, and what to do */
} GateOutcome;

/* legacy: what legacy iptables has loaded ("ip/filter ip6/filter"), "" for nothing. ret: only
 * wants_doubts is read. Returns a GateOutcome or -ENOMEM. */
int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem);

bool gate_place_equals(const ChainPlace *a, const ChainPlace *b);

/* Adds the rule at a place; deletes a rule. */
int gate_add(const ChainPlace *place, const LeaseMarks *marks, Batch *batch, Netlink *netlink);
void gate_delete(const struct nftnl_rule *rule, Batch *batch, Netlink *netlink);

/* Is this rule one of ours, of whatever broker? */
bool gate_is_ours(const struct nftnl_rule *rule);

/* Does the place have the rule of these marks, just where it belongs? */
bool gate_stands(const ChainPlace *place, const LeaseMarks *marks, const Ruleset *ruleset);
