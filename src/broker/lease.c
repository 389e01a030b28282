/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The two tables, drawn as lists of rules. The order within a chain is what makes them right, so
 * each is written out in one place, with the line that nft would show beside it.
 *
 *     table inet postern { flags owner
 *       set wID { type inet_proto . inet_service; flags timeout }
 *       chain input   { hook input priority INT_MIN: jump windows, then cut }
 *       chain windows { per window: new → candidate; W or G and in time → stamp }
 *       chain candidate { a pure SYN (or UDP), not too many at once → W }
 *       chain admitted { hook input, nearly last: count per window }
 *     }
 *     table inet postern_guard
 *       chain early  { hook input, right after ours: cut }
 *       chain late   { hook input, last: count; take the stamp off }
 *       chain output { hook output, last: no answers on what was cut }
 */

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <postern/lease.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
        /* The SYN limit is for strangers in a flood; a handful of validations is far below it. */
        NEW_PER_SECOND = 200,
        NEW_BURST = 400,

        /* nft's names for the types of a set's key: inet_proto . inet_service */
        TYPE_INET_PROTO = 12,
        TYPE_INET_SERVICE = 13,
        TYPE_BITS = 6,

        /* the kernel counts in jiffies of up to 10 ms */
        TIMER_SLACK_MSEC = 20,

        KEY_SIZE = 8, /* each part of a concatenation takes four bytes */
        SET_SIZE = 4 * PROFILE_PORTS_MAX,
};

static const uint8_t syn_mask = TH_FIN | TH_SYN | TH_RST | TH_ACK;

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

