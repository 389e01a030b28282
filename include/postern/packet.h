/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * packet: what one rule does to the first packet of a stranger's connection to a port.
 *
 * Some of that packet is known for sure: its family, protocol and port, that it belongs to no
 * connection yet, that it did not come in through loopback. The rest is guessed as a stranger's
 * would be: an address that stands in no list, the interface of the default route, no mark. So
 * there are two answers: whether the rule matches the guess, and whether that is so for everybody.
 * It advises, and refuses a window that would let in nobody (gate-ports); what it says opens nothing.
 */

#include <libnftnl/rule.h>
#include <postern/netlink.h>
#include <postern/profile.h>
#include <postern/uplink.h>

enum {
        PACKET_SET_QUERIES_MAX = 1024,
        PACKET_TARGET_MAX = 256, /* of a chain's name */
        PACKET_KEY_MAX = 64,
};

typedef struct Packet {
        uint32_t family; /* NFPROTO_IPV4 or NFPROTO_IPV6 */
        Port port;
        bool untracked; /* an earlier rule took it out of connection tracking */
        Uplink uplink;  /* guessed: by which it comes */

        Netlink *query;     /* asks sets for single elements; NULL: they are not asked */
        unsigned n_queries; /* so far */
} Packet;

typedef enum Act {
        ACT_NOTHING,
        ACT_ACCEPT,
        ACT_DROP,
        ACT_RETURN,
        ACT_JUMP,
        ACT_GOTO,
        ACT_REDIRECT, /* to another port or host */
        ACT_ANY,      /* nobody can tell: a program or a map decides */
} Act;

typedef struct Encounter {
        bool matches; /* the guess */
        bool sure;    /* likewise everybody else's */
        Act act;
        const char *target; /* of ACT_JUMP and ACT_GOTO; the rule's, or target_buffer */
        bool untracks;
        char target_buffer[PACKET_TARGET_MAX];
} Encounter;

/* 0 or -ENOMEM. */
int packet_meet(Packet *packet, const struct nftnl_rule *rule, Encounter *ret);

/* packet-xtables.c: of a "match" expression. */
void packet_meet_match(const Packet *packet, const struct nftnl_expr *expr, bool *ret_matches,
                       bool *ret_sure);

/* packet-set.c: looks for one element. 1: it is there, and *ret is what a map has for it; 0: it is
 * not; negative: nobody can tell. key: PACKET_KEY_MAX bytes, of which the set takes what it
 * needs; sure: how many of them are known. */
typedef struct SetAnswer {
        Act act; /* of a map of verdicts, else ACT_NOTHING */
        char target[PACKET_TARGET_MAX];
        uint8_t data[PACKET_KEY_MAX];
        size_t size;
        size_t key_size; /* the set looked at so much of the key */
} SetAnswer;
int packet_ask_set(Packet *packet, uint32_t family, const char *table, const char *set,
                   const uint8_t *key, size_t known, SetAnswer *ret);
