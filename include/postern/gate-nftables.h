/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-nftables: where the host's own ruleset denies, and the one rule that lets the lease through.
 *
 * Every base chain on the hook votes, and one drop wins, so the rule has to stand in each chain
 * that denies by default: right before the rule that denies, or last where the policy does. It
 * holds no port, no address and no deadline:
 *
 *     ct label W ct label set G counter accept comment "postern:gate"
 *
 * Without the lease's table nothing ever gets W, and the rule is inert.
 */

#include <postern/lease.h>
#include <postern/profile.h>
#include <postern/ruleset.h>

enum { GATE_PLACES_MAX = 32, GATE_DOUBTS_MAX = 4 };

/* Strings are the ruleset's. */
typedef struct GatePlace {
        uint32_t family; /* NFPROTO_INET, NFPROTO_IPV4 or NFPROTO_IPV6 */
        const char *table;
        const char *chain;
        uint64_t before; /* handle of the rule that denies; 0: at the end of the chain */
        bool first;      /* at the head of the chain instead */
} GatePlace;

typedef struct GatePlan {
        GatePlace places[GATE_PLACES_MAX];
        size_t n_places; /* 0: nothing denies */
        /* Chains that deny what a rule with conditions sends there: they may be in the way. */
        GatePlace doubts[GATE_DOUBTS_MAX];
        size_t n_doubts;
} GatePlan;

typedef enum GateOutcome {
        GATE_OK = 0,
        GATE_REFUSED, /* *ret_problem names the chain or table in the way, and what to do */
} GateOutcome;

/* legacy: what legacy iptables has loaded ("ip/filter ip6/filter"), "" for nothing. Returns a
 * GateOutcome or -ENOMEM. */
int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem);

bool gate_place_equals(const GatePlace *a, const GatePlace *b);

/* Adds the rule at a place; deletes a rule. */
int gate_add(const GatePlace *place, const LeaseMarks *marks, Batch *batch, Netlink *netlink);
void gate_delete(const struct nftnl_rule *rule, Batch *batch, Netlink *netlink);

/* Is this rule one of ours, of whatever broker? */
bool gate_is_ours(const struct nftnl_rule *rule);

/* Does the place have the rule of these marks, just where it belongs? */
bool gate_stands(const GatePlace *place, const LeaseMarks *marks, const Ruleset *ruleset);
