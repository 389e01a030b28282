/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Each port, in each family, as a stranger's connection would come to it. See the header. */

#include <errno.h>
#include <linux/netfilter.h>
#include <postern/gate-ports.h>
#include <postern/port-fate.h>

static int refuse_port(const PortAnswer *answer, uint32_t family, const Port *port,
                       char **ret_problem) {
        const ChainPlace *by = &answer->decider;
        const char *version = family == NFPROTO_IPV4 ? "IPv4" : "IPv6";
        const char *protocol = protocol_to_string(port->protocol);

        switch (answer->fate) {
        case PORT_OPEN:
                break;
        case PORT_SHUT:
                if (answer->exceptions) /* it may be open to those whom it is for */
                        break;
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s denies port %u/%s (%s) before a packet comes to the input "
                        "hook, where a window opens: admit the window's ports in that chain",
                        family_to_string(by->family), by->table, by->chain, port->number, protocol,
                        version);
        case PORT_REDIRECTED:
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s sends port %u/%s (%s) elsewhere before a packet comes to "
                        "the input hook, where a window opens, as Docker does for a published "
                        "port: if a container answers the challenge there, use Type=none; if it "
                        "is another port of this host, write that one into Ports=; else take the "
                        "port out there",
                        family_to_string(by->family), by->table, by->chain, port->number, protocol,
                        version);
        case PORT_UNTRACKED:
                return gate_refuse(
                        ret_problem,
                        "Chain %s %s %s takes port %u/%s (%s) out of connection tracking "
                        "(notrack), without which a window cannot be told from the rest: track "
                        "the window's ports there",
                        family_to_string(by->family), by->table, by->chain, port->number, protocol,
                        version);
        }
        return GATE_OK;
}

int gate_ports_check(const Ruleset *ruleset, Netlink *query, const Profile *profile,
                     const GatePlan *plan, char **ret_problem) {
        static const uint32_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};
        unsigned n_rules = 0;
        PortQuestion question = {.ruleset = ruleset, .query = query, .n_rules = &n_rules};
        PortAnswer answer;
        int r;

        if (plan->n_places == 0)
                return GATE_OK;
        for (size_t i = 0; i < profile->n_ports; i++)
                for (size_t k = 0; k < ELEMENTS(families); k++) {
                        r = port_fate_early(&question, families[k], &profile->ports[i], &answer);
                        if (r == -E2BIG)
                                return GATE_OK;
                        if (r == 0)
                                r = refuse_port(&answer, families[k], &profile->ports[i],
                                                ret_problem);
                        if (r != GATE_OK)
                                return r;
                }
        return GATE_OK;
}

int gate_plan(const Ruleset *ruleset, Netlink *query, const Profile *profile, const char *legacy,
              GatePlan *ret, char **ret_problem) {
        int r;

        r = gate_nftables_plan(ruleset, profile, legacy, ret, ret_problem);
        return r == GATE_OK ? gate_ports_check(ruleset, query, profile, ret, ret_problem) : r;
}
