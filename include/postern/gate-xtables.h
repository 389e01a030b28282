/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-xtables: the gate's rule in a table that iptables or ufw manages, and where ufw wants it.
 *
 *     -m connlabel --label W -m connlabel --label G --set -m comment --comment postern:gate -j
 * ACCEPT
 */

#include <postern/chain-fate.h>
#include <postern/lease.h>
#include <postern/ruleset.h>

/* Tables that iptables-nft takes for its own, whoever has made them. */
bool xtables_manages(uint32_t family, const char *table);

/* Can iptables read a rule about labels? Not if the file that gives them names has none in it;
 * without a file it warns that there is none. */
bool xtables_reads_labels(void);

/* Of a base chain of such a table. */
typedef enum UfwStanding {
        UFW_ABSENT,
        UFW_ADMITS, /* ufw is at work there, and its default is to allow */
        UFW_DENIES, /* *ret: the end of the chain that holds the admin's own rules */
} UfwStanding;

UfwStanding xtables_find_ufw(const Ruleset *ruleset, const struct nftnl_chain *base,
                             ChainPlace *ret);

/* 0 and the rule, owned by the caller; or -ENOMEM. */
int xtables_draw_gate(const ChainPlace *place, const LeaseMarks *marks, const char *comment,
                      struct nftnl_rule **ret);
