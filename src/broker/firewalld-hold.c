/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The life of a hold:
 *
 *     planning ▶ planned ▶ opening ▶ open ◀▶ doubted ▶ mending ▶ open
 *     any ▶ (stopping) ▶ shutting ▶ gone, or owed ▶ shutting
 *
 * What a sign of change was about is found by looking, and put right; for up to 10 s while no
 * firewalld is there, which is what a restart takes.
 */

#include <errno.h>
#include <postern/clock.h>
#include <postern/firewalld-hold.h>
#include <postern/log.h>
#include <stdlib.h>
#include <string.h>

enum {
        MEND_QUIET_USEC = 250 * 1000, /* reloads in a row are seen to once */
        MEND_RETRY_USEC = 500 * 1000,
        MEND_LIMIT_USEC = 10 * 1000 * 1000,
};

static FirewalldHold *hold_free(FirewalldHold *hold) {
        firewalld_survey_free(hold->survey);
        firewalld_task_free(hold->task);
        sd_event_source_disable_unref(hold->timer);
        free(hold);
        return NULL;
}

void firewalld_hold_forget(FirewalldHold *hold) {
        for (FirewalldHold **link = &hold->gate->first; *link; link = &(*link)->next)
                if (*link == hold) {
                        *link = hold->next;
                        break;
                }
        hold_free(hold);
}

static void hold_end_survey(FirewalldHold *hold) {
        hold->survey = firewalld_survey_free(hold->survey);
}

static void hold_end_task(FirewalldHold *hold) {
        hold->task = firewalld_task_free(hold->task);
}

/* Has anybody claimed it, of whom firewalld may have heard? */
static bool is_ours(const char *instance, const char *zone, Port port, void *userdata) {
        const FirewalldHold *asking = userdata;

        for (const FirewalldHold *hold = asking->gate->first; hold; hold = hold->next)
                if (hold->state != FIREWALLD_HOLD_PLANNING &&
                    hold->state != FIREWALLD_HOLD_PLANNED &&
                    strcmp(hold->claims.instance, instance) == 0 &&
                    firewalld_claims_have(&hold->claims, zone, port))
                        return true;
        return false;
}

static bool hold_keeps(const FirewalldHold *hold) {
        switch (hold->state) {
        case FIREWALLD_HOLD_OPENING:
        case FIREWALLD_HOLD_OPEN:
        case FIREWALLD_HOLD_DOUBTED:
        case FIREWALLD_HOLD_MENDING:
                return true;
        case FIREWALLD_HOLD_PLANNING:
        case FIREWALLD_HOLD_PLANNED:
        case FIREWALLD_HOLD_LOST:
        case FIREWALLD_HOLD_STOPPING:
        case FIREWALLD_HOLD_SHUTTING:
        case FIREWALLD_HOLD_OWED:
                return false;
        }
        return false;
}

/* Another one needs it open: it is that one's to shut. */
static bool hand_over(const FirewalldClaim *claim, void *userdata) {
        const FirewalldHold *shutting = userdata;

        for (FirewalldHold *hold = shutting->gate->first; hold; hold = hold->next)
                if (hold != shutting && hold_keeps(hold) &&
                    strcmp(hold->claims.instance, shutting->claims.instance) == 0 &&
                    firewalld_claims_have(&hold->claims, claim->zone, claim->port)) {
                        hold->inherits = true;
                        return true;
                }
        return false;
}

static void hold_lose(FirewalldHold *hold, const char *why) {
        hold->state = FIREWALLD_HOLD_LOST;
        hold->gate->observer->lost(hold->id, why, hold->gate->userdata);
}

