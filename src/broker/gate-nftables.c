/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Reading a ruleset for what it denies by default.
 *
 * A chain's fate is followed along its rules without conditions: accept, drop, reject, jump and
 * goto. Rules with conditions say something about some packets only, so they decide nothing here;
 * where one of them leads to a chain that denies, that is a doubt, and Chain= in the profile
 * settles it.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/gate-nftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GATE_COMMENT "postern:gate"

static bool table_is_ours(uint32_t family, const char *table) {
        return family == NFPROTO_INET &&
               (strcmp(table, LEASE_TABLE) == 0 || strcmp(table, GUARD_TABLE) == 0);
}

static bool table_is_xtables(uint32_t family, const char *table) {
        static const char *const names[] = {"filter", "nat", "mangle", "raw", "security"};

        if (family != NFPROTO_IPV4 && family != NFPROTO_IPV6)
                return false;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strcmp(names[i], table) == 0)
                        return true;
        return false;
}

static int refuse(char **ret_problem, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
static int refuse(char **ret_problem, const char *format, ...) {
        va_list arguments;
        char *text;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return -ENOMEM;
        *ret_problem = text;
        return GATE_REFUSED;
}

/* A table that this gate must not or cannot write to. */
static int check_table(const Ruleset *ruleset, const ChainPlace *place, char **ret_problem) {
        const struct nftnl_table *table = ruleset_find_table(ruleset, place->family, place->table);
        const char *family = family_to_string(place->family);

        if (place->family == NFPROTO_INET && strcmp(place->table, "firewalld") == 0)
                return refuse(ret_problem,
                              "Chain %s %s %s denies and is firewalld's, which this version cannot "
                              "ask to open a port: open the port in firewalld and use Type=none",
                              family, place->table, place->chain);
        if (table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_OWNER)
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies, and the program with netlink port %u owns its "
                        "table, so nobody else can add a rule: have that program admit the port "
                        "and use Type=none",
                        family, place->table, place->chain,
                        nftnl_table_get_u32(table, NFTNL_TABLE_OWNER));
        if (table_is_xtables(place->family, place->table))
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies and is in a table that iptables or ufw manages, "
                        "which this version leaves alone: move the rules to a native nftables "
                        "table, or open the port there and use Type=none",
                        family, place->table, place->chain);
        return GATE_OK;
}

static bool same_table(const ChainPlace *a, const ChainPlace *b) {
        return a->family == b->family && strcmp(a->table, b->table) == 0;
}

bool gate_place_equals(const ChainPlace *a, const ChainPlace *b) {
        return same_table(a, b) && strcmp(a->chain, b->chain) == 0 && a->before == b->before &&
               a->first == b->first;
}

static int plan_add(GatePlan *plan, const ChainPlace *place) {
        for (size_t i = 0; i < plan->n_places; i++)
                if (gate_place_equals(&plan->places[i], place))
                        return 0;
        if (plan->n_places == GATE_PLACES_MAX)
                return -E2BIG;
        plan->places[plan->n_places++] = *place;
        return 0;
}

/* Chain= of the profile: before the rule in it that denies, else at its end. */
static int plan_named_chain(const Ruleset *ruleset, const Profile *profile, ChainPlace *ret,
                            char **ret_problem) {
        char family[16] = "", table[256] = "", name[256] = "";
        const struct nftnl_chain *chain = NULL;
        ChainReader reader = {.ruleset = ruleset};
        Fate fate;
        int number, r;

        if (sscanf(profile->chain, "%15s %255s %255s", family, table, name) == 3) {
                number = family_from_string(family);
                if (number >= 0)
                        chain = ruleset_find_chain(ruleset, number, table, name);
        }
        if (!chain)
                return refuse(
                        ret_problem,
                        "Chain= names a chain that does not exist: `nft list chains` shows those "
                        "that do");
        reader.family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader.table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        *ret = (ChainPlace){
                .family = reader.family,
                .table = reader.table,
                .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
        };
        if (profile->precedence == PRECEDENCE_FIRST) {
                ret->first = true;
                return GATE_OK;
        }
        r = chain_follow(&reader, ret->chain, &fate);
        if (r < 0)
                return r;
        if (fate == FATE_DENIED)
                *ret = reader.denial;
        return GATE_OK;
}

static int plan_chain(const Ruleset *ruleset, const struct nftnl_chain *chain,
                      const Profile *profile, const ChainPlace *named, GatePlan *plan,
                      char **ret_problem) {
        ChainReader reader = {.ruleset = ruleset};
        ChainHook hook = chain_hook(chain);
        ChainPlace place;
        Fate fate;
        int r;

        if (hook == HOOK_OTHER || table_is_ours(nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                                nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE)))
                return GATE_OK;
        if (hook == HOOK_INPUT && plan->wants_doubts) {
                reader.doubts = plan->doubts;
                reader.n_doubts = plan->n_doubts;
        }
        r = chain_follow_base(&reader, chain, &fate);
        if (r < 0)
                return r;
        plan->n_doubts = reader.n_doubts ? reader.n_doubts : plan->n_doubts;
        place = reader.denial;

        if (hook == HOOK_EARLIER) {
                if (reader.untracks)
                        return refuse(
                                ret_problem,
                                "Chain %s %s %s takes every packet out of connection tracking "
                                "(notrack), without which a window cannot be told from the rest: "
                                "track at least the window's ports there",
                                family_to_string(reader.family), reader.table,
                                nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
                if (fate != FATE_DENIED)
                        return GATE_OK;
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies by default before a packet comes to the input hook, "
                        "where a window opens: admit the window's ports in that chain, or move its "
                        "denial to the input hook",
                        family_to_string(place.family), place.table, place.chain);
        }
        if (fate != FATE_DENIED)
                return GATE_OK;
        /* The admin has named the right chain of this table. */
        if (named && same_table(named, &place))
                return GATE_OK;
        if (profile->precedence == PRECEDENCE_FIRST)
                place = (ChainPlace){
                        .family = place.family,
                        .table = place.table,
                        .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
                        .first = true,
                };
        r = check_table(ruleset, &place, ret_problem);
        if (r != GATE_OK)
                return r;
        return plan_add(plan, &place);
}

