/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A slot for each record, and one timer for all that wait.
 *
 *     taken ──▶ due ──▶ closing ──▶ (gone)
 *                ▲         │
 *                └─────────┘ failed, or not settled then
 */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/gate-command.h>
#include <postern/log-fields.h>
#include <postern/log.h>
#include <postern/owed-store.h>
#include <postern/owed.h>
#include <string.h>
#include <systemd/sd-id128.h>

typedef enum OwedState {
        OWED_FREE,
        OWED_TAKEN, /* its window is open */
        OWED_DUE,   /* to be closed at `due` */
        OWED_CLOSING,
} OwedState;

typedef struct OwedSlot {
        Owed *owed;
        OwedState state;
        char window[OWED_STORE_WINDOW_MAX];
        OwedRecord record;
        uint64_t due;      /* CLOCK_BOOTTIME, microseconds */
        unsigned failures; /* so many attempts */
        bool counted;      /* it is owed */
        bool owing;        /* taken, but something of an earlier opening may be open as well */
        bool unsettled;    /* taken, but an earlier opening may take effect even now */
        bool changed;      /* the profile of the attempt opens in another way by now */
        uint64_t begun;    /* when the attempt did; CLOCK_BOOTTIME, microseconds */
        uint64_t settled;  /* one begun before is not the last; the same */
        bool retaken;      /* taken once more while it is being closed */
        GateCommand *command;
} OwedSlot;

struct Owed {
        sd_event *event;
        sd_event_source *timer;
        Runner *runner;
        GateFirewalld *firewalld;
        OwedObserver observer;
        void *userdata;
        int store_fd;
        bool started, stopping;
        char boot_id[STATE_BOOT_ID_SIZE];
        OwedSlot slots[OWED_MAX];
};

DEFINE_CLEANUP(Profile, profile_free);

static uint64_t slot_next_delay(const OwedSlot *slot) {
        uint64_t delay = OWED_RETRY_FIRST_USEC;

        for (unsigned i = 1; i < slot->failures && delay < OWED_RETRY_MAX_USEC; i++)
                delay *= 2;
        return delay < OWED_RETRY_MAX_USEC ? delay : OWED_RETRY_MAX_USEC;
}

static void slot_log(const OwedSlot *slot, int priority, const char *message_id, const char *text) {
        char ports[PROFILE_PORTS_TEXT_MAX];
        LogFields fields = {};

        ports_format(slot->record.ports, slot->record.n_ports, ports, sizeof(ports));
        log_fields_add(&fields, "POSTERN_PROFILE", slot->record.profile);
        log_fields_add(&fields, "POSTERN_WINDOW", slot->window);
        log_fields_add(&fields, "POSTERN_PORTS", ports);
        log_fields_add(&fields, "POSTERN_GATE", gate_type_to_string(slot->record.gate));
        log_fields_add_usec(&fields, "POSTERN_DEADLINE_USEC", slot->record.deadline);
        if (slot->failures > 0)
                log_fields_add_number(&fields, "POSTERN_ATTEMPTS", slot->failures);
        if (slot->state == OWED_DUE && slot->failures > 0)
                log_fields_add_usec(&fields, "POSTERN_RETRY_USEC", slot_next_delay(slot));

        log_event(priority, message_id, fields.pairs, "%s", text);
}

static OwedSlot *owed_find(Owed *owed, const char *window_id) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].state != OWED_FREE &&
                    strcmp(owed->slots[i].window, window_id) == 0)
                        return &owed->slots[i];
        return NULL;
}

static OwedSlot *owed_find_free(Owed *owed) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].state == OWED_FREE)
                        return &owed->slots[i];
        return NULL;
}

/* A newer window of the profile is open, or is being closed: its turn comes after that. */
static bool slot_is_held(const Owed *owed, const OwedSlot *slot) {
        for (size_t i = 0; i < OWED_MAX; i++) {
                const OwedSlot *other = &owed->slots[i];

                if (other != slot && (other->state == OWED_TAKEN || other->state == OWED_CLOSING) &&
                    strcmp(other->record.profile, slot->record.profile) == 0)
                        return true;
        }
        return false;
}

