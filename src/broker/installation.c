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
#include <postern/conntrack.h>
#include <postern/installation.h>
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
        (void) netlink_open(&installation->owner, NETLINK_NETFILTER);
}

static int installation_ready(Installation *installation) {
        int r = 0;

        if (!installation->owner.socket)
                r = netlink_open(&installation->owner, NETLINK_NETFILTER);
        if (r == 0 && !installation->query.socket)
                r = netlink_open(&installation->query, NETLINK_NETFILTER);
        if (r == 0 && !installation->cut.socket)
                r = netlink_open(&installation->cut, NETLINK_NETFILTER);
        return r;
}

static void count_admitted(Installation *installation, uint64_t raw) {
        /* A guard that was wiped and built anew counts from 0. */
        installation->admitted +=
                raw >= installation->admitted_raw ? raw - installation->admitted_raw : raw;
        installation->admitted_raw = raw;
}

static uint64_t read_admitted(Installation *installation) {
        uint64_t raw;

        if (installation->query.socket && guard_read_admitted(&installation->query, &raw) == 0)
                count_admitted(installation, raw);
        return installation->admitted;
}

static int wish_describe(InstallationWish *wish, const GatePlan *plan) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *stream;

        if (plan->n_places == 0) {
                text = strdup("none: no chain on the input hook denies by default");
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
                if (fclose(stream) != 0)
                        return -ENOMEM;
        }
        free(wish->gate);
        wish->gate = TAKE_POINTER(text);
        return 0;
}

