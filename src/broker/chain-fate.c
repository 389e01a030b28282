/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A chain's fate is followed along its rules without conditions: accept, drop, reject, jump and
 * goto. Rules with conditions say something about some packets only, so they decide nothing; where
 * one of them leads to a chain that denies, that is a doubt, and the admin may settle it.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <postern/chain-fate.h>
#include <stddef.h>
#include <string.h>

enum { JUMP_DEPTH_MAX = 16 };

DEFINE_CLEANUP(struct nftnl_expr_iter, nftnl_expr_iter_destroy);

/* What a rule does to every packet that reaches it. */
typedef enum Judgement {
        JUDGEMENT_NOTHING, /* it counts or logs, or it has conditions */
        JUDGEMENT_DENY,
        JUDGEMENT_ADMIT, /* or hands it to a program, whose verdict nobody can read */
        JUDGEMENT_RETURN,
        JUDGEMENT_JUMP,
        JUDGEMENT_GOTO,
} Judgement;

typedef struct RuleMeaning {
        Judgement judgement;
        bool conditional; /* about who sends it, or where to */
        bool partial;     /* about its kind or its number alone */
        bool untracks;
        const char *target; /* of a jump or goto */
} RuleMeaning;

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
        else if (strcmp(name, "target") == 0) {
                const char *target = nftnl_expr_get_str(expr, NFTNL_EXPR_TG_NAME);

                if (target && strcmp(target, "REJECT") == 0)
                        meaning->judgement = JUDGEMENT_DENY;
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
                if (nftnl_expr_is_set(expr, NFTNL_EXPR_LOOKUP_DREG))
                        meaning->conditional = true; /* a map */
        } else if (strcmp(name, "ct") == 0) {
                if (!nftnl_expr_is_set(expr, NFTNL_EXPR_CT_SREG))
                        meaning->conditional = true;
        } else if (strcmp(name, "counter") != 0 && strcmp(name, "log") != 0 &&
                   strcmp(name, "last") != 0 && strcmp(name, "cmp") != 0 &&
                   strcmp(name, "bitwise") != 0 && strcmp(name, "range") != 0)
                meaning->conditional = true;
}

static int read_rule(const struct nftnl_rule *rule, RuleMeaning *ret) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr;

        *ret = (RuleMeaning){};
        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return -ENOMEM;
        while ((expr = nftnl_expr_iter_next(iterator)))
                read_expression(expr, ret);
        return 0;
}

static int follow_chain(ChainReader *reader, const char *chain, unsigned depth, Fate *ret);

/* A rule with conditions that leads to a denial is no denial, but worth a word. */
static int note_doubt(ChainReader *reader, const RuleMeaning *meaning, unsigned depth) {
        ChainReader aside = *reader;
        Fate fate;
        int r;

        if (!reader->doubts || reader->n_doubts == CHAIN_DOUBTS_MAX || !meaning->target)
                return 0;
        aside.doubts = NULL;
        r = follow_chain(&aside, meaning->target, depth + 1, &fate);
        if (r < 0)
                return r;
        if (fate == FATE_DENIED)
                reader->doubts[reader->n_doubts++] = (ChainPlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = meaning->target,
                };
        return 0;
}

/* partial: in and out, see follow_rules(). */
static int follow_rule(ChainReader *reader, const char *chain, const struct nftnl_rule *rule,
                       unsigned depth, uint64_t *partial, Fate *ret_fate, bool *ret_over) {
        RuleMeaning meaning;
        int r;

        *ret_over = false;
        r = read_rule(rule, &meaning);
        if (r < 0)
                return r;
        if (meaning.conditional || meaning.partial) {
                if (meaning.conditional || meaning.judgement == JUDGEMENT_ADMIT)
                        *partial = 0;
                else if (meaning.judgement == JUDGEMENT_DENY && *partial == 0)
                        *partial = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);
                return note_doubt(reader, &meaning, depth);
        }
        reader->untracks |= meaning.untracks;

        switch (meaning.judgement) {
        case JUDGEMENT_NOTHING:
                return 0;
        case JUDGEMENT_DENY:
                reader->denial = (ChainPlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = chain,
                        .before = *partial ? *partial : nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE),
                };
                *ret_fate = FATE_DENIED;
                break;
        case JUDGEMENT_ADMIT:
                *ret_fate = FATE_ADMITTED;
                break;
        case JUDGEMENT_RETURN:
                *ret_fate = FATE_FALLS_THROUGH;
                break;
        case JUDGEMENT_JUMP:
        case JUDGEMENT_GOTO:
                r = follow_chain(reader, meaning.target, depth + 1, ret_fate);
                if (r < 0)
                        return r;
                /* After a jump that falls through, the next rule; after a goto, none. */
                if (*ret_fate == FATE_FALLS_THROUGH && meaning.judgement == JUDGEMENT_JUMP) {
                        *partial = 0; /* that chain may have let something through */
                        return 0;
                }
                break;
        }
        *ret_over = true;
        return 0;
}

/*
 * A rule that denies some kinds of packets, or so many of them, right before the end of a chain
 * that denies the rest (`meta l4proto tcp reject with tcp reset`, `limit rate 5/second reject`) is
 * a part of that denial: what should pass has to pass before it. *ret_partial: the first of them,
 * or 0.
 */
static int follow_rules(ChainReader *reader, const char *chain, unsigned depth, Fate *ret,
                        uint64_t *ret_partial) {
        const struct nftnl_rule *rule;
        size_t cursor = 0;
        bool over;
        int r;

        *ret = FATE_FALLS_THROUGH;
        *ret_partial = 0;
        if (depth > JUMP_DEPTH_MAX)
                return 0;
        while ((rule = ruleset_next_rule(reader->ruleset, reader->family, reader->table, chain,
                                         &cursor))) {
                r = follow_rule(reader, chain, rule, depth, ret_partial, ret, &over);
                if (r < 0 || over)
                        return r;
        }
        *ret = FATE_FALLS_THROUGH;
        return 0;
}

static int follow_chain(ChainReader *reader, const char *chain, unsigned depth, Fate *ret) {
        uint64_t partial;

        return follow_rules(reader, chain, depth, ret, &partial);
}

int chain_follow(ChainReader *reader, const char *chain, Fate *ret) {
        return follow_chain(reader, chain, 0, ret);
}

int chain_follow_base(ChainReader *reader, const struct nftnl_chain *chain, Fate *ret) {
        const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
        uint64_t partial;
        int r;

        reader->family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader->table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        r = follow_rules(reader, name, 0, ret, &partial);
        if (r < 0)
                return r;
        if (*ret == FATE_FALLS_THROUGH &&
            nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP) {
                reader->denial = (ChainPlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = name,
                        .before = partial,
                };
                *ret = FATE_DENIED;
        }
        return 0;
}

ChainHook chain_hook(const struct nftnl_chain *chain) {
        uint32_t hook;

        if (!nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM))
                return HOOK_OTHER;
        hook = nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM);
        switch (nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY)) {
        case NFPROTO_NETDEV:
                return hook == NF_NETDEV_INGRESS ? HOOK_EARLIER : HOOK_OTHER;
        case NFPROTO_INET:
                if (hook == NF_INET_INGRESS)
                        return HOOK_EARLIER;
                __attribute__((fallthrough));
        case NFPROTO_IPV4:
        case NFPROTO_IPV6:
                return hook == NF_INET_LOCAL_IN      ? HOOK_INPUT
                       : hook == NF_INET_PRE_ROUTING ? HOOK_EARLIER
                                                     : HOOK_OTHER;
        default:
                return HOOK_OTHER;
        }
}
