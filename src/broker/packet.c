/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A rule is a small program over registers. It is run as the kernel would, with a mark on each byte
 * that is a guess; a comparison is sure where all that it looks at is.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_CT.h>
#include <linux/rtnetlink.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <postern/cleanup.h>
#include <postern/packet.h>
#include <postern/xt-match.h>
#include <stddef.h>
#include <string.h>

enum {
        REGISTERS_SIZE = 64,
        META_GUESS_SIZE = 16, /* as much as any of these has */
        LOOPBACK_INDEX = 1,
};

typedef enum Knowledge {
        GUESSED,
        GUESSED_INTERFACE, /* certainly not loopback */
        KNOWN,
} Knowledge;

typedef struct Run {
        Packet *packet;
        const struct nftnl_rule *rule;
        Encounter *encounter;
        uint8_t value[REGISTERS_SIZE];
        uint8_t knowledge[REGISTERS_SIZE];
} Run;

DEFINE_CLEANUP(struct nftnl_expr_iter, nftnl_expr_iter_destroy);

/* A stranger's: of no range that is private, reserved or in the lists of what never comes. */
static const uint8_t stranger4[4] = {66, 133, 109, 36};
static const uint8_t stranger6[16] = {0x26, 0x00, 0x30, 0x00, [15] = 0x36};

/* Two ways of counting the same 64 bytes. */
static size_t register_offset(uint32_t number) {
        if (number >= NFT_REG32_00 && number <= NFT_REG32_15)
                return (number - NFT_REG32_00) * 4;
        if (number >= NFT_REG_1 && number <= NFT_REG_4)
                return (number - NFT_REG_1) * 16;
        return REGISTERS_SIZE;
}

static void load(Run *run, uint32_t number, const void *data, size_t size, Knowledge knowledge) {
        size_t offset = register_offset(number), whole = (size + 3) / 4 * 4;

        if (offset >= REGISTERS_SIZE)
                return;
        if (whole > REGISTERS_SIZE - offset) /* a guess, of more than there can be */
                whole = size = REGISTERS_SIZE - offset;
        memset(run->value + offset, 0, whole);
        memcpy(run->value + offset, data, size);
        memset(run->knowledge + offset, knowledge, whole);
}

static void load_guess(Run *run, uint32_t number, size_t size) {
        static const uint8_t zeros[REGISTERS_SIZE];

        load(run, number, zeros, size, GUESSED);
}

static void load_u32(Run *run, uint32_t number, uint32_t value, Knowledge knowledge) {
        load(run, number, &value, sizeof(value), knowledge);
}

static void load_u8(Run *run, uint32_t number, uint8_t value) {
        load(run, number, &value, sizeof(value), KNOWN);
}

/* A condition; what does not match surely is over. */
static void condition(Run *run, bool matches, bool sure) {
        Encounter *encounter = run->encounter;

        if (encounter->sure && !encounter->matches)
                return; /* over already */
        if (sure && !matches) {
                encounter->matches = false;
                encounter->sure = true;
                return;
        }
        encounter->matches &= matches;
        encounter->sure &= sure;
}

static bool is_over(const Run *run) {
        return run->encounter->sure && !run->encounter->matches;
}

static void run_meta(Run *run, const struct nftnl_expr *expr) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_META_DREG);
        const Packet *packet = run->packet;
        bool v4 = packet->family == NFPROTO_IPV4;
        uint16_t ethertype = htons(v4 ? ETH_P_IP : ETH_P_IPV6);

        if (nftnl_expr_is_set(expr, NFTNL_EXPR_META_SREG))
                return;
        switch (nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY)) {
        case NFT_META_L4PROTO:
                load_u8(run, to, (uint8_t) packet->port.protocol);
                return;
        case NFT_META_NFPROTO:
                load_u8(run, to, (uint8_t) packet->family);
                return;
        case NFT_META_PROTOCOL:
                load(run, to, &ethertype, sizeof(ethertype), KNOWN);
                return;
        case NFT_META_PKTTYPE:
                load_u8(run, to, PACKET_HOST);
                return;
        case NFT_META_IIF:
                load_u32(run, to, packet->uplink.index, GUESSED_INTERFACE);
                return;
        case NFT_META_IIFNAME:
                load(run, to, packet->uplink.name, sizeof(packet->uplink.name), GUESSED_INTERFACE);
                return;
        default:
                load_guess(run, to, META_GUESS_SIZE);
                return;
        }
}

