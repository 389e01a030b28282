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
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GATE_COMMENT "postern:gate"

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
        bool conditional;
        bool untracks;
        const char *target; /* of a jump or goto */
} RuleMeaning;

typedef enum Fate {
        FATE_FALLS_THROUGH,
        FATE_DENIED,
        FATE_ADMITTED,
} Fate;

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
                        meaning->conditional = true; /* loaded to be compared */
        } else if (strcmp(name, "ct") == 0) {
                if (!nftnl_expr_is_set(expr, NFTNL_EXPR_CT_SREG))
                        meaning->conditional = true;
        } else if (strcmp(name, "counter") != 0 && strcmp(name, "log") != 0 &&
                   strcmp(name, "last") != 0)
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

typedef struct Reader {
        const Ruleset *ruleset;
        uint32_t family;
        const char *table;
        GatePlace denial; /* set when the fate is FATE_DENIED */
        bool untracks;    /* an unconditional notrack was passed */
        GatePlan *doubts; /* where to note doubts; NULL: nowhere */
} Reader;

static int follow_chain(Reader *reader, const char *chain, unsigned depth, Fate *ret);

/* A rule with conditions that leads to a denial is no denial, but worth a word. */
static int note_doubt(Reader *reader, const RuleMeaning *meaning, unsigned depth) {
        Reader aside = *reader;
        Fate fate;
        int r;

        if (!reader->doubts || reader->doubts->n_doubts == GATE_DOUBTS_MAX || !meaning->target)
                return 0;
        aside.doubts = NULL;
        r = follow_chain(&aside, meaning->target, depth + 1, &fate);
        if (r < 0)
                return r;
        if (fate == FATE_DENIED)
                reader->doubts->doubts[reader->doubts->n_doubts++] = (GatePlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = meaning->target,
                };
        return 0;
}

static int follow_rule(Reader *reader, const char *chain, const struct nftnl_rule *rule,
                       unsigned depth, Fate *ret_fate, bool *ret_over) {
        RuleMeaning meaning;
        int r;

        *ret_over = false;
        r = read_rule(rule, &meaning);
        if (r < 0)
                return r;
        if (meaning.conditional)
                return note_doubt(reader, &meaning, depth);
        reader->untracks |= meaning.untracks;

        switch (meaning.judgement) {
        case JUDGEMENT_NOTHING:
                return 0;
        case JUDGEMENT_DENY:
                reader->denial = (GatePlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = chain,
                        .before = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE),
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
                if (*ret_fate == FATE_FALLS_THROUGH && meaning.judgement == JUDGEMENT_JUMP)
                        return 0;
                break;
        }
        *ret_over = true;
        return 0;
}

static int follow_chain(Reader *reader, const char *chain, unsigned depth, Fate *ret) {
        const struct nftnl_rule *rule;
        size_t cursor = 0;
        bool over;
        int r;

        *ret = FATE_FALLS_THROUGH;
        if (depth > JUMP_DEPTH_MAX)
                return 0;
        while ((rule = ruleset_next_rule(reader->ruleset, reader->family, reader->table, chain,
                                         &cursor))) {
                r = follow_rule(reader, chain, rule, depth, ret, &over);
                if (r < 0 || over)
                        return r;
        }
        *ret = FATE_FALLS_THROUGH;
        return 0;
}

static int follow_base_chain(Reader *reader, const struct nftnl_chain *chain, Fate *ret) {
        const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
        int r;

        reader->family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader->table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        r = follow_chain(reader, name, 0, ret);
        if (r < 0)
                return r;
        if (*ret == FATE_FALLS_THROUGH &&
            nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP) {
                reader->denial = (GatePlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = name,
                };
                *ret = FATE_DENIED;
        }
        return 0;
}

typedef enum Hook {
        HOOK_OTHER,
        HOOK_EARLIER, /* prerouting and ingress: before the input hook */
        HOOK_INPUT,
} Hook;

static Hook chain_hook(const struct nftnl_chain *chain) {
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
                /* fall through */
        case NFPROTO_IPV4:
        case NFPROTO_IPV6:
                return hook == NF_INET_LOCAL_IN      ? HOOK_INPUT
                       : hook == NF_INET_PRE_ROUTING ? HOOK_EARLIER
                                                     : HOOK_OTHER;
        default:
                return HOOK_OTHER;
        }
}

static bool table_is_ours(uint32_t family, const char *table) {
        return family == NFPROTO_INET &&
               (strcmp(table, LEASE_TABLE) == 0 || strcmp(table, GUARD_TABLE) == 0);
}

