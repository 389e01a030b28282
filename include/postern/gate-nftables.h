/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-nftables: where the host's own ruleset denies, and so a gate's rule (gate-rule.h) belongs.
 *
 * Every base chain on the hook votes, and one drop wins, so the rule has to stand in each chain
 * that denies by default: right before the rule that denies, or last where the policy does.
 */

#include <postern/chain-fate.h>
#include <postern/lease.h>
#include <postern/profile.h>
#include <postern/ruleset.h>

enum { GATE_PLACES_MAX = 32 };

typedef struct GatePlan {
        ChainPlace places[GATE_PLACES_MAX];
        size_t n_places; /* 0: nothing denies */

        /* in */
        bool wants_doubts;
        bool spare_firewalld; /* what its tables deny is for firewalld to open */

        ChainPlace doubts[CHAIN_DOUBTS_MAX];
        size_t n_doubts;
} GatePlan;

typedef enum GateOutcome {
        GATE_OK = 0,
        GATE_REFUSED, /* *ret_problem names the chain or table in the way, and what to do */
} GateOutcome;

/* legacy: what legacy iptables has loaded ("ip/filter ip6/filter"), "" for nothing. ret: only
 * wants_doubts and spare_firewalld are read. Returns a GateOutcome or a negative errno. */
int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem);

/* For a person: *ret_problem, printable whatever names are in it. GATE_REFUSED or -ENOMEM. */
int gate_refuse(char **ret_problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool gate_place_equals(const ChainPlace *a, const ChainPlace *b);
