/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Rules as the kernel knows them: a load into a register, an operation on it, a comparison.
 *
 * The expressions are those that nft 1.0.6 writes for the same line, so that `nft list ruleset`
 * shows an admin what is there in words, and a saved ruleset loads again.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <libnftnl/udata.h>
#include <linux/if_arp.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/cleanup.h>
#include <postern/rule.h>
#include <postern/xt-match.h>
#include <stddef.h>
#include <string.h>

enum { TCP_FLAGS_OFFSET = 13, DESTINATION_PORT_OFFSET = 2 };

DEFINE_CLEANUP(struct nftnl_expr_iter, nftnl_expr_iter_destroy);
DEFINE_CLEANUP(struct nftnl_udata_buf, nftnl_udata_buf_free);

RuleWriter rule_begin(uint32_t family, const char *table, const char *chain) {
        RuleWriter writer = {.rule = nftnl_rule_alloc()};

        if (!writer.rule)
                return writer;
        nftnl_rule_set_u32(writer.rule, NFTNL_RULE_FAMILY, family);
        if (nftnl_rule_set_str(writer.rule, NFTNL_RULE_TABLE, table) < 0 ||
            nftnl_rule_set_str(writer.rule, NFTNL_RULE_CHAIN, chain) < 0) {
                nftnl_rule_free(writer.rule);
                writer.rule = NULL;
        }
        return writer;
}

int rule_finish(RuleWriter *writer, struct nftnl_rule **ret) {
        if (!writer->rule)
                return -ENOMEM;
        *ret = TAKE_POINTER(writer->rule);
        return 0;
}

static void rule_fail(RuleWriter *writer) {
        if (writer->rule)
                nftnl_rule_free(writer->rule);
        writer->rule = NULL;
}

/* A new expression at the end of the rule, or NULL after a failure. The rule owns it. */
static struct nftnl_expr *rule_append(RuleWriter *writer, const char *name) {
        struct nftnl_expr *expr;

        if (!writer->rule)
                return NULL;
        expr = nftnl_expr_alloc(name);
        if (!expr) {
                rule_fail(writer);
                return NULL;
        }
        nftnl_rule_add_expr(writer->rule, expr);
        return expr;
}

static void set_data(RuleWriter *writer, struct nftnl_expr *expr, uint16_t type, const void *data,
                     uint32_t size) {
        if (expr && nftnl_expr_set(expr, type, data, size) < 0)
                rule_fail(writer);
}

static void load(RuleWriter *writer, const char *name, uint16_t key_type, uint32_t key,
                 uint16_t register_type, uint32_t destination) {
        struct nftnl_expr *expr = rule_append(writer, name);

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, key_type, key);
        nftnl_expr_set_u32(expr, register_type, destination);
}

static void load_ct(RuleWriter *writer, uint32_t key) {
        load(writer, "ct", NFTNL_EXPR_CT_KEY, key, NFTNL_EXPR_CT_DREG, NFT_REG_1);
}

static void load_meta(RuleWriter *writer, uint32_t key) {
        load(writer, "meta", NFTNL_EXPR_META_KEY, key, NFTNL_EXPR_META_DREG, NFT_REG_1);
}

static void load_transport(RuleWriter *writer, uint32_t offset, uint32_t size,
                           uint32_t destination) {
        struct nftnl_expr *expr = rule_append(writer, "payload");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_DREG, destination);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_LEN, size);
}

static void mask_register(RuleWriter *writer, const void *mask, uint32_t size) {
        static const uint8_t zero[LABEL_SIZE];
        struct nftnl_expr *expr = rule_append(writer, "bitwise");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_LEN, size);
        set_data(writer, expr, NFTNL_EXPR_BITWISE_MASK, mask, size);
        set_data(writer, writer->rule ? expr : NULL, NFTNL_EXPR_BITWISE_XOR, zero, size);
}