/* delay: until it is looked at */
static void hold_look_later(FirewalldHold *hold, uint64_t delay) {
        int r;

        hold->state = FIREWALLD_HOLD_DOUBTED;
        hold->doubted_again = false;
        r = sd_event_source_set_time_relative(hold->timer, delay);
        if (r >= 0)
                r = sd_event_source_set_enabled(hold->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                hold_lose(hold, "firewalld has changed, and memory ran out before that could be "
                                "looked at.");
}

void firewalld_hold_doubt(FirewalldHold *hold, bool reloaded) {
        hold->wish.reloaded |= reloaded;
        switch (hold->state) {
        case FIREWALLD_HOLD_OPEN:
                hold->mend_until = clock_now(CLOCK_BOOTTIME) + MEND_LIMIT_USEC;
                hold_look_later(hold, MEND_QUIET_USEC);
                return;
        case FIREWALLD_HOLD_DOUBTED:
        case FIREWALLD_HOLD_OPENING:
        case FIREWALLD_HOLD_MENDING:
                hold->doubted_again = true;
                return;
        case FIREWALLD_HOLD_PLANNING:
        case FIREWALLD_HOLD_PLANNED:
        case FIREWALLD_HOLD_LOST:
        case FIREWALLD_HOLD_STOPPING:
        case FIREWALLD_HOLD_SHUTTING:
        case FIREWALLD_HOLD_OWED:
                return;
        }
}

/* After whoever wants it has been told that it is open, and may have thought better of it. */
static void hold_settle(FirewalldHold *hold) {
        if (hold->state == FIREWALLD_HOLD_OPEN && hold->doubted_again)
                firewalld_hold_doubt(hold, false);
}

static void hold_retry_mending(FirewalldHold *hold, const char *why) {
        if (clock_now(CLOCK_BOOTTIME) < hold->mend_until)
                hold_look_later(hold, MEND_RETRY_USEC);
        else
                hold_lose(hold, why);
}

static void hold_on_task(FirewalldOutcome outcome, const char *problem, size_t n_sent,
                         void *userdata);

static int hold_start_task(FirewalldHold *hold, FirewalldVerb verb) {
        return firewalld_task_new(&hold->task, hold->gate->bus, verb, &hold->claims,
                                  verb == FIREWALLD_REMOVE ? hand_over : NULL, hold_on_task, hold);
}

static void hold_on_planned(FirewalldHold *hold, FirewalldOutcome outcome,
                            const FirewalldClaims *claims, const char *where, const char *problem) {
        GateFirewalld *gate = hold->gate;
        char id[FIREWALLD_ID_MAX];

        memcpy(id, hold->id, sizeof(id));
        if (outcome == FIREWALLD_DONE) {
                hold->claims = *claims;
                hold->state = FIREWALLD_HOLD_PLANNED;
        } else
                firewalld_hold_forget(hold);
        gate->observer->planned(id, outcome, claims, where, problem, gate->userdata);
}

static void hold_mend(FirewalldHold *hold, const FirewalldClaims *claims) {
        GateFirewalld *gate = hold->gate;

        if (gate->observer->claimed(hold->id, claims, gate->userdata) < 0)
                return hold_lose(hold, "firewalld has changed, and what is to be opened in it "
                                       "again could not be written down first.");
        hold->claims = *claims;
        if (hold_start_task(hold, FIREWALLD_ADD) < 0)
                hold_lose(hold, "firewalld has changed, and memory ran out before the window's "
                                "ports could be opened in it again.");
}

static void hold_on_surveyed(FirewalldOutcome outcome, const FirewalldClaims *claims,
                             const char *where, const char *problem, void *userdata) {
        FirewalldHold *hold = userdata;

        hold_end_survey(hold);
        if (hold->state == FIREWALLD_HOLD_PLANNING)
                return hold_on_planned(hold, outcome, claims, where, problem);
        switch (outcome) {
        case FIREWALLD_DONE:
                return hold_mend(hold, claims);
        case FIREWALLD_ABSENT:
                return hold_retry_mending(hold, "firewalld has ended and did not come back; see "
                                                "`systemctl status firewalld`.");
        case FIREWALLD_REFUSED:
                return hold_lose(hold, problem);
        }
}

static int hold_survey(FirewalldHold *hold) {
        return firewalld_survey_new(&hold->survey, hold->gate->bus, &hold->wish, is_ours,
                                    hold_on_surveyed, hold);
}

static void hold_drop_unsent(FirewalldHold *hold, size_t n_sent) {
        if (hold->is_fresh && !hold->inherits)
                hold->claims.n = n_sent;
}

static void hold_on_opened(FirewalldHold *hold, FirewalldOutcome outcome, const char *problem,
                           size_t n_sent) {
        GateFirewalld *gate = hold->gate;

        if (outcome == FIREWALLD_DONE) {
                hold->state = FIREWALLD_HOLD_OPEN;
                hold->is_fresh = false;
                gate->observer->opened(hold->id, outcome, NULL, gate->userdata);
                return hold_settle(hold);
        }
        hold_drop_unsent(hold, n_sent);
        hold->state = FIREWALLD_HOLD_LOST;
        if (outcome == FIREWALLD_ABSENT)
                problem = "firewalld ended, or was started anew, while a window was being opened: "
                          "ask again";
        gate->observer->opened(hold->id, FIREWALLD_REFUSED, problem, gate->userdata);
}

static void hold_on_mended(FirewalldHold *hold, FirewalldOutcome outcome, const char *problem) {
        GateFirewalld *gate = hold->gate;

        switch (outcome) {
        case FIREWALLD_DONE:
                hold->wish.reloaded = false;
                hold->state = FIREWALLD_HOLD_OPEN;
                gate->observer->mended(hold->id,
                                       "firewalld was reloaded or restarted; the window's ports "
                                       "were opened in it again",
                                       gate->userdata);
                return hold_settle(hold);
        case FIREWALLD_ABSENT:
                return hold_retry_mending(hold, "firewalld has ended and did not come back; see "
                                                "`systemctl status firewalld`.");
        case FIREWALLD_REFUSED:
                return hold_lose(hold, problem);
        }
}

static void hold_on_shut(FirewalldHold *hold, FirewalldOutcome outcome, const char *problem) {
        GateFirewalld *gate = hold->gate;
        char id[FIREWALLD_ID_MAX];

        memcpy(id, hold->id, sizeof(id));
        if (outcome == FIREWALLD_DONE)
                firewalld_hold_forget(hold);
        else
                hold->state = FIREWALLD_HOLD_OWED;
        gate->observer->shut(id, outcome, problem, gate->userdata);
}

/* The timer may be running: it looks at the state before anything else. */
static int hold_begin_shut(FirewalldHold *hold) {
        int r = hold_start_task(hold, FIREWALLD_REMOVE);

        hold->state = r < 0 ? FIREWALLD_HOLD_OWED : FIREWALLD_HOLD_SHUTTING;
        return r;
}

static void hold_on_task(FirewalldOutcome outcome, const char *problem, size_t n_sent,
                         void *userdata) {
        FirewalldHold *hold = userdata;

        hold_end_task(hold);
        switch (hold->state) {
        case FIREWALLD_HOLD_OPENING:
                return hold_on_opened(hold, outcome, problem, n_sent);
        case FIREWALLD_HOLD_MENDING:
                return hold_on_mended(hold, outcome, problem);
        case FIREWALLD_HOLD_STOPPING:
                hold_drop_unsent(hold, n_sent);
                if (hold_begin_shut(hold) < 0)
                        hold_on_shut(hold, FIREWALLD_REFUSED,
                                     "Memory ran out; free some and ask again.");
                return;
        case FIREWALLD_HOLD_SHUTTING:
                return hold_on_shut(hold, outcome, problem);
        case FIREWALLD_HOLD_PLANNING:
        case FIREWALLD_HOLD_PLANNED:
        case FIREWALLD_HOLD_OPEN:
        case FIREWALLD_HOLD_DOUBTED:
        case FIREWALLD_HOLD_LOST:
        case FIREWALLD_HOLD_OWED:
                return;
        }
}

static int hold_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        FirewalldHold *hold = userdata;
        int r;

        if (hold->state != FIREWALLD_HOLD_DOUBTED)
                return 0;
        hold->state = FIREWALLD_HOLD_MENDING;
        r = hold_survey(hold);
        if (r < 0) {
                log_error("Cannot ask firewalld: %s", strerror(-r));
                hold_lose(hold, "firewalld has changed, and could not be asked how; see "
                                "`systemctl status firewalld`.");
        }
        return 0;
}

