/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A window without a firewall elsewhere is its door's alone, and answered at once. For the others
 * there is an entry, from before anything is opened until everything is shut or owed.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/gate-command.h>
#include <postern/log.h>
#include <postern/passage.h>
#include <string.h>

typedef enum EntryState {
        ENTRY_FREE,
        ENTRY_PLANNING, /* firewalld is asked */
        ENTRY_WAITING,  /* for a close of the profile's that is being carried out */
        ENTRY_OPENING,  /* OpenCommand= runs, or firewalld opens */
        ENTRY_ENDING,   /* the same, but it has been told to end */
        ENTRY_OPEN,
        ENTRY_CLOSING,
} EntryState;

typedef struct Entry {
        Passage *passage;
        EntryState state;
        char window[OWED_WINDOW_MAX];
        const Profile *profile; /* the window's, while it is opening */
        uint64_t deadline;      /* CLOCK_REALTIME, microseconds */
        uint64_t until;         /* the same; CLOCK_BOOTTIME */
        bool in_firewalld;      /* not by a command */
        bool planned;           /* the hold of this id in firewalld is this entry's */
        DoorOuter outer;
        LeaseReach reach;
        char *legacy;
        char *gate;    /* where the door is, and what else is open */
        char *problem; /* why it is being closed; NULL: because it was asked for */
        bool asked;    /* passage_shut() waits for the answer */
        GateCommand *command;
} Entry;

struct Passage {
        sd_event *event;
        Door *door;
        Owed *owed;
        Runner *runner;
        GateFirewalld *firewalld;
        PassageCallback callback;
        void *userdata;
        Entry entries[OWED_MAX];
};

int passage_new(Passage **ret, sd_event *event, Door *door, Owed *owed, Runner *runner,
                GateFirewalld *firewalld, PassageCallback callback, void *userdata) {
        Passage *passage = calloc(1, sizeof(*passage));

        if (!passage)
                return -ENOMEM;
        passage->event = sd_event_ref(event);
        passage->door = door;
        passage->owed = owed;
        passage->runner = runner;
        passage->firewalld = firewalld;
        passage->callback = callback;
        passage->userdata = userdata;
        *ret = passage;
        return 0;
}

static void entry_release(Entry *entry) {
        gate_command_free(entry->command);
        free(entry->legacy);
        free(entry->gate);
        free(entry->problem);
        *entry = (Entry){};
}

Passage *passage_free(Passage *passage) {
        if (!passage)
                return NULL;
        for (size_t i = 0; i < OWED_MAX; i++)
                entry_release(&passage->entries[i]);
        sd_event_unref(passage->event);
        free(passage);
        return NULL;
}

static Entry *passage_find(Passage *passage, const char *window_id) {
        for (size_t i = 0; i < OWED_MAX; i++)
                if (passage->entries[i].state != ENTRY_FREE &&
                    strcmp(passage->entries[i].window, window_id) == 0)
                        return &passage->entries[i];
        return NULL;
}

static void passage_say(Passage *passage, const char *window_id, PassageNews news,
                        const char *text) {
        passage->callback(window_id, news, text, passage->userdata);
}

static const char *explain_door(int r) {
        return r == -ENOMEM ? "Memory ran out while opening the firewall; free some and ask again."
                            : "The kernel refused to change the firewall; the service's log says "
                              "more.";
}

static const char *explain_record(int r) {
        switch (r) {
        case -ENOSPC:
        case -EDQUOT:
                return "What is to be closed elsewhere afterwards could not be written down: make "
                       "room in the state directory, and see whether older closes are still owed";
        case -ENOMEM:
                return "Memory ran out; free some and ask again.";
        default:
                return "What is to be closed elsewhere afterwards could not be written down; the "
                       "service's log says why";
        }
}

/* Opening has failed, and nothing was opened elsewhere. */
static void entry_refuse(Entry *entry, const char *problem) {
        Passage *passage = entry->passage;
        char window[OWED_WINDOW_MAX];

        memcpy(window, entry->window, sizeof(window));
        door_shut(passage->door, window);
        if (entry->planned)
                gate_firewalld_forget(passage->firewalld, window);
        owed_drop(passage->owed, window);
        entry_release(entry);
        passage_say(passage, window, PASSAGE_REFUSED, problem);
}

static void entry_close(Entry *entry) {
        entry->state = ENTRY_CLOSING;
        owed_close(entry->passage->owed, entry->window);
}