static bool table_is_xtables(uint32_t family, const char *table) {
        static const char *const names[] = {"filter", "nat", "mangle", "raw", "security"};

        if (family != NFPROTO_IPV4 && family != NFPROTO_IPV6)
                return false;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strcmp(names[i], table) == 0)
                        return true;
        return false;
}

static int refuse(char **ret_problem, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
static int refuse(char **ret_problem, const char *format, ...) {
        va_list arguments;
        char *text;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return -ENOMEM;
        *ret_problem = text;
        return GATE_REFUSED;
}

/* A table that this gate must not or cannot write to. */
static int check_table(const Ruleset *ruleset, const GatePlace *place, char **ret_problem) {
        const struct nftnl_table *table = ruleset_find_table(ruleset, place->family, place->table);
        const char *family = family_to_string(place->family);

        if (place->family == NFPROTO_INET && strcmp(place->table, "firewalld") == 0)
                return refuse(ret_problem,
                              "Chain %s %s %s denies and is firewalld's, which this version cannot "
                              "ask to open a port: open the port in firewalld and use Type=none",
                              family, place->table, place->chain);
        if (table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_OWNER)
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies, and the program with netlink port %u owns its "
                        "table, so nobody else can add a rule: have that program admit the port "
                        "and use Type=none",
                        family, place->table, place->chain,
                        nftnl_table_get_u32(table, NFTNL_TABLE_OWNER));
        if (table_is_xtables(place->family, place->table))
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies and is in a table that iptables or ufw manages, "
                        "which this version leaves alone: move the rules to a native nftables "
                        "table, or open the port there and use Type=none",
                        family, place->table, place->chain);
        return GATE_OK;
}

static bool same_table(const GatePlace *a, const GatePlace *b) {
        return a->family == b->family && strcmp(a->table, b->table) == 0;
}

bool gate_place_equals(const GatePlace *a, const GatePlace *b) {
        return same_table(a, b) && strcmp(a->chain, b->chain) == 0 && a->before == b->before &&
               a->first == b->first;
}

static int plan_add(GatePlan *plan, const GatePlace *place) {
        for (size_t i = 0; i < plan->n_places; i++)
                if (gate_place_equals(&plan->places[i], place))
                        return 0;
        if (plan->n_places == GATE_PLACES_MAX)
                return -E2BIG;
        plan->places[plan->n_places++] = *place;
        return 0;
}

/* Chain= of the profile: before the rule in it that denies, else at its end. */
static int plan_named_chain(const Ruleset *ruleset, const Profile *profile, GatePlace *ret,
                            char **ret_problem) {
        char family[16] = "", table[256] = "", name[256] = "";
        const struct nftnl_chain *chain = NULL;
        Reader reader = {.ruleset = ruleset};
        Fate fate;
        int number, r;

        if (sscanf(profile->chain, "%15s %255s %255s", family, table, name) == 3) {
                number = family_from_string(family);
                if (number >= 0)
                        chain = ruleset_find_chain(ruleset, number, table, name);
        }
        if (!chain)
                return refuse(ret_problem,
                              "Chain=%s names a chain that does not exist: `nft list chains` shows "
                              "those that do",
                              profile->chain);
        reader.family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader.table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        *ret = (GatePlace){
                .family = reader.family,
                .table = reader.table,
                .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
        };
        if (profile->precedence == PRECEDENCE_FIRST) {
                ret->first = true;
                return GATE_OK;
        }
        r = follow_chain(&reader, ret->chain, 0, &fate);
        if (r < 0)
                return r;
        if (fate == FATE_DENIED)
                *ret = reader.denial;
        return GATE_OK;
}

