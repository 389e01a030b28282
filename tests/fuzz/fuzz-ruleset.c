/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The kernel's answers to what is known of the host: its ruleset, and where a window would open in
 * it; its connections, and which of them are ended.
 *
 * A plan has to be one that can be carried out and is then found carried out: its rules are put
 * into the ruleset as the kernel would, and looked for.
 */

#include "fake-netlink.h"
#include "fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <postern/conntrack.h>
#include <postern/firewalld-rules.h>
#include <postern/gate-nftables.h>
#include <postern/gate-ports.h>
#include <postern/gate-rule.h>
#include <postern/guard.h>
#include <postern/marks.h>
#include <postern/port-fate.h>
#include <postern/profile-value.h>
#include <postern/sources.h>
#include <string.h>
#include <time.h>

enum { NAMED_CHAINS_MAX = 3 };

#define WINDOW_ID "w0123456789ab"

static const LeaseMarks marks = {
        .wanted.bytes[0] = 2,
        .gated.bytes[1] = 4,
        .cut.bytes[15] = 128,
        .stamp = 0x12345,
};

static bool is_table(uint32_t family, const char *table, const char *name) {
        return family == NFPROTO_INET && strcmp(table, name) == 0;
}

static void check_place(const ChainPlace *place, const Ruleset *ruleset) {
        const struct nftnl_table *table = ruleset_find_table(ruleset, place->family, place->table);
        const struct nftnl_rule *rule;
        size_t cursor = 0;
        bool found = place->before == 0;

        require(!is_table(place->family, place->table, LEASE_TABLE));
        require(!is_table(place->family, place->table, GUARD_TABLE));
        require(!is_table(place->family, place->table, "firewalld"));
        require(!table || !(nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_OWNER));
        require(value_is_printable(place->table) && value_is_printable(place->chain));
        require(ruleset_find_chain(ruleset, place->family, place->table, place->chain));
        require(!place->first || place->before == 0);
        while ((rule = ruleset_next_rule(ruleset, place->family, place->table, place->chain,
                                         &cursor)))
                found |= nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE) == place->before;
        require(found);
}

/* Found without following rules: an empty chain on the input hook whose policy is to drop. */
static void check_nothing_missed(const GatePlan *plan, const Ruleset *ruleset) {
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                const struct nftnl_chain *chain = ruleset->chains[i];
                uint32_t family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
                const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
                const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
                const struct nftnl_table *t = ruleset_find_table(ruleset, family, table);
                size_t cursor = 0;
                bool served = false;

                if (chain_hook(chain) != HOOK_INPUT || is_table(family, table, LEASE_TABLE) ||
                    is_table(family, table, GUARD_TABLE) ||
                    nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) != NF_DROP ||
                    (t && nftnl_table_get_u32(t, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT) ||
                    ruleset_next_rule(ruleset, family, table, name, &cursor))
                        continue;
                for (size_t k = 0; k < plan->n_places; k++)
                        served |= plan->places[k].family == family &&
                                  strcmp(plan->places[k].table, table) == 0;
                require(served);
        }
}

static void insert(Ruleset *ruleset, struct nftnl_rule *rule, size_t at) {
        ruleset->rules =
                reallocarray(ruleset->rules, ruleset->n_rules + 1, sizeof(ruleset->rules[0]));
        require(ruleset->rules);
        memmove(ruleset->rules + at + 1, ruleset->rules + at,
                (ruleset->n_rules - at) * sizeof(ruleset->rules[0]));
        ruleset->rules[at] = rule;
        ruleset->n_rules++;
}

/* The kernel counts a chain's rules among what uses it. */
static void count_use(const Ruleset *ruleset, const struct nftnl_rule *rule, int32_t change) {
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                struct nftnl_chain *chain = ruleset->chains[i];

                if (nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY) ==
                            nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY) &&
                    strcmp(nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE),
                           nftnl_rule_get_str(rule, NFTNL_RULE_TABLE)) == 0 &&
                    strcmp(nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
                           nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN)) == 0 &&
                    nftnl_chain_is_set(chain, NFTNL_CHAIN_USE))
                        nftnl_chain_set_u32(chain, NFTNL_CHAIN_USE,
                                            nftnl_chain_get_u32(chain, NFTNL_CHAIN_USE) +
                                                    (uint32_t) change);
        }
}

