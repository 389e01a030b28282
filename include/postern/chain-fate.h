/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * chain-fate: what becomes of a packet that no rule of a chain has anything particular to say
 * about, be it of any interface or of the uplink.
 */

#include <postern/chain-place.h>
#include <postern/ruleset.h>

enum { CHAIN_DOUBTS_MAX = 4 };

typedef enum Fate {
        FATE_FALLS_THROUGH,
        FATE_DENIED,
        FATE_ADMITTED, /* or handed to a program, whose verdict nobody can read */
} Fate;

typedef struct ChainReader {
        const Ruleset *ruleset;
        const Uplink *uplink; /* by which packets come; NULL: by any */
        uint32_t family;      /* of the table that is read */
        const char *table;

        /* out */
        ChainPlace denial; /* with FATE_DENIED: what denies */
        bool untracks;     /* an unconditional notrack was passed */
        /* With FATE_DENIED: a chain that denies some, then the rest, and that others lead to as
         * well. No place serves all of them; denial is before the rule that leads there. */
        const char *ambiguous;

        /* Chains that deny what a rule with conditions sends there; NULL: nobody asks. */
        ChainPlace *doubts; /* CHAIN_DOUBTS_MAX of them */
        size_t n_doubts;

        /* chains that were followed, as such and for doubts: there is an end to it */
        unsigned n_followed;
        unsigned n_aside;
} ChainReader;

/* The fate at the end of a chain of reader's family and table. 0 or a negative errno; -ELOOP: the
 * chains branch so often that this was given up. */
int chain_follow(ChainReader *reader, const char *chain, Fate *ret);

/* The same for a base chain, with its policy; sets reader's family and table. */
int chain_follow_base(ChainReader *reader, const struct nftnl_chain *chain, Fate *ret);

typedef enum ChainHook {
        HOOK_OTHER,
        HOOK_EARLIER, /* prerouting and ingress: before the input hook */
        HOOK_INPUT,
} ChainHook;

ChainHook chain_hook(const struct nftnl_chain *chain);
