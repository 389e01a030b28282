/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * blueprint: an nftables table as it should stand in the kernel: drawn, built, and held against
 * what does stand there.
 */

#include <libnftnl/chain.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <postern/rule.h>
#include <postern/ruleset.h>

enum {
        BLUEPRINT_SETS_MAX = 16,
        BLUEPRINT_RULES_MAX = 512,
};

/* A table with its chains, sets and rules as it should stand in the kernel. */
typedef struct Blueprint {
        struct nftnl_table *table;
        struct nftnl_chain *chains[4 + BLUEPRINT_SETS_MAX];
        size_t n_chains;
        struct nftnl_set *sets[BLUEPRINT_SETS_MAX];
        size_t n_sets;
        struct nftnl_rule *rules[BLUEPRINT_RULES_MAX];
        size_t n_rules;
} Blueprint;

Blueprint *blueprint_free(Blueprint *blueprint);
DEFINE_CLEANUP(Blueprint, blueprint_free);

/* Drawing, in this order: the table, its sets, its chains, its rules. All are of family inet. 0 or
 * -ENOMEM. */
int blueprint_draw_table(Blueprint *blueprint, const char *name, uint32_t flags);
/* hook: NF_INET_*, or -1 for a chain that only rules jump to */
int blueprint_draw_chain(Blueprint *blueprint, const char *name, int hook, int32_t priority);
RuleWriter blueprint_begin_rule(const Blueprint *blueprint, const char *chain);
int blueprint_finish_rule(Blueprint *blueprint, RuleWriter *writer);

/* Adds all of it to a batch. */
void blueprint_add(const Blueprint *blueprint, Batch *batch, Netlink *netlink);
/* Does the ruleset have the table with just these chains and rules? (Sets are not in a ruleset: see
 * lease_verify_sets().) */
bool blueprint_stands(const Blueprint *blueprint, const Ruleset *ruleset);
