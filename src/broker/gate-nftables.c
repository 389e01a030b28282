/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Reading a ruleset for what it denies by default.
 *
 * A chain's fate is followed along its rules without conditions: accept, drop, reject, jump and
 * goto. Rules with conditions say something about some packets only, so they decide nothing here;
 * where one of them leads to a chain that denies, that is a doubt, and Chain= in the profile
 * settles it.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/gate-nftables.h>
#include <postern/gate-xtables.h>
#include <postern/guard.h>
#include <postern/profile-value.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool table_is_ours(uint32_t family, const char *table) {
        return family == NFPROTO_INET &&
               (strcmp(table, LEASE_TABLE) == 0 || strcmp(table, GUARD_TABLE) == 0);
}

int gate_refuse(char **ret_problem, const char *format, ...) {
        va_list arguments;
        char *text;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return -ENOMEM;
        /* The kernel takes any bytes as a name, the bus does not. */
        for (char *p = text; !value_is_printable(text) && *p; p++)
                if (*p < ' ' || *p > '~')
                        *p = '?';
        *ret_problem = text;
        return GATE_REFUSED;
}

/* A table that this gate must not or cannot write to. */
static int check_table(const Ruleset *ruleset, const ChainPlace *place, char **ret_problem) {
        const struct nftnl_table *table = ruleset_find_table(ruleset, place->family, place->table);
        const char *family = family_to_string(place->family);

        if (place->family == NFPROTO_INET && strcmp(place->table, "firewalld") == 0)
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies and is firewalld's, which opens a window itself "
                        "while it runs and the profile says Type=auto or Type=firewalld: see "
                        "`systemctl status firewalld`",
                        family, place->table, place->chain);
        if (table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_OWNER)
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies, and the program with netlink port %u owns its "
                        "table, so nobody else can add a rule: have that program admit the port "
                        "and use Type=none",
                        family, place->table, place->chain,
                        nftnl_table_get_u32(table, NFTNL_TABLE_OWNER));
        if (xtables_manages(place->family, place->table) && !xtables_reads_labels())
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies, and /etc/xtables/connlabel.conf names no "
                        "label, by which iptables fails to read a rule like a window's: "
                        "remove that file, or name a label in it",
                        family, place->table, place->chain);
        if (!value_is_printable(place->table) || !value_is_printable(place->chain))
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies, and its name or its table's is no text that "
                        "can be shown: give it another one",
                        family, place->table, place->chain);
        return GATE_OK;
}

static bool same_table(const ChainPlace *a, const ChainPlace *b) {
        return a->family == b->family && strcmp(a->table, b->table) == 0;
}

static bool same_spot(const ChainPlace *a, const ChainPlace *b) {
        return same_table(a, b) && strcmp(a->chain, b->chain) == 0 && a->before == b->before &&
               a->first == b->first;
}

bool gate_place_equals(const ChainPlace *a, const ChainPlace *b) {
        return same_spot(a, b) &&
               (!a->interface || !b->interface ? a->interface == b->interface : strcmp(a->interface, b->interface) == 0);
}

static int plan_add(GatePlan *plan, const ChainPlace *place) {
        for (size_t i = 0; i < plan->n_places; i++)
                if (gate_place_equals(&plan->places[i], place) ||
                    (!plan->places[i].interface && same_spot(&plan->places[i], place)))
                        return 0;
        if (plan->n_places == GATE_PLACES_MAX)
                return -E2BIG;
        plan->places[plan->n_places++] = *place;
        return 0;
}

/* Chain= of the profile: before the rule in it that denies, else at its end. */
static int plan_named_chain(const Ruleset *ruleset, const Profile *profile, ChainPlace *ret,
                            char **ret_problem) {
        char family[16] = "", table[256] = "", name[256] = "";
        const struct nftnl_chain *chain = NULL;
        ChainReader reader = {.ruleset = ruleset};
        Fate fate;
        int number, r;

        if (sscanf(profile->chain, "%15s %255s %255s", family, table, name) == 3) {
                number = family_from_string(family);
                if (number >= 0)
                        chain = ruleset_find_chain(ruleset, number, table, name);
        }
        if (!chain)
                return gate_refuse(
                        ret_problem,
                        "Chain= names a chain that does not exist: `nft list chains` shows those "
                        "that do");
        reader.family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader.table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        if (table_is_ours(reader.family, reader.table))
                return gate_refuse(
                        ret_problem,
                        "Chain= names a chain of posternd's own table %s, which comes and "
                        "goes with the windows: name the host's chain that denies",
                        reader.table);
        *ret = (ChainPlace){
                .family = reader.family,
                .table = reader.table,
                .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
        };
        if (profile->precedence == PRECEDENCE_FIRST) {
                ret->first = true;
                return GATE_OK;
        }
        r = chain_follow(&reader, ret->chain, &fate);
        if (r < 0)
                return r;
        if (fate == FATE_DENIED)
                *ret = reader.denial;
        return GATE_OK;
}

/* What becomes of a packet in a base chain. */
static int read_fate(const struct nftnl_chain *chain, ChainHook hook, GatePlan *plan,
                     ChainReader *reader, Fate *ret) {
        int r;

        if (hook == HOOK_INPUT) {
                switch (xtables_find_ufw(reader->ruleset, chain, &reader->denial)) {
                case UFW_ADMITS:
                        *ret = FATE_ADMITTED;
                        return 0;
                case UFW_DENIES:
                        *ret = FATE_DENIED;
                        return 0;
                case UFW_ABSENT:
                        break;
                }
                if (plan->wants_doubts) {
                        reader->doubts = plan->doubts;
                        reader->n_doubts = plan->n_doubts;
                }
        }
        r = chain_follow_base(reader, chain, ret);
        if (r == 0 && reader->doubts)
                plan->n_doubts = reader->n_doubts;
        return r;
}