static void run_network_header(Run *run, uint32_t to, uint32_t offset, uint32_t size) {
        bool v4 = run->packet->family == NFPROTO_IPV4;
        const uint8_t *source = v4 ? stranger4 : stranger6;
        uint32_t from = v4 ? offsetof(struct iphdr, saddr) : offsetof(struct ip6_hdr, ip6_src);
        uint32_t length = v4 ? sizeof(stranger4) : sizeof(stranger6);

        if (size == 1 &&
            offset == (v4 ? offsetof(struct iphdr, protocol) : offsetof(struct ip6_hdr, ip6_nxt)))
                load_u8(run, to, (uint8_t) run->packet->port.protocol);
        else if (size <= length && offset >= from && offset - from <= length - size)
                load(run, to, source + (offset - from), size, GUESSED);
        else
                load_guess(run, to, size);
}

static void run_transport_header(Run *run, uint32_t to, uint32_t offset, uint32_t size) {
        bool tcp = run->packet->port.protocol == PROTOCOL_TCP;
        uint16_t ports[2] = {htons(40404), htons(run->packet->port.number)};

        if (offset == 2 && size == 2)
                load(run, to, &ports[1], sizeof(ports[1]), KNOWN);
        else if (offset == 0 && (size == 2 || size == 4))
                load(run, to, ports, size, GUESSED);
        else if (tcp && offset == 13 && size == 1)
                load_u8(run, to, TH_SYN);
        else
                load_guess(run, to, size);
}

static void run_payload(Run *run, const struct nftnl_expr *expr) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_DREG);
        uint32_t offset = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET);
        uint32_t size = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_LEN);

        if (nftnl_expr_is_set(expr, NFTNL_EXPR_PAYLOAD_SREG))
                return;
        switch (nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_BASE)) {
        case NFT_PAYLOAD_NETWORK_HEADER:
                run_network_header(run, to, offset, size);
                return;
        case NFT_PAYLOAD_TRANSPORT_HEADER:
                run_transport_header(run, to, offset, size);
                return;
        default:
                load_guess(run, to, size);
                return;
        }
}

static void run_ct(Run *run, const struct nftnl_expr *expr) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_DREG);

        if (nftnl_expr_is_set(expr, NFTNL_EXPR_CT_SREG))
                return;
        switch (nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_KEY)) {
        case NFT_CT_STATE:
                load_u32(run, to,
                         run->packet->untracked ? NF_CT_STATE_UNTRACKED_BIT
                                                : NF_CT_STATE_BIT(IP_CT_NEW),
                         KNOWN);
                return;
        case NFT_CT_DIRECTION:
                load_u8(run, to, 0); /* original */
                return;
        default: /* status and marks of a new one are none, unless a rule gives it some */
                load_guess(run, to, META_GUESS_SIZE);
                return;
        }
}

static void run_fib(Run *run, const struct nftnl_expr *expr) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_FIB_DREG);
        uint32_t flags = nftnl_expr_get_u32(expr, NFTNL_EXPR_FIB_FLAGS);

        if (nftnl_expr_get_u32(expr, NFTNL_EXPR_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE)
                load_u32(run, to, flags & NFTA_FIB_F_DADDR ? RTN_LOCAL : RTN_UNICAST,
                         flags == NFTA_FIB_F_DADDR ? KNOWN : GUESSED);
        else /* there is a way back */
                load_u32(run, to, run->packet->uplink.index ? run->packet->uplink.index : ~0U,
                         GUESSED_INTERFACE);
}

static void run_immediate(Run *run, const struct nftnl_expr *expr) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_DREG), size = 0;
        Encounter *encounter = run->encounter;
        const void *data;

        if (to != NFT_REG_VERDICT) {
                data = nftnl_expr_get(expr, NFTNL_EXPR_IMM_DATA, &size);
                if (data)
                        load(run, to, data, size, KNOWN);
                return;
        }
        switch ((int) nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_VERDICT)) {
        case NF_ACCEPT:
                encounter->act = ACT_ACCEPT;
                return;
        case NF_DROP:
                encounter->act = ACT_DROP;
                return;
        case NFT_RETURN:
                encounter->act = ACT_RETURN;
                return;
        case NFT_JUMP:
                encounter->act = ACT_JUMP;
                break;
        case NFT_GOTO:
                encounter->act = ACT_GOTO;
                break;
        default: /* continue */
                return;
        }
        encounter->target = nftnl_expr_get_str(expr, NFTNL_EXPR_IMM_CHAIN);
}