static void owed_set_timer(Owed *owed) {
        uint64_t due = UINT64_MAX;
        int r;

        for (size_t i = 0; i < OWED_MAX && owed->started; i++) {
                const OwedSlot *slot = &owed->slots[i];

                if (slot->state == OWED_DUE && slot->due < due && !slot_is_held(owed, slot) &&
                    !(owed->stopping && slot->counted))
                        due = slot->due;
        }
        if (due == UINT64_MAX) {
                (void) sd_event_source_set_enabled(owed->timer, SD_EVENT_OFF);
                return;
        }
        r = sd_event_source_set_time(owed->timer, due);
        if (r >= 0)
                r = sd_event_source_set_enabled(owed->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("Cannot set the timer for what is to be closed elsewhere (%s): it is "
                          "closed at the next start at the latest.",
                          strerror(-r));
}

static void slot_set_counted(OwedSlot *slot, bool counted) {
        if (slot->counted == counted)
                return;
        slot->counted = counted;
        slot->owed->observer.changed(slot->record.profile, slot->owed->userdata);
}

static void slot_free(OwedSlot *slot) {
        int r = owed_store_remove(slot->owed->store_fd, slot->window);

        if (r < 0)
                slot_log(slot, LOG_WARNING, NULL,
                         "The note of a close that is done cannot be removed: it is carried out "
                         "once more at the next start.");
        slot->state = OWED_FREE;
        slot_set_counted(slot, false);
        slot->owed->observer.gone(slot->window, slot->owed->userdata);
}

/* It is closed, but what has opened it may take effect only now. */
static void slot_close_again(OwedSlot *slot) {
        char text[256];

        (void) snprintf(
                text, sizeof(text),
                "OpenCommand= of window %s of profile %s did not succeed, and what it has asked "
                "for may take effect late: it is closed elsewhere, and will be once more in "
                "%" PRIu64 " s.",
                slot->window, slot->record.profile, OWED_SETTLE_USEC / UINT64_C(1000000));
        slot_log(slot, LOG_NOTICE, MESSAGE_CLOSE_OWED, text);
        slot->state = OWED_DUE;
        slot->due = slot->settled;
        slot_set_counted(slot, true);
}

/* The attempt is over. */
static void slot_finish(OwedSlot *slot, const char *problem) {
        Owed *owed = slot->owed;
        char window[OWED_STORE_WINDOW_MAX], text[GATE_COMMAND_PROBLEM_MAX + 256];
        bool was_owed = slot->counted;

        slot->command = gate_command_free(slot->command);
        memcpy(window, slot->window, sizeof(window));
        if (slot->retaken) {
                slot->retaken = false;
                slot->owing = problem || slot->begun < slot->settled;
                slot->state = OWED_TAKEN;
        } else if (!problem && slot->begun < slot->settled)
                slot_close_again(slot);
        else if (!problem) {
                if (was_owed) {
                        (void) snprintf(text, sizeof(text),
                                        "What window %s of profile %s had opened elsewhere is "
                                        "closed at last.",
                                        window, slot->record.profile);
                        slot_log(slot, LOG_NOTICE, MESSAGE_CLOSE_DONE, text);
                }
                slot_free(slot);
        } else {
                uint64_t delay;

                slot->failures++;
                slot->state = OWED_DUE;
                delay = slot_next_delay(slot);
                slot->due = clock_now(CLOCK_BOOTTIME) + delay;
                (void) snprintf(text, sizeof(text),
                                "What window %s of profile %s has opened elsewhere is not closed "
                                "there: %s. It is shut on this host, and tried again in %" PRIu64
                                " s.",
                                window, slot->record.profile, problem, delay / 1000000);
                slot_log(slot, LOG_WARNING, MESSAGE_CLOSE_FAILED, text);
                slot_set_counted(slot, true);
        }
        owed->observer.attempted(window, problem, owed->userdata);
        owed_set_timer(owed);
}

static const char changed_since[] =
        "CloseCommand= has succeeded, but its profile opens in another way than then (User=, "
        "Environment= or OpenCommand=), perhaps somewhere else: put those back; or see that it is "
        "closed there, stop posternd, and remove the window's file in owed/ of its state directory";

static void slot_on_command(const char *problem, void *userdata) {
        OwedSlot *slot = userdata;

        slot_finish(slot, problem || !slot->changed ? problem : changed_since);
}

static const char left_and_gone[] = "firewalld does not run, and its rules are in the kernel "
                                    "still: start it";
static const char left_and_unknown[] =
        "rules of a firewalld that was killed are in the kernel still: `firewall-cmd --reload` "
        "takes them away";

void owed_on_firewalld_shut(Owed *owed, const char *window_id, FirewalldOutcome outcome,
                            const char *problem) {
        OwedSlot *slot = owed_find(owed, window_id);
        bool runs = outcome != FIREWALLD_ABSENT;

        if (!slot || slot->state != OWED_CLOSING || slot->record.gate != GATE_FIREWALLD)
                return;
        if (outcome != FIREWALLD_REFUSED) {
                problem = NULL;
                if (owed->observer.rules_remain(&slot->record, runs, owed->userdata))
                        problem = runs ? left_and_unknown : left_and_gone;
                else if (!runs)
                        gate_firewalld_forget(owed->firewalld, window_id);
        }
        slot_finish(slot, problem);
}

static void slot_attempt_firewalld(OwedSlot *slot) {
        int r;

        /* its window is about to come to owed_take(): shutting would end the plan, unanswered */
        if (gate_firewalld_is_planned(slot->owed->firewalld, slot->window)) {
                slot->due = clock_now(CLOCK_BOOTTIME) + OWED_RETRY_FIRST_USEC;
                return;
        }
        slot->state = OWED_CLOSING;
        r = gate_firewalld_shut(slot->owed->firewalld, slot->window, &slot->record.claims);
        if (r < 0)
                slot_finish(slot, r == -ENOMEM ? "memory ran out" : "firewalld cannot be called");
}

static void slot_attempt(OwedSlot *slot) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;
        Owed *owed = slot->owed;
        int r;

        if (slot->record.gate == GATE_FIREWALLD) {
                slot_attempt_firewalld(slot);
                return;
        }
        r = owed->observer.load(slot->record.profile, &profile, &problem, owed->userdata);
        if (r != PROFILE_OK) {
                slot_finish(slot, problem ? problem : "memory ran out");
                return;
        }
        if (!profile->close_command) {
                slot_finish(slot, "its profile has no CloseCommand= any more, put it back");
                return;
        }
        slot->state = OWED_CLOSING;
        slot->changed = profile_gate_digest(profile) != slot->record.opened_by;
        slot->begun = clock_now(CLOCK_BOOTTIME);
        r = gate_command_start(&slot->command, owed->event, owed->runner, RUN_GATE_CLOSE,
                               slot->window, profile, slot->record.ports, slot->record.n_ports,
                               slot->record.deadline,
                               owed->stopping ? OWED_STOP_LIMIT_USEC : GATE_COMMAND_LIMIT_USEC,
                               slot_on_command, slot);
        if (r < 0)
                slot_finish(slot, r == -ENOMEM ? "memory ran out"
                                               : "the helper postern-run could not be started");
}