/* Does as the kernel would with a message of a batch. */
static void carry_out(Ruleset *ruleset, const struct nlmsghdr *message) {
        struct nftnl_rule *rule = nftnl_rule_alloc();
        uint64_t position;
        size_t at = 0;

        require(rule && nftnl_rule_nlmsg_parse(message, rule) >= 0);
        position = nftnl_rule_get_u64(rule, NFTNL_RULE_POSITION);
        nftnl_rule_set_u64(rule, NFTNL_RULE_HANDLE, 1000 * 1000 + ruleset->n_rules);
        if (message->nlmsg_flags & NLM_F_APPEND) {
                require(position == 0);
                at = ruleset->n_rules;
        }
        for (bool found = position == 0; !found; at++) {
                require(at < ruleset->n_rules);
                found = nftnl_rule_get_u64(ruleset->rules[at], NFTNL_RULE_HANDLE) == position;
                at -= found;
        }
        insert(ruleset, rule, at);
        count_use(ruleset, rule, 1);
}

/* Puts the rules of a plan into the ruleset. *ret_at: how it was before. */
static void carry_out_plan(Ruleset *ruleset, const GatePlan *plan) {
        static Netlink netlink;
        static Batch batch; /* large */
        const struct nlmsghdr *message;
        int left;

        if (!batch.buffer)
                require(batch_init(&batch) == 0);
        batch_begin(&batch, &netlink, 1);
        for (size_t i = 0; i < plan->n_places; i++)
                require(gate_add(&plan->places[i], &marks, &batch, &netlink) == 0);
        require(!batch.overflow && batch.n_messages == plan->n_places);
        message = (const void *) batch.buffer;
        left = (int) batch.used;
        message = mnl_nlmsg_next(message, &left);
        for (size_t i = 0; i < plan->n_places; i++, message = mnl_nlmsg_next(message, &left)) {
                require(mnl_nlmsg_ok(message, left));
                carry_out(ruleset, message);
        }
}

static void check_carried_out(const Ruleset *ruleset, const Profile *profile,
                              const GatePlan *plan) {
        Ruleset after = *ruleset;
        GatePlan again = {};
        char *problem = NULL;

        after.rules = malloc((ruleset->n_rules + 1) * sizeof(after.rules[0]));
        require(after.rules);
        if (ruleset->n_rules > 0)
                memcpy(after.rules, ruleset->rules, ruleset->n_rules * sizeof(after.rules[0]));
        carry_out_plan(&after, plan);
        for (size_t i = 0; i < plan->n_places; i++)
                require(gate_stands(&plan->places[i], &marks, &after));
        require(gate_nftables_plan(&after, profile, "", &again, &problem) == GATE_OK);
        require(again.n_places == plan->n_places);
        for (size_t i = 0; i < plan->n_places; i++)
                require(gate_place_equals(&plan->places[i], &again.places[i]));
        for (size_t i = 0; i < after.n_rules; i++)
                if (nftnl_rule_get_u64(after.rules[i], NFTNL_RULE_HANDLE) >= 1000 * 1000) {
                        require(gate_is_ours(after.rules[i]));
                        count_use(&after, after.rules[i], -1);
                        nftnl_rule_free(after.rules[i]);
                }
        free(after.rules);
}

/* What Check says of a port, and what is refused because of it. */
static void try_ports(const Ruleset *ruleset, Netlink *query, const GatePlan *plan) {
        static const uint32_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};
        static const Profile profile = {
                .ports = {{PROTOCOL_TCP, 80}, {PROTOCOL_UDP, 53}},
                .n_ports = 2,
        };
        _cleanup_free_ char *problem = NULL;
        unsigned n_rules = 0;
        const PortQuestion question = {
                .ruleset = ruleset,
                .query = query,
                .places = plan->places,
                .n_places = plan->n_places,
                .n_rules = &n_rules,
        };

        for (size_t i = 0; i < ELEMENTS(families) * profile.n_ports; i++) {
                PortAnswer answer = {};
                int r = port_fate(&question, families[i % 2], &profile.ports[i / 2], &answer);

                require(r == 0 || r == -E2BIG);
                if (r == 0 && answer.fate != PORT_OPEN)
                        require(answer.decider.table && answer.decider.chain);
        }
        if (gate_ports_check(ruleset, query, &profile, plan, &problem) == GATE_OK)
                require(!problem);
        else
                require(problem && *problem && value_is_printable(problem));
}

