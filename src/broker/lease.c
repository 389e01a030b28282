/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The table, drawn as a list of rules. The order within a chain is what makes them right, so each
 * is written out in one place, with the line that nft would show beside it. The guard's is in
 * guard.c.
 *
 *     table inet postern { flags owner
 *       set wID { type inet_proto . inet_service; flags timeout }
 *       chain input   { hook input priority INT_MIN: jump windows, then cut }
 *       chain windows { per window: new → candidate; W or G and in time → stamp }
 *       chain candidate { a pure SYN (or UDP), not too many at once → W }
 *       chain admitted { hook input, nearly last: recheck, outer ports: G, count per window }
 *     }
 */

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <postern/clock.h>
#include <postern/guard.h>
#include <postern/lease-internal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
        /* The SYN limit is for strangers in a flood; a handful of validations is far below it. */
        NEW_PER_SECOND = 200,
        NEW_BURST = 400,

        /* nft's names for the types of a set's key: inet_proto . inet_service */
        TYPE_INET_PROTO = 12,
        TYPE_INET_SERVICE = 13,
        TYPE_BITS = 6,

        SET_SIZE = 4 * PROFILE_PORTS_MAX,
};

int lease_draw_marks(const Label *used, LeaseMarks *ret) {
        uint8_t free_bits[LABEL_BITS];
        Label drawn[3], bit;
        unsigned n = 0;
        uint32_t random[4];

        for (unsigned i = 0; i < LABEL_BITS; i++) {
                bit = label_from_bit(i);
                if (!label_intersects(&bit, used))
                        free_bits[n++] = i;
        }
        if (n < ELEMENTS(drawn))
                return -ENOSPC;
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        for (unsigned i = 0; i < ELEMENTS(drawn); i++) {
                unsigned k = random[i] % (n - i);

                drawn[i] = label_from_bit(free_bits[k]);
                free_bits[k] = free_bits[n - i - 1];
        }
        *ret = (LeaseMarks){
                .wanted = drawn[0],
                .gated = drawn[1],
                .cut = drawn[2],
                /* never 0: that is what a packet without a priority has */
                .stamp = random[3] | 0x10000,
        };
        return 0;
}

uint64_t lease_until_deadline_msec(const LeaseWindow *window) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);

        return window->deadline > now ? (window->deadline - now) / 1000 : 0;
}

uint64_t lease_time_left_msec(const LeaseWindow *window) {
        uint64_t left_msec = lease_until_deadline_msec(window);

        return left_msec > window->early_msec ? left_msec - window->early_msec : 0;
}

void lease_element_key(const Port *port, uint8_t ret[LEASE_KEY_SIZE]) {
        uint16_t number = htons(port->number);

        memset(ret, 0, LEASE_KEY_SIZE);
        ret[0] = port->protocol;
        memcpy(ret + 4, &number, sizeof(number));
}

