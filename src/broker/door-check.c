/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The pre-flight: what opening a profile's door would do, in findings for a person. Opens nothing.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/door-internal.h>
#include <postern/legacy-iptables.h>
#include <stdio.h>
#include <string.h>

static void report_place(const ChainPlace *place, FindingCallback callback, void *userdata) {
        char subject[256], message[256];

        snprintf(subject, sizeof(subject), "%s %s %s", family_to_string(place->family),
                 place->table, place->chain);
        if (place->first)
                snprintf(message, sizeof(message), "a window opens at the head of this chain");
        else if (place->before)
                snprintf(
                        message, sizeof(message),
                        "a window opens here, right before the rule with handle %llu, which denies "
                        "the rest",
                        (unsigned long long) place->before);
        else
                snprintf(message, sizeof(message),
                         "a window opens here, at the end, before the chain's policy drops the "
                         "rest");
        callback(FINDING_OK, subject, message, userdata);
}

static void report_doubt(const ChainPlace *place, FindingCallback callback, void *userdata) {
        char subject[256];

        snprintf(subject, sizeof(subject), "%s %s %s", family_to_string(place->family),
                 place->table, place->chain);
        callback(FINDING_NOTE, subject,
                 "a rule with conditions sends packets here, and this chain denies them: if the "
                 "certificate authority's come this way, name the chain in Chain=",
                 userdata);
}

int door_check(Door *door, const Profile *profile, FindingCallback callback, void *userdata) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        _cleanup_free_ char *problem = NULL;
        char legacy[LEGACY_IPTABLES_MAX];
        GatePlan plan = {.wants_doubts = true};
        int r;

        if (profile->n_ports == 0 || profile->gate == GATE_NONE) {
                callback(FINDING_OK, "firewall", "nothing is opened: the renewal runs as it is",
                         userdata);
                return 0;
        }
        if (legacy_iptables_read(legacy, sizeof(legacy)) < 0)
                callback(FINDING_NOTE, "iptables",
                         "whether legacy iptables is loaded can be seen by root alone; a window "
                         "looks before it opens",
                         userdata);
        r = installation_check(door_installation(door), profile, legacy, &ruleset, &plan, &problem);
        if (r < 0) {
                callback(FINDING_ERROR, "nftables", installation_explain(r), userdata);
                return r == -ENOMEM ? r : 0;
        }
        if (r == GATE_REFUSED) {
                callback(FINDING_ERROR, "nftables", problem, userdata);
                return 0;
        }
        if (plan.n_places == 0)
                callback(FINDING_NOTE, "nftables",
                         "no chain on the input hook denies by default: the port is open to "
                         "everybody "
                         "as far as this host goes, and a window would open nothing",
                         userdata);
        for (size_t i = 0; i < plan.n_places; i++)
                report_place(&plan.places[i], callback, userdata);
        for (size_t i = 0; i < plan.n_doubts; i++)
                report_doubt(&plan.doubts[i], callback, userdata);
        return 0;
}
