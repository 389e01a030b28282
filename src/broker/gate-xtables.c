/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * iptables-nft reads its tables back as iptables rules, and drops or refuses what it does not know:
 * a native `ct label` makes the whole table unreadable to it, a set lookup is shown as a rule
 * without it. So here the gate consists of what it writes itself, xt matches through nft_compat,
 * and the comment stands where both nft and iptables read it. After iptables-save and
 * iptables-restore the comment is a match, too; rule_has_comment() knows both.
 *
 * Nothing in xtables can see the stamp by which a native gate tells that a window is open right
 * now. What takes its place:
 *
 *  - A label lives with its connection, and a connection that is not accepted is forgotten at once.
 *    So W reaches this rule either with the very packet that the lease has just labelled, when the
 *    window is open; or with a connection that the host's own rules let in during a window.
 *  - Of the latter, a packet that comes to this rule after the window is one that the host now
 *    denies: from one that has been answered, it is cut at the next packet like any other G without
 *    the stamp; from one that has not, the recheck drops it (guard.c), as the stamp can be seen
 *    there, at the end of the hook.
 *  - The rule has no `--ctstate NEW`, since a host without a rule for established connections needs
 *    it for their later packets. That admits nothing more: a G connection without the stamp is cut
 *    before any chain of the host's sees it.
 *  - After a reboot no connection has a label. A gate that was saved in a window, and is restored
 *    while another one is open, goes as soon as the change is seen. If posternd hangs just then, it
 *    is still inert unless W is the same bit, 1 of 128.
 */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/gate-xtables.h>
#include <postern/xt-match.h>
#include <string.h>

#define LABEL_NAMES "/etc/xtables/connlabel.conf"

DEFINE_CLEANUP(struct nftnl_expr_iter, nftnl_expr_iter_destroy);

bool xtables_manages(uint32_t family, const char *table) {
        static const char *const names[] = {"filter", "nat", "mangle", "raw", "security"};

        if (family != NFPROTO_IPV4 && family != NFPROTO_IPV6)
                return false;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strcmp(names[i], table) == 0)
                        return true;
        return false;
}

/* A jump for every packet. */
static bool rule_jumps(const struct nftnl_rule *rule, const char *target) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        const char *name, *found = NULL;
        struct nftnl_expr *expr;

        iterator = nftnl_expr_iter_create(rule);
        while (iterator && (expr = nftnl_expr_iter_next(iterator))) {
                name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
                if (strcmp(name, "immediate") == 0)
                        found = nftnl_expr_get_str(expr, NFTNL_EXPR_IMM_CHAIN);
                else if (strcmp(name, "counter") != 0 && !xt_match_is(expr, "comment"))
                        return false;
        }
        return found && strcmp(found, target) == 0;
}

bool xtables_reads_labels(void) {
        _cleanup_fclose_ FILE *file = NULL;
        char line[256], name[2];

        file = fopen(LABEL_NAMES, "re");
        if (!file)
                return true;
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "%*u %1s", name) == 1)
                        return true;
        return false;
}

static bool chain_jumps(const Ruleset *ruleset, const struct nftnl_chain *chain,
                        const char *target) {
        const struct nftnl_rule *rule;
        size_t cursor = 0;

        while ((rule = ruleset_next_rule(ruleset, nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                         nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE),
                                         nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME), &cursor)))
                if (rule_jumps(rule, target))
                        return true;
        return false;
}

/*
 * By its chains' names, which are ufw's interface: before.rules is the admin's to write, and always
 * ends in a jump to the chain of `ufw allow` and `ufw deny`. The way there leads past
 * ufw-not-local, which denies what is not for this host; read as any other chain it would seem to
 * deny everything.
 *
 * Before the rules after that chain, since they log what they see as blocked.
 */
UfwStanding xtables_find_ufw(const Ruleset *ruleset, const struct nftnl_chain *base,
                             ChainPlace *ret) {
        uint32_t family = nftnl_chain_get_u32(base, NFTNL_CHAIN_FAMILY);
        const char *table = nftnl_chain_get_str(base, NFTNL_CHAIN_TABLE);
        bool ipv6 = family == NFPROTO_IPV6;
        const char *before_name = ipv6 ? "ufw6-before-input" : "ufw-before-input";
        const char *user_name = ipv6 ? "ufw6-user-input" : "ufw-user-input";
        const struct nftnl_chain *before, *user;

        if (!xtables_manages(family, table))
                return UFW_ABSENT;
        before = ruleset_find_chain(ruleset, family, table, before_name);
        user = ruleset_find_chain(ruleset, family, table, user_name);
        if (!before || !user || !chain_jumps(ruleset, base, before_name) ||
            !chain_jumps(ruleset, before, user_name))
                return UFW_ABSENT;
        /* "reject" is a drop with a reject before it */
        if (nftnl_chain_get_u32(base, NFTNL_CHAIN_POLICY) != NF_DROP)
                return UFW_ADMITS;
        *ret = (ChainPlace){
                .family = family,
                .table = table,
                .chain = nftnl_chain_get_str(user, NFTNL_CHAIN_NAME),
        };
        return UFW_DENIES;
}

int xtables_draw_gate(const ChainPlace *place, const LeaseMarks *marks, const char *comment,
                      struct nftnl_rule **ret) {
        RuleWriter writer = rule_begin(place->family, place->table, place->chain);

        if (place->interface)
                rule_match_interface(&writer, place->interface, true);
        xt_match_write_connlabel(&writer, &marks->wanted, false);
        xt_match_write_connlabel(&writer, &marks->gated, true);
        rule_count(&writer); /* every rule of iptables' has one, right there */
        rule_verdict(&writer, NF_ACCEPT, NULL);
        rule_comment(&writer, comment);
        return rule_finish(&writer, ret);
}
