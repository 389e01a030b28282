/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* rule-meaning: what a rule of the host's does to a packet, and to how many of them. */

#include <libnftnl/rule.h>
#include <postern/uplink.h>
#include <stdbool.h>

/* What it does to every packet that matches. */
typedef enum Judgement {
        JUDGEMENT_NOTHING, /* it counts or logs, or leads somewhere by a map */
        JUDGEMENT_DENY,
        JUDGEMENT_ADMIT, /* or hands it to a program, whose verdict nobody can read */
        JUDGEMENT_RETURN,
        JUDGEMENT_JUMP,
        JUDGEMENT_GOTO,
} Judgement;

typedef struct RuleMeaning {
        Judgement judgement;
        bool excluded;    /* about another interface than the one that is asked about */
        bool conditional; /* about who sends it, or where to */
        bool partial;     /* about its kind or its number alone */
        bool untracks;
        bool logs;
        bool maps;          /* to a verdict: where it leads is not in the rule */
        const char *target; /* of a jump or goto; the rule's */
} RuleMeaning;

/* uplink: by which interface packets come; then a rule about interfaces alone has no condition. NULL:
 * by any. 0 or -ENOMEM. */
int rule_read_meaning(const struct nftnl_rule *rule, const Uplink *uplink, RuleMeaning *ret);