static int owed_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Owed *owed = userdata;
        uint64_t now = clock_now(CLOCK_BOOTTIME);

        for (size_t i = 0; i < OWED_MAX; i++) {
                OwedSlot *slot = &owed->slots[i];

                if (slot->state == OWED_DUE && slot->due <= now && !slot_is_held(owed, slot) &&
                    !(owed->stopping && slot->counted))
                        slot_attempt(slot);
        }
        owed_set_timer(owed);
        return 0;
}

static int owed_on_record(const char *window_id, const OwedRecord *record, void *userdata) {
        Owed *owed = userdata;
        OwedSlot *slot = owed_find_free(owed);

        /* firewalld has no memory of what it was told at run time, and neither has the kernel */
        if (record->gate == GATE_FIREWALLD && strcmp(record->boot_id, owed->boot_id) != 0)
                return owed_store_remove(owed->store_fd, window_id);
        if (!slot) {
                log_error("More than %d closes are owed: those that are left are carried out at a "
                          "later start.",
                          OWED_MAX);
                return 0;
        }
        *slot = (OwedSlot){.owed = owed, .state = OWED_DUE, .record = *record, .counted = true};
        if (record->unsettled)
                slot->settled = clock_now(CLOCK_BOOTTIME) + OWED_SETTLE_USEC;
        (void) snprintf(slot->window, sizeof(slot->window), "%s", window_id);
        slot_log(slot, LOG_NOTICE, MESSAGE_CLOSE_OWED,
                 "An earlier posternd has left something open elsewhere; closing it.");
        return 0;
}

