/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * From wishes to what stands in the kernel.
 *
 * Every change replaces all that is ours in one transaction. That is a few rules more than strictly
 * needed, and it leaves one path to get right instead of one each for opening, shutting and
 * mending.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <postern/firewalld-rules.h>
#include <postern/gate-ports.h>
#include <postern/gate-rule.h>
#include <postern/installation-internal.h>
#include <postern/log.h>
#include <stdio.h>
#include <string.h>

/* One attempt: what was read, and what follows from it. */
typedef struct Attempt {
        Ruleset *ruleset;
        GatePlan places; /* of all wishes together */
        LeaseWindow windows[LEASE_WINDOWS_MAX];
        size_t n_windows;
        Blueprint *lease;
        Blueprint *guard;
} Attempt;

static void attempt_deinit(Attempt *attempt) {
        ruleset_free(attempt->ruleset);
        blueprint_free(attempt->lease);
        blueprint_free(attempt->guard);
}

int installation_init(Installation *ret, const char *runtime_dir) {
        Installation installation = {.marks.runtime_fd = -1};
        int r;

        r = batch_init(&installation.batch);
        if (r < 0)
                return r;
        r = marks_init(&installation.marks, runtime_dir);
        if (r < 0) {
                batch_deinit(&installation.batch);
                return r;
        }
        (void) netlink_open(&installation.owner, NETLINK_NETFILTER);
        (void) netlink_open(&installation.query, NETLINK_NETFILTER);
        (void) netlink_open(&installation.cut, NETLINK_NETFILTER);
        *ret = installation;
        return 0;
}

void installation_deinit(Installation *installation) {
        netlink_close(&installation->owner);
        netlink_close(&installation->query);
        netlink_close(&installation->cut);
        batch_deinit(&installation->batch);
        marks_deinit(&installation->marks);
        *installation = (Installation){.marks.runtime_fd = -1};
}

void installation_drop(Installation *installation) {
        netlink_close(&installation->owner);
        ours_forget(&installation->ours);
        (void) netlink_open(&installation->owner, NETLINK_NETFILTER);
}

int installation_ready(Installation *installation) {
        int r = 0;

        if (!installation->owner.socket)
                r = netlink_open(&installation->owner, NETLINK_NETFILTER);
        if (r == 0 && !installation->query.socket)
                r = netlink_open(&installation->query, NETLINK_NETFILTER);
        if (r == 0 && !installation->cut.socket)
                r = netlink_open(&installation->cut, NETLINK_NETFILTER);
        return r;
}

void installation_count(Installation *installation, uint64_t raw) {
        /* A guard that was wiped and built anew counts from 0. */
        installation->admitted +=
                raw >= installation->admitted_raw ? raw - installation->admitted_raw : raw;
        installation->admitted_raw = raw;
}

static int wish_describe(InstallationWish *wish, const GatePlan *plan) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *stream;
        bool whole;

        if (plan->n_places == 0) {
                text = strdup(wish->window.n_outer > 0
                                      ? "posternd's guard"
                                      : "none: no chain on the input hook denies by default");
                if (!text)
                        return -ENOMEM;
        } else {
                stream = open_memstream(&text, &size);
                if (!stream)
                        return -ENOMEM;
                fputs("nftables:", stream);
                for (size_t i = 0; i < plan->n_places; i++)
                        fprintf(stream, "%s %s %s %s", i ? "," : "",
                                family_to_string(plan->places[i].family), plan->places[i].table,
                                plan->places[i].chain);
                /* one that could not grow is closed without complaint */
                whole = !ferror(stream);
                if (fclose(stream) != 0 || !whole || !text)
                        return -ENOMEM;
        }
        free(wish->gate);
        wish->gate = TAKE_POINTER(text);
        return 0;
}