static void run_bitwise(Run *run, const struct nftnl_expr *expr) {
        size_t from = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_BITWISE_SREG));
        size_t to = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_BITWISE_DREG));
        size_t size = nftnl_expr_get_u32(expr, NFTNL_EXPR_BITWISE_LEN);
        uint32_t mask_size = 0, xor_size = 0;
        const uint8_t *mask = nftnl_expr_get(expr, NFTNL_EXPR_BITWISE_MASK, &mask_size);
        const uint8_t * xor = nftnl_expr_get(expr, NFTNL_EXPR_BITWISE_XOR, &xor_size);

        if (size > REGISTERS_SIZE || from + size > REGISTERS_SIZE || to + size > REGISTERS_SIZE)
                return;
        if (nftnl_expr_get_u32(expr, NFTNL_EXPR_BITWISE_OP) != NFT_BITWISE_BOOL || !mask || !xor ||
            mask_size < size || xor_size < size) {
                memset(run->knowledge + to, GUESSED, size);
                return;
        }
        for (size_t i = 0; i < size; i++) {
                run->value[to + i] = (run->value[from + i] & mask[i]) ^ xor[i];
                run->knowledge[to + i] = mask[i] ? run->knowledge[from + i] : KNOWN;
        }
}

static void run_byteorder(Run *run, const struct nftnl_expr *expr) {
        size_t from = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_BYTEORDER_SREG));
        size_t to = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_BYTEORDER_DREG));
        size_t length = nftnl_expr_get_u32(expr, NFTNL_EXPR_BYTEORDER_LEN);
        size_t size = nftnl_expr_get_u32(expr, NFTNL_EXPR_BYTEORDER_SIZE);
        uint8_t value[REGISTERS_SIZE], knowledge[REGISTERS_SIZE];

        if (length > REGISTERS_SIZE || from + length > REGISTERS_SIZE ||
            to + length > REGISTERS_SIZE || size == 0 || length % size)
                return;
        for (size_t i = 0; i < length; i++) {
                size_t other = from + i / size * size + (size - 1 - i % size);

                value[i] = run->value[other];
                knowledge[i] = run->knowledge[other];
        }
        memcpy(run->value + to, value, length);
        memcpy(run->knowledge + to, knowledge, length);
}

/* The weakest of all that is looked at. */
static Knowledge weakest(const Run *run, size_t offset, size_t size) {
        Knowledge knowledge = KNOWN;

        for (size_t i = 0; i < size; i++)
                if (run->knowledge[offset + i] < knowledge)
                        knowledge = run->knowledge[offset + i];
        return knowledge;
}

static bool is_loopback(const void *data, size_t size) {
        uint32_t index;

        if (size == sizeof(index)) {
                memcpy(&index, data, sizeof(index));
                if (index == LOOPBACK_INDEX)
                        return true;
        }
        return size >= sizeof("lo") && memcmp(data, "lo", sizeof("lo")) == 0;
}

static void run_cmp(Run *run, const struct nftnl_expr *expr) {
        size_t offset = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_SREG));
        uint32_t size = 0, op = nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_OP);
        const void *data = nftnl_expr_get(expr, NFTNL_EXPR_CMP_DATA, &size);
        Knowledge knowledge;
        int order;

        if (!data || offset + size > REGISTERS_SIZE) {
                condition(run, false, false);
                return;
        }
        knowledge = weakest(run, offset, size);
        if (knowledge == GUESSED_INTERFACE && (op == NFT_CMP_EQ || op == NFT_CMP_NEQ) &&
            is_loopback(data, size)) {
                condition(run, op == NFT_CMP_NEQ, true);
                return;
        }
        order = memcmp(run->value + offset, data, size);
        condition(run,
                  op == NFT_CMP_EQ    ? order == 0
                  : op == NFT_CMP_NEQ ? order != 0
                  : op == NFT_CMP_LT  ? order < 0
                  : op == NFT_CMP_LTE ? order <= 0
                  : op == NFT_CMP_GT  ? order > 0
                                      : order >= 0,
                  knowledge == KNOWN);
}

