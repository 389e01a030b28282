/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What stands in the kernel: whether the sets are as they were drawn, and how many were let in. */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/guard.h>
#include <postern/lease-internal.h>
#include <string.h>

enum {
        /* the kernel counts in jiffies of up to 10 ms */
        TIMER_SLACK_MSEC = 20,
        LATE_LOOKS = 3,
};

typedef struct SetCheck {
        const LeaseWindow *window;
        uint64_t late_msec;
        bool seen[PROFILE_PORTS_MAX];
        bool wrong;
} SetCheck;

static int check_element(struct nftnl_set_elem *element, void *userdata) {
        SetCheck *check = userdata;
        uint32_t size = 0;
        const void *key = nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &size);
        uint64_t expiry_msec, left_msec;
        uint8_t wanted[LEASE_KEY_SIZE];

        /* One without a time to expire at would stay for ever. */
        if (!key || size != LEASE_KEY_SIZE ||
            !nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_EXPIRATION)) {
                check->wrong = true;
                return 0;
        }
        /* The clock is read after the kernel has told: what that took counts as late, not early. */
        expiry_msec = nftnl_set_elem_get_u64(element, NFTNL_SET_ELEM_EXPIRATION);
        left_msec = lease_until_deadline_msec(check->window);
        if (expiry_msec > left_msec + TIMER_SLACK_MSEC &&
            expiry_msec - left_msec > check->late_msec)
                check->late_msec = expiry_msec - left_msec;
        for (size_t i = 0; i < check->window->n_ports; i++) {
                lease_element_key(&check->window->ports[i], wanted);
                if (memcmp(wanted, key, LEASE_KEY_SIZE) == 0) {
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

static int verify_set(Netlink *netlink, const LeaseWindow *window, uint64_t *ret_late_msec) {
        char buffer[512] __attribute__((aligned(NLMSG_ALIGNTO)));
        SetCheck check = {.window = window};
        struct nfgenmsg *generic;
        struct nlmsghdr *request;
        int r;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = NFPROTO_INET;
        mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_TABLE, LEASE_TABLE);
        mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_SET, window->id);
        r = netlink_query(netlink, request, NLM_F_DUMP, check_elements, &check);
        if (r < 0)
                return r;
        if (check.wrong)
                return -ENOENT;
        for (size_t k = 0; k < window->n_ports; k++)
                if (!check.seen[k])
                        return -ENOENT;
        *ret_late_msec = check.late_msec;
        return 0;
}

int lease_verify_sets(Netlink *netlink, const LeaseWindow *windows, size_t n_windows,
                      uint64_t *ret_late_msec) {
        for (size_t i = 0; i < n_windows; i++) {
                uint64_t late_msec = UINT64_MAX, again;
                int r;

                /* It may be the looking that was slow: what is late stays so. */
                for (unsigned k = 0; k < LATE_LOOKS && late_msec > 0; k++) {
                        r = verify_set(netlink, &windows[i], &again);
                        if (r < 0)
                                return r;
                        if (again < late_msec)
                                late_msec = again;
                }
                if (late_msec > 0) {
                        *ret_late_msec = late_msec;
                        return -EINTR;
                }
        }
        return 0;
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
