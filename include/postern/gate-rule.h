/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-rule: the one rule that lets the lease through a chain of the host's own.
 *
 * It holds no port, no address and no deadline, and an interface only where that alone is denied:
 *
 *     ct label W meta priority STAMP ct label set G counter accept comment "postern:gate"
 *
 * Without the lease's table nothing ever gets W or the stamp, and the rule is inert. In tables that
 * iptables manages it has another form: gate-xtables.h.
 */

#include <postern/chain-place.h>
#include <postern/lease.h>

/* Adds the rule at a place; deletes a rule. */
int gate_add(const ChainPlace *place, const LeaseMarks *marks, Batch *batch, Netlink *netlink);
void gate_delete(const struct nftnl_rule *rule, Batch *batch, Netlink *netlink);

/* Is this rule one of ours, of whatever broker? */
bool gate_is_ours(const struct nftnl_rule *rule);

/* Does the place have the rule of these marks, just where it belongs? */
bool gate_stands(const ChainPlace *place, const LeaseMarks *marks, const Ruleset *ruleset);