static void run_range(Run *run, const struct nftnl_expr *expr) {
        size_t offset = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_RANGE_SREG));
        uint32_t from_size = 0, to_size = 0;
        const void *from = nftnl_expr_get(expr, NFTNL_EXPR_RANGE_FROM_DATA, &from_size);
        const void *to = nftnl_expr_get(expr, NFTNL_EXPR_RANGE_TO_DATA, &to_size);
        bool within;

        if (!from || !to || from_size != to_size || offset + from_size > REGISTERS_SIZE) {
                condition(run, false, false);
                return;
        }
        within = memcmp(run->value + offset, from, from_size) >= 0 &&
                 memcmp(run->value + offset, to, to_size) <= 0;
        condition(run,
                  nftnl_expr_get_u32(expr, NFTNL_EXPR_RANGE_OP) == NFT_RANGE_EQ ? within : !within,
                  weakest(run, offset, from_size) == KNOWN);
}

static void take_answer(Run *run, const struct nftnl_expr *expr, const SetAnswer *answer) {
        uint32_t to = nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_DREG);
        Encounter *encounter = run->encounter;

        if (to != NFT_REG_VERDICT) {
                load(run, to, answer->data, answer->size, KNOWN);
                return;
        }
        encounter->act = answer->act;
        memcpy(encounter->target_buffer, answer->target, sizeof(answer->target));
        encounter->target = encounter->target_buffer;
}

static void run_lookup(Run *run, const struct nftnl_expr *expr) {
        size_t offset = register_offset(nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_SREG));
        bool is_map = nftnl_expr_is_set(expr, NFTNL_EXPR_LOOKUP_DREG);
        bool inverted = nftnl_expr_is_set(expr, NFTNL_EXPR_LOOKUP_FLAGS) &&
                        nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV;
        const char *set = nftnl_expr_get_str(expr, NFTNL_EXPR_LOOKUP_SET);
        uint8_t key[PACKET_KEY_MAX] = {};
        SetAnswer answer = {};
        size_t n = 0;
        int r = -ENODATA;

        /* asked for what is known, and for the guessed interface, which maps are often about */
        while (offset + n < REGISTERS_SIZE && run->knowledge[offset + n] != GUESSED)
                n++;
        memcpy(key, run->value + offset, n);
        if (set && n > 0)
                r = packet_ask_set(run->packet, nftnl_rule_get_u32(run->rule, NFTNL_RULE_FAMILY),
                                   nftnl_rule_get_str(run->rule, NFTNL_RULE_TABLE), set, key, n,
                                   &answer);
        if (r > 0 && is_map)
                take_answer(run, expr, &answer);
        else if (is_map && run->encounter->act == ACT_NOTHING &&
                 nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_DREG) == NFT_REG_VERDICT)
                run->encounter->act = ACT_ANY; /* for those whom it is about */
        condition(run, (r > 0) != inverted,
                  r >= 0 && weakest(run, offset, answer.key_size) == KNOWN);
}

/* What says how often, and not whom. flag: of the expression, that it is about the rest. */
static void run_limit(Run *run, const struct nftnl_expr *expr, uint16_t flags, uint32_t inverted) {
        bool over = nftnl_expr_is_set(expr, flags) && nftnl_expr_get_u32(expr, flags) & inverted;

        condition(run, !over, false);
}

static int run_of_dynset(struct nftnl_expr *expr, void *userdata);

/* Remembers who came; what it counts or limits is said by expressions of its own. */
static void run_dynset(Run *run, const struct nftnl_expr *expr) {
        condition(run, true, false);
        (void) nftnl_expr_expr_foreach(expr, run_of_dynset, run);
}