static bool table_is_dormant(const Ruleset *ruleset, const struct nftnl_chain *chain) {
        const struct nftnl_table *table =
                ruleset_find_table(ruleset, nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                   nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE));

        return table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT;
}

int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem) {
        GatePlan plan = {.wants_doubts = ret->wants_doubts};
        ChainPlace named = {};
        int r;

        if (legacy && *legacy)
                return refuse(
                        ret_problem,
                        "Legacy iptables is loaded (%s), and what it denies cannot be seen from "
                        "here: move to iptables-nft or nftables and unload it, or use Type=none "
                        "if the port is open",
                        legacy);
        if (profile->chain) {
                r = plan_named_chain(ruleset, profile, &named, ret_problem);
                if (r == GATE_OK)
                        r = check_table(ruleset, &named, ret_problem);
                if (r == GATE_OK)
                        r = plan_add(&plan, &named);
                if (r != GATE_OK)
                        return r;
        }
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                if (table_is_dormant(ruleset, ruleset->chains[i]))
                        continue;
                r = plan_chain(ruleset, ruleset->chains[i], profile, profile->chain ? &named : NULL,
                               &plan, ret_problem);
                if (r == -E2BIG)
                        return refuse(
                                ret_problem,
                                "More than %d chains deny on the input hook: merge some of them, "
                                "or use Type=none",
                                GATE_PLACES_MAX);
                if (r != GATE_OK)
                        return r;
        }
        *ret = plan;
        return GATE_OK;
}

static int gate_draw(const ChainPlace *place, const LeaseMarks *marks, struct nftnl_rule **ret) {
        RuleWriter writer = rule_begin(place->family, place->table, place->chain);

        rule_match_label(&writer, &marks->wanted, true);
        rule_match_stamp(&writer, marks->stamp, true);
        rule_set_label(&writer, &marks->gated);
        rule_count(&writer);
        rule_verdict(&writer, NF_ACCEPT, NULL);
        rule_comment(&writer, GATE_COMMENT);
        return rule_finish(&writer, ret);
}

int gate_add(const ChainPlace *place, const LeaseMarks *marks, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;
        struct nftnl_rule *rule;
        int r;

        r = gate_draw(place, marks, &rule);
        if (r < 0)
                return r;
        if (place->before)
                nftnl_rule_set_u64(rule, NFTNL_RULE_POSITION, place->before);
        /* Without APPEND a rule goes before its position, or to the head of the chain. */
        message = batch_message(batch, netlink, NFT_MSG_NEWRULE,
                                NLM_F_CREATE | (place->first || place->before ? 0 : NLM_F_APPEND),
                                place->family);
        nftnl_rule_nlmsg_build_payload(message, rule);
        batch_push(batch, message);
        nftnl_rule_free(rule);
        return 0;
}

void gate_delete(const struct nftnl_rule *rule, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;

        message = batch_message(batch, netlink, NFT_MSG_DELRULE, 0,
                                nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY));
        mnl_attr_put_strz(message, NFTA_RULE_TABLE, nftnl_rule_get_str(rule, NFTNL_RULE_TABLE));
        mnl_attr_put_strz(message, NFTA_RULE_CHAIN, nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
        mnl_attr_put_u64(message, NFTA_RULE_HANDLE,
                         htobe64(nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE)));
        batch_push(batch, message);
}

bool gate_is_ours(const struct nftnl_rule *rule) {
        Label labels;

        if (!rule_has_comment(rule, GATE_COMMENT))
                return false;
        /* An admin may write any comment; only a rule that also reads like ours is ours. */
        labels = rule_labels(rule);
        return !label_is_empty(&labels);
}

bool gate_stands(const ChainPlace *place, const LeaseMarks *marks, const Ruleset *ruleset) {
        struct nftnl_rule *wanted;
        const struct nftnl_rule *rule;
        bool right = false, other_before = false, pending = false;
        size_t cursor = 0;

        if (gate_draw(place, marks, &wanted) < 0)
                return false; /* not known to stand */
        /* There may be two of ours in a chain, one at its head and one at its end. */
        while ((rule = ruleset_next_rule(ruleset, place->family, place->table, place->chain,
                                         &cursor))) {
                if (gate_is_ours(rule)) {
                        if (!rule_equals(rule, wanted))
                                continue;
                        if (place->first)
                                right |= !other_before;
                        else
                                pending = true; /* what comes after it tells */
                        continue;
                }
                other_before = true;
                if (pending)
                        right |= nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE) == place->before;
                pending = false;
        }
        right |= pending && place->before == 0;
        nftnl_rule_free(wanted);
        return right;
}
