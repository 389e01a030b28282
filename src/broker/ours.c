/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See the header. */

#include <errno.h>
#include <linux/netfilter.h>
#include <postern/guard.h>
#include <postern/ours.h>
#include <stdio.h>
#include <string.h>

static void add_scope(Ours *ours, const ChainPlace *place) {
        RulesetScope scope = {.family = place->family};

        (void) snprintf(scope.table, sizeof(scope.table), "%s", place->table);
        (void) snprintf(scope.chain, sizeof(scope.chain), "%s", place->chain);
        /* one chain may have a rule at its head and one at its end */
        for (size_t i = 0; i < ours->n_scopes; i++)
                if (memcmp(&ours->scopes[i], &scope, sizeof(scope)) == 0)
                        return;
        if (ours->n_scopes == sizeof(ours->scopes) / sizeof(ours->scopes[0])) {
                ours->genid = 0; /* all of it, then */
                return;
        }
        ours->scopes[ours->n_scopes++] = scope;
}

void ours_set(Ours *ours, uint32_t genid, const GatePlan *places) {
        /* What stood before is looked at once more: whether it is gone, the kernel is to say. */
        if (ours->genid == 0)
                memset(ours, 0, sizeof(*ours));
        ours->genid = genid;
        add_scope(ours, &(ChainPlace){NFPROTO_INET, LEASE_TABLE, ""});
        add_scope(ours, &(ChainPlace){NFPROTO_INET, GUARD_TABLE, ""});
        for (size_t i = 0; i < places->n_places; i++)
                add_scope(ours, &places->places[i]);
}

void ours_pass(Ours *ours, uint32_t genid) {
        ours->genid = ours->genid == genid && genid != 0 ? genid + 1 : 0;
}

void ours_forget(Ours *ours) {
        ours->genid = 0;
}

int ours_read_at(const Ours *ours, uint32_t genid, Netlink *netlink, Ruleset **ret) {
        if (ours->genid == 0 || ours->genid != genid)
                return -ESTALE;
        return ruleset_read_some(netlink, genid, ours->scopes, ours->n_scopes, ret);
}

int ours_read(const Ours *ours, Netlink *netlink, Ruleset **ret) {
        int r = ours_read_at(ours, ours->genid, netlink, ret);

        return r == -ESTALE ? ruleset_read(netlink, ret) : r;
}
