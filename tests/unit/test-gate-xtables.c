/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The gate in tables of iptables, without a kernel: what is drawn, what is known again, and where
 * ufw is found. */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/gate-nftables.h>
#include <postern/gate-rule.h>
#include <postern/gate-xtables.h>
#include <postern/xt-match.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COMMENT "postern:gate"

static const ChainPlace place = {.family = NFPROTO_IPV4, .table = "filter", .chain = "INPUT"};

static LeaseMarks marks_new(unsigned wanted, unsigned gated) {
        return (LeaseMarks){.wanted = label_from_bit(wanted), .gated = label_from_bit(gated)};
}

static struct nftnl_rule *gate_new(unsigned wanted, unsigned gated) {
        LeaseMarks marks = marks_new(wanted, gated);
        struct nftnl_rule *rule;

        assert_int_equal(xtables_draw_gate(&place, &marks, COMMENT, &rule), 0);
        return rule;
}

static void add_match(struct nftnl_rule *rule, const char *name, const void *info, size_t size) {
        struct nftnl_expr *expr = nftnl_expr_alloc("match");
        void *copy = malloc(size);

        assert_non_null(expr);
        assert_non_null(copy);
        memcpy(copy, info, size);
        nftnl_expr_set_str(expr, NFTNL_EXPR_MT_NAME, name);
        nftnl_expr_set(expr, NFTNL_EXPR_MT_INFO, copy, size);
        nftnl_rule_add_expr(rule, expr);
}

static void test_label_bits(void **state) {
        Label none = {};

        for (unsigned bit = 0; bit < LABEL_BITS; bit++) {
                Label label = label_from_bit(bit);

                assert_int_equal(label_to_bit(&label), bit);
        }
        assert_int_equal(label_to_bit(&none), LABEL_BITS);
}

static void test_labels(void **state) {
        struct nftnl_rule *gate = gate_new(3, 127);
        Label all = rule_labels(gate), set = rule_labels_set(gate), wanted = label_from_bit(3),
              gated = label_from_bit(127);

        assert_true(label_intersects(&all, &wanted) && label_intersects(&all, &gated));
        assert_memory_equal(&set, &gated, sizeof(set));
        nftnl_rule_free(gate);
}

/* By what its matches look for, not by their names. */
static void test_equality(void **state) {
        struct nftnl_rule *gate = gate_new(3, 4), *same = gate_new(3, 4), *other = gate_new(5, 4),
                          *another = gate_new(3, 6);

        assert_true(rule_equals(gate, same));
        assert_false(rule_equals(gate, other));
        assert_false(rule_equals(gate, another));
        nftnl_rule_free(gate);
        nftnl_rule_free(same);
        nftnl_rule_free(other);
        nftnl_rule_free(another);
}

/* As it is drawn, and as iptables-restore makes it. */
static void test_both_forms_are_ours(void **state) {
        LeaseMarks marks = marks_new(3, 4);
        char info[256] = COMMENT;
        struct nftnl_rule *rule;

        rule = gate_new(3, 4);
        assert_true(gate_is_ours(rule));
        nftnl_rule_free(rule);

        assert_int_equal(xtables_draw_gate(&place, &marks, "another", &rule), 0);
        assert_false(gate_is_ours(rule));
        add_match(rule, "comment", info, strlen(info)); /* not terminated */
        assert_false(gate_is_ours(rule));
        add_match(rule, "command", info, sizeof(info));
        assert_false(gate_is_ours(rule));
        add_match(rule, "comment", info, sizeof(info));
        assert_true(gate_is_ours(rule));
        nftnl_rule_free(rule);
}

/* A ruleset as ufw makes it: INPUT → before → user. */
static void add_chain(Ruleset *ruleset, uint32_t family, const char *name, uint32_t policy) {
        struct nftnl_chain *chain = nftnl_chain_alloc();

        assert_non_null(chain);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_FAMILY, family);
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, "filter");
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, policy);
        ruleset->chains[ruleset->n_chains++] = chain;
}

static void add_jump(Ruleset *ruleset, uint32_t family, const char *from, const char *to,
                     bool conditional) {
        RuleWriter writer = rule_begin(family, "filter", from);

        if (conditional)
                rule_match_protocol(&writer, 6);
        rule_count(&writer);
        rule_verdict(&writer, NFT_JUMP, to);
        assert_int_equal(rule_finish(&writer, &ruleset->rules[ruleset->n_rules]), 0);
        ruleset->n_rules++;
}

static UfwStanding find_ufw(uint32_t family, const char *infix, uint32_t policy,
                            bool first_conditional, bool second_conditional, ChainPlace *ret) {
        struct nftnl_chain *chains[4];
        struct nftnl_rule *rules[4];
        Ruleset ruleset = {.chains = chains, .rules = rules};
        static char before[32], user[32];
        UfwStanding standing;

        snprintf(before, sizeof(before), "%s-before-input", infix);
        snprintf(user, sizeof(user), "%s-user-input", infix);
        add_chain(&ruleset, family, "INPUT", policy);
        add_chain(&ruleset, family, before, NF_ACCEPT);
        add_chain(&ruleset, family, user, NF_ACCEPT);
        add_jump(&ruleset, family, "INPUT", before, first_conditional);
        add_jump(&ruleset, family, before, user, second_conditional);
        standing = xtables_find_ufw(&ruleset, chains[0], ret);
        if (standing == UFW_DENIES) {
                assert_string_equal(ret->chain, user);
                assert_true(ret->family == family && ret->before == 0 && !ret->first);
        }
        for (size_t i = 0; i < ruleset.n_chains; i++)
                nftnl_chain_free(chains[i]);
        for (size_t i = 0; i < ruleset.n_rules; i++)
                nftnl_rule_free(rules[i]);
        return standing;
}

static void test_ufw(void **state) {
        ChainPlace found;

        assert_int_equal(find_ufw(NFPROTO_IPV4, "ufw", NF_DROP, false, false, &found), UFW_DENIES);
        assert_int_equal(find_ufw(NFPROTO_IPV6, "ufw6", NF_DROP, false, false, &found), UFW_DENIES);
        assert_int_equal(find_ufw(NFPROTO_IPV4, "ufw", NF_ACCEPT, false, false, &found),
                         UFW_ADMITS);
        /* its chains in the other family, or of another family's table, or not led to */
        assert_int_equal(find_ufw(NFPROTO_IPV6, "ufw", NF_DROP, false, false, &found), UFW_ABSENT);
        assert_int_equal(find_ufw(NFPROTO_INET, "ufw", NF_DROP, false, false, &found), UFW_ABSENT);
        assert_int_equal(find_ufw(NFPROTO_IPV4, "ufw", NF_DROP, true, false, &found), UFW_ABSENT);
        assert_int_equal(find_ufw(NFPROTO_IPV4, "ufw", NF_DROP, false, true, &found), UFW_ABSENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_label_bits), cmocka_unit_test(test_labels),
                cmocka_unit_test(test_equality),   cmocka_unit_test(test_both_forms_are_ours),
                cmocka_unit_test(test_ufw),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