static int attempt_plan(Installation *installation, Attempt *attempt, InstallationWish *wishes,
                        size_t n_wishes) {
        GatePlan *all = &attempt->places;
        GatePlan plan = {};
        int r;

        for (size_t i = 0; i < n_wishes; i++) {
                plan.spare_firewalld = wishes[i].spare_firewalld;
                r = gate_plan(attempt->ruleset, &installation->query, wishes[i].profile,
                              wishes[i].legacy, &plan, &wishes[i].problem);
                if (r == GATE_REFUSED)
                        return INSTALLATION_REFUSED;
                if (r < 0)
                        return r;
                r = wish_describe(&wishes[i], &plan);
                if (r < 0)
                        return r;
                wishes[i].leased |= plan.n_places > 0 || wishes[i].window.n_outer > 0;
                wishes[i].window.early_msec = installation->early_msec;
                /* So little time is left that its own end does the rest. */
                wishes[i].left_out = wishes[i].leased && lease_time_left_msec(&wishes[i].window) <
                                                                 LEASE_TIMEOUT_MIN_MSEC;
                if (wishes[i].leased && !wishes[i].left_out) {
                        if (attempt->n_windows == LEASE_WINDOWS_MAX)
                                return -E2BIG;
                        attempt->windows[attempt->n_windows++] = wishes[i].window;
                }
                for (size_t k = 0; k < plan.n_places; k++) {
                        bool known = false;

                        for (size_t m = 0; m < all->n_places; m++)
                                known |= gate_place_equals(&all->places[m], &plan.places[k]);
                        if (known)
                                continue;
                        if (all->n_places == GATE_PLACES_MAX)
                                return -E2BIG;
                        all->places[all->n_places++] = plan.places[k];
                }
        }
        return INSTALLATION_OK;
}

int installation_read(Installation *installation, bool ours_alone, Ruleset **ret,
                      bool *ret_standing) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        const struct nftnl_table *lease;
        int r;

        r = installation_ready(installation);
        if (r < 0)
                return r;
        r = ours_alone ? ours_read(&installation->ours, &installation->query, &ruleset)
                       : ruleset_read(&installation->query, &ruleset);
        if (r < 0)
                return r;
        lease = ruleset_find_table(ruleset, NFPROTO_INET, LEASE_TABLE);
        *ret_standing = lease && nftnl_table_get_u32(lease, NFTNL_TABLE_OWNER) ==
                                         installation->owner.port_id;
        if (lease && !*ret_standing &&
            nftnl_table_get_u32(lease, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_OWNER)
                return -EBUSY;
        *ret = TAKE_POINTER(ruleset);
        return 0;
}

/* Reads the ruleset and works out what should stand. */
static int attempt_prepare(Installation *installation, InstallationWish *wishes, size_t n_wishes,
                           Attempt *attempt) {
        bool standing;
        int r;

        /* with nothing to plan, nobody else's rules matter */
        r = installation_read(installation, n_wishes == 0 && installation->n_bans == 0,
                              &attempt->ruleset, &standing);
        if (r < 0)
                return r;
        r = attempt_plan(installation, attempt, wishes, n_wishes);
        if (r != INSTALLATION_OK)
                return r;
        if (attempt->n_windows == 0 && installation->n_bans == 0)
                return INSTALLATION_OK;
        /* with no window, what the last one let in may still have to be ended */
        r = marks_choose(&installation->marks, &installation->query, attempt->ruleset,
                         standing || installation->lingering || attempt->n_windows == 0);
        if (r < 0)
                return r;
        r = guard_draw(&installation->marks.lease, installation->bans, installation->n_bans,
                       &attempt->guard);
        if (r < 0 || attempt->n_windows == 0)
                return r;
        /* Last, as it reads the clock. One whose time has run out since is left out next time. */
        r = lease_draw(&installation->marks.lease, attempt->windows, attempt->n_windows,
                       &attempt->lease);
        return r == -EINVAL ? -ESTALE : r;
}

void installation_delete_table(Installation *installation, const char *name) {
        struct nlmsghdr *message;

        message = batch_message(&installation->batch, &installation->owner, NFT_MSG_DELTABLE, 0,
                                NFPROTO_INET);
        mnl_attr_put_strz(message, NFTA_TABLE_NAME, name);
        batch_push(&installation->batch, message);
}

void installation_delete_ours(Installation *installation, const Ruleset *ruleset) {
        if (ruleset_find_table(ruleset, NFPROTO_INET, LEASE_TABLE))
                installation_delete_table(installation, LEASE_TABLE);
        for (size_t i = 0; i < ruleset->n_rules; i++)
                if (gate_is_ours(ruleset->rules[i]))
                        gate_delete(ruleset->rules[i], &installation->batch, &installation->owner);
}

static const GatePlan nowhere;

int installation_commit(Installation *installation, uint32_t genid, const GatePlan *places) {
        BatchFailure failure;
        int r;

        if (installation->batch.n_messages == 0)
                return 0;
        r = batch_commit(&installation->batch, &installation->owner, &failure);
        switch (r) {
        case BATCH_COMMITTED:
                if (places)
                        ours_set(&installation->ours, genid + 1, places);
                else
                        ours_pass(&installation->ours, genid);
                return 0;
        case BATCH_UNKNOWN:
                ours_forget(&installation->ours);
                return 0;
        case BATCH_STALE:
                return -ESTALE;
        case BATCH_REJECTED:
                log_warning("The kernel rejected message %u of a transaction: %s", failure.message,
                            strerror(-failure.error));
                /* -ENOENT and -EEXIST as answers of ours mean other things. */
                return failure.error;
        default:
                return r;
        }
}