static void try_plan(const Ruleset *ruleset, Netlink *query, const Profile *profile) {
        GatePlan plan = {.wants_doubts = true};
        _cleanup_free_ char *problem = NULL;
        int r = gate_nftables_plan(ruleset, profile, "", &plan, &problem);

        if (r == GATE_REFUSED) {
                require(problem && *problem && value_is_printable(problem));
                return;
        }
        if (r == -ELOOP) /* given up, rather than going on for minutes */
                return;
        require(r == GATE_OK && !problem);
        require(plan.n_places <= GATE_PLACES_MAX && plan.n_doubts <= CHAIN_DOUBTS_MAX);
        for (size_t i = 0; i < plan.n_places; i++) {
                check_place(&plan.places[i], ruleset);
                for (size_t k = 0; k < i; k++)
                        require(!gate_place_equals(&plan.places[i], &plan.places[k]));
        }
        for (size_t i = 0; i < plan.n_doubts; i++)
                require(value_is_printable(plan.doubts[i].table) &&
                        value_is_printable(plan.doubts[i].chain));
        check_nothing_missed(&plan, ruleset);
        try_ports(ruleset, query, &plan);
        check_carried_out(ruleset, profile, &plan);
}

static void try_plans(const Ruleset *ruleset, Netlink *query) {
        for (size_t i = 0; i <= ruleset->n_chains && i <= NAMED_CHAINS_MAX; i++) {
                _cleanup_free_ char *text = NULL, *chain = NULL;

                if (i > 0) {
                        const struct nftnl_chain *named = ruleset->chains[i - 1];

                        require(asprintf(&text, "%s %s %s",
                                         family_to_string(
                                                 nftnl_chain_get_u32(named, NFTNL_CHAIN_FAMILY)),
                                         nftnl_chain_get_str(named, NFTNL_CHAIN_TABLE),
                                         nftnl_chain_get_str(named, NFTNL_CHAIN_NAME)) >= 0);
                        if (value_parse_chain(text, &chain) < 0)
                                continue;
                }
                for (int precedence = PRECEDENCE_LAST; precedence <= PRECEDENCE_FIRST; precedence++)
                        try_plan(ruleset, query,
                                 &(Profile){
                                         .chain = chain,
                                         .precedence = (GatePrecedence) precedence,
                                 });
        }
}

/* As the kernel's are: names are there once, what is in something is in something that exists, and
 * each rule has its own handle. */
static void make_consistent(Ruleset *ruleset) {
        size_t n_tables = ruleset->n_tables, n_chains = ruleset->n_chains;
        size_t n_rules = ruleset->n_rules;

        ruleset->n_tables = ruleset->n_chains = ruleset->n_rules = 0;
        for (size_t i = 0; i < n_tables; i++) {
                struct nftnl_table *table = ruleset->tables[i];

                if (ruleset_find_table(ruleset, nftnl_table_get_u32(table, NFTNL_TABLE_FAMILY),
                                       nftnl_table_get_str(table, NFTNL_TABLE_NAME)))
                        nftnl_table_free(table);
                else
                        ruleset->tables[ruleset->n_tables++] = table;
        }
        for (size_t i = 0; i < n_chains; i++) {
                struct nftnl_chain *chain = ruleset->chains[i];
                uint32_t family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
                const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);

                if (!ruleset_find_table(ruleset, family, table) ||
                    ruleset_find_chain(ruleset, family, table,
                                       nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME)))
                        nftnl_chain_free(chain);
                else
                        ruleset->chains[ruleset->n_chains++] = chain;
        }
        for (size_t i = 0; i < n_rules; i++) {
                struct nftnl_rule *rule = ruleset->rules[i];

                if (!ruleset_find_chain(ruleset, nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY),
                                        nftnl_rule_get_str(rule, NFTNL_RULE_TABLE),
                                        nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN)))
                        nftnl_rule_free(rule);
                else
                        ruleset->rules[ruleset->n_rules++] = rule;
        }
        for (size_t i = 0; i < ruleset->n_rules; i++)
                nftnl_rule_set_u64(ruleset->rules[i], NFTNL_RULE_HANDLE, i + 1);
}

