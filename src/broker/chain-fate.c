/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A chain's fate is followed along its rules without conditions: accept, drop, reject, jump and
 * goto. Rules with conditions say something about some packets only, so they decide nothing; where
 * one of them leads to a chain that denies, that is a doubt, and the admin may settle it.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/chain-fate.h>
#include <postern/gate-nftables.h>
#include <postern/gate-rule.h>
#include <postern/profile-value.h>
#include <postern/rule-meaning.h>

enum {
        JUMP_DEPTH_MAX = 16,
        /* Jumps that branch are followed each time: sixteen deep, that would be without end. The
         * largest hosts follow some dozens. */
        CHAINS_MAX = 1024,
        CHAINS_ASIDE_MAX = 256, /* of them, after rules with conditions */
};

/* A chain on the way, up to where it is decided or left. */
typedef struct Trail {
        /* A rule that denies some kinds of packets, or so many of them, right before the end of a
         * chain that denies the rest (`meta l4proto tcp reject with tcp reset`, `limit rate
         * 5/second reject`) is a part of that denial: what should pass has to pass before it. So is
         * one that logs what is about to be denied. The handle of the first of them, or 0. */
        uint64_t partial;
        bool picks;       /* rules with conditions may have denied somebody, or led elsewhere */
        ChainPlace place; /* where it ended: by a denial or by being left */
} Trail;

static int follow_chain(ChainReader *reader, const char *chain, unsigned depth, Trail *ret_trail,
                        Fate *ret);

/* A rule with conditions that leads to a denial is no denial, but worth a word. */
static int note_doubt(ChainReader *reader, const RuleMeaning *meaning, unsigned depth) {
        ChainReader aside = *reader;
        Trail trail;
        Fate fate;
        int r;

        if (!reader->doubts || reader->n_doubts == CHAIN_DOUBTS_MAX || !meaning->target ||
            reader->n_aside >= CHAINS_ASIDE_MAX)
                return 0;
        aside.doubts = NULL;
        aside.n_followed = CHAINS_MAX - CHAINS_ASIDE_MAX + reader->n_aside;
        r = follow_chain(&aside, meaning->target, depth + 1, &trail, &fate);
        reader->n_aside = aside.n_followed - (CHAINS_MAX - CHAINS_ASIDE_MAX);
        if (r == -ELOOP) /* only a word is missing then */
                return 0;
        if (r < 0)
                return r;
        /* what cannot be shown is no help to anybody */
        if (fate == FATE_DENIED && value_is_printable(reader->table) &&
            value_is_printable(meaning->target))
                reader->doubts[reader->n_doubts++] = (ChainPlace){
                        .family = reader->family,
                        .table = reader->table,
                        .chain = meaning->target,
                };
        return 0;
}

/* Does anything else lead there, a rule or an element of a map? The kernel counts what does, and
 * the chain's rules with it. */
static bool chain_is_shared(const ChainReader *reader, const char *name) {
        const struct nftnl_chain *chain;
        uint32_t n_rules = 0;
        size_t cursor = 0;

        chain = ruleset_find_chain(reader->ruleset, reader->family, reader->table, name);
        if (!chain || !nftnl_chain_is_set(chain, NFTNL_CHAIN_USE))
                return true; /* not known to be one rule's own */
        while (ruleset_next_rule(reader->ruleset, reader->family, reader->table, name, &cursor))
                n_rules++;
        return nftnl_chain_get_u32(chain, NFTNL_CHAIN_USE) != n_rules + 1;
}

static ChainPlace place_before(const ChainReader *reader, const char *chain,
                               const struct nftnl_rule *rule, const Trail *trail) {
        return (ChainPlace){
                .family = reader->family,
                .table = reader->table,
                .chain = chain,
                .interface = reader->uplink ? reader->uplink->name : NULL,
                .before = trail->partial ? trail->partial
                          : rule         ? nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE)
                                         : 0,
        };
}

/* *ret_over: nothing after this rule matters. */
static int follow_jump(ChainReader *reader, const char *chain, const struct nftnl_rule *rule,
                       const RuleMeaning *meaning, unsigned depth, Trail *trail, Fate *ret_fate,
                       bool *ret_over) {
        Trail beyond;
        int r;

        if (!meaning->target)
                return -EBADMSG;
        r = follow_chain(reader, meaning->target, depth + 1, &beyond, ret_fate);
        if (r < 0)
                return r;
        /* After a jump that falls through, the next rule; after a goto, none. */
        if (*ret_fate == FATE_FALLS_THROUGH && meaning->judgement == JUDGEMENT_JUMP) {
                trail->partial = 0; /* that chain may have let something through */
                trail->picks |= beyond.picks;
                return 0;
        }
        *ret_over = true;
        if (!chain_is_shared(reader, meaning->target)) {
                trail->place = beyond.place;
                trail->picks |= beyond.picks;
                return 0;
        }
        /* Who is banned is often sent to the chain where the rest ends, too: a rule in there would
         * let them in. One before the jump lets in whom that chain picks out by itself. */
        trail->place = place_before(reader, chain, rule, trail);
        if (beyond.picks)
                reader->ambiguous = meaning->target;
        return 0;
}