void installation_replace_guard(Installation *installation, const Blueprint *guard,
                                const Ruleset *ruleset) {
        if (blueprint_stands(guard, ruleset))
                return;
        if (ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE)) {
                installation_delete_table(installation, GUARD_TABLE);
                installation->guard_wiped = true;
        }
        blueprint_add(guard, &installation->batch, &installation->owner);
}

static int attempt_commit(Installation *installation, const Attempt *attempt) {
        Batch *batch = &installation->batch;
        int r;

        batch_begin(batch, &installation->owner, attempt->ruleset->genid);
        installation_delete_ours(installation, attempt->ruleset);
        if (attempt->guard)
                installation_replace_guard(installation, attempt->guard, attempt->ruleset);
        if (attempt->n_windows > 0) {
                blueprint_add(attempt->lease, batch, &installation->owner);
                for (size_t i = 0; i < attempt->places.n_places; i++) {
                        r = gate_add(&attempt->places.places[i], &installation->marks.lease, batch,
                                     &installation->owner);
                        if (r < 0)
                                return r;
                }
        }
        return installation_commit(installation, attempt->ruleset->genid,
                                   attempt->n_windows > 0 ? &attempt->places : &nowhere);
}

/* Does what the attempt is about stand in the ruleset that was read for it? */
static int attempt_stands(Installation *installation, const Attempt *attempt) {
        uint64_t late_msec = 0;
        size_t n_gates = 0;
        int r;

        for (size_t i = 0; i < attempt->ruleset->n_rules; i++)
                n_gates += gate_is_ours(attempt->ruleset->rules[i]);
        if (attempt->n_windows == 0)
                return n_gates == 0 &&
                       !ruleset_find_table(attempt->ruleset, NFPROTO_INET, LEASE_TABLE) &&
                       (!attempt->guard || blueprint_stands(attempt->guard, attempt->ruleset));
        if (n_gates != attempt->places.n_places ||
            !blueprint_stands(attempt->lease, attempt->ruleset) ||
            !blueprint_stands(attempt->guard, attempt->ruleset))
                return false;
        for (size_t i = 0; i < attempt->places.n_places; i++)
                if (!gate_stands(&attempt->places.places[i], &installation->marks.lease,
                                 attempt->ruleset))
                        return false;
        r = lease_verify_sets(&installation->query, attempt->windows, attempt->n_windows,
                              &late_msec);
        switch (r) {
        case 0:
                return true;
        case -ENOENT:
                return false;
        case -EINTR:
                /* Next time so much earlier, and as much again: a busy host is not equally so. */
                installation->early_msec += 2 * late_msec;
                return -ESTALE;
        default:
                return r;
        }
}

/* What is there is right, and all that is not there are gates. */
static bool lacks_gates_alone(const Installation *installation, const Attempt *attempt) {
        size_t n_gates = 0, n_right = 0;

        if (attempt->n_windows == 0)
                return false;
        for (size_t i = 0; i < attempt->ruleset->n_rules; i++)
                n_gates += gate_is_ours(attempt->ruleset->rules[i]);
        for (size_t i = 0; i < attempt->places.n_places; i++)
                n_right += gate_stands(&attempt->places.places[i], &installation->marks.lease,
                                       attempt->ruleset);
        return n_gates == n_right && n_right < attempt->places.n_places &&
               blueprint_stands(attempt->lease, attempt->ruleset) &&
               blueprint_stands(attempt->guard, attempt->ruleset);
}

int installation_stands(Installation *installation, InstallationWish *wishes, size_t n_wishes) {
        _cleanup_(attempt_deinit) Attempt attempt = {};
        int r;

        installation->early_msec = 0;
        r = attempt_prepare(installation, wishes, n_wishes, &attempt);
        if (r == INSTALLATION_REFUSED)
                return INSTALLATION_WRONG;
        if (r < 0)
                return r;
        installation_count(installation, guard_admitted(attempt.ruleset));
        r = attempt_stands(installation, &attempt);
        if (r != 0)
                return r < 0 ? r : INSTALLATION_STANDS;
        return lacks_gates_alone(installation, &attempt) ? INSTALLATION_LACKS_GATES
                                                         : INSTALLATION_WRONG;
}

void installation_see_guard(Installation *installation, const Ruleset *ruleset) {
        if (!ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE))
                installation->guard_wiped = true;
}

/* Whether all of the attempt stands, where nobody else has changed anything since: then the plan is
 * the same, and what was not ours need not be read again. 1: it does; 0: somebody has. */
