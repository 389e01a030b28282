/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* chain-place: a place for a rule. Strings are the ruleset's. */

#include <stdbool.h>
#include <stdint.h>

typedef struct ChainPlace {
        uint32_t family; /* NFPROTO_* */
        const char *table;
        const char *chain;
        uint64_t before; /* handle of the rule that it goes before; 0: at the end of the chain */
        bool first;      /* at the head of the chain instead */
        const char *interface; /* for what comes in by this one; NULL: by any */
} ChainPlace;
