/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The pre-flight: what opening a profile's door would do, in findings for a person. Opens nothing.
 */

#include <errno.h>
#include <linux/netfilter.h>
#include <postern/cleanup.h>
#include <postern/door-internal.h>
#include <postern/legacy-iptables.h>
#include <postern/port-fate.h>
#include <stdio.h>

enum { SUBJECT_MAX = FINDING_SUBJECT_MAX };

static void name_chain(const ChainPlace *place, char ret[SUBJECT_MAX]) {
        (void) snprintf(ret, SUBJECT_MAX, "%s %s %s", family_to_string(place->family), place->table,
                        place->chain);
}

static void report_place(const ChainPlace *place, Findings *findings) {
        char subject[SUBJECT_MAX];

        name_chain(place, subject);
        if (place->first)
                findings_add(findings, FINDING_OK, subject,
                             "a window opens at the head of this chain");
        else if (place->before)
                findings_add(findings, FINDING_OK, subject,
                             "a window opens here, right before the rule with handle %llu, which "
                             "denies the rest",
                             (unsigned long long) place->before);
        else
                findings_add(findings, FINDING_OK, subject,
                             "a window opens here, at the end of the chain, before the rest is "
                             "denied");
}

static void report_doubt(const ChainPlace *place, Findings *findings) {
        char subject[SUBJECT_MAX];

        name_chain(place, subject);
        findings_add(findings, FINDING_NOTE, subject,
                     "a rule with conditions sends packets here, and this chain denies them: if "
                     "the certificate authority's come this way, name the chain in Chain=");
}

/* To whom, behind "a window". */
static const char *what_opens(const Profile *profile) {
        if (profile->reach_renewal)
                return "leads everybody to sockets of the renewal's own, and to nobody else's";
        if (profile->open_on_challenge)
                return "opens it to everybody while a token is there";
        return "opens it to everybody";
}

/* Of a port, for a person: now, and during a window. */
static void report_change(const Profile *profile, const char *subject, const PortAnswer *now,
                          const PortAnswer *during, Findings *findings) {
        static const char some[] = ", except for whom rules about addresses, interfaces or rates "
                                   "say otherwise";
        const char *except_now = now->exceptions ? some : "";
        const char *except_during = during->exceptions ? some : "";
        char chain[SUBJECT_MAX] = "";

        if (during->fate != PORT_OPEN)
                name_chain(&during->decider, chain);
        switch (during->fate) {
        case PORT_OPEN:
        case PORT_UNTRACKED: /* and no window: gate-ports.c refuses it */
                if (now->fate == during->fate)
                        findings_add(findings, FINDING_NOTE, subject,
                                     "is open to everybody already%s%s", except_now,
                                     profile->reach_renewal
                                             ? ", so that Reach=renewal keeps nobody out"
                                             : "");
                else
                        findings_add(findings, FINDING_OK, subject, "is shut now%s; a window %s%s",
                                     except_now, what_opens(profile), except_during);
                return;
        case PORT_SHUT:
                findings_add(findings, during->exceptions ? FINDING_NOTE : FINDING_ERROR, subject,
                             "stays shut during a window%s: a rule in chain %s denies it before "
                             "the window's rule. Take that rule out, name another chain in Chain=, "
                             "or see Precedence=first",
                             except_during, chain);
                return;
        case PORT_REDIRECTED:
                findings_add(findings, FINDING_NOTE, subject,
                             "is sent elsewhere by chain %s before the input hook%s, as for a "
                             "container that publishes it: this host's windows have no say in that",
                             chain, except_during);
                return;
        }
}

static int report_port(const PortQuestion *question, const Profile *profile, uint32_t family,
                       const Port *port, Findings *findings) {
        PortQuestion before = *question;
        PortAnswer now, during;
        char subject[32];
        int r;

        (void) snprintf(subject, sizeof(subject), "%s:%u/%s",
                        family == NFPROTO_IPV4 ? "IPv4" : "IPv6", port->number,
                        protocol_to_string(port->protocol));
        before.n_places = 0;
        r = port_fate(&before, family, port, &now);
        if (r == 0)
                r = port_fate(question, family, port, &during);
        if (r == -E2BIG) {
                findings_add(findings, FINDING_NOTE, subject,
                             "whether it is open now is not known: the ruleset has too many rules "
                             "to follow each of them for that");
                return 0;
        }
        if (r == 0)
                report_change(profile, subject, &now, &during, findings);
        return r;
}