int owed_new(Owed **ret, sd_event *event, const char *state_dir, Runner *runner,
             GateFirewalld *firewalld, const OwedObserver *observer, void *userdata) {
        Owed *owed = calloc(1, sizeof(*owed));
        sd_id128_t boot_id;
        int r;

        if (!owed)
                return -ENOMEM;
        owed->event = sd_event_ref(event);
        owed->runner = runner;
        owed->firewalld = firewalld;
        owed->observer = *observer;
        owed->userdata = userdata;
        owed->store_fd = -1;
        for (size_t i = 0; i < OWED_MAX; i++)
                owed->slots[i].owed = owed;

        r = sd_id128_get_boot(&boot_id);
        if (r >= 0) {
                (void) sd_id128_to_string(boot_id, owed->boot_id);
                r = sd_event_add_time(event, &owed->timer, CLOCK_BOOTTIME, 0, 0, owed_on_timer,
                                      owed);
        }
        if (r >= 0)
                r = sd_event_source_set_enabled(owed->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = owed->store_fd = owed_store_open(state_dir);
        if (r >= 0)
                r = owed_store_read(owed->store_fd, owed_on_record, owed);
        if (r < 0) {
                owed_free(owed);
                return r;
        }
        *ret = owed;
        return 0;
}

Owed *owed_free(Owed *owed) {
        if (!owed)
                return NULL;
        for (size_t i = 0; i < OWED_MAX; i++)
                gate_command_free(owed->slots[i].command);
        sd_event_source_disable_unref(owed->timer);
        sd_event_unref(owed->event);
        if (owed->store_fd >= 0)
                close(owed->store_fd);
        free(owed);
        return NULL;
}

void owed_each(const Owed *owed, OwedCallback callback, void *userdata) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].state != OWED_FREE)
                        callback(owed->slots[i].window, &owed->slots[i].record, userdata);
}

void owed_start(Owed *owed) {
        owed->started = true;
        owed_set_timer(owed);
}

/* Adds the ports that are owed already. Their claims need not be added: the gate plans nothing for
 * a window of which firewalld still lists any. */
static int record_join(OwedRecord *record, const OwedRecord *owing) {
        if (record->gate != owing->gate || strcmp(record->profile, owing->profile) != 0)
                return -EBUSY;
        return ports_join(record->ports, &record->n_ports, owing->ports, owing->n_ports);
}

/* A window that opens for each challenge comes here again, perhaps with its last close still owed.
 */
static int slot_take_again(OwedSlot *slot, OwedRecord *whole) {
        int r;

        r = record_join(whole, &slot->record);
        if (r >= 0)
                r = owed_store_write(slot->owed->store_fd, slot->window, whole);
        if (r < 0)
                return r;
        slot->unsettled = slot->record.unsettled;
        slot->record = *whole;
        if (slot->state == OWED_CLOSING)
                slot->retaken = true;
        else {
                slot->owing = true;
                slot->state = OWED_TAKEN;
        }
        slot->failures = 0;
        slot_set_counted(slot, false);
        owed_set_timer(slot->owed);
        return 0;
}

