/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Each chain is followed once, with two answers at a time: what becomes of the guessed packet, and
 * what may become of anybody's. A rule that surely matches ends both; one that may match ends one
 * of them, and adds to the other.
 */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/cleanup.h>
#include <postern/gate-nftables.h>
#include <postern/gate-rule.h>
#include <postern/guard.h>
#include <postern/port-fate.h>
#include <string.h>

enum { JUMPS_MAX = 16 };

typedef enum Ending {
        ENDING_FALLS = 1 << 0, /* off the end of the chain, or returns */
        ENDING_ACCEPT = 1 << 1,
        ENDING_DROP = 1 << 2,
        ENDING_REDIRECT = 1 << 3,
} Ending;

typedef struct Outlook {
        bool known;
        Ending guess;
        unsigned possible; /* Endings */
        ChainPlace decider;
} Outlook;

typedef struct Walk {
        const PortQuestion *question;
        Packet packet;
        ChainPlace untracker; /* where the packet was taken out of connection tracking */
        Outlook *outlooks;    /* of each chain of the ruleset */
} Walk;

static int follow(Walk *walk, size_t chain, unsigned depth);

static ssize_t find_chain(const Ruleset *ruleset, uint32_t family, const char *table,
                          const char *name) {
        const struct nftnl_chain *chain = ruleset_find_chain(ruleset, family, table, name);

        for (size_t i = 0; chain && i < ruleset->n_chains; i++)
                if (ruleset->chains[i] == chain)
                        return (ssize_t) i;
        return -1;
}

static ChainPlace place_of(const struct nftnl_chain *chain) {
        return (ChainPlace){
                .family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY),
                .table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE),
                .chain = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
        };
}

/* What becomes of packets that a rule matches. */
static int judge(Walk *walk, const ChainPlace *here, const Encounter *encounter, unsigned depth,
                 Outlook *ret) {
        ssize_t chain;
        int r;

        *ret = (Outlook){.decider = *here};
        switch (encounter->act) {
        case ACT_NOTHING:
                ret->guess = ENDING_FALLS;
                break;
        case ACT_ACCEPT:
                ret->guess = ENDING_ACCEPT;
                break;
        case ACT_DROP:
                ret->guess = ENDING_DROP;
                break;
        case ACT_RETURN:
                ret->guess = ENDING_FALLS;
                break;
        case ACT_REDIRECT:
                ret->guess = ENDING_REDIRECT;
                break;
        case ACT_ANY:
                ret->guess = ENDING_ACCEPT;
                ret->possible = ENDING_ACCEPT | ENDING_DROP;
                return 0;
        case ACT_JUMP:
        case ACT_GOTO:
                chain = encounter->target ? find_chain(walk->question->ruleset, here->family,
                                                       here->table, encounter->target)
                                          : -1;
                if (chain < 0 || depth >= JUMPS_MAX) {
                        ret->guess = ENDING_FALLS;
                        break;
                }
                r = follow(walk, (size_t) chain, depth + 1);
                if (r < 0)
                        return r;
                *ret = walk->outlooks[chain];
                return 0;
        }
        ret->possible = ret->guess;
        return 0;
}

/* A window's rule stands before this one, or, with NULL, at the end. */
static bool is_place(const Walk *walk, const ChainPlace *here, const struct nftnl_rule *rule,
                     bool at_head) {
        for (size_t i = 0; i < walk->question->n_places; i++) {
                const ChainPlace *place = &walk->question->places[i];

                if (place->family != here->family || strcmp(place->table, here->table) != 0 ||
                    strcmp(place->chain, here->chain) != 0)
                        continue;
                if (place->first ? at_head
                    : rule       ? place->before == nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE)
                                 : place->before == 0)
                        return true;
        }
        return false;
}

/* Adds what one rule does. True: nothing goes on behind it. */
static bool add(Outlook *outlook, bool *guessing, const Encounter *encounter, const Outlook *rule) {
        bool goes_on = encounter->act == ACT_NOTHING || encounter->act == ACT_JUMP;
        unsigned ends = goes_on ? rule->possible & ~(unsigned) ENDING_FALLS : rule->possible;

        outlook->possible |= ends;
        if (*guessing && encounter->matches && !(goes_on && rule->guess == ENDING_FALLS)) {
                outlook->guess = rule->guess;
                outlook->decider = rule->decider;
                *guessing = false;
        }
        return encounter->matches && encounter->sure && !(goes_on && rule->possible & ENDING_FALLS);
}