static const uint32_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

static int report_ports(Door *door, const Profile *profile, const Ruleset *ruleset,
                        const GatePlan *plan, Findings *findings) {
        unsigned n_rules = 0;
        PortQuestion question = {
                .ruleset = ruleset,
                .query = &door->installation.query,
                .places = plan->places,
                .n_places = plan->n_places,
                .n_rules = &n_rules,
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < profile->n_ports; i++)
                for (size_t k = 0; r == 0 && k < ELEMENTS(families); k++)
                        r = report_port(&question, profile, families[k], &profile->ports[i],
                                        findings);
        return r;
}

bool door_host_admits(Door *door, const Profile *profile) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        Netlink *query = &door->installation.query;
        unsigned n_rules = 0;
        PortQuestion question = {.query = query, .n_rules = &n_rules};
        PortAnswer answer;

        if (!query->socket || ruleset_read(query, &ruleset) < 0)
                return false;
        question.ruleset = ruleset;
        for (size_t i = 0; i < profile->n_ports; i++)
                for (size_t k = 0; k < ELEMENTS(families); k++)
                        if (port_fate(&question, families[k], &profile->ports[i], &answer) == 0 &&
                            (answer.fate == PORT_OPEN || answer.fate == PORT_REDIRECTED))
                                return true;
        return false;
}

/* What firewalld says of the ports is not read here, and what the chains say of them is no answer.
 */
static void report_firewalld(const GatePlan *plan, Findings *findings) {
        findings_add(findings, FINDING_OK, "firewalld",
                     "runs, and a window opens its ports in firewalld's zones: `firewall-cmd "
                     "--list-all-zones` shows what is open there now");
        for (size_t i = 0; i < plan->n_places; i++)
                report_place(&plan->places[i], findings);
}

int door_check(Door *door, const Profile *profile, bool firewalld_runs, Findings *findings) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        _cleanup_free_ char *problem = NULL;
        char legacy[LEGACY_IPTABLES_MAX];
        bool in_firewalld =
                profile->gate == GATE_FIREWALLD || (profile->gate == GATE_AUTO && firewalld_runs);
        GatePlan plan = {.wants_doubts = true, .spare_firewalld = in_firewalld};
        int r;

        if (profile->n_ports == 0 || profile->gate == GATE_NONE) {
                findings_add(findings, FINDING_OK, "firewall",
                             "nothing is opened: the renewal runs as it is");
                return 0;
        }
        if (legacy_iptables_read(legacy, sizeof(legacy)) < 0)
                findings_add(findings, FINDING_NOTE, "iptables",
                             "whether legacy iptables is loaded can be seen by root alone; a "
                             "window looks before it opens");
        r = installation_check(&door->installation, profile, legacy, &ruleset, &plan, &problem);
        if (r < 0) {
                findings_add(findings, FINDING_ERROR, "nftables", "%s", installation_explain(r));
                return r == -ENOMEM ? r : 0;
        }
        if (r == GATE_REFUSED) {
                findings_add(findings, FINDING_ERROR, "nftables", "%s", problem);
                return 0;
        }
        if (in_firewalld && !firewalld_runs) {
                findings_add(findings, FINDING_ERROR, "firewalld",
                             "does not run: `systemctl start firewalld`, or write Type=auto");
                return 0;
        }
        if (in_firewalld) {
                report_firewalld(&plan, findings);
                return 0;
        }
        if (profile->gate == GATE_COMMAND)
                findings_add(findings, FINDING_OK, "firewall elsewhere",
                             "OpenCommand= opens it and CloseCommand= closes it, which this does "
                             "not try; what it admits after the window is dropped here until it "
                             "is closed");
        if (plan.n_places == 0 && profile->gate == GATE_COMMAND)
                findings_add(findings, FINDING_NOTE, "nftables",
                             "no chain on the input hook denies by default, so it is the firewall "
                             "elsewhere alone that keeps these ports shut outside of windows");
        else if (plan.n_places == 0)
                findings_add(findings, FINDING_NOTE, "nftables",
                             "no chain on the input hook denies by default, so a window would "
                             "open nothing");
        for (size_t i = 0; i < plan.n_places; i++)
                report_place(&plan.places[i], findings);
        for (size_t i = 0; i < plan.n_doubts; i++)
                report_doubt(&plan.doubts[i], findings);
        return report_ports(door, profile, ruleset, &plan, findings);
}
