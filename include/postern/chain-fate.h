/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * chain-fate: what becomes of a packet that no rule of a chain has anything particular to say
 * about.
 */

#include <postern/ruleset.h>

enum { CHAIN_DOUBTS_MAX = 4 };

/* A place for a rule. Strings are the ruleset's. */
typedef struct ChainPlace {
        uint32_t family; /* NFPROTO_* */
        const char *table;
        const char *chain;
        uint64_t before; /* handle of the rule that it goes before; 0: at the end of the chain */
        bool first;      /* at the head of the chain instead */
} ChainPlace;

typedef enum Fate {
        FATE_FALLS_THROUGH,
        FATE_DENIED,
        FATE_ADMITTED, /* or handed to a program, whose verdict nobody can read */
} Fate;

typedef struct ChainReader {
        const Ruleset *ruleset;
        uint32_t family; /* of the table that is read */
        const char *table;

        /* out */
        ChainPlace denial; /* with FATE_DENIED: what denies */
        bool untracks;     /* an unconditional notrack was passed */

        /* Chains that deny what a rule with conditions sends there; NULL: nobody asks. */
        ChainPlace *doubts; /* CHAIN_DOUBTS_MAX of them */
        size_t n_doubts;
} ChainReader;

/* The fate at the end of a chain of reader's family and table. 0 or -ENOMEM. */
int chain_follow(ChainReader *reader, const char *chain, Fate *ret);

/* The same for a base chain, with its policy; sets reader's family and table. */
int chain_follow_base(ChainReader *reader, const struct nftnl_chain *chain, Fate *ret);

typedef enum ChainHook {
        HOOK_OTHER,
        HOOK_EARLIER, /* prerouting and ingress: before the input hook */
        HOOK_INPUT,
} ChainHook;

ChainHook chain_hook(const struct nftnl_chain *chain);