uint64_t lease_time_left_msec(const LeaseWindow *window) {
        struct timespec now;
        uint64_t now_usec;

        clock_gettime(CLOCK_BOOTTIME, &now);
        now_usec = (uint64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
        return window->deadline > now_usec ? (window->deadline - now_usec) / 1000 : 0;
}

static void element_key(const Port *port, uint8_t ret[KEY_SIZE]) {
        uint16_t number = htons(port->number);

        memset(ret, 0, KEY_SIZE);
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
        nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, KEY_SIZE);
        nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, SET_SIZE);
        nftnl_set_set_u64(set, NFTNL_SET_TIMEOUT, timeout_msec);
        if (nftnl_set_set_data(set, NFTNL_SET_DESC_CONCAT, field_sizes, sizeof(field_sizes)) < 0 ||
            nftnl_set_set_str(set, NFTNL_SET_TABLE, LEASE_TABLE) < 0 ||
            nftnl_set_set_str(set, NFTNL_SET_NAME, window->id) < 0)
                return -ENOMEM;

        for (size_t i = 0; i < window->n_ports; i++) {
                struct nftnl_set_elem *element = nftnl_set_elem_alloc();
                uint8_t key[KEY_SIZE];

                if (!element)
                        return -ENOMEM;
                nftnl_set_elem_add(set, element);
                element_key(&window->ports[i], key);
                nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT, timeout_msec);
                if (nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, sizeof(key)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* ct label G ct direction original meta priority != STAMP: came in by the gate, its window is shut
 */
static RuleWriter draw_overdue(const Blueprint *blueprint, const char *chain,
                               const LeaseMarks *marks) {
        RuleWriter writer = blueprint_begin_rule(blueprint, chain);

        rule_match_label(&writer, &marks->gated, true);
        rule_match_original(&writer);
        rule_match_stamp(&writer, marks->stamp, false);
        return writer;
}

/* The cut, the same in both tables; from then on no answer goes out, either. A reset is let in, so
 * that the local socket can die of it. An ICMP error about a connection that is in time carries its
 * label, too, but no port: it is none of the cut's business. */
static int draw_cut(Blueprint *blueprint, const char *chain, const LeaseMarks *marks) {
        RuleWriter writer;
        int r;

        /* ... tcp flags & rst == 0 ct label set C reject with tcp reset */
        writer = draw_overdue(blueprint, chain, marks);
        rule_match_protocol(&writer, IPPROTO_TCP);
        rule_match_tcp_flags(&writer, TH_RST, 0, true);
        rule_set_label(&writer, &marks->cut);
        rule_count(&writer);
        rule_reset_tcp(&writer);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* ... meta l4proto udp ct label set C drop */
        writer = draw_overdue(blueprint, chain, marks);
        rule_match_protocol(&writer, IPPROTO_UDP);
        rule_set_label(&writer, &marks->cut);
        rule_count(&writer);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

/* ct label LABEL meta l4proto . th dport @wID meta priority set STAMP */
static int draw_stamp(Blueprint *blueprint, const LeaseMarks *marks, const Label *label,
                      const LeaseWindow *window) {
        RuleWriter writer = blueprint_begin_rule(blueprint, "windows");

        rule_match_label(&writer, label, true);
        rule_match_port_set(&writer, window->id);
        rule_set_stamp(&writer, marks->stamp);
        return blueprint_finish_rule(blueprint, &writer);
}

static int draw_window(Blueprint *blueprint, const LeaseMarks *marks, const LeaseWindow *window) {
        RuleWriter writer;
        int r;

        /* ct state new meta l4proto . th dport @wID jump candidate */
        writer = blueprint_begin_rule(blueprint, "windows");
        rule_match_new(&writer);
        rule_match_port_set(&writer, window->id);
        rule_verdict(&writer, NFT_JUMP, "candidate");
        r = blueprint_finish_rule(blueprint, &writer);
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
        rule_match_tcp_flags(&writer, syn_mask, TH_SYN, false);
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

        writer = blueprint_begin_rule(blueprint, "input");
        rule_verdict(&writer, NFT_JUMP, "windows");
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;
        r = draw_cut(blueprint, "input", marks);
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

static int draw_answers(Blueprint *blueprint, const LeaseMarks *marks) {
        RuleWriter writer;
        int r;

        /* ct label C tcp flags & rst == 0 drop: a client that ignores resets gets nothing more */
        writer = blueprint_begin_rule(blueprint, "output");
        rule_match_label(&writer, &marks->cut, true);
        rule_match_protocol(&writer, IPPROTO_TCP);
        rule_match_tcp_flags(&writer, TH_RST, 0, true);
        rule_verdict(&writer, NF_DROP, NULL);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* ct label C meta l4proto udp drop */
        writer = blueprint_begin_rule(blueprint, "output");
        rule_match_label(&writer, &marks->cut, true);
        rule_match_protocol(&writer, IPPROTO_UDP);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

int guard_draw(const LeaseMarks *marks, Blueprint **ret) {
        _cleanup_(blueprint_free_cleanup) Blueprint *blueprint = NULL;
        RuleWriter writer;
        int r;

        blueprint = calloc(1, sizeof(*blueprint));
        if (!blueprint)
                return -ENOMEM;
        r = blueprint_draw_table(blueprint, GUARD_TABLE, 0);
        if (r < 0)
                return r;
        if ((r = blueprint_draw_chain(blueprint, "early", NF_INET_LOCAL_IN, INT_MIN + 1)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "late", NF_INET_LOCAL_IN, INT_MAX - 1)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "output", NF_INET_LOCAL_OUT, INT_MAX - 1)) < 0)
                return r;

        r = draw_cut(blueprint, "early", marks);
        if (r < 0)
                return r;

        /* ct state new ct label G counter */
        writer = blueprint_begin_rule(blueprint, "late");
        rule_match_new(&writer);
        rule_match_label(&writer, &marks->gated, true);
        rule_count(&writer);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* meta priority STAMP meta priority set 0:0 */
        writer = blueprint_begin_rule(blueprint, "late");
        rule_match_stamp(&writer, marks->stamp, true);
        rule_set_stamp(&writer, 0);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;
        r = draw_answers(blueprint, marks);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(blueprint);
        return 0;
}

typedef struct SetCheck {
        const LeaseWindow *window;
        uint64_t left_msec;
        bool seen[PROFILE_PORTS_MAX];
        bool wrong;
} SetCheck;

static int check_element(struct nftnl_set_elem *element, void *userdata) {
        SetCheck *check = userdata;
        uint32_t size = 0;
        const void *key = nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &size);
        uint8_t wanted[KEY_SIZE];

        /* One without a time to expire at would stay for ever. */
        if (!key || size != KEY_SIZE ||
            !nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_EXPIRATION) ||
            nftnl_set_elem_get_u64(element, NFTNL_SET_ELEM_EXPIRATION) >
                    check->left_msec + TIMER_SLACK_MSEC) {
                check->wrong = true;
                return 0;
        }
        for (size_t i = 0; i < check->window->n_ports; i++) {
                element_key(&check->window->ports[i], wanted);
                if (memcmp(wanted, key, KEY_SIZE) == 0) {
                        check->seen[i] = true;
                        return 0;
                }
        }
        check->wrong = true;
        return 0;
}