/* The only place where an element is made: never without a timeout, never with 0 or a tiny one. */
static int draw_set(Blueprint *blueprint, const LeaseWindow *window, uint32_t id) {
        static const uint8_t field_sizes[] = {1, 2};
        uint64_t timeout_msec = lease_time_left_msec(window);
        struct nftnl_set *set;

        if (timeout_msec < LEASE_TIMEOUT_MIN_MSEC || timeout_msec > LEASE_TIMEOUT_MAX_MSEC)
                return -EINVAL;
        set = nftnl_set_alloc();
        if (!set)
                return -ENOMEM;
        blueprint->sets[blueprint->n_sets++] = set;
        nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
        nftnl_set_set_u32(set, NFTNL_SET_ID, id);
        nftnl_set_set_u32(set, NFTNL_SET_FLAGS, NFT_SET_TIMEOUT | NFT_SET_CONCAT);
        nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE,
                          TYPE_INET_PROTO << TYPE_BITS | TYPE_INET_SERVICE);
        nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, LEASE_KEY_SIZE);
        nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, SET_SIZE);
        nftnl_set_set_u64(set, NFTNL_SET_TIMEOUT, timeout_msec);
        if (nftnl_set_set_data(set, NFTNL_SET_DESC_CONCAT, field_sizes, sizeof(field_sizes)) < 0 ||
            nftnl_set_set_str(set, NFTNL_SET_TABLE, LEASE_TABLE) < 0 ||
            nftnl_set_set_str(set, NFTNL_SET_NAME, window->id) < 0)
                return -ENOMEM;

        for (size_t i = 0; i < window->n_ports; i++) {
                struct nftnl_set_elem *element = nftnl_set_elem_alloc();
                uint8_t key[LEASE_KEY_SIZE];

                if (!element)
                        return -ENOMEM;
                nftnl_set_elem_add(set, element);
                lease_element_key(&window->ports[i], key);
                nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT, timeout_msec);
                if (nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, sizeof(key)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* ct label LABEL [meta l4proto . th dport @wID] meta priority set STAMP */
static int draw_stamp(Blueprint *blueprint, const LeaseMarks *marks, const Label *label,
                      const LeaseWindow *window) {
        bool narrow = window->reach.level > 0;
        RuleWriter writer = blueprint_begin_rule(blueprint, narrow ? window->id : "windows");

        rule_match_label(&writer, label, true);
        if (!narrow)
                rule_match_port_set(&writer, window->id);
        rule_set_stamp(&writer, marks->stamp);
        return blueprint_finish_rule(blueprint, &writer);
}

/* ct state new ct label W meta priority STAMP [port] ct label set G: somebody else's firewall has
 * let it in. */
static int draw_outer_port(Blueprint *blueprint, const LeaseMarks *marks, const LeaseWindow *window,
                           const Port *port) {
        RuleWriter writer = blueprint_begin_rule(blueprint, "admitted");

        rule_match_new(&writer);
        rule_match_label(&writer, &marks->wanted, true);
        rule_match_stamp(&writer, marks->stamp, true);
        if (port) {
                rule_match_protocol(&writer, port->protocol);
                rule_match_port(&writer, port->number);
        } else
                rule_match_port_set(&writer, window->id);
        rule_set_label(&writer, &marks->gated);
        return blueprint_finish_rule(blueprint, &writer);
}

static int draw_outer(Blueprint *blueprint, const LeaseMarks *marks, const LeaseWindow *window) {
        int r = 0;

        if (window->n_outer == window->n_ports)
                return draw_outer_port(blueprint, marks, window, NULL);
        for (size_t i = 0; i < window->n_outer && r == 0; i++)
                r = draw_outer_port(blueprint, marks, window, &window->outer[i]);
        return r;
}

/* ct state new meta l4proto . th dport @wID jump candidate */
static int draw_new(Blueprint *blueprint, const LeaseWindow *window) {
        RuleWriter writer = blueprint_begin_rule(blueprint, "windows");

        rule_match_new(&writer);
        rule_match_port_set(&writer, window->id);
        rule_verdict(&writer, NFT_JUMP, "candidate");
        return blueprint_finish_rule(blueprint, &writer);
}

/*
 * A chain of its own for a window that leads to one cgroup's sockets. What is for somebody else's
 * is no business of this window. Looked at anew in every packet: where several sockets share the
 * port, who answers may be another one than was found for the SYN. A half-open connection has no
 * socket that could be asked, and passes on: its first packet had one.
 */
static int draw_new_in_reach(Blueprint *blueprint, const LeaseWindow *window) {
        const LeaseReach *reach = &window->reach;
        RuleWriter writer;
        int r;

        /* meta l4proto . th dport @wID jump wID */
        writer = blueprint_begin_rule(blueprint, "windows");
        rule_match_port_set(&writer, window->id);
        rule_verdict(&writer, NFT_JUMP, window->id);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* socket cgroupv2 level LEVEL != CGROUP return */
        writer = blueprint_begin_rule(blueprint, window->id);
        rule_match_cgroup(&writer, reach->level, reach->cgroup, false);
        rule_verdict(&writer, NFT_RETURN, NULL);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* ct state new socket cgroupv2 level LEVEL CGROUP jump candidate */
        writer = blueprint_begin_rule(blueprint, window->id);
        rule_match_new(&writer);
        rule_match_cgroup(&writer, reach->level, reach->cgroup, true);
        rule_verdict(&writer, NFT_JUMP, "candidate");
        return blueprint_finish_rule(blueprint, &writer);
}

static int draw_window(Blueprint *blueprint, const LeaseMarks *marks, const LeaseWindow *window) {
        RuleWriter writer;
        int r;

        r = window->reach.level > 0 ? draw_new_in_reach(blueprint, window)
                                    : draw_new(blueprint, window);
        if (r < 0)
                return r;

        /* W too: else one that the host admitted during an earlier window would pass the gate of a
         * later one. */
        r = draw_stamp(blueprint, marks, &marks->wanted, window);
        if (r < 0)
                return r;
        r = draw_stamp(blueprint, marks, &marks->gated, window);
        if (r < 0)
                return r;

        r = draw_outer(blueprint, marks, window);
        if (r < 0)
                return r;

        /* ct state new ct label G meta l4proto . th dport @wID counter */
        writer = blueprint_begin_rule(blueprint, "admitted");
        rule_match_new(&writer);
        rule_match_label(&writer, &marks->gated, true);
        rule_match_port_set(&writer, window->id);
        rule_count(&writer);
        rule_comment(&writer, window->id);
        return blueprint_finish_rule(blueprint, &writer);
}

static int draw_candidate(Blueprint *blueprint, const LeaseMarks *marks) {
        RuleWriter writer;
        int r;

        /* meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn return: a stray segment is no
         * visitor */
        writer = blueprint_begin_rule(blueprint, "candidate");
        rule_match_protocol(&writer, IPPROTO_TCP);
        rule_match_syn(&writer, false);
        rule_verdict(&writer, NFT_RETURN, NULL);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* limit rate 200/second burst 400 packets ct label set W */
        writer = blueprint_begin_rule(blueprint, "candidate");
        rule_limit(&writer, NEW_PER_SECOND, NEW_BURST);
        rule_set_label(&writer, &marks->wanted);
        return blueprint_finish_rule(blueprint, &writer);
}

int lease_draw(const LeaseMarks *marks, const LeaseWindow *windows, size_t n_windows,
               Blueprint **ret) {
        _cleanup_(blueprint_free_cleanup) Blueprint *blueprint = NULL;
        RuleWriter writer;
        int r;

        if (n_windows > LEASE_WINDOWS_MAX)
                return -E2BIG;
        blueprint = calloc(1, sizeof(*blueprint));
        if (!blueprint)
                return -ENOMEM;
        r = blueprint_draw_table(blueprint, LEASE_TABLE, NFT_TABLE_F_OWNER);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_windows; i++) {
                r = draw_set(blueprint, &windows[i], i + 1);
                if (r < 0)
                        return r;
        }
        if ((r = blueprint_draw_chain(blueprint, "input", NF_INET_LOCAL_IN, INT_MIN)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "windows", -1, 0)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "candidate", -1, 0)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "admitted", NF_INET_LOCAL_IN, INT_MAX - 2)) < 0)
                return r;

        for (size_t i = 0; i < n_windows; i++)
                if (windows[i].reach.level > 0 &&
                    (r = blueprint_draw_chain(blueprint, windows[i].id, -1, 0)) < 0)
                        return r;

        writer = blueprint_begin_rule(blueprint, "input");
        rule_verdict(&writer, NFT_JUMP, "windows");
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;
        r = guard_draw_cut(blueprint, "input", marks);
        if (r < 0)
                return r;
        r = guard_draw_recheck(blueprint, "admitted", marks);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_windows; i++) {
                r = draw_window(blueprint, marks, &windows[i]);
                if (r < 0)
                        return r;
        }
        r = draw_candidate(blueprint, marks);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(blueprint);
        return 0;
}

void lease_silence(const char *window_id, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;

        /* All elements of the set. No generation is asked for: it is our own table. */
        batch_begin(batch, netlink, 0);
        message = batch_message(batch, netlink, NFT_MSG_DELSETELEM, 0, NFPROTO_INET);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, LEASE_TABLE);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, window_id);
        batch_push(batch, message);
}