int owed_take(Owed *owed, const char *window_id, const OwedRecord *record) {
        OwedSlot *slot = owed_find(owed, window_id);
        OwedRecord whole = *record;
        int r;

        memcpy(whole.boot_id, owed->boot_id, sizeof(whole.boot_id));
        if (slot)
                return slot_take_again(slot, &whole);
        slot = owed_find_free(owed);
        if (!slot)
                return -ENOSPC;
        r = owed_store_write(owed->store_fd, window_id, &whole);
        if (r < 0) {
                (void) owed_store_remove(owed->store_fd, window_id); /* nothing is opened */
                return r;
        }
        *slot = (OwedSlot){.owed = owed, .state = OWED_TAKEN, .record = whole};
        (void) snprintf(slot->window, sizeof(slot->window), "%s", window_id);
        owed_set_timer(owed);
        return 0;
}

int owed_claim(Owed *owed, const char *window_id, const FirewalldClaims *claims) {
        OwedSlot *slot = owed_find(owed, window_id);
        OwedRecord whole;
        int r;

        if (!slot || slot->state != OWED_TAKEN)
                return -ENOENT;
        whole = slot->record;
        whole.claims = *claims;
        r = owed_store_write(owed->store_fd, window_id, &whole);
        if (r >= 0)
                slot->record = whole;
        return r;
}

void owed_settle(Owed *owed, const char *window_id) {
        OwedSlot *slot = owed_find(owed, window_id);
        OwedRecord whole;
        int r;

        if (!slot || slot->state != OWED_TAKEN || slot->unsettled)
                return;
        whole = slot->record;
        whole.unsettled = false;
        r = owed_store_write(owed->store_fd, window_id, &whole);
        if (r < 0)
                log_warning("Cannot write down that window %s is open elsewhere (%s): it is closed "
                            "there twice.",
                            window_id, strerror(-r));
        else
                slot->record = whole;
}

void owed_drop(Owed *owed, const char *window_id) {
        OwedSlot *slot = owed_find(owed, window_id);

        if (!slot)
                return;
        slot->retaken = false;
        if (slot->state != OWED_TAKEN)
                return;
        if (slot->owing) {
                /* the claims were this opening's; on disk they do no harm until the next start */
                slot->record.claims.n = 0;
                slot->state = OWED_DUE;
                slot->due = clock_now(CLOCK_BOOTTIME);
                slot_set_counted(slot, true);
        } else
                slot_free(slot);
        owed_set_timer(owed);
}

void owed_close(Owed *owed, const char *window_id) {
        OwedSlot *slot = owed_find(owed, window_id);

        if (!slot || slot->state != OWED_TAKEN)
                return;
        slot->state = OWED_DUE;
        slot->due = clock_now(CLOCK_BOOTTIME);
        if (slot->record.unsettled)
                slot->settled = slot->due + OWED_SETTLE_USEC;
        owed_set_timer(owed);
}

bool owed_is_closing(const Owed *owed, const char *profile) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].state == OWED_CLOSING &&
                    strcmp(owed->slots[i].record.profile, profile) == 0)
                        return true;
        return false;
}

void owed_stop(Owed *owed) {
        owed->stopping = true;
        for (size_t i = 0; i < OWED_MAX; i++) {
                OwedSlot *slot = &owed->slots[i];

                if (slot->state != OWED_CLOSING || !slot->command)
                        continue;
                /* nobody waits for one that is owed; the next start goes on */
                if (slot->counted)
                        gate_command_stop(slot->command);
                else
                        gate_command_limit(slot->command, OWED_STOP_LIMIT_USEC);
        }
        owed_set_timer(owed);
}

unsigned owed_count(const Owed *owed) {
        unsigned n = 0;

        for (size_t i = 0; i < OWED_MAX; i++)
                n += owed->slots[i].counted;
        return n;
}

bool owed_has(const Owed *owed, const char *profile) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].counted && strcmp(owed->slots[i].record.profile, profile) == 0)
                        return true;
        return false;
}

bool owed_is_empty(const Owed *owed) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (owed->slots[i].state != OWED_FREE)
                        return false;
        return true;
}