static void entry_on_command(const char *problem, void *userdata) {
        Entry *entry = userdata;
        Passage *passage = entry->passage;
        char text[256];

        entry->command = gate_command_free(entry->command);
        if (entry->state == ENTRY_ENDING) {
                entry_close(entry);
                return;
        }
        if (problem) {
                /* perhaps half of it is open */
                entry->problem = strdup(problem);
                door_shut(passage->door, entry->window);
                entry_close(entry);
                return;
        }
        entry->state = ENTRY_OPEN;
        entry->profile = NULL;
        owed_settle(passage->owed, entry->window);
        (void) snprintf(text, sizeof(text), "%s; command", entry->gate);
        passage_say(passage, entry->window, PASSAGE_OPENED, text);
}

static void entry_begin(Entry *entry) {
        Passage *passage = entry->passage;
        int r;

        if (owed_is_closing(passage->owed, entry->profile->name)) {
                entry->state = ENTRY_WAITING;
                return;
        }
        entry->state = ENTRY_OPENING;
        r = gate_command_start(&entry->command, passage->event, passage->runner, RUN_GATE_OPEN,
                               entry->window, entry->profile, entry->profile->ports,
                               entry->profile->n_ports, entry->deadline, GATE_COMMAND_LIMIT_USEC,
                               entry_on_command, entry);
        if (r < 0)
                entry_refuse(entry, r == -ENOMEM ? "Memory ran out; free some and ask again."
                                                 : "The helper postern-run could not be started; "
                                                   "the service's log says why.");
}

/* claims: NULL for a command. */
static int entry_write(Entry *entry, const FirewalldClaims *claims) {
        OwedRecord record = {
                .gate = claims ? GATE_FIREWALLD : GATE_COMMAND,
                .deadline = entry->deadline,
                .n_ports = entry->outer.n_ports,
        };
        int r;

        if (claims)
                record.claims = *claims;
        else {
                record.unsettled = true;
                record.opened_by = profile_gate_digest(entry->profile);
        }
        (void) snprintf(record.profile, sizeof(record.profile), "%s", entry->profile->name);
        memcpy(record.ports, entry->outer.ports, sizeof(record.ports));
        r = owed_take(entry->passage->owed, entry->window, &record);
        if (r < 0)
                log_warning("Cannot write down what window %s is going to open elsewhere: %s",
                            entry->window, strerror(-r));
        return r;
}

/* NULL: too many are under way, which has been said. */
static Entry *passage_add(Passage *passage, const char *window_id, const Profile *profile,
                          uint64_t deadline, const LeaseReach *reach) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);
        Entry *entry = NULL;

        for (size_t i = 0; i < OWED_MAX && !entry; i++)
                if (passage->entries[i].state == ENTRY_FREE)
                        entry = &passage->entries[i];
        if (!entry) {
                passage_say(passage, window_id, PASSAGE_REFUSED, explain_record(-ENOSPC));
                return NULL;
        }
        *entry = (Entry){
                .passage = passage,
                .state = ENTRY_WAITING,
                .profile = profile,
                .deadline = clock_now(CLOCK_REALTIME) + (deadline > now ? deadline - now : 0),
                .until = deadline,
                .reach = *reach,
        };
        (void) snprintf(entry->window, sizeof(entry->window), "%s", window_id);
        return entry;
}

/* Writes down what is going to be opened elsewhere, and opens the door. False: it has been refused.
 */
static bool entry_open_door(Entry *entry, const char *legacy, const FirewalldClaims *claims) {
        _cleanup_free_ char *problem = NULL;
        int r;

        if (entry->outer.n_ports > 0) {
                r = entry_write(entry, claims);
                if (r < 0) {
                        entry_refuse(entry, explain_record(r));
                        return false;
                }
        }
        r = door_open(entry->passage->door, entry->window, entry->profile, entry->until, legacy,
                      &entry->outer, &entry->reach, &entry->gate, &problem);
        if (r != DOOR_OK) {
                entry_refuse(entry, r < 0 ? explain_door(r) : problem);
                return false;
        }
        return true;
}

