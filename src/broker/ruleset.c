/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Three dumps make a snapshot, and a snapshot is one only if the generation did not move meanwhile.
 * Where it did, it is taken anew, a few times: a host that reloads without pause gets -EAGAIN.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/ruleset.h>
#include <string.h>

enum { READ_TRIES = 8 };

Ruleset *ruleset_free(Ruleset *ruleset) {
        if (!ruleset)
                return NULL;
        for (size_t i = 0; i < ruleset->n_rules; i++)
                nftnl_rule_free(ruleset->rules[i]);
        for (size_t i = 0; i < ruleset->n_chains; i++)
                nftnl_chain_free(ruleset->chains[i]);
        for (size_t i = 0; i < ruleset->n_tables; i++)
                nftnl_table_free(ruleset->tables[i]);
        free(ruleset->rules);
        free(ruleset->chains);
        free(ruleset->tables);
        free(ruleset);
        return NULL;
}

/* Makes room for one more; doubles, so that 100,000 rules cost 17 reallocations. */
static int array_reserve(void **array, size_t n) {
        void *larger;

        if (n & (n - 1))
                return 0; /* not a power of two: there is room up to the next */
        larger = reallocarray(*array, n ? n * 2 : 1, sizeof(void *));
        if (!larger)
                return -ENOMEM;
        *array = larger;
        return 0;
}

/* Whoever finds an object by its names need not ask whether it has any; and in a transaction there
 * is room for what the kernel takes as a name. */
static bool is_name(const char *text) {
        return text && strlen(text) < NFT_NAME_MAXLEN;
}

static bool table_is_named(const struct nftnl_table *table) {
        return is_name(nftnl_table_get_str(table, NFTNL_TABLE_NAME));
}

static bool chain_is_named(const struct nftnl_chain *chain) {
        return is_name(nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE)) &&
               is_name(nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
}

static bool rule_is_named(const struct nftnl_rule *rule) {
        return is_name(nftnl_rule_get_str(rule, NFTNL_RULE_TABLE)) &&
               is_name(nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
}

#define DEFINE_DUMPED(kind)                                                                        \
        static int ruleset_take_##kind(const struct nlmsghdr *message, void *userdata) {           \
                Ruleset *ruleset = userdata;                                                       \
                struct nftnl_##kind *object;                                                       \
                int r;                                                                             \
                                                                                                   \
                r = array_reserve((void **) &ruleset->kind##s, ruleset->n_##kind##s);              \
                if (r < 0)                                                                         \
                        return r;                                                                  \
                object = nftnl_##kind##_alloc();                                                   \
                if (!object)                                                                       \
                        return -ENOMEM;                                                            \
                if (nftnl_##kind##_nlmsg_parse(message, object) < 0 || !kind##_is_named(object)) { \
                        nftnl_##kind##_free(object);                                               \
                        return -EBADMSG;                                                           \
                }                                                                                  \
                ruleset->kind##s[ruleset->n_##kind##s++] = object;                                 \
                return 0;                                                                          \
        }

DEFINE_DUMPED(table)
DEFINE_DUMPED(chain)
DEFINE_DUMPED(rule)

static int ruleset_take_genid(const struct nlmsghdr *message, void *userdata) {
        const struct nlattr *attribute;

        mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg)) {
                if (mnl_attr_get_type(attribute) == NFTA_GEN_ID &&
                    mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
                        *(uint32_t *) userdata = ntohl(mnl_attr_get_u32(attribute));
        }
        return 0;
}

static struct nlmsghdr *begin(char *buffer, uint16_t type, uint32_t family) {
        struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
        struct nfgenmsg *generic;

        request->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | type;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = (uint8_t) family;
        return request;
}

static int query(Netlink *netlink, uint16_t type, uint16_t flags, NetlinkCallback callback,
                 void *userdata) {
        char buffer[256] __attribute__((aligned(NLMSG_ALIGNTO)));

        return netlink_query(netlink, begin(buffer, type, NFPROTO_UNSPEC), flags, callback,
                             userdata);
}

static int query_rules(Netlink *netlink, const RulesetScope *scope, Ruleset *ruleset) {
        char buffer[2 * NFT_NAME_MAXLEN + 128] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlmsghdr *request = begin(buffer, NFT_MSG_GETRULE, scope->family);

        mnl_attr_put_strz(request, NFTA_RULE_TABLE, scope->table);
        if (*scope->chain)
                mnl_attr_put_strz(request, NFTA_RULE_CHAIN, scope->chain);
        return netlink_query(netlink, request, NLM_F_DUMP, ruleset_take_rule, ruleset);
}