static bool hold_is_known(const GateFirewalld *gate, const char *id) {
        for (const FirewalldHold *hold = gate->first; hold; hold = hold->next)
                if (strcmp(hold->id, id) == 0)
                        return true;
        return false;
}

int firewalld_hold_new(FirewalldHold **ret, GateFirewalld *gate, const char *id) {
        size_t length = strlen(id);
        FirewalldHold *hold;
        int r;

        if (length >= FIREWALLD_ID_MAX)
                return -EINVAL;
        if (hold_is_known(gate, id))
                return -EEXIST;
        hold = calloc(1, sizeof(*hold));
        if (!hold)
                return -ENOMEM;
        r = sd_event_add_time(sd_bus_get_event(gate->bus), &hold->timer, CLOCK_BOOTTIME, UINT64_MAX,
                              0, hold_on_timer, hold);
        if (r >= 0)
                r = sd_event_source_set_enabled(hold->timer, SD_EVENT_OFF);
        if (r < 0) {
                hold_free(hold);
                return r;
        }
        hold->gate = gate;
        memcpy(hold->id, id, length + 1);
        hold->wish.before = &hold->claims;
        hold->state = FIREWALLD_HOLD_OWED;
        hold->next = gate->first;
        gate->first = hold;
        *ret = hold;
        return 0;
}

int firewalld_hold_plan(FirewalldHold *hold) {
        hold->state = FIREWALLD_HOLD_PLANNING;
        return hold_survey(hold);
}

int firewalld_hold_open(FirewalldHold *hold) {
        int r;

        if (hold->state != FIREWALLD_HOLD_PLANNED)
                return -ENOENT;
        r = hold_start_task(hold, FIREWALLD_ADD);
        if (r < 0)
                return r;
        hold->state = FIREWALLD_HOLD_OPENING;
        hold->is_fresh = true;
        return 0;
}

int firewalld_hold_shut(FirewalldHold *hold) {
        switch (hold->state) {
        case FIREWALLD_HOLD_PLANNING:
        case FIREWALLD_HOLD_PLANNED:
                hold->claims.n = 0;
                break;
        case FIREWALLD_HOLD_OPENING:
        case FIREWALLD_HOLD_MENDING:
                if (!hold->task)
                        break;
                firewalld_task_stop(hold->task);
                hold->state = FIREWALLD_HOLD_STOPPING;
                return 0;
        case FIREWALLD_HOLD_OPEN:
        case FIREWALLD_HOLD_DOUBTED:
        case FIREWALLD_HOLD_LOST:
        case FIREWALLD_HOLD_OWED:
                break;
        case FIREWALLD_HOLD_STOPPING:
        case FIREWALLD_HOLD_SHUTTING:
                return 0;
        }
        hold_end_survey(hold);
        return hold_begin_shut(hold);
}
