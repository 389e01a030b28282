/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 *     table inet postern_guard
 *       chain early  { hook input, right after the lease's: cut, then bans }
 *       chain recheck { hook input, nearly last }
 *       chain late   { hook input, last: count; take the stamp off }
 *       chain output { hook output, last: no answers on what was cut }
 */

#include <netinet/in.h> /* before the kernel's, which then leave its types alone */
#include <netinet/tcp.h>

#include <errno.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/guard.h>

/* ct label G ct direction original meta priority != STAMP: came in by the gate, its window is shut
 */
static RuleWriter draw_overdue(const Blueprint *blueprint, const char *chain,
                               const LeaseMarks *marks) {
        RuleWriter writer = blueprint_begin_rule(blueprint, chain);

        rule_match_label(&writer, &marks->gated, true);
        rule_match_original(&writer);
        rule_match_stamp(&writer, marks->stamp, false);
        return writer;
}

/* The cut, the same in both tables; from then on no answer goes out, either. A reset is let in, so
 * that the local socket can die of it. An ICMP error about a connection that is in time carries its
 * label, too, but no port: it is none of the cut's business. */
int guard_draw_cut(Blueprint *blueprint, const char *chain, const LeaseMarks *marks) {
        RuleWriter writer;
        int r;

        /* ... tcp flags & rst == 0 ct label set C reject with tcp reset */
        writer = draw_overdue(blueprint, chain, marks);
        rule_match_protocol(&writer, IPPROTO_TCP);
        rule_match_tcp_flags(&writer, TH_RST, 0, true);
        rule_set_label(&writer, &marks->cut);
        rule_count(&writer);
        rule_reset_tcp(&writer);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* ... meta l4proto udp ct label set C drop */
        writer = draw_overdue(blueprint, chain, marks);
        rule_match_protocol(&writer, IPPROTO_UDP);
        rule_set_label(&writer, &marks->cut);
        rule_count(&writer);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

/*
 * ct state new ct label G meta priority != STAMP drop: a gate that cannot see the stamp has let in
 * what no window wants now. Not a reset: the port is shut, and looks as if it had never been open.
 */
int guard_draw_recheck(Blueprint *blueprint, const char *chain, const LeaseMarks *marks) {
        RuleWriter writer = blueprint_begin_rule(blueprint, chain);

        rule_match_new(&writer);
        rule_match_label(&writer, &marks->gated, true);
        rule_match_stamp(&writer, marks->stamp, false);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

static int draw_answers(Blueprint *blueprint, const LeaseMarks *marks) {
        RuleWriter writer;
        int r;

        /* ct label C tcp flags & rst == 0 drop: a client that ignores resets gets nothing more */
        writer = blueprint_begin_rule(blueprint, "output");
        rule_match_label(&writer, &marks->cut, true);
        rule_match_protocol(&writer, IPPROTO_TCP);
        rule_match_tcp_flags(&writer, TH_RST, 0, true);
        rule_verdict(&writer, NF_DROP, NULL);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* ct label C meta l4proto udp drop */
        writer = blueprint_begin_rule(blueprint, "output");
        rule_match_label(&writer, &marks->cut, true);
        rule_match_protocol(&writer, IPPROTO_UDP);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

/*
 * A pure SYN, or a datagram that belongs to no conversation, without the stamp: dropped, unless it
 * comes from this host itself. Not "ct state new": what is not tracked is not new, either.
 */
static int draw_ban(Blueprint *blueprint, const LeaseMarks *marks, const Port *port) {
        RuleWriter writer = blueprint_begin_rule(blueprint, "early");

        rule_match_protocol(&writer, port->protocol);
        rule_match_port(&writer, port->number);
        if (port->protocol == PROTOCOL_TCP)
                rule_match_syn(&writer, true);
        else
                rule_match_not_established(&writer);
        rule_match_not_loopback(&writer);
        rule_match_stamp(&writer, marks->stamp, false);
        rule_count(&writer);
        rule_verdict(&writer, NF_DROP, NULL);
        return blueprint_finish_rule(blueprint, &writer);
}

int guard_draw(const LeaseMarks *marks, const Port *bans, size_t n_bans, Blueprint **ret) {
        _cleanup_(blueprint_free_cleanup) Blueprint *blueprint = NULL;
        RuleWriter writer;
        int r;

        blueprint = calloc(1, sizeof(*blueprint));
        if (!blueprint)
                return -ENOMEM;
        r = blueprint_draw_table(blueprint, GUARD_TABLE, 0);
        if (r < 0)
                return r;
        if ((r = blueprint_draw_chain(blueprint, "early", NF_INET_LOCAL_IN, INT_MIN + 1)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "recheck", NF_INET_LOCAL_IN, INT_MAX - 3)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "late", NF_INET_LOCAL_IN, INT_MAX - 1)) < 0 ||
            (r = blueprint_draw_chain(blueprint, "output", NF_INET_LOCAL_OUT, INT_MAX - 1)) < 0)
                return r;

        r = guard_draw_cut(blueprint, "early", marks);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_bans; i++) {
                r = draw_ban(blueprint, marks, &bans[i]);
                if (r < 0)
                        return r;
        }
        r = guard_draw_recheck(blueprint, "recheck", marks);
        if (r < 0)
                return r;

        /* ct state new ct label G counter */
        writer = blueprint_begin_rule(blueprint, "late");
        rule_match_new(&writer);
        rule_match_label(&writer, &marks->gated, true);
        rule_count(&writer);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;

        /* meta priority STAMP meta priority set 0:0 */
        writer = blueprint_begin_rule(blueprint, "late");
        rule_match_stamp(&writer, marks->stamp, true);
        rule_set_stamp(&writer, 0);
        r = blueprint_finish_rule(blueprint, &writer);
        if (r < 0)
                return r;
        r = draw_answers(blueprint, marks);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(blueprint);
        return 0;
}
