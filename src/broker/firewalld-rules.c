/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Reads the table inet firewalld. See the header. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/cleanup.h>
#include <postern/firewalld-rules.h>
#include <postern/rule.h>
#include <stdio.h>
#include <string.h>

/* wants stdio.h before it */
#include <libnftnl/expr.h>

#define TABLE       "firewalld"
#define INPUT_CHAIN "filter_INPUT"
#define ZONE_CHAINS "filter_IN_"
#define OLDER_CHAIN "INPUT_ZONES" /* with FirewallBackend=iptables */

enum { PORT_OFFSET = 2 }; /* of the destination, in TCP's and UDP's header */

bool firewalld_left_rules(const Ruleset *ruleset) {
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                const struct nftnl_chain *chain = ruleset->chains[i];

                if (strcmp(nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE), TABLE) == 0 ||
                    strcmp(nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME), OLDER_CHAIN) == 0)
                        return true;
        }
        return false;
}

/* One firewalld writes each of its rules for this chain once. */
static bool two_have_written(const Ruleset *ruleset) {
        const struct nftnl_rule *first, *other;
        size_t cursor = 0, behind;

        while ((first = ruleset_next_rule(ruleset, NFPROTO_INET, TABLE, INPUT_CHAIN, &cursor))) {
                behind = cursor;
                while ((other = ruleset_next_rule(ruleset, NFPROTO_INET, TABLE, INPUT_CHAIN,
                                                  &behind)))
                        if (rule_equals(first, other))
                                return true;
        }
        return false;
}

static bool expr_is(const struct nftnl_expr *expr, const char *name) {
        return strcmp(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME), name) == 0;
}

static bool loads_port(const struct nftnl_expr *expr) {
        return expr_is(expr, "payload") &&
               nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_BASE) == NFT_PAYLOAD_TRANSPORT_HEADER &&
               nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET) == PORT_OFFSET;
}

/* What the port is compared with. Anything but one number may be a range that the port is in. */
static bool may_match_port(const struct nftnl_expr *expr, const Port *ports, size_t n_ports) {
        const void *data;
        uint32_t size = 0;
        uint16_t number;

        if (!expr_is(expr, "cmp") || nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_OP) != NFT_CMP_EQ)
                return true;
        data = nftnl_expr_get(expr, NFTNL_EXPR_CMP_DATA, &size);
        if (!data || size != sizeof(number))
                return true;
        memcpy(&number, data, sizeof(number));
        for (size_t i = 0; i < n_ports; i++)
                if (ports[i].number == ntohs(number))
                        return true;
        return false;
}

static bool rule_may_admit(const struct nftnl_rule *rule, const Port *ports, size_t n_ports) {
        struct nftnl_expr_iter *iterator = nftnl_expr_iter_create(rule);
        const struct nftnl_expr *expr;
        bool loaded = false, matches = false;

        if (!iterator)
                return true;
        while ((expr = nftnl_expr_iter_next(iterator))) {
                if (loaded)
                        matches |= may_match_port(expr, ports, n_ports);
                loaded = loads_port(expr);
        }
        nftnl_expr_iter_destroy(iterator);
        return matches;
}

bool firewalld_left_port(const Ruleset *ruleset, const Port *ports, size_t n_ports) {
        if (!two_have_written(ruleset))
                return false;
        for (size_t i = 0; i < ruleset->n_rules; i++) {
                const struct nftnl_rule *rule = ruleset->rules[i];
                const char *chain = nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN);

                if (strcmp(nftnl_rule_get_str(rule, NFTNL_RULE_TABLE), TABLE) == 0 &&
                    strncmp(chain, ZONE_CHAINS, strlen(ZONE_CHAINS)) == 0 &&
                    rule_may_admit(rule, ports, n_ports))
                        return true;
        }
        return false;
}