static int plan_chain(const Ruleset *ruleset, const struct nftnl_chain *chain,
                      const Profile *profile, const GatePlace *named, GatePlan *plan,
                      char **ret_problem) {
        Reader reader = {.ruleset = ruleset, .doubts = plan};
        Hook hook = chain_hook(chain);
        GatePlace place;
        Fate fate;
        int r;

        if (hook == HOOK_OTHER || table_is_ours(nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                                nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE)))
                return GATE_OK;
        if (hook == HOOK_EARLIER)
                reader.doubts = NULL;
        r = follow_base_chain(&reader, chain, &fate);
        if (r < 0)
                return r;
        place = reader.denial;

        if (hook == HOOK_EARLIER) {
                if (reader.untracks)
                        return refuse(
                                ret_problem,
                                "Chain %s %s %s takes every packet out of connection tracking "
                                "(notrack), without which a window cannot be told from the rest: "
                                "track at least the window's ports there",
                                family_to_string(reader.family), reader.table,
                                nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
                if (fate != FATE_DENIED)
                        return GATE_OK;
                return refuse(
                        ret_problem,
                        "Chain %s %s %s denies by default before a packet comes to the input hook, "
                        "where a window opens: admit the window's ports in that chain, or move its "
                        "denial to the input hook",
                        family_to_string(place.family), place.table, place.chain);
        }
        if (fate != FATE_DENIED)
                return GATE_OK;
        /* The admin has named the right chain of this table. */
        if (named && same_table(named, &place))
                return GATE_OK;
        if (profile->precedence == PRECEDENCE_FIRST)
                place = (GatePlace){
                        .family = place.family,
                        .table = place.table,
                        .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
                        .first = true,
                };
        r = check_table(ruleset, &place, ret_problem);
        if (r != GATE_OK)
                return r;
        return plan_add(plan, &place);
}

static bool table_is_dormant(const Ruleset *ruleset, const struct nftnl_chain *chain) {
        const struct nftnl_table *table =
                ruleset_find_table(ruleset, nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                                   nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE));

        return table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT;
}

int gate_nftables_plan(const Ruleset *ruleset, const Profile *profile, const char *legacy,
                       GatePlan *ret, char **ret_problem) {
        GatePlace named = {};
        GatePlan plan = {};
        int r;

        if (legacy && *legacy)
                return refuse(
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
                        return refuse(
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

static int gate_draw(const GatePlace *place, const LeaseMarks *marks, struct nftnl_rule **ret) {
        RuleWriter writer = rule_begin(place->family, place->table, place->chain);

        rule_match_label(&writer, &marks->wanted, true);
        rule_set_label(&writer, &marks->gated);
        rule_count(&writer);
        rule_verdict(&writer, NF_ACCEPT, NULL);
        rule_comment(&writer, GATE_COMMENT);
        return rule_finish(&writer, ret);
}

int gate_add(const GatePlace *place, const LeaseMarks *marks, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;
        struct nftnl_rule *rule;
        int r;

        r = gate_draw(place, marks, &rule);
        if (r < 0)
                return r;
        if (place->before)
                nftnl_rule_set_u64(rule, NFTNL_RULE_POSITION, place->before);
        /* Without APPEND a rule goes before its position, or to the head of the chain. */
        message = batch_message(batch, netlink, NFT_MSG_NEWRULE,
                                NLM_F_CREATE | (place->first || place->before ? 0 : NLM_F_APPEND),
                                place->family);
        nftnl_rule_nlmsg_build_payload(message, rule);
        batch_push(batch, message);
        nftnl_rule_free(rule);
        return 0;
}

void gate_delete(const struct nftnl_rule *rule, Batch *batch, Netlink *netlink) {
        struct nlmsghdr *message;

        message = batch_message(batch, netlink, NFT_MSG_DELRULE, 0,
                                nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY));
        mnl_attr_put_strz(message, NFTA_RULE_TABLE, nftnl_rule_get_str(rule, NFTNL_RULE_TABLE));
        mnl_attr_put_strz(message, NFTA_RULE_CHAIN, nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
        mnl_attr_put_u64(message, NFTA_RULE_HANDLE,
                         htobe64(nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE)));
        batch_push(batch, message);
}

bool gate_is_ours(const struct nftnl_rule *rule) {
        Label labels;

        if (!rule_has_comment(rule, GATE_COMMENT))
                return false;
        /* An admin may write any comment; only a rule that also reads like ours is ours. */
        labels = rule_labels(rule);
        return !label_is_empty(&labels);
}

bool gate_stands(const GatePlace *place, const LeaseMarks *marks, const Ruleset *ruleset) {
        struct nftnl_rule *wanted;
        const struct nftnl_rule *rule;
        bool seen = false, right = false, other_before = false;
        size_t cursor = 0;

        if (gate_draw(place, marks, &wanted) < 0)
                return false; /* not known to stand */
        while ((rule = ruleset_next_rule(ruleset, place->family, place->table, place->chain,
                                         &cursor))) {
                if (gate_is_ours(rule)) {
                        if (rule_equals(rule, wanted))
                                seen = right = place->first ? !other_before : true;
                        continue;
                }
                other_before = true;
                if (place->first || !seen)
                        continue;
                /* The rule after ours: it must be the one that denies. */
                if (nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE) != place->before)
                        right = false;
                if (place->before)
                        break;
        }
        nftnl_rule_free(wanted);
        return right;
}