static void compare(RuleWriter *writer, bool equal, const void *data, uint32_t size) {
        struct nftnl_expr *expr = rule_append(writer, "cmp");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
        set_data(writer, expr, NFTNL_EXPR_CMP_DATA, data, size);
}

static void immediate(RuleWriter *writer, const void *data, uint32_t size) {
        struct nftnl_expr *expr = rule_append(writer, "immediate");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
        set_data(writer, expr, NFTNL_EXPR_IMM_DATA, data, size);
}

void rule_match_label(RuleWriter *writer, const Label *label, bool has) {
        static const uint8_t zero[LABEL_SIZE];

        load_ct(writer, NFT_CT_LABELS);
        mask_register(writer, label->bytes, LABEL_SIZE);
        compare(writer, !has, zero, LABEL_SIZE);
}

void rule_match_new(RuleWriter *writer) {
        uint32_t new = NF_CT_STATE_BIT(IP_CT_NEW), zero = 0;

        load_ct(writer, NFT_CT_STATE);
        mask_register(writer, &new, sizeof(new));
        compare(writer, false, &zero, sizeof(zero));
}

void rule_match_not_established(RuleWriter *writer) {
        uint32_t established = NF_CT_STATE_BIT(IP_CT_ESTABLISHED), zero = 0;

        load_ct(writer, NFT_CT_STATE);
        mask_register(writer, &established, sizeof(established));
        compare(writer, true, &zero, sizeof(zero));
}

void rule_match_not_loopback(RuleWriter *writer) {
        uint16_t loopback = ARPHRD_LOOPBACK;

        load_meta(writer, NFT_META_IIFTYPE);
        compare(writer, false, &loopback, sizeof(loopback));
}

void rule_match_port(RuleWriter *writer, uint16_t number) {
        uint16_t port = htons(number);

        load_transport(writer, DESTINATION_PORT_OFFSET, sizeof(port), NFT_REG_1);
        compare(writer, true, &port, sizeof(port));
}

void rule_match_original(RuleWriter *writer) {
        uint8_t original = IP_CT_DIR_ORIGINAL;

        load_ct(writer, NFT_CT_DIRECTION);
        compare(writer, true, &original, sizeof(original));
}

void rule_match_interface(RuleWriter *writer, const char *name, bool as_xtables) {
        char padded[IFNAMSIZ] = "";

        (void) snprintf(padded, sizeof(padded), "%s", name);
        load_meta(writer, NFT_META_IIFNAME);
        compare(writer, true, padded, as_xtables ? strlen(padded) + 1 : sizeof(padded));
}

void rule_match_protocol(RuleWriter *writer, uint8_t protocol) {
        load_meta(writer, NFT_META_L4PROTO);
        compare(writer, true, &protocol, sizeof(protocol));
}

void rule_match_tcp_flags(RuleWriter *writer, uint8_t mask, uint8_t value, bool equal) {
        load_transport(writer, TCP_FLAGS_OFFSET, 1, NFT_REG_1);
        mask_register(writer, &mask, sizeof(mask));
        compare(writer, equal, &value, sizeof(value));
}

void rule_match_syn(RuleWriter *writer, bool is) {
        rule_match_tcp_flags(writer, TH_FIN | TH_SYN | TH_RST | TH_ACK, TH_SYN, is);
}

void rule_match_stamp(RuleWriter *writer, uint32_t stamp, bool equal) {
        load_meta(writer, NFT_META_PRIORITY);
        compare(writer, equal, &stamp, sizeof(stamp));
}

void rule_match_port_set(RuleWriter *writer, const char *set) {
        struct nftnl_expr *expr;

        /* A concatenation: one after the other in the 32-bit registers that make up register 1. */
        load_meta(writer, NFT_META_L4PROTO);
        load_transport(writer, DESTINATION_PORT_OFFSET, 2, NFT_REG32_01);
        expr = rule_append(writer, "lookup");
        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_FLAGS, 0); /* as the kernel shows it */
        if (nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set) < 0)
                rule_fail(writer);
}