static int attempt_plan(Attempt *attempt, InstallationWish *wishes, size_t n_wishes) {
        GatePlan *all = &attempt->places;
        GatePlan plan = {};
        int r;

        for (size_t i = 0; i < n_wishes; i++) {
                r = gate_nftables_plan(attempt->ruleset, wishes[i].profile, wishes[i].legacy, &plan,
                                       &wishes[i].problem);
                if (r == GATE_REFUSED)
                        return INSTALLATION_REFUSED;
                if (r < 0)
                        return r;
                r = wish_describe(&wishes[i], &plan);
                if (r < 0)
                        return r;
                wishes[i].leased |= plan.n_places > 0;
                /* So little time is left that its own end does the rest. */
                if (wishes[i].leased &&
                    lease_time_left_msec(&wishes[i].window) >= LEASE_TIMEOUT_MIN_MSEC) {
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

/* Reads the ruleset. *ret_standing: our lease is in it. -EBUSY: another broker's is. */
static int read_host(Installation *installation, Ruleset **ret, bool *ret_standing) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        const struct nftnl_table *lease;
        int r;

        r = installation_ready(installation);
        if (r < 0)
                return r;
        r = ruleset_read(&installation->query, &ruleset);
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

        r = read_host(installation, &attempt->ruleset, &standing);
        if (r < 0)
                return r;
        r = attempt_plan(attempt, wishes, n_wishes);
        if (r != INSTALLATION_OK)
                return r;
        if (attempt->n_windows == 0)
                return INSTALLATION_OK;
        r = marks_choose(&installation->marks, &installation->query, attempt->ruleset,
                         standing || installation->lingering);
        if (r < 0)
                return r;
        r = guard_draw(&installation->marks.lease, &attempt->guard);
        if (r < 0)
                return r;
        /* Last, as it reads the clock. One whose time has run out since is left out next time. */
        r = lease_draw(&installation->marks.lease, attempt->windows, attempt->n_windows,
                       &attempt->lease);
        return r == -EINVAL ? -ESTALE : r;
}

static void delete_table(Installation *installation, const char *name) {
        struct nlmsghdr *message;

        message = batch_message(&installation->batch, &installation->owner, NFT_MSG_DELTABLE, 0,
                                NFPROTO_INET);
        mnl_attr_put_strz(message, NFTA_TABLE_NAME, name);
        batch_push(&installation->batch, message);
}

static void delete_ours(Installation *installation, const Ruleset *ruleset) {
        if (ruleset_find_table(ruleset, NFPROTO_INET, LEASE_TABLE))
                delete_table(installation, LEASE_TABLE);
        for (size_t i = 0; i < ruleset->n_rules; i++)
                if (gate_is_ours(ruleset->rules[i]))
                        gate_delete(ruleset->rules[i], &installation->batch, &installation->owner);
}

/* Commits the batch. -ESTALE: the ruleset moved, read it again; unknown outcomes are for the
 * verification to find out. */
static int commit(Installation *installation) {
        BatchFailure failure;
        int r;

        if (installation->batch.n_messages == 0)
                return 0;
        r = batch_commit(&installation->batch, &installation->owner, &failure);
        switch (r) {
        case BATCH_COMMITTED:
        case BATCH_UNKNOWN:
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

static int attempt_commit(Installation *installation, const Attempt *attempt) {
        Batch *batch = &installation->batch;
        int r;

        batch_begin(batch, &installation->owner, attempt->ruleset->genid);
        delete_ours(installation, attempt->ruleset);
        if (attempt->n_windows > 0) {
                blueprint_add(attempt->lease, batch, &installation->owner);
                if (!blueprint_stands(attempt->guard, attempt->ruleset)) {
                        if (ruleset_find_table(attempt->ruleset, NFPROTO_INET, GUARD_TABLE))
                                delete_table(installation, GUARD_TABLE);
                        blueprint_add(attempt->guard, batch, &installation->owner);
                }
                for (size_t i = 0; i < attempt->places.n_places; i++) {
                        r = gate_add(&attempt->places.places[i], &installation->marks.lease, batch,
                                     &installation->owner);
                        if (r < 0)
                                return r;
                }
        }
        return commit(installation);
}

/* Does what the attempt is about stand in the ruleset that was read for it? */
static int attempt_stands(Installation *installation, const Attempt *attempt) {
        size_t n_gates = 0;
        int r;

        for (size_t i = 0; i < attempt->ruleset->n_rules; i++)
                n_gates += gate_is_ours(attempt->ruleset->rules[i]);
        if (attempt->n_windows == 0)
                return n_gates == 0 &&
                       !ruleset_find_table(attempt->ruleset, NFPROTO_INET, LEASE_TABLE);
        if (n_gates != attempt->places.n_places ||
            !blueprint_stands(attempt->lease, attempt->ruleset) ||
            !blueprint_stands(attempt->guard, attempt->ruleset))
                return false;
        for (size_t i = 0; i < attempt->places.n_places; i++)
                if (!gate_stands(&attempt->places.places[i], &installation->marks.lease,
                                 attempt->ruleset))
                        return false;
        r = lease_verify_sets(&installation->query, attempt->windows, attempt->n_windows);
        switch (r) {
        case 0:
                return true;
        case -ENOENT:
                return false;
        default:
                return r == -EINTR ? -ESTALE : r;
        }
}

int installation_stands(Installation *installation, InstallationWish *wishes, size_t n_wishes) {
        _cleanup_(attempt_deinit) Attempt attempt = {};
        int r;

        r = attempt_prepare(installation, wishes, n_wishes, &attempt);
        if (r == INSTALLATION_REFUSED)
                return 0;
        if (r < 0)
                return r;
        count_admitted(installation, guard_admitted(attempt.ruleset));
        return attempt_stands(installation, &attempt);
}

/* From the first door to the last the guard stands; if it does not, somebody has taken it away, and
 * what it had counted since it was last read is lost. */
static void see_whether_wiped(Installation *installation, const Ruleset *ruleset) {
        if (!ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE))
                installation->guard_wiped = true;
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
                see_whether_wiped(installation, attempt.ruleset);
        count_admitted(installation, guard_admitted(attempt.ruleset));
        r = attempt_commit(installation, &attempt);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_wishes; i++)
                wishes[i].admitted += lease_admitted(attempt.ruleset, wishes[i].window.id);

        /* Acknowledgements alone prove nothing: read it back. */
        r = attempt_prepare(installation, wishes, n_wishes, &after);
        if (r != INSTALLATION_OK)
                return r;
        count_admitted(installation, guard_admitted(after.ruleset));
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

        /* Again only where somebody else changed the ruleset meanwhile, each time from what is read
         * anew: nothing is sent twice. */
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
        return r == BATCH_COMMITTED ? 0 : r < 0 ? r : -EIO;
}

uint64_t installation_window_admitted(Installation *installation, const char *window_id) {
        uint64_t admitted = 0;

        if (installation->query.socket)
                (void) lease_read_admitted(&installation->query, window_id, &admitted);
        return admitted;
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
                          n_keep, &done);
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

                r = ruleset_read(&installation->query, &ruleset);
                if (r < 0)
                        return r;
                if (installation->marks.noted && !guard_too)
                        see_whether_wiped(installation, ruleset);
                batch_begin(&installation->batch, &installation->owner, ruleset->genid);
                delete_ours(installation, ruleset);
                if (guard_too && ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE))
                        delete_table(installation, GUARD_TABLE);
                if (installation->batch.n_messages == 0)
                        return 0; /* nothing is there: what was sent before has been read back */
                r = commit(installation);
                if (r < 0 && r != -ESTALE)
                        return r;
        }
        return r < 0 ? r : -EAGAIN;
}

