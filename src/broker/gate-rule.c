/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See the header. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/gate-rule.h>
#include <postern/gate-xtables.h>
#include <stdio.h>
#include <string.h>

#define GATE_COMMENT "postern:gate"

static int gate_draw(const ChainPlace *place, const LeaseMarks *marks, struct nftnl_rule **ret) {
        RuleWriter writer;

        if (xtables_manages(place->family, place->table))
                return xtables_draw_gate(place, marks, GATE_COMMENT, ret);
        writer = rule_begin(place->family, place->table, place->chain);
        if (place->interface)
                rule_match_interface(&writer, place->interface, false);
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