static int verify_ours(Installation *installation, Attempt *attempt) {
        _cleanup_(ruleset_free_cleanup) Ruleset *after = NULL;
        Ruleset *before = attempt->ruleset; /* whose names the places have */
        int r;

        r = ours_read_at(&installation->ours, before->genid + 1, &installation->query, &after);
        if (r < 0)
                return r == -ESTALE ? 0 : r;
        installation_count(installation, guard_admitted(after));
        /* Meanwhile one came so near to its end that it is to be left out: then without it. */
        for (size_t i = 0; i < attempt->n_windows; i++)
                if (lease_time_left_msec(&attempt->windows[i]) < LEASE_TIMEOUT_MIN_MSEC)
                        return -ESTALE;
        attempt->ruleset = after;
        r = attempt_stands(installation, attempt);
        attempt->ruleset = before;
        return r == 0 ? -EPROTO : r;
}

static int installation_apply_once(Installation *installation, InstallationWish *wishes,
                                   size_t n_wishes) {
        _cleanup_(attempt_deinit) Attempt attempt = {}, after = {};
        bool guarded = installation->marks.noted;
        int r;

        r = attempt_prepare(installation, wishes, n_wishes, &attempt);
        if (r != INSTALLATION_OK)
                return r;
        if (guarded)
                installation_see_guard(installation, attempt.ruleset);
        installation_count(installation, guard_admitted(attempt.ruleset));
        r = attempt_commit(installation, &attempt);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_wishes; i++)
                wishes[i].admitted += lease_admitted(attempt.ruleset, wishes[i].window.id);

        /* Acknowledgements alone prove nothing: read it back. */
        r = verify_ours(installation, &attempt);
        if (r != 0)
                return r < 0 ? r : INSTALLATION_OK;
        r = attempt_prepare(installation, wishes, n_wishes, &after);
        if (r != INSTALLATION_OK)
                return r;
        installation_count(installation, guard_admitted(after.ruleset));
        /* Meanwhile one came so near to its end that it is left out: then without it. */
        if (after.n_windows != attempt.n_windows)
                return -ESTALE;
        r = attempt_stands(installation, &after);
        if (r < 0)
                return r;
        if (r > 0)
                return INSTALLATION_OK;
        /* Nobody else has committed anything in between: then it will not be right next time
         * either. */
        return after.ruleset->genid == attempt.ruleset->genid + 1 ? -EPROTO : -ESTALE;
}

int installation_apply(Installation *installation, InstallationWish *wishes, size_t n_wishes) {
        int r = -EAGAIN;

        installation->early_msec = 0;
        /* Again only where somebody else changed the ruleset meanwhile, or time was lost, each time
         * from what is read anew: nothing is sent twice. */
        for (unsigned i = 0; i < INSTALLATION_TRIES; i++) {
                r = installation_apply_once(installation, wishes, n_wishes);
                if (r != -ESTALE)
                        return r;
        }
        return r;
}

int installation_silence(Installation *installation, const char *window_id) {
        BatchFailure failure;
        int r;

        if (!installation->owner.socket)
                return 0;
        lease_silence(window_id, &installation->batch, &installation->owner);
        r = batch_commit(&installation->batch, &installation->owner, &failure);
        /* if anybody else came in between, the generation is another */
        if (r == BATCH_COMMITTED)
                ours_pass(&installation->ours, installation->ours.genid);
        else if (r != BATCH_REJECTED)
                ours_forget(&installation->ours);
        return r == BATCH_COMMITTED ? 0 : r < 0 ? r : -EIO;
}

uint64_t installation_window_admitted(Installation *installation, const char *window_id) {
        uint64_t admitted = 0;

        if (installation->query.socket)
                (void) lease_read_admitted(&installation->query, window_id, &admitted);
        return admitted;
}

int installation_check(Installation *installation, const Profile *profile, const char *legacy,
                       Ruleset **ret_ruleset, GatePlan *ret_plan, char **ret_problem) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        bool standing;
        int r;

        r = installation_read(installation, false, &ruleset, &standing);
        if (r < 0)
                return r;
        r = gate_plan(ruleset, &installation->query, profile, legacy, ret_plan, ret_problem);
        *ret_ruleset = TAKE_POINTER(ruleset);
        return r;
}

bool installation_sees_firewalld(Installation *installation, const Port *ports, size_t n_ports,
                                 bool runs) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;

        if (installation_ready(installation) < 0 ||
            ruleset_read(&installation->query, &ruleset) < 0)
                return true;
        return runs ? firewalld_left_port(ruleset, ports, n_ports) : firewalld_left_rules(ruleset);
}