int installation_check(Installation *installation, const Profile *profile, const char *legacy,
                       Ruleset **ret_ruleset, GatePlan *ret_plan, char **ret_problem) {
        _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
        bool standing;
        int r;

        r = read_host(installation, &ruleset, &standing);
        if (r < 0)
                return r;
        r = gate_nftables_plan(ruleset, profile, legacy, ret_plan, ret_problem);
        *ret_ruleset = TAKE_POINTER(ruleset);
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
        r = remove_all(installation, true);
        if (r < 0)
                return r;
        installation->admitted_raw = 0;
        marks_forget(&installation->marks);
        return 0;
}

/* Puts up a guard for the marks as they are, in place of any other. */
static int put_guard(Installation *installation) {
        int r = -ESTALE;

        for (unsigned i = 0; i < INSTALLATION_TRIES && r == -ESTALE; i++) {
                _cleanup_(ruleset_free_cleanup) Ruleset *ruleset = NULL;
                _cleanup_(blueprint_free_cleanup) Blueprint *guard = NULL;

                r = ruleset_read(&installation->query, &ruleset);
                if (r == 0)
                        r = guard_draw(&installation->marks.lease, &guard);
                if (r < 0)
                        return r;
                if (blueprint_stands(guard, ruleset))
                        return 0;
                batch_begin(&installation->batch, &installation->owner, ruleset->genid);
                if (ruleset_find_table(ruleset, NFPROTO_INET, GUARD_TABLE))
                        delete_table(installation, GUARD_TABLE);
                blueprint_add(guard, &installation->batch, &installation->owner);
                r = commit(installation);
        }
        return r;
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

        r = read_host(installation, &ruleset, &standing);
        if (r < 0)
                return r;
        labels = marks_find_old(&installation->marks, ruleset);
        r = remove_all(installation, false);
        if (r < 0)
                return r;
        if (!label_is_empty(&labels)) {
                r = conntrack_cut(&installation->query, &installation->cut, &labels, NULL, NULL, 0,
                                  &done);
                if (r < 0)
                        return r;
                log_info("Swept up after an earlier run: %u connections ended, %u left to be "
                         "silenced",
                         done.entries, done.lingering);
        }
        if (done.lingering > 0)
                return take_over(installation, ruleset, &labels);
        r = remove_all(installation, true);
        if (r < 0)
                return r;
        marks_forget(&installation->marks);
        return INSTALLATION_OK;
}

const char *installation_explain(int error) {
        switch (error) {
        case -EPERM:
        case -EACCES:
                return "posternd lacks CAP_NET_ADMIN, without which it cannot change the firewall: "
                       "run it as root or with AmbientCapabilities=CAP_NET_ADMIN";
        case -EBUSY:
                return "another posternd holds the table inet postern: stop that one first";
        case -EOPNOTSUPP:
        case -EPROTONOSUPPORT:
        case -EAFNOSUPPORT:
        case -ENOENT:
                return "the kernel lacks something that a window needs: nf_tables with owner "
                       "tables "
                       "(5.12 or later), conntrack labels (CONFIG_NF_CONNTRACK_LABELS) and "
                       "nf_conntrack_netlink; see which modules are missing";
        case -EAGAIN:
        case -ESTALE:
                return "another program changes the ruleset without pause: wait until it has "
                       "finished "
                       "and ask again";
        case -ENOMEM:
        case -ENOBUFS:
                return "memory ran out: free some and ask again";
        case -ENOSPC:
                return "no three connection label bits are free: the host's rules use nearly all "
                       "128";
        case -EPROTO:
                return "the kernel does not show the rules as they were written, so they are not "
                       "trusted: this kernel and this version do not fit together";
        default:
                return "the kernel refused the rules: posternd's log says which";
        }
}
