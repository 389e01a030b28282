/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What is left to do when windows have ended, of this broker or of one before it: connections that
 * came in, and at the very end the guard. */

#include <errno.h>
#include <linux/netfilter.h>
#include <postern/conntrack.h>
#include <postern/installation-internal.h>
#include <postern/log.h>
#include <string.h>

static const GatePlan nowhere;

static uint64_t read_admitted(Installation *installation) {
        uint64_t raw;

        if (installation->query.socket && guard_read_admitted(&installation->query, &raw) == 0)
                installation_count(installation, raw);
        return installation->admitted;
}

void installation_look(Installation *installation) {
        if (installation->query.socket && installation->marks.drawn)
                (void) conntrack_visit(&installation->query, &installation->marks.lease.gated,
                                       installation->visit, installation->visit_data);
}

int installation_cut(Installation *installation, const Port *keep, size_t n_keep) {
        ConntrackCut done = {};
        int r;

        if (!installation->marks.drawn)
                return 0;
        r = installation_ready(installation);
        if (r < 0)
                return r;
        /* Nobody came in: the walk, 10 ms on a host with a large table, would find nothing. */
        if (!installation->guard_wiped && !installation->lingering &&
            read_admitted(installation) == installation->admitted_ended)
                return INSTALLATION_OK;
        r = conntrack_cut(&installation->query, &installation->cut,
                          &installation->marks.lease.gated, &installation->marks.lease.cut, keep,
                          n_keep, installation->visit, installation->visit_data, &done);
        if (done.entries > 0)
                log_info("Ended %u connections that had come in through a window (%u local "
                         "sockets)",
                         done.entries, done.sockets);
        if (r < 0)
                return r;
        installation->lingering = done.lingering > 0;
        if (n_keep == 0) {
                installation->admitted_ended = installation->admitted;
                installation->guard_wiped = false;
        }
        return done.lingering > 0 ? INSTALLATION_LINGERS : INSTALLATION_OK;
}

/* Takes the guard and every other thing of ours away. */
static int remove_all(Installation *installation, bool guard_too) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < INSTALLATION_TRIES; i++) {
                _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;

                r = ours_read(&installation->ours, &installation->query, &ruleset);
                if (r < 0)
                        return r;
                if (installation->marks.noted && !guard_too)
                        installation_see_guard(installation, ruleset);
                batch_begin(&installation->batch, &installation->owner, ruleset->genid);
                installation_delete_ours(installation, ruleset);
                if (guard_too && ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE))
                        installation_delete_table(installation, GUARD_TABLE);
                if (installation->batch.n_messages == 0)
                        return 0; /* nothing is there: what was sent before has been read back */
                r = installation_commit(installation, ruleset->genid, &nowhere);
                if (r < 0 && r != -ESTALE)
                        return r;
        }
        return r < 0 ? r : -EAGAIN;
}

/* Puts up a guard for the marks as they are, in place of any other. */
static int put_guard(Installation *installation) {
        int r = -ESTALE;

        for (unsigned i = 0; i < INSTALLATION_TRIES && r == -ESTALE; i++) {
                _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
                _cleanup_(blueprint_free_cleanup) Blueprint *guard = NULL;

                r = ruleset_read(&installation->query, &ruleset);
                if (r == 0)
                        r = guard_draw(&installation->marks.lease, installation->bans,
                                       installation->n_bans, &guard);
                if (r < 0)
                        return r;
                if (blueprint_stands(guard, ruleset))
                        return 0;
                batch_begin(&installation->batch, &installation->owner, ruleset->genid);
                installation_replace_guard(installation, guard, ruleset);
                r = installation_commit(installation, ruleset->genid, NULL);
        }
        return r;
}

int installation_clear(Installation *installation) {
        int r;

        r = installation_ready(installation);
        if (r < 0)
                return r;
        r = remove_all(installation, false);
        if (r < 0)
                return r;
        /* A second time for one that came in while the first went through: it has been counted. */
        r = installation_cut(installation, NULL, 0);
        if (r == INSTALLATION_OK)
                r = installation_cut(installation, NULL, 0);
        if (r != INSTALLATION_OK)
                return r; /* the guard stays, and goes on cutting */
        if (installation->n_bans > 0)
                return put_guard(installation);
        r = remove_all(installation, true);
        if (r < 0)
                return r;
        installation->admitted_raw = 0;
        marks_forget(&installation->marks);
        return 0;
}

/* Connections of an earlier broker of which the local end may still speak: a guard of ours from
 * here on, until they are gone. */
static int take_over(Installation *installation, const Ruleset *ruleset, const Label *labels) {
        int r;

        r = marks_take_over(&installation->marks, &installation->query, ruleset, labels);
        if (r == 0)
                r = put_guard(installation);
        if (r < 0)
                return r;
        installation->lingering = true;
        return installation_clear(installation);
}

int installation_sweep(Installation *installation) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        ConntrackCut done = {};
        bool standing;
        Label labels;
        int r;

        r = installation_read(installation, false, &ruleset, &standing);
        if (r < 0)
                return r;
        labels = marks_find_old(&installation->marks, ruleset);
        r = remove_all(installation, false);
        if (r < 0)
                return r;
        if (!label_is_empty(&labels)) {
                r = conntrack_cut(&installation->query, &installation->cut, &labels, NULL, NULL, 0,
                                  NULL, NULL, &done);
                if (r < 0)
                        return r;
                log_info("Swept up after an earlier run: %u connections ended, %u left to be "
                         "silenced",
                         done.entries, done.lingering);
        }
        if (done.lingering > 0)
                return take_over(installation, ruleset, &labels);
        if (installation->n_bans > 0) {
                r = marks_choose(&installation->marks, &installation->query, ruleset, false);
                return r < 0 ? r : put_guard(installation);
        }
        r = remove_all(installation, true);
        if (r < 0)
                return r;
        marks_forget(&installation->marks);
        return INSTALLATION_OK;
}