static void run_target(Run *run, const struct nftnl_expr *expr) {
        const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_TG_NAME);
        const struct xt_ct_target_info *ct;
        uint32_t size = 0;

        if (!name)
                return;
        if (strcmp(name, "REJECT") == 0 || strcmp(name, "TARPIT") == 0)
                run->encounter->act = ACT_DROP;
        else if (strcmp(name, "DNAT") == 0 || strcmp(name, "REDIRECT") == 0 ||
                 strcmp(name, "TPROXY") == 0)
                run->encounter->act = ACT_REDIRECT;
        else if (strcmp(name, "NFQUEUE") == 0)
                run->encounter->act = ACT_ANY;
        else if (strcmp(name, "NOTRACK") == 0)
                run->encounter->untracks = true;
        else if (strcmp(name, "CT") == 0) {
                ct = nftnl_expr_get(expr, NFTNL_EXPR_TG_INFO, &size);
                if (ct && size >= sizeof(*ct) && ct->flags & XT_CT_NOTRACK)
                        run->encounter->untracks = true;
        }
}

static void run_match(Run *run, const struct nftnl_expr *expr) {
        bool matches, sure;

        packet_meet_match(run->packet, expr, &matches, &sure);
        condition(run, matches, sure);
}

static bool is_one_of(const char *name, const char *const *names) {
        for (; *names; names++)
                if (strcmp(name, *names) == 0)
                        return true;
        return false;
}

static void run_other(Run *run, const struct nftnl_expr *expr, const char *name) {
        static const char *const harmless[] = {"counter", "log", "last", "dup", NULL};
        static const char *const redirects[] = {"nat", "redir", "masq", "tproxy", NULL};
        static const char *const loads[] = {"rt",     "socket", "hash",   "numgen", "osf",
                                            "exthdr", "xfrm",   "tunnel", NULL};
        Encounter *encounter = run->encounter;

        if (is_one_of(name, harmless))
                return;
        if (is_one_of(name, redirects))
                encounter->act = ACT_REDIRECT;
        else if (strcmp(name, "reject") == 0)
                encounter->act = ACT_DROP;
        else if (strcmp(name, "queue") == 0)
                encounter->act = ACT_ANY;
        else if (strcmp(name, "notrack") == 0)
                encounter->untracks = true;
        else if (strcmp(name, "limit") == 0)
                run_limit(run, expr, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
        else if (strcmp(name, "connlimit") == 0)
                run_limit(run, expr, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
        else if (strcmp(name, "quota") == 0)
                run_limit(run, expr, NFTNL_EXPR_QUOTA_FLAGS, NFT_QUOTA_F_INV);
        else if (strcmp(name, "dynset") == 0)
                run_dynset(run, expr);
        else if (strcmp(name, "objref") == 0 &&
                 nftnl_expr_get_u32(expr, NFTNL_EXPR_OBJREF_IMM_TYPE) == NFT_OBJECT_COUNTER)
                return;
        else if (is_one_of(name, loads))
                memset(run->knowledge, GUESSED, sizeof(run->knowledge));
        else
                condition(run, false, false);
}

static void run_expression(Run *run, const struct nftnl_expr *expr) {
        static const struct {
                const char *name;
                void (*run)(Run *run, const struct nftnl_expr *expr);
        } kinds[] = {
                {"cmp", run_cmp},         {"payload", run_payload},     {"meta", run_meta},
                {"ct", run_ct},           {"immediate", run_immediate}, {"lookup", run_lookup},
                {"bitwise", run_bitwise}, {"match", run_match},         {"target", run_target},
                {"range", run_range},     {"byteorder", run_byteorder}, {"fib", run_fib},
        };
        const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);

        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                if (strcmp(name, kinds[i].name) == 0) {
                        kinds[i].run(run, expr);
                        return;
                }
        run_other(run, expr, name);
}

static int run_of_dynset(struct nftnl_expr *expr, void *userdata) {
        run_expression(userdata, expr);
        return 0;
}

int packet_meet(Packet *packet, const struct nftnl_rule *rule, Encounter *ret) {
        _cleanup_(nftnl_expr_iter_destroy_cleanup) struct nftnl_expr_iter *iterator = NULL;
        Run run = {.packet = packet, .rule = rule, .encounter = ret};
        struct nftnl_expr *expr;

        ret->matches = ret->sure = true;
        ret->act = ACT_NOTHING;
        ret->target = NULL;
        ret->untracks = false;
        iterator = nftnl_expr_iter_create(rule);
        if (!iterator)
                return -ENOMEM;
        while (!is_over(&run) && (expr = nftnl_expr_iter_next(iterator)))
                run_expression(&run, expr);
        return 0;
}
