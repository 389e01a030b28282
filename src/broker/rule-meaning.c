/* SPDX-License-Identifier: GPL-2.0-or-later */

/* By its expressions, in the kernel's terms and in those of xtables, through nft_compat. */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_CT.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <postern/cleanup.h>
#include <postern/rule-meaning.h>
#include <postern/xt-match.h>
#include <stddef.h>
#include <string.h>

DEFINE_CLEANUP(struct nftnl_expr_iter, nftnl_expr_iter_destroy);

static void read_verdict(const struct nftnl_expr *expr, RuleMeaning *meaning) {
        if (nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_DREG) != NFT_REG_VERDICT)
                return;
        switch ((int) nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_VERDICT)) {
        case NF_DROP:
                meaning->judgement = JUDGEMENT_DENY;
                break;
        case NF_ACCEPT:
                meaning->judgement = JUDGEMENT_ADMIT;
                break;
        case NFT_RETURN:
                meaning->judgement = JUDGEMENT_RETURN;
                break;
        case NFT_JUMP:
                meaning->judgement = JUDGEMENT_JUMP;
                meaning->target = nftnl_expr_get_str(expr, NFTNL_EXPR_IMM_CHAIN);
                break;
        case NFT_GOTO:
                meaning->judgement = JUDGEMENT_GOTO;
                meaning->target = nftnl_expr_get_str(expr, NFTNL_EXPR_IMM_CHAIN);
                break;
        default: /* continue */
                break;
        }
}

/* What is loaded decides what is compared: the kind of a packet, or whose it is. */
static void read_meta(const struct nftnl_expr *expr, RuleMeaning *meaning) {
        switch (nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY)) {
        case NFT_META_L4PROTO:
        case NFT_META_NFPROTO:
        case NFT_META_PROTOCOL:
        case NFT_META_PKTTYPE:
                meaning->partial = true;
                break;
        default:
                meaning->conditional = true;
                break;
        }
}

/* ip protocol, ip6 nexthdr */
static bool payload_is_protocol(const struct nftnl_expr *expr) {
        uint32_t offset = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET);

        return nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_BASE) == NFT_PAYLOAD_NETWORK_HEADER &&
               nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_LEN) == 1 &&
               (offset == offsetof(struct iphdr, protocol) ||
                offset == offsetof(struct ip6_hdr, ip6_nxt));
}

/* Of xtables, through nft_compat. */
static void read_match(const struct nftnl_expr *expr, RuleMeaning *meaning) {
        if (xt_match_is(expr, "comment"))
                return;
        if (xt_match_is(expr, "limit") || xt_match_is(expr, "hashlimit") ||
            xt_match_is(expr, "statistic") || xt_match_is(expr, "pkttype"))
                meaning->partial = true;
        else
                meaning->conditional = true;
}

static void read_target(const struct nftnl_expr *expr, RuleMeaning *meaning) {
        const char *target = nftnl_expr_get_str(expr, NFTNL_EXPR_TG_NAME);
        const struct xt_ct_target_info *ct;
        uint32_t size = 0;

        if (!target)
                return;
        if (strcmp(target, "REJECT") == 0)
                meaning->judgement = JUDGEMENT_DENY;
        else if (strcmp(target, "NFQUEUE") == 0)
                meaning->judgement = JUDGEMENT_ADMIT;
        else if (strcmp(target, "NOTRACK") == 0)
                meaning->untracks = true;
        else if (strcmp(target, "LOG") == 0 || strcmp(target, "NFLOG") == 0)
                meaning->logs = true;
        else if (strcmp(target, "CT") == 0) {
                ct = nftnl_expr_get(expr, NFTNL_EXPR_TG_INFO, &size);
                if (ct && size >= sizeof(*ct) && ct->flags & XT_CT_NOTRACK)
                        meaning->untracks = true;
        }
}