static int check_elements(const struct nlmsghdr *message, void *userdata) {
        struct nftnl_set *set;
        int r;

        set = nftnl_set_alloc();
        if (!set)
                return -ENOMEM;
        r = nftnl_set_elems_nlmsg_parse(message, set);
        if (r < 0)
                r = -EBADMSG;
        else
                r = nftnl_set_elem_foreach(set, check_element, userdata);
        nftnl_set_free(set);
        return r;
}

int lease_verify_sets(Netlink *netlink, const LeaseWindow *windows, size_t n_windows) {
        for (size_t i = 0; i < n_windows; i++) {
                char buffer[512] __attribute__((aligned(NLMSG_ALIGNTO)));
                SetCheck check = {
                        .window = &windows[i],
                        .left_msec = lease_time_left_msec(&windows[i]),
                };
                struct nfgenmsg *generic;
                struct nlmsghdr *request;
                int r;

                request = mnl_nlmsg_put_header(buffer);
                request->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM;
                generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
                generic->nfgen_family = NFPROTO_INET;
                mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_TABLE, LEASE_TABLE);
                mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_SET, windows[i].id);
                r = netlink_query(netlink, request, NLM_F_DUMP, check_elements, &check);
                if (r < 0)
                        return r;
                if (check.wrong)
                        return -ENOENT;
                for (size_t k = 0; k < windows[i].n_ports; k++)
                        if (!check.seen[k])
                                return -ENOENT;
        }
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

uint64_t guard_admitted(const Ruleset *ruleset) {
        size_t cursor = 0;
        const struct nftnl_rule *rule =
                ruleset_next_rule(ruleset, NFPROTO_INET, GUARD_TABLE, "late", &cursor);

        return rule ? rule_packets(rule) : 0;
}

uint64_t lease_admitted(const Ruleset *ruleset, const char *window_id) {
        const struct nftnl_rule *rule;
        size_t cursor = 0;

        while ((rule = ruleset_next_rule(ruleset, NFPROTO_INET, LEASE_TABLE, "admitted", &cursor)))
                if (rule_has_comment(rule, window_id))
                        return rule_packets(rule);
        return 0;
}

typedef struct Count {
        const char *comment; /* NULL: any rule */
        uint64_t packets;
} Count;

static int take_count(const struct nlmsghdr *message, void *userdata) {
        Count *count = userdata;
        struct nftnl_rule *rule;

        rule = nftnl_rule_alloc();
        if (!rule)
                return -ENOMEM;
        if (nftnl_rule_nlmsg_parse(message, rule) >= 0 &&
            (!count->comment || rule_has_comment(rule, count->comment)))
                count->packets += rule_packets(rule);
        nftnl_rule_free(rule);
        return 0;
}

static int read_count(Netlink *netlink, const char *table, const char *chain, const char *comment,
                      uint64_t *ret) {
        char buffer[512] __attribute__((aligned(NLMSG_ALIGNTO)));
        Count count = {.comment = comment};
        struct nfgenmsg *generic;
        struct nlmsghdr *request;
        int r;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = NFPROTO_INET;
        mnl_attr_put_strz(request, NFTA_RULE_TABLE, table);
        mnl_attr_put_strz(request, NFTA_RULE_CHAIN, chain);
        r = netlink_query(netlink, request, NLM_F_DUMP, take_count, &count);
        if (r < 0)
                return r;
        *ret = count.packets;
        return 0;
}

int guard_read_admitted(Netlink *netlink, uint64_t *ret) {
        return read_count(netlink, GUARD_TABLE, "late", NULL, ret);
}

int lease_read_admitted(Netlink *netlink, const char *window_id, uint64_t *ret) {
        return read_count(netlink, LEASE_TABLE, "admitted", window_id, ret);
}
