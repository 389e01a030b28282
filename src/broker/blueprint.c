/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Objects of libnftnl put together to a table, sent as messages of a batch, and held against a
 * dump. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/blueprint.h>
#include <string.h>

Blueprint *blueprint_free(Blueprint *blueprint) {
        if (!blueprint)
                return NULL;
        for (size_t i = 0; i < blueprint->n_rules; i++)
                nftnl_rule_free(blueprint->rules[i]);
        for (size_t i = 0; i < blueprint->n_sets; i++)
                nftnl_set_free(blueprint->sets[i]);
        for (size_t i = 0; i < blueprint->n_chains; i++)
                nftnl_chain_free(blueprint->chains[i]);
        if (blueprint->table)
                nftnl_table_free(blueprint->table);
        free(blueprint);
        return NULL;
}

int blueprint_draw_table(Blueprint *blueprint, const char *name, uint32_t flags) {
        blueprint->table = nftnl_table_alloc();
        if (!blueprint->table)
                return -ENOMEM;
        nftnl_table_set_u32(blueprint->table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
        nftnl_table_set_u32(blueprint->table, NFTNL_TABLE_FLAGS, flags);
        return nftnl_table_set_str(blueprint->table, NFTNL_TABLE_NAME, name) < 0 ? -ENOMEM : 0;
}

int blueprint_draw_chain(Blueprint *blueprint, const char *name, int hook, int32_t priority) {
        const char *table = nftnl_table_get_str(blueprint->table, NFTNL_TABLE_NAME);
        struct nftnl_chain *chain;

        chain = nftnl_chain_alloc();
        if (!chain)
                return -ENOMEM;
        blueprint->chains[blueprint->n_chains++] = chain;
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
        if (nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, table) < 0 ||
            nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name) < 0)
                return -ENOMEM;
        if (hook < 0)
                return 0;
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
        nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
        return nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter") < 0 ? -ENOMEM : 0;
}

RuleWriter blueprint_begin_rule(const Blueprint *blueprint, const char *chain) {
        return rule_begin(NFPROTO_INET, nftnl_table_get_str(blueprint->table, NFTNL_TABLE_NAME),
                          chain);
}

int blueprint_finish_rule(Blueprint *blueprint, RuleWriter *writer) {
        struct nftnl_rule *rule = NULL;
        int r;

        r = rule_finish(writer, &rule);
        if (r == 0 && blueprint->n_rules == BLUEPRINT_RULES_MAX) {
                nftnl_rule_free(rule);
                return -E2BIG;
        }
        blueprint->rules[blueprint->n_rules] = rule;

        if (r == 0)
                blueprint->n_rules++;
        return r;
}

void blueprint_add(const Blueprint *blueprint, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;

        message = batch_message(batch, netlink, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL,
                                NFPROTO_INET);
        nftnl_table_nlmsg_build_payload(message, blueprint->table);
        batch_push(batch, message);
        for (size_t i = 0; i < blueprint->n_chains; i++) {
                message = batch_message(batch, netlink, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
                                        NFPROTO_INET);
                nftnl_chain_nlmsg_build_payload(message, blueprint->chains[i]);
                batch_push(batch, message);
        }
        for (size_t i = 0; i < blueprint->n_sets; i++) {
                message = batch_message(batch, netlink, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL,
                                        NFPROTO_INET);
                nftnl_set_nlmsg_build_payload(message, blueprint->sets[i]);
                batch_push(batch, message);
                message = batch_message(batch, netlink, NFT_MSG_NEWSETELEM,
                                        NLM_F_CREATE | NLM_F_EXCL, NFPROTO_INET);
                nftnl_set_elems_nlmsg_build_payload(message, blueprint->sets[i]);
                batch_push(batch, message);
        }
        for (size_t i = 0; i < blueprint->n_rules; i++) {
                message = batch_message(batch, netlink, NFT_MSG_NEWRULE,
                                        NLM_F_CREATE | NLM_F_APPEND, NFPROTO_INET);
                nftnl_rule_nlmsg_build_payload(message, blueprint->rules[i]);
                batch_push(batch, message);
        }
}

static bool chain_equals(const struct nftnl_chain *wanted, const struct nftnl_chain *found) {
        if (nftnl_chain_is_set(wanted, NFTNL_CHAIN_HOOKNUM) !=
            nftnl_chain_is_set(found, NFTNL_CHAIN_HOOKNUM))
                return false;
        if (!nftnl_chain_is_set(wanted, NFTNL_CHAIN_HOOKNUM))
                return true;
        return nftnl_chain_get_u32(wanted, NFTNL_CHAIN_HOOKNUM) ==
                       nftnl_chain_get_u32(found, NFTNL_CHAIN_HOOKNUM) &&
               nftnl_chain_get_s32(wanted, NFTNL_CHAIN_PRIO) ==
                       nftnl_chain_get_s32(found, NFTNL_CHAIN_PRIO) &&
               nftnl_chain_get_u32(found, NFTNL_CHAIN_POLICY) == NF_ACCEPT;
}

bool blueprint_stands(const Blueprint *blueprint, const Ruleset *ruleset) {
        const char *table = nftnl_table_get_str(blueprint->table, NFTNL_TABLE_NAME);
        const struct nftnl_table *found;
        size_t n_chains = 0, n_rules = 0;

        found = ruleset_find_table(ruleset, NFPROTO_INET, table);
        if (!found || nftnl_table_get_u32(found, NFTNL_TABLE_FLAGS) !=
                              nftnl_table_get_u32(blueprint->table, NFTNL_TABLE_FLAGS))
                return false;
        for (size_t i = 0; i < ruleset->n_chains; i++)
                if (nftnl_chain_get_u32(ruleset->chains[i], NFTNL_CHAIN_FAMILY) == NFPROTO_INET &&
                    strcmp(nftnl_chain_get_str(ruleset->chains[i], NFTNL_CHAIN_TABLE), table) == 0)
                        n_chains++;
        if (n_chains != blueprint->n_chains)
                return false;
        for (size_t i = 0; i < blueprint->n_chains; i++) {
                const char *chain = nftnl_chain_get_str(blueprint->chains[i], NFTNL_CHAIN_NAME);
                const struct nftnl_chain *c =
                        ruleset_find_chain(ruleset, NFPROTO_INET, table, chain);
                const struct nftnl_rule *rule;
                size_t cursor = 0;

                if (!c || !chain_equals(blueprint->chains[i], c))
                        return false;
                /* the blueprint's rules of this chain, in order, against the kernel's */
                for (size_t k = 0; k < blueprint->n_rules; k++) {
                        if (strcmp(nftnl_rule_get_str(blueprint->rules[k], NFTNL_RULE_CHAIN),
                                   chain) != 0)
                                continue;
                        rule = ruleset_next_rule(ruleset, NFPROTO_INET, table, chain, &cursor);
                        if (!rule || !rule_equals(blueprint->rules[k], rule))
                                return false;
                        n_rules++;
                }
                if (ruleset_next_rule(ruleset, NFPROTO_INET, table, chain, &cursor))
                        return false;
        }
        return n_rules == blueprint->n_rules;
}