void rule_match_cgroup(RuleWriter *writer, uint32_t level, uint64_t id, bool equal) {
        struct nftnl_expr *expr = rule_append(writer, "socket");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_CGROUPV2);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_LEVEL, level);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_DREG, NFT_REG_1);
        compare(writer, equal, &id, sizeof(id));
}

void rule_limit(RuleWriter *writer, uint64_t per_second, uint32_t burst) {
        struct nftnl_expr *expr = rule_append(writer, "limit");

        if (!expr)
                return;
        nftnl_expr_set_u64(expr, NFTNL_EXPR_LIMIT_RATE, per_second);
        nftnl_expr_set_u64(expr, NFTNL_EXPR_LIMIT_UNIT, 1);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_LIMIT_BURST, burst);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_LIMIT_FLAGS, 0);
}

void rule_set_label(RuleWriter *writer, const Label *label) {
        struct nftnl_expr *expr;

        immediate(writer, label->bytes, LABEL_SIZE);
        expr = rule_append(writer, "ct");
        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, NFT_CT_LABELS);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_SREG, NFT_REG_1);
}

void rule_set_stamp(RuleWriter *writer, uint32_t stamp) {
        struct nftnl_expr *expr;

        immediate(writer, &stamp, sizeof(stamp));
        expr = rule_append(writer, "meta");
        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, NFT_META_PRIORITY);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

void rule_count(RuleWriter *writer) {
        struct nftnl_expr *expr = rule_append(writer, "counter");

        if (!expr)
                return;
        nftnl_expr_set_u64(expr, NFTNL_EXPR_CTR_PACKETS, 0);
        nftnl_expr_set_u64(expr, NFTNL_EXPR_CTR_BYTES, 0);
}

void rule_reset_tcp(RuleWriter *writer) {
        struct nftnl_expr *expr = rule_append(writer, "reject");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
        nftnl_expr_set_u8(expr, NFTNL_EXPR_REJECT_CODE, 0);
}

void rule_verdict(RuleWriter *writer, int verdict, const char *chain) {
        struct nftnl_expr *expr = rule_append(writer, "immediate");

        if (!expr)
                return;
        nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
        nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_VERDICT, verdict);
        if (chain && nftnl_expr_set_str(expr, NFTNL_EXPR_IMM_CHAIN, chain) < 0)
                rule_fail(writer);
}

void rule_comment(RuleWriter *writer, const char *comment) {
        _cleanup_(nftnl_udata_buf_free_cleanup) struct nftnl_udata_buf *userdata = NULL;

        if (!writer->rule)
                return;
        userdata = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
        if (!userdata || !nftnl_udata_put_strz(userdata, NFTNL_UDATA_RULE_COMMENT, comment) ||
            nftnl_rule_set_data(writer->rule, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(userdata),
                                nftnl_udata_buf_len(userdata)) < 0)
                rule_fail(writer);
}

bool rule_equals(const struct nftnl_rule *a, const struct nftnl_rule *b) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *in_a = NULL;
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *in_b = NULL;
        struct nftnl_expr *x, *y;
        char text_x[512], text_y[512];
        const char *name;

        in_a = nftnl_expr_iter_create(a);
        in_b = nftnl_expr_iter_create(b);
        if (!in_a || !in_b)
                return false; /* not known to be equal */
        for (;;) {
                x = nftnl_expr_iter_next(in_a);
                y = nftnl_expr_iter_next(in_b);
                if (!x || !y)
                        return !x && !y;
                name = nftnl_expr_get_str(x, NFTNL_EXPR_NAME);
                if (strcmp(name, nftnl_expr_get_str(y, NFTNL_EXPR_NAME)) != 0)
                        return false;
                if (strcmp(name, "counter") == 0)
                        continue;
                /* of a match, libnftnl's text has but the name */
                if (strcmp(name, "match") == 0 && !xt_match_equals(x, y))
                        return false;
                if (nftnl_expr_snprintf(text_x, sizeof(text_x), x, NFTNL_OUTPUT_DEFAULT, 0) < 0 ||
                    nftnl_expr_snprintf(text_y, sizeof(text_y), y, NFTNL_OUTPUT_DEFAULT, 0) < 0 ||
                    strcmp(text_x, text_y) != 0)
                        return false;
        }
}

