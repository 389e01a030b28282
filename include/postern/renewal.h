/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * renewal: one granted window with what belongs to it: the frozen profile, the door, the run, its
 * output, and who joined.
 *
 * Delivers events to the window's state machine and runs the effects it asks for. Answers that come
 * at once (the door's) are queued as events, so that one step is finished before the next begins.
 */

#include <postern/challenge.h>
#include <postern/output.h>
#include <postern/passage.h>
#include <postern/profile.h>
#include <postern/runner.h>
#include <postern/window.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

enum {
        RENEWAL_ID_SIZE = sizeof("w0123456789ab"),
        RENEWAL_QUEUE_MAX = 8,    /* a step gives at most three answers at once */
        RENEWAL_MEMBERS_MAX = 64, /* different uids that joined one window, holders of one window */
};

typedef struct Broker Broker;
typedef struct Renewal Renewal;

struct Renewal {
        Broker *broker;
        Renewal *next;

        char id[RENEWAL_ID_SIZE];
        Profile *profile;
        uid_t opened_by;
        uint64_t request; /* of whom, for its records */

        Window window;
        WindowEvent queue[RENEWAL_QUEUE_MAX];
        size_t n_queue;
        bool delivering;
        bool forgotten; /* freed at the next turn of the event loop */
        sd_event_source *timer;

        Run *run;
        Challenge *challenge; /* while the run goes, with OpenOn=challenge */
        Output *output;       /* taken over from the run when that ends */
        char *legacy;
        LeaseReach reach; /* known when the helper is ready */
        bool host_admits; /* the host's own rules let strangers in, so nobody can count them */

        char *gate;    /* where it opened; NULL before */
        char *problem; /* what the door or the helper said; NULL without */
        char *hint;    /* NULL until there is one */
        uint64_t admitted;
        Sources sources;           /* where those came from that were looked at */
        bool was_shut;             /* since then those are all that could be seen */
        uint64_t admitted_earlier; /* of them, before the door was opened this time */
        Certificate certificate_before, certificate; /* before the run, and after it */

        /* CLOCK_REALTIME in microseconds, 0 until then. Noted once: a clock step does not move
         * them. */
        uint64_t opened_at;
        uint64_t closed_at;
        uint64_t deadline;

        /* Who may read the log. */
        uid_t members[RENEWAL_MEMBERS_MAX];
        size_t n_members;
        /* Unique names that hold it as long as they stay; none of them matters once somebody asked
         * for it without that condition. */
        char *holders[RENEWAL_MEMBERS_MAX];
        size_t n_holders;
        bool held_for_good;
};

/* Takes the profile over in every case. The id is random and new. */
int renewal_new(Renewal **ret, Broker *broker, Profile *profile, uint64_t duration_usec,
                uid_t opened_by);
Renewal *renewal_free(Renewal *renewal);

void renewal_deliver(Renewal *renewal, const WindowEvent *event);
void renewal_deliver_type(Renewal *renewal, WindowEventType type);

/* Closes it for a reason that is neither the renewal's nor a caller's; why: a sentence without its
 * full stop. */
void renewal_stop(Renewal *renewal, const char *why);

/* Forgets a closed window soon, before its minute is up. */
void renewal_expire(Renewal *renewal);

void renewal_on_run(Renewal *renewal, const RunnerEvent *event);
void renewal_on_passage(Renewal *renewal, PassageNews news, const char *text);
void renewal_on_door_lost(Renewal *renewal, const char *why);

/* Takes over who was seen coming in; true if those are more than before. */
bool renewal_poll_sources(Renewal *renewal);

/* The port is shut, each connection that was let in was seen, and they were not too many. */
bool renewal_knows_sources(const Renewal *renewal);

/* Reads the count of connections again; true if it differs. */
bool renewal_poll_admitted(Renewal *renewal);

/* One more caller. leaves: it holds the window only while it is on the bus. -EUSERS: too many. */
int renewal_join(Renewal *renewal, const char *sender, uid_t uid, bool leaves);
bool renewal_is_member(const Renewal *renewal, uid_t uid);
/* This name left the bus: the window is cancelled if it was the last that held it. */
void renewal_on_peer_gone(Renewal *renewal, const char *name);

/* The last lines that the renewal printed; see output_tail(). */
int renewal_tail(const Renewal *renewal, size_t lines, const char ***ret);
