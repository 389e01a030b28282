/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * port-fate: who comes through the host's ruleset to a port, with or without a window's rules.
 *
 * Where chain-fate.h asks what becomes of a packet that no rule has anything particular to say
 * about, this asks about a port, rule by rule: a port may be open although the chain denies the
 * rest, or dropped by a rule of its own before the window's. For advice alone, but for what becomes
 * of it before the input hook: gate-ports.h.
 */

#include <postern/chain-fate.h>
#include <postern/packet.h>
#include <postern/ruleset.h>

/* Rules that are looked at for one pre-flight; some 50 ms. */
enum { PORT_RULES_MAX = 150000 };

typedef enum PortFate {
        PORT_OPEN,
        PORT_SHUT,
        PORT_REDIRECTED, /* to another port or host, before the input hook */
        PORT_UNTRACKED,  /* it gets in, but no window can tell it from the rest */
} PortFate;

typedef struct PortAnswer {
        PortFate fate;   /* of a stranger's connection */
        bool exceptions; /* not everybody's: rules about addresses, interfaces or rates */
        ChainPlace
                decider; /* with PORT_SHUT, PORT_REDIRECTED, PORT_UNTRACKED: family, table, chain */
} PortAnswer;

typedef struct PortQuestion {
        const Ruleset *ruleset;
        Netlink *query;           /* asks sets for single elements */
        const ChainPlace *places; /* where a window's rules would stand */
        size_t n_places;          /* 0: without a window */
        unsigned *n_rules;        /* in and out: looked at so far, of PORT_RULES_MAX */
} PortQuestion;

/* family: NFPROTO_IPV4 or NFPROTO_IPV6. 0; -E2BIG: there are too many rules to tell; or -ENOMEM.
 * What stands of ours is left out. The decider's strings are the ruleset's. */
int port_fate(const PortQuestion *question, uint32_t family, const Port *port, PortAnswer *ret);
/* The same up to the input hook: PORT_OPEN is what comes there. */
int port_fate_early(const PortQuestion *question, uint32_t family, const Port *port,
                    PortAnswer *ret);