static int follow_rules(Walk *walk, const ChainPlace *here, unsigned depth, Outlook *outlook) {
        const Ruleset *ruleset = walk->question->ruleset;
        const Encounter window = {.matches = true, .sure = true, .act = ACT_ACCEPT};
        const struct nftnl_rule *rule;
        bool guessing = true, at_head = true;
        Encounter encounter;
        size_t cursor = 0;
        Outlook does;
        int r;

        for (;;) {
                rule = ruleset_next_rule(ruleset, here->family, here->table, here->chain, &cursor);
                if (rule && gate_is_ours(rule))
                        continue;
                if (is_place(walk, here, rule, at_head)) {
                        r = judge(walk, here, &window, depth, &does);
                        if (r < 0)
                                return r;
                        (void) add(outlook, &guessing, &window, &does);
                        return 0;
                }
                at_head = false;
                if (!rule)
                        break;
                if (++*walk->question->n_rules > PORT_RULES_MAX)
                        return -E2BIG;
                r = packet_meet(&walk->packet, rule, &encounter);
                if (r < 0)
                        return r;
                if (!encounter.matches && encounter.sure)
                        continue;
                if (encounter.untracks && encounter.matches) {
                        walk->packet.untracked = true;
                        walk->untracker = *here;
                }
                r = judge(walk, here, &encounter, depth, &does);
                if (r < 0)
                        return r;
                if (add(outlook, &guessing, &encounter, &does))
                        return 0;
        }
        outlook->possible |= ENDING_FALLS;
        if (guessing)
                outlook->guess = ENDING_FALLS;
        return 0;
}

/* The same for every way that leads to it, so it is followed once. */
static int follow(Walk *walk, size_t chain, unsigned depth) {
        ChainPlace here = place_of(walk->question->ruleset->chains[chain]);
        Outlook outlook = {.known = true};
        int r;

        if (walk->outlooks[chain].known)
                return 0;
        r = follow_rules(walk, &here, depth, &outlook);
        if (r == 0)
                walk->outlooks[chain] = outlook;
        return r;
}

static bool is_about(const Ruleset *ruleset, const struct nftnl_chain *chain, uint32_t family,
                     ChainHook hook) {
        uint32_t of = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        const struct nftnl_table *table = ruleset_find_table(ruleset, of, name);

        if (chain_hook(chain) != hook ||
            (of != family && of != NFPROTO_INET && of != NFPROTO_NETDEV))
                return false;
        if (table && nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT)
                return false;
        return of != NFPROTO_INET ||
               (strcmp(name, LEASE_TABLE) != 0 && strcmp(name, GUARD_TABLE) != 0);
}

/* A base chain's vote: accepted there, it goes on to the next. True: that was the last word. */
static bool vote(const struct nftnl_chain *chain, const Outlook *outlook, PortAnswer *answer) {
        bool drops = nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP;
        Ending policy = drops ? ENDING_DROP : ENDING_ACCEPT;
        Ending guess = outlook->guess == ENDING_FALLS ? policy : outlook->guess;
        unsigned possible = outlook->possible & ~(unsigned) ENDING_FALLS;

        if (outlook->possible & ENDING_FALLS)
                possible |= policy;
        if (guess == ENDING_ACCEPT) {
                answer->exceptions |= possible != ENDING_ACCEPT;
                return false;
        }
        answer->fate = guess == ENDING_DROP ? PORT_SHUT : PORT_REDIRECTED;
        answer->exceptions = possible != guess;
        answer->decider = outlook->guess == ENDING_FALLS ? place_of(chain) : outlook->decider;
        return true;
}

/* 1: that was the last word. */
static int ask_hook(Walk *walk, uint32_t family, ChainHook hook, PortAnswer *answer) {
        const Ruleset *ruleset = walk->question->ruleset;
        int r;

        for (size_t i = 0; i < ruleset->n_chains; i++) {
                if (!is_about(ruleset, ruleset->chains[i], family, hook))
                        continue;
                r = follow(walk, i, 0);
                if (r < 0)
                        return r;
                if (vote(ruleset->chains[i], &walk->outlooks[i], answer))
                        return 1;
        }
        return 0;
}

static int ask(const PortQuestion *question, uint32_t family, const Port *port, bool early_only,
               PortAnswer *ret) {
        Walk walk = {
                .question = question,
                .packet.family = family,
                .packet.port = *port,
                .packet.uplink = question->ruleset->uplinks[family == NFPROTO_IPV6],
                .packet.query = question->query,
        };
        PortAnswer answer = {.fate = PORT_OPEN};
        int r;

        walk.outlooks = calloc(question->ruleset->n_chains + 1, sizeof(*walk.outlooks));
        if (!walk.outlooks)
                return -ENOMEM;
        r = ask_hook(&walk, family, HOOK_EARLIER, &answer);
        if (r == 0 && !early_only)
                r = ask_hook(&walk, family, HOOK_INPUT, &answer);
        if (r == 0 && walk.packet.untracked) {
                answer.fate = PORT_UNTRACKED;
                answer.decider = walk.untracker;
        }
        free(walk.outlooks);
        if (r < 0)
                return r;
        *ret = answer;
        return 0;
}

int port_fate(const PortQuestion *question, uint32_t family, const Port *port, PortAnswer *ret) {
        return ask(question, family, port, false, ret);
}

int port_fate_early(const PortQuestion *question, uint32_t family, const Port *port,
                    PortAnswer *ret) {
        return ask(question, family, port, true, ret);
}
