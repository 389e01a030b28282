/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * ruleset: the kernel's tables, chains and rules as they are at one generation.
 *
 * Sets are not read: how many elements a host's sets have is nobody's business here.
 */

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/cleanup.h>
#include <postern/netlink.h>
#include <postern/uplink.h>

enum { RULESET_UPLINKS = 2 };

typedef struct Ruleset {
        uint32_t genid;
        struct nftnl_table **tables;
        size_t n_tables;
        struct nftnl_chain **chains;
        size_t n_chains;
        struct nftnl_rule **rules; /* in order within each chain */
        size_t n_rules;

        Uplink uplinks[RULESET_UPLINKS]; /* for IPv4, for IPv6 */
} Ruleset;

/* 0, or a negative errno (-EPERM without CAP_NET_ADMIN). */
int ruleset_read(Netlink *netlink, Ruleset **ret);

/* A chain, or with chain "" all of a table's. */
typedef struct RulesetScope {
        uint32_t family;
        char table[NFT_NAME_MAXLEN];
        char chain[NFT_NAME_MAXLEN];
} RulesetScope;

/* The same with the rules of some chains alone, each of which is named once and need not be there;
 * -ESTALE: the generation is not this one. */
int ruleset_read_some(Netlink *netlink, uint32_t genid, const RulesetScope *scopes, size_t n_scopes,
                      Ruleset **ret);
Ruleset *ruleset_free(Ruleset *ruleset);
DEFINE_CLEANUP(Ruleset, ruleset_free);

/* NULL where there is none. The objects are the ruleset's. */
const struct nftnl_table *ruleset_find_table(const Ruleset *ruleset, uint32_t family,
                                             const char *table);
const struct nftnl_chain *ruleset_find_chain(const Ruleset *ruleset, uint32_t family,
                                             const char *table, const char *chain);
/* The next rule of a chain from *cursor (0: from the first) on, or NULL. */
const struct nftnl_rule *ruleset_next_rule(const Ruleset *ruleset, uint32_t family,
                                           const char *table, const char *chain, size_t *cursor);

/* "inet", "ip", ...; "?" for what nftables does not have. */
const char *family_to_string(uint32_t family);
/* NFPROTO_*, or -EINVAL. */
int family_from_string(const char *text);