/* Type, length, value, as nft writes them. By hand: the kernel keeps whatever somebody has put
 * there, and nftnl_udata_parse() believes a length that is not. */
static bool has_comment_of_nft(const struct nftnl_rule *rule, const char *comment) {
        const uint8_t *userdata, *found = NULL;
        uint32_t left = 0;

        userdata = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &left);
        while (userdata && left >= 2 && left - 2 >= userdata[1]) {
                if (userdata[0] == NFTNL_UDATA_RULE_COMMENT)
                        found = userdata;
                left -= 2 + userdata[1];
                userdata += 2 + userdata[1];
        }
        return found && found[1] == strlen(comment) + 1 &&
               memcmp(found + 2, comment, found[1]) == 0;
}

static bool expr_is(const struct nftnl_expr *expr, const char *name) {
        return strcmp(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME), name) == 0;
}

/* What iptables-restore writes. */
static bool has_comment_of_xtables(const struct nftnl_rule *rule, const char *comment) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr;
        bool found = false;

        iterator = nftnl_expr_iter_create(rule);
        while (iterator && !found && (expr = nftnl_expr_iter_next(iterator)))
                found = xt_match_has_comment(expr, comment);
        return found;
}

bool rule_has_comment(const struct nftnl_rule *rule, const char *comment) {
        return has_comment_of_nft(rule, comment) || has_comment_of_xtables(rule, comment);
}

static void collect(const struct nftnl_expr *expr, uint16_t type, Label *labels) {
        uint32_t size = 0;
        const void *data;
        Label value;

        if (!nftnl_expr_is_set(expr, type))
                return;
        data = nftnl_expr_get(expr, type, &size);
        if (!data || size != LABEL_SIZE)
                return;
        memcpy(value.bytes, data, LABEL_SIZE);
        label_add(labels, &value);
}

Label rule_labels(const struct nftnl_rule *rule) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr;
        Label labels = {};
        bool about_labels = false;

        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return labels;
        while ((expr = nftnl_expr_iter_next(iterator))) {
                if (expr_is(expr, "ct"))
                        about_labels |=
                                nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_KEY) == NFT_CT_LABELS;
                else if (expr_is(expr, "bitwise"))
                        collect(expr, NFTNL_EXPR_BITWISE_MASK, &labels);
                else if (expr_is(expr, "immediate"))
                        collect(expr, NFTNL_EXPR_IMM_DATA, &labels);
                else if (expr_is(expr, "cmp"))
                        collect(expr, NFTNL_EXPR_CMP_DATA, &labels);
                else {
                        Label one = xt_match_read_connlabel(expr, NULL);

                        about_labels |= !label_is_empty(&one);
                        label_add(&labels, &one);
                }
        }
        /* A 16-byte comparison without a label is an IPv6 address. */
        return about_labels ? labels : (Label){};
}

Label rule_labels_set(const struct nftnl_rule *rule) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr;
        Label labels = {};

        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return labels;
        while ((expr = nftnl_expr_iter_next(iterator))) {
                bool sets = false;
                Label one = xt_match_read_connlabel(expr, &sets);

                if (sets)
                        label_add(&labels, &one);
                else if (expr_is(expr, "immediate"))
                        collect(expr, NFTNL_EXPR_IMM_DATA, &labels);
        }
        return labels;
}

uint64_t rule_packets(const struct nftnl_rule *rule) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        struct nftnl_expr *expr;

        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return 0;
        while ((expr = nftnl_expr_iter_next(iterator)))
                if (expr_is(expr, "counter"))
                        return nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
        return 0;
}