static int plan_for_uplink(const Ruleset *ruleset, const struct nftnl_chain *chain,
                           const Uplink *uplink, const Profile *profile, const ChainPlace *named,
                           GatePlan *plan, char **ret_problem) {
        ChainReader reader = {.ruleset = ruleset, .uplink = uplink};
        ChainHook hook = chain_hook(chain);
        ChainPlace place;
        Fate fate;
        int r;

        if (hook == HOOK_OTHER || table_is_ours(nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                                nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE)))
                return GATE_OK;
        if (plan->spare_firewalld &&
            strcmp(nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE), "firewalld") == 0)
                return GATE_OK;
        r = read_fate(chain, hook, plan, &reader, &fate);
        if (r < 0)
                return r;
        place = reader.denial;

        if (hook == HOOK_EARLIER) {
                if (reader.untracks)
                        return gate_refuse(
                                ret_problem,
                                "Chain %s %s %s takes every packet out of connection tracking "
                                "(notrack), without which a window cannot be told from the rest: "
                                "track at least the window's ports there",
                                family_to_string(reader.family), reader.table,
                                nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
                if (fate != FATE_DENIED)
                        return GATE_OK;
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies by default before a packet comes to the input hook, "
                        "where a window opens: admit the window's ports in that chain, or move its "
                        "denial to the input hook",
                        family_to_string(place.family), place.table,
                        nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
        }
        if (fate != FATE_DENIED)
                return GATE_OK;
        /* The admin has named the right chain of this table. */
        if (named && same_table(named, &place))
                return GATE_OK;
        if (profile->precedence == PRECEDENCE_FIRST)
                place = (ChainPlace){
                        .family = place.family,
                        .table = place.table,
                        .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
                        .first = true,
                };
        else if (reader.ambiguous)
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies some packets, then the rest, and more than "
                        "one rule leads there, so a window can open neither in it nor before "
                        "it without letting in some whom you deny: have the last jump lead "
                        "to a chain that only denies, or name the chain to open in by Chain=",
                        family_to_string(place.family), place.table, reader.ambiguous);
        r = check_table(ruleset, &place, ret_problem);
        if (r != GATE_OK)
                return r;
        return plan_add(plan, &place);
}

/* Many a host tells the world from its own network by the interface, and denies in a chain for
 * each, or the world alone. So the chain is followed for packets of any interface, and for those of
 * the uplink. */
static int plan_chain(const Ruleset *ruleset, const struct nftnl_chain *chain,
                      const Profile *profile, const ChainPlace *named, GatePlan *plan,
                      char **ret_problem) {
        bool wants_doubts = plan->wants_doubts;
        int r;

        /* what an uplink is needed for is no doubt where it is known */
        plan->wants_doubts &= !*ruleset->uplinks[0].name && !*ruleset->uplinks[1].name;
        r = plan_for_uplink(ruleset, chain, NULL, profile, named, plan, ret_problem);
        plan->wants_doubts = wants_doubts;
        for (size_t i = 0; r == GATE_OK && i < RULESET_UPLINKS; i++)
                if (*ruleset->uplinks[i].name &&
                    (i == 0 || strcmp(ruleset->uplinks[i].name, ruleset->uplinks[0].name) != 0))
                        r = plan_for_uplink(ruleset, chain, &ruleset->uplinks[i], profile, named,
                                            plan, ret_problem);
        return r;
}

static bool table_is_dormant(const Ruleset *ruleset, const struct nftnl_chain *chain) {
        const struct nftnl_table *table =
                ruleset_find_table(ruleset, nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                   nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE));

        return table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT;
}

int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem) {
        GatePlan plan = {
                .wants_doubts = ret->wants_doubts,
                .spare_firewalld = ret->spare_firewalld,
        };
        ChainPlace named = {};
        int r;

        if (legacy && *legacy)
                return gate_refuse(
                        ret_problem,
                        "Legacy iptables is loaded (%s), and what it denies cannot be seen from "
                        "here: move to iptables-nft or nftables and unload it, or use Type=none "
                        "if the port is open",
                        legacy);
        if (profile->chain) {
                r = plan_named_chain(ruleset, profile, &named, ret_problem);
                if (r == GATE_OK)
                        r = check_table(ruleset, &named, ret_problem);
                if (r == GATE_OK)
                        r = plan_add(&plan, &named);
                if (r != GATE_OK)
                        return r;
        }
        for (size_t i = 0; i < ruleset->n_chains; i++) {
                if (table_is_dormant(ruleset, ruleset->chains[i]))
                        continue;
                r = plan_chain(ruleset, ruleset->chains[i], profile, profile->chain ? &named : NULL,
                               &plan, ret_problem);
                if (r == -E2BIG)
                        return gate_refuse(
                                ret_problem,
                                "More than %d chains deny on the input hook: merge some of them, "
                                "or use Type=none",
                                GATE_PLACES_MAX);
                if (r != GATE_OK)
                        return r;
        }
        *ret = plan;
        return GATE_OK;
}