static void passage_open_elsewhere(Passage *passage, const char *window_id, const Profile *profile,
                                   uint64_t deadline, const char *legacy, const LeaseReach *reach) {
        Entry *entry = passage_add(passage, window_id, profile, deadline, reach);

        if (!entry)
                return;
        entry->outer.n_ports = profile->n_ports;
        memcpy(entry->outer.ports, profile->ports, sizeof(entry->outer.ports));
        if (entry_open_door(entry, legacy, NULL))
                entry_begin(entry);
}

static void passage_open_here(Passage *passage, const char *window_id, const Profile *profile,
                              uint64_t deadline, const char *legacy, const LeaseReach *reach) {
        _cleanup_free_ char *gate = NULL, *problem = NULL;
        int r;

        r = door_open(passage->door, window_id, profile, deadline, legacy, NULL, reach, &gate,
                      &problem);
        if (r == DOOR_OK)
                passage_say(passage, window_id, PASSAGE_OPENED, gate);
        else
                passage_say(passage, window_id, PASSAGE_REFUSED, r < 0 ? explain_door(r) : problem);
}

static const char not_running[] =
        "firewalld does not run: `systemctl start firewalld`, or write Type=auto";

static void passage_ask_firewalld(Passage *passage, const char *window_id, const Profile *profile,
                                  uint64_t deadline, const char *legacy, const LeaseReach *reach) {
        Entry *entry = passage_add(passage, window_id, profile, deadline, reach);
        int r = -ENOMEM;

        if (!entry)
                return;
        entry->in_firewalld = true;
        entry->state = ENTRY_PLANNING;
        entry->legacy = strdup(legacy);
        if (entry->legacy)
                r = gate_firewalld_plan(passage->firewalld, window_id, profile->ports,
                                        profile->n_ports, profile->zone);
        /* else an earlier opening's, which has still to be shut, may go by this id */
        entry->planned = r >= 0;
        if (r == -EEXIST)
                entry_refuse(entry, "What this window had open in firewalld is not shut there yet; "
                                    "ask again when it is");
        else if (r < 0)
                entry_refuse(entry, r == -ENOMEM ? "Memory ran out; free some and ask again."
                                                 : "firewalld cannot be called; the service's log "
                                                   "says why.");
}

void passage_on_planned(Passage *passage, const char *window_id, FirewalldOutcome outcome,
                        const FirewalldClaims *claims, const char *where, const char *problem) {
        Entry *entry = passage_find(passage, window_id);
        _cleanup_free_ char *legacy = NULL;
        char gate[512];

        if (!entry || entry->state != ENTRY_PLANNING)
                return;
        if (outcome == FIREWALLD_ABSENT && entry->profile->gate == GATE_AUTO) {
                const Profile *profile = entry->profile;
                uint64_t until = entry->until;
                LeaseReach reach = entry->reach;

                legacy = TAKE_POINTER(entry->legacy);
                entry_release(entry);
                passage_open_here(passage, window_id, profile, until, legacy, &reach);
                return;
        }
        if (outcome != FIREWALLD_DONE) {
                entry_refuse(entry, outcome == FIREWALLD_ABSENT ? not_running : problem);
                return;
        }

        entry->outer.spare_firewalld = true;
        firewalld_claims_list_ports(claims, entry->outer.ports, &entry->outer.n_ports);
        if (!entry_open_door(entry, entry->legacy, claims))
                return;
        if (strncmp(entry->gate, "nftables:", strlen("nftables:")) != 0)
                (void) snprintf(gate, sizeof(gate), "%s", where);
        else if (claims->n > 0)
                (void) snprintf(gate, sizeof(gate), "%s; %s", entry->gate, where);
        else
                (void) snprintf(gate, sizeof(gate), "%s", entry->gate);
        if (claims->n == 0) {
                gate_firewalld_forget(passage->firewalld, window_id);
                entry_release(entry);
                passage_say(passage, window_id, PASSAGE_OPENED, gate);
                return;
        }
        free(entry->gate);
        entry->gate = strdup(gate);
        entry->state = ENTRY_OPENING;
        if (!entry->gate || gate_firewalld_open(passage->firewalld, window_id) < 0)
                entry_refuse(entry, "Memory ran out; free some and ask again.");
}

/* The door is shut, and what may be open elsewhere is closed. */
static void entry_give_up(Entry *entry, const char *problem) {
        entry->problem = strdup(problem);
        door_shut(entry->passage->door, entry->window);
        entry_close(entry);
}