static void read_expression(const struct nftnl_expr *expr, RuleMeaning *meaning) {
        const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);

        if (strcmp(name, "immediate") == 0)
                read_verdict(expr, meaning);
        else if (strcmp(name, "reject") == 0)
                meaning->judgement = JUDGEMENT_DENY;
        else if (strcmp(name, "queue") == 0)
                meaning->judgement = JUDGEMENT_ADMIT;
        else if (strcmp(name, "notrack") == 0)
                meaning->untracks = true;
        else if (strcmp(name, "log") == 0)
                meaning->logs = true;
        else if (strcmp(name, "target") == 0) {
                read_target(expr, meaning);
        } else if (strcmp(name, "match") == 0) {
                read_match(expr, meaning);
        } else if (strcmp(name, "meta") == 0) {
                if (!nftnl_expr_is_set(expr, NFTNL_EXPR_META_SREG))
                        read_meta(expr, meaning);
        } else if (strcmp(name, "payload") == 0) {
                if (payload_is_protocol(expr))
                        meaning->partial = true;
                else
                        meaning->conditional = true;
        } else if (strcmp(name, "limit") == 0) {
                meaning->partial = true;
        } else if (strcmp(name, "objref") == 0) {
                if (nftnl_expr_get_u32(expr, NFTNL_EXPR_OBJREF_IMM_TYPE) != NFT_OBJECT_COUNTER)
                        meaning->partial = true; /* a named limit or quota */
        } else if (strcmp(name, "lookup") == 0) {
                if (nftnl_expr_is_set(expr, NFTNL_EXPR_LOOKUP_DREG)) {
                        meaning->conditional = true;
                        meaning->maps |=
                                nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_DREG) == NFT_REG_VERDICT;
                }
        } else if (strcmp(name, "ct") == 0) {
                if (!nftnl_expr_is_set(expr, NFTNL_EXPR_CT_SREG))
                        meaning->conditional = true;
        } else if (strcmp(name, "counter") != 0 && strcmp(name, "last") != 0 &&
                   strcmp(name, "cmp") != 0 && strcmp(name, "bitwise") != 0 &&
                   strcmp(name, "range") != 0)
                meaning->conditional = true;
}

/* `iifname "eth0"`, `-i eth+`: what is compared may be the beginning of a name. */
static bool compare_interface(const struct nftnl_expr *expr, const Uplink *uplink, bool by_name,
                              RuleMeaning *meaning) {
        uint32_t comparison = nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_OP), size = 0;
        const void *data = nftnl_expr_get(expr, NFTNL_EXPR_CMP_DATA, &size);
        const void *known = by_name ? (const void *) uplink->name : &uplink->index;
        bool equal;

        if (!data || size > (by_name ? sizeof(uplink->name) : sizeof(uplink->index)) ||
            (comparison != NFT_CMP_EQ && comparison != NFT_CMP_NEQ))
                return false;
        equal = memcmp(known, data, size) == 0;
        meaning->excluded |= equal != (comparison == NFT_CMP_EQ);
        return true;
}

/* A comparison of the interface with something, of which the outcome is known: this expression and
 * the next one, if there is one. */
static bool read_interface(struct nftnl_expr *expr, struct nftnl_expr *next, const Uplink *uplink,
                           RuleMeaning *meaning) {
        uint32_t key;

        if (!uplink || strcmp(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME), "meta") != 0 ||
            nftnl_expr_is_set(expr, NFTNL_EXPR_META_SREG))
                return false;
        key = nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY);
        if (key != NFT_META_IIFNAME && key != NFT_META_IIF)
                return false;
        if (next && strcmp(nftnl_expr_get_str(next, NFTNL_EXPR_NAME), "cmp") == 0 &&
            compare_interface(next, uplink, key == NFT_META_IIFNAME, meaning))
                return true;
        meaning->conditional = true;
        if (next)
                read_expression(next, meaning);
        return true;
}

int rule_read_meaning(const struct nftnl_rule *rule, const Uplink *uplink, RuleMeaning *ret) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr, *next;

        *ret = (RuleMeaning){};
        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return -ENOMEM;
        /* The end is told once: who asks again begins anew. */
        for (expr = nftnl_expr_iter_next(iterator); expr; expr = next) {
                next = nftnl_expr_iter_next(iterator);
                if (!read_interface(expr, next, uplink, ret))
                        read_expression(expr, ret);
                else if (next)
                        next = nftnl_expr_iter_next(iterator);
        }
        return 0;
}
