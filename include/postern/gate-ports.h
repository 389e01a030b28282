/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-ports: do the ports of a profile come to the input hook, where a window opens?
 *
 * What Docker publishes does not, nor what is redirected; and what is not tracked comes there as
 * nothing that a window knows. A rule in the input chains would then let in nobody, or not those
 * whom the admin means.
 */

#include <postern/gate-nftables.h>

/* Asked of a plan that opens somewhere. query: asks sets for single elements; NULL: they are not
 * asked. GATE_OK, GATE_REFUSED, or -ENOMEM. Where there are too many rules to tell, GATE_OK. */
int gate_ports_check(const Ruleset *ruleset, Netlink *query, const Profile *profile,
                     const GatePlan *plan, char **ret_problem);

/* gate_nftables_plan(), and that. */
int gate_plan(const Ruleset *ruleset, Netlink *query, const Profile *profile, const char *legacy,
              GatePlan *ret, char **ret_problem);