static void check_marks(Netlink *query, const Ruleset *ruleset) {
        Marks drawn = {.runtime_fd = -1};
        Label used = {}, labels;

        (void) marks_find_old(&drawn, ruleset);
        /* there is nowhere to write the note */
        require(marks_choose(&drawn, query, ruleset, false) < 0);
        if (!drawn.drawn)
                return;
        require(conntrack_labels(query, &used) == 0);
        for (size_t i = 0; i < ruleset->n_rules; i++) {
                const char *table = nftnl_rule_get_str(ruleset->rules[i], NFTNL_RULE_TABLE);
                uint32_t family = nftnl_rule_get_u32(ruleset->rules[i], NFTNL_RULE_FAMILY);

                if (is_table(family, table, LEASE_TABLE) || is_table(family, table, GUARD_TABLE) ||
                    gate_is_ours(ruleset->rules[i]))
                        continue;
                labels = rule_labels(ruleset->rules[i]);
                label_add(&used, &labels);
        }
        require(!label_intersects(&drawn.lease.wanted, &used));
        require(!label_intersects(&drawn.lease.gated, &used));
        require(!label_intersects(&drawn.lease.cut, &used));
        require(!label_intersects(&drawn.lease.wanted, &drawn.lease.gated));
        require(!label_intersects(&drawn.lease.gated, &drawn.lease.cut));
        require(!label_intersects(&drawn.lease.cut, &drawn.lease.wanted));
        require(drawn.lease.stamp != 0);
}

static void check_lease(Netlink *query, const Ruleset *ruleset) {
        struct timespec now;
        LeaseWindow window = {
                .id = WINDOW_ID,
                .ports = {{PROTOCOL_TCP, 80}, {PROTOCOL_UDP, 443}},
                .n_ports = 2,
        };
        Blueprint *guard = NULL;
        uint64_t count = 0, late_msec;

        clock_gettime(CLOCK_BOOTTIME, &now);
        window.deadline = (uint64_t) now.tv_sec * 1000000 + (uint64_t) 3600 * 1000000;
        (void) lease_verify_sets(query, &window, 1, &late_msec);
        (void) lease_admitted(ruleset, WINDOW_ID);
        (void) guard_admitted(ruleset);
        (void) lease_read_admitted(query, WINDOW_ID, &count);
        (void) guard_read_admitted(query, &count);
        require(guard_draw(&marks, &window.ports[0], 2, &guard) == 0);
        (void) blueprint_stands(guard, ruleset);
        blueprint_free(guard);
}

static void on_visit(uint32_t id, bool is_ipv6, const uint8_t *address, const Port *port,
                     void *userdata) {
        sources_add(userdata, id, is_ipv6, address);
}

static void check_conntrack(Netlink *query) {
        static const Port kept = {PROTOCOL_TCP, 443};
        Sources sources = {};
        Netlink cut = {};
        ConntrackCut done = {};
        Label all;

        memset(&all, 0xff, sizeof(all));
        require(netlink_open(&cut, 0) == 0);
        (void) conntrack_cut(query, &cut, &all, NULL, NULL, 0, NULL, NULL, &done);
        (void) conntrack_cut(query, &cut, &all, &marks.cut, &kept, 1, on_visit, &sources, &done);
        (void) conntrack_visit(query, &all, on_visit, &sources);
        require(sources.n_networks <= sources.n_connections);
        require(sources.n_ipv6 <= sources.n_connections);
        netlink_close(&cut);
}

static bool has_attribute(const struct nlmsghdr *request, uint16_t type) {
        const struct nlattr *attribute;

        mnl_attr_for_each(attribute, request, sizeof(struct nfgenmsg)) {
                if (mnl_attr_get_type(attribute) == type)
                        return true;
        }
        return false;
}

static void on_request(const struct nlmsghdr *request) {
        /* without it every connection of the host would be ended */
        if (request->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE))
                require(has_attribute(request, CTA_TUPLE_ORIG));
        if (request->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) {
                require(has_attribute(request, CTA_TUPLE_ORIG));
                require(has_attribute(request, CTA_LABELS));
                require(!(request->nlmsg_flags & NLM_F_CREATE));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Ruleset *ruleset = NULL;
        Netlink query = {};
        int r;

        fake_netlink_begin(data, size, on_request);
        require(netlink_open(&query, 0) == 0);
        r = ruleset_read(&query, &ruleset);
        require(r <= 0 && (r == 0) == !!ruleset);
        if (ruleset) {
                make_consistent(ruleset);
                ruleset->uplinks[0] = (Uplink){.name = "eth0", .index = 2};
                ruleset->uplinks[1] = (Uplink){};
                try_plans(ruleset, &query);
                (void) firewalld_left_rules(ruleset);
                (void) firewalld_left_port(ruleset, &(Port){PROTOCOL_TCP, 80}, 1);
                check_marks(&query, ruleset);
                check_lease(&query, ruleset);
                ruleset_free(ruleset);
        }
        check_conntrack(&query);
        netlink_close(&query);
        fake_netlink_end();
        return 0;
}