static int follow_rule(ChainReader *reader, const char *chain, const struct nftnl_rule *rule,
                       unsigned depth, Trail *trail, Fate *ret_fate, bool *ret_over) {
        bool leads, logs;
        RuleMeaning meaning;
        int r;

        r = rule_read_meaning(rule, reader->uplink, &meaning);
        if (r < 0)
                return r;
        if (meaning.excluded)
                return 0;
        leads = meaning.judgement == JUDGEMENT_RETURN || meaning.judgement == JUDGEMENT_JUMP ||
                meaning.judgement == JUDGEMENT_GOTO;
        logs = meaning.logs && meaning.judgement == JUDGEMENT_NOTHING;
        if (meaning.conditional || meaning.partial) {
                if (meaning.conditional || leads || meaning.judgement == JUDGEMENT_ADMIT)
                        trail->partial = 0;
                else if ((meaning.judgement == JUDGEMENT_DENY || logs) && trail->partial == 0)
                        trail->partial = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);
                trail->picks |= leads || meaning.maps ||
                                (meaning.conditional && meaning.judgement == JUDGEMENT_DENY);
                return note_doubt(reader, &meaning, depth);
        }
        reader->untracks |= meaning.untracks;
        if (logs && trail->partial == 0)
                trail->partial = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);

        switch (meaning.judgement) {
        case JUDGEMENT_NOTHING:
                return 0;
        case JUDGEMENT_JUMP:
        case JUDGEMENT_GOTO:
                return follow_jump(reader, chain, rule, &meaning, depth, trail, ret_fate, ret_over);
        case JUDGEMENT_DENY:
                *ret_fate = FATE_DENIED;
                break;
        case JUDGEMENT_ADMIT:
                *ret_fate = FATE_ADMITTED;
                break;
        case JUDGEMENT_RETURN:
                *ret_fate = FATE_FALLS_THROUGH;
                break;
        }
        trail->place = place_before(reader, chain, rule, trail);
        *ret_over = true;
        return 0;
}

static int follow_chain(ChainReader *reader, const char *chain, unsigned depth, Trail *ret_trail,
                        Fate *ret) {
        const struct nftnl_rule *rule;
        size_t cursor = 0;
        bool over = false;
        int r;

        *ret_trail = (Trail){};
        if (reader->n_followed >= CHAINS_MAX)
                return -ELOOP;
        reader->n_followed++;
        while (depth <= JUMP_DEPTH_MAX &&
               (rule = ruleset_next_rule(reader->ruleset, reader->family, reader->table, chain,
                                         &cursor))) {
                if (gate_is_ours(rule)) /* or a plan would change as it is carried out */
                        continue;
                r = follow_rule(reader, chain, rule, depth, ret_trail, ret, &over);
                if (r < 0 || over)
                        return r;
        }
        ret_trail->place = place_before(reader, chain, NULL, ret_trail);
        *ret = FATE_FALLS_THROUGH;
        return 0;
}

int chain_follow(ChainReader *reader, const char *chain, Fate *ret) {
        Trail trail;
        int r;

        r = follow_chain(reader, chain, 0, &trail, ret);
        if (r == 0 && *ret == FATE_DENIED)
                reader->denial = trail.place;
        return r;
}

int chain_follow_base(ChainReader *reader, const struct nftnl_chain *chain, Fate *ret) {
        Trail trail;
        int r;

        reader->family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
        reader->table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
        r = follow_chain(reader, nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME), 0, &trail, ret);
        if (r < 0)
                return r;
        if (*ret == FATE_FALLS_THROUGH && nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP)
                *ret = FATE_DENIED;
        if (*ret == FATE_DENIED)
                reader->denial = trail.place;
        return 0;
}

ChainHook chain_hook(const struct nftnl_chain *chain) {
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
                __attribute__((fallthrough));
        case NFPROTO_IPV4:
        case NFPROTO_IPV6:
                return hook == NF_INET_LOCAL_IN      ? HOOK_INPUT
                       : hook == NF_INET_PRE_ROUTING ? HOOK_EARLIER
                                                     : HOOK_OTHER;
        default:
                return HOOK_OTHER;
        }
}