/* scopes: NULL for all rules. */
static int read_rules(Netlink *netlink, const RulesetScope *scopes, size_t n_scopes,
                      Ruleset *ruleset) {
        int r;

        if (!scopes)
                return query(netlink, NFT_MSG_GETRULE, NLM_F_DUMP, ruleset_take_rule, ruleset);
        for (size_t i = 0; i < n_scopes; i++) {
                r = query_rules(netlink, &scopes[i], ruleset);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* genid: the one that is wanted, or 0 for any. */
static int ruleset_read_once(Netlink *netlink, uint32_t genid, const RulesetScope *scopes,
                             size_t n_scopes, Ruleset **ret) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        uint32_t after = 0;
        int r;

        ruleset = calloc(1, sizeof(*ruleset));
        if (!ruleset)
                return -ENOMEM;
        uplink_find(NFPROTO_IPV4, &ruleset->uplinks[0]);
        uplink_find(NFPROTO_IPV6, &ruleset->uplinks[1]);
        r = query(netlink, NFT_MSG_GETGEN, NLM_F_ACK, ruleset_take_genid, &ruleset->genid);
        if (r < 0)
                return r;
        if (genid != 0 && ruleset->genid != genid)
                return -ESTALE;
        r = query(netlink, NFT_MSG_GETTABLE, NLM_F_DUMP, ruleset_take_table, ruleset);
        if (r < 0)
                return r;
        r = query(netlink, NFT_MSG_GETCHAIN, NLM_F_DUMP, ruleset_take_chain, ruleset);
        if (r < 0)
                return r;
        r = read_rules(netlink, scopes, n_scopes, ruleset);
        if (r < 0)
                return r;
        r = query(netlink, NFT_MSG_GETGEN, NLM_F_ACK, ruleset_take_genid, &after);
        if (r < 0)
                return r;
        if (after != ruleset->genid || after == 0)
                return -EINTR;
        *ret = TAKE_POINTER(ruleset);
        return 0;
}

int ruleset_read(Netlink *netlink, Ruleset **ret) {
        int r;

        for (unsigned i = 0; i < READ_TRIES; i++) {
                r = ruleset_read_once(netlink, 0, NULL, 0, ret);
                if (r != -EINTR)
                        return r;
        }
        return -EAGAIN;
}

int ruleset_read_some(Netlink *netlink, uint32_t genid, const RulesetScope *scopes, size_t n_scopes,
                      Ruleset **ret) {
        int r = ruleset_read_once(netlink, genid, scopes, n_scopes, ret);

        return r == -EINTR ? -ESTALE : r;
}

const struct nftnl_table *ruleset_find_table(const Ruleset *ruleset, uint32_t family,
                                             const char *table) {
        for (size_t i = 0; i < ruleset->n_tables; i++)
                if (nftnl_table_get_u32(ruleset->tables[i], NFTNL_TABLE_FAMILY) == family &&
                    strcmp(nftnl_table_get_str(ruleset->tables[i], NFTNL_TABLE_NAME), table) == 0)
                        return ruleset->tables[i];
        return NULL;
}

const struct nftnl_chain *ruleset_find_chain(const Ruleset *ruleset, uint32_t family,
                                             const char *table, const char *chain) {
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                const struct nftnl_chain *c = ruleset->chains[i];

                if (nftnl_chain_get_u32(c, NFTNL_CHAIN_FAMILY) == family &&
                    strcmp(nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE), table) == 0 &&
                    strcmp(nftnl_chain_get_str(c, NFTNL_CHAIN_NAME), chain) == 0)
                        return c;
        }
        return NULL;
}

const struct nftnl_rule *ruleset_next_rule(const Ruleset *ruleset, uint32_t family,
                                           const char *table, const char *chain, size_t *cursor) {
        while (*cursor < ruleset->n_rules) {
                const struct nftnl_rule *rule = ruleset->rules[(*cursor)++];

                if (nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY) == family &&
                    strcmp(nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN), chain) == 0 &&
                    strcmp(nftnl_rule_get_str(rule, NFTNL_RULE_TABLE), table) == 0)
                        return rule;
        }
        return NULL;
}

static const struct {
        int family;
        const char *name;
} families[] = {
        {NFPROTO_INET, "inet"},     {NFPROTO_IPV4, "ip"}, {NFPROTO_IPV6, "ip6"},
        {NFPROTO_BRIDGE, "bridge"}, {NFPROTO_ARP, "arp"}, {NFPROTO_NETDEV, "netdev"},
};

const char *family_to_string(uint32_t family) {
        for (size_t i = 0; i < ELEMENTS(families); i++)
                if ((uint32_t) families[i].family == family)
                        return families[i].name;
        return "?";
}

int family_from_string(const char *text) {
        for (size_t i = 0; i < ELEMENTS(families); i++)
                if (strcmp(families[i].name, text) == 0)
                        return families[i].family;
        return -EINVAL;
}