void passage_on_firewalld_opened(Passage *passage, const char *window_id, FirewalldOutcome outcome,
                                 const char *problem) {
        Entry *entry = passage_find(passage, window_id);

        if (!entry || entry->state != ENTRY_OPENING || !entry->in_firewalld)
                return;
        if (outcome != FIREWALLD_DONE) {
                entry_give_up(entry, problem);
                return;
        }
        entry->state = ENTRY_OPEN;
        entry->profile = NULL;
        passage_say(passage, window_id, PASSAGE_OPENED, entry->gate);
}

/* The door knows which ports somebody else opens, and bounds those: no others. */
int passage_on_claimed(Passage *passage, const char *window_id, const FirewalldClaims *claims) {
        Entry *entry = passage_find(passage, window_id);

        if (!entry || entry->state != ENTRY_OPEN || !entry->in_firewalld)
                return -ENOENT;
        for (size_t i = 0; i < claims->n; i++) {
                const Port *port = &claims->list[i].port;
                bool bounded = false;

                for (size_t k = 0; k < entry->outer.n_ports; k++)
                        bounded |= entry->outer.ports[k].number == port->number &&
                                   entry->outer.ports[k].protocol == port->protocol;
                if (!bounded)
                        return -EPERM;
        }
        return owed_claim(passage->owed, window_id, claims);
}

void passage_on_firewalld_lost(Passage *passage, const char *window_id, const char *why) {
        Entry *entry = passage_find(passage, window_id);

        if (!entry || entry->state != ENTRY_OPEN || !entry->in_firewalld)
                return;
        entry_give_up(entry, why);
        passage_say(passage, window_id, PASSAGE_LOST, why);
}

void passage_open(Passage *passage, const char *window_id, const Profile *profile,
                  uint64_t deadline, const char *legacy, const LeaseReach *reach) {
        bool may_run = gate_firewalld_may_run(passage->firewalld);

        if (profile->gate == GATE_COMMAND)
                passage_open_elsewhere(passage, window_id, profile, deadline, legacy, reach);
        else if (profile->gate == GATE_FIREWALLD && !may_run)
                passage_say(passage, window_id, PASSAGE_REFUSED, not_running);
        else if (profile->gate == GATE_FIREWALLD || (profile->gate == GATE_AUTO && may_run))
                passage_ask_firewalld(passage, window_id, profile, deadline, legacy, reach);
        else
                passage_open_here(passage, window_id, profile, deadline, legacy, reach);
}

void passage_shut(Passage *passage, const char *window_id) {
        Entry *entry = passage_find(passage, window_id);

        door_shut(passage->door, window_id);
        if (!entry) {
                passage_say(passage, window_id, PASSAGE_SHUT, NULL);
                return;
        }
        entry->asked = true;
        switch (entry->state) {
        case ENTRY_FREE:
                return;
        case ENTRY_PLANNING:
                gate_firewalld_forget(passage->firewalld, window_id);
                entry_release(entry);
                passage_say(passage, window_id, PASSAGE_SHUT, NULL);
                return;
        case ENTRY_WAITING:
                owed_drop(passage->owed, entry->window);
                entry_release(entry);
                passage_say(passage, window_id, PASSAGE_SHUT, NULL);
                return;
        case ENTRY_OPENING:
                if (entry->in_firewalld) {
                        entry_close(entry);
                        return;
                }
                entry->state = ENTRY_ENDING;
                gate_command_stop(entry->command);
                return;
        case ENTRY_OPEN:
                entry_close(entry);
                return;
        case ENTRY_ENDING:
        case ENTRY_CLOSING:
                return;
        }
}

void passage_on_attempted(Passage *passage, const char *window_id, const char *problem) {
        Entry *entry = passage_find(passage, window_id);
        _cleanup_free_ char *why = NULL;
        char window[OWED_WINDOW_MAX];
        bool asked;

        if (entry && entry->state == ENTRY_CLOSING) {
                memcpy(window, entry->window, sizeof(window));
                asked = entry->asked;
                why = TAKE_POINTER(entry->problem);
                entry_release(entry);
                passage_say(passage, window, asked ? PASSAGE_SHUT : PASSAGE_REFUSED,
                            asked ? NULL
                            : why ? why
                                  : "It could not be opened; the service's log says more.");
        }
        for (size_t i = 0; i < OWED_MAX; i++)
                if (passage->entries[i].state == ENTRY_WAITING)
                        entry_begin(&passage->entries[i]);
}
