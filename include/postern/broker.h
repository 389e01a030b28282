/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * broker: owns the windows and the requests for them, and what they are made of.
 *
 * Knows no wire format: the bus hands it parsed calls and is told through a table of functions what
 * to answer and what to announce.
 */

#include <postern/authority.h>
#include <postern/check.h>
#include <postern/door.h>
#include <postern/error.h>
#include <postern/peer.h>
#include <postern/prompts.h>
#include <postern/quota.h>
#include <postern/records.h>
#include <postern/renewal.h>
#include <postern/runner.h>
#include <postern/sleep-guard.h>
#include <systemd/sd-bus.h>

enum {
        BROKER_FLAG_CLOSE_WITH_HOLDER = 1 << 0,
        BROKER_FLAGS_KNOWN = BROKER_FLAG_CLOSE_WITH_HOLDER,

        /* Calls that wait for an answer, and Wait apart, which everybody may call: each as many in
         * all, and of one uid. They count from when the bus has told the uid: till then nobody can
         * tell whose share they take, and each connection has its own. */
        BROKER_CALLS = 256,
        BROKER_CALLS_PER_UID = 16,
        BROKER_WAITS = 128,
        BROKER_WAITS_PER_UID = 16,
        BROKER_CALLS_UNKNOWN = 4,
        BROKER_CALLS_UNKNOWN_ALL = 2048, /* each is looked at for each new call */
        BROKER_WINDOWS_KEPT =
                64, /* beyond that a closed window is forgotten before its minute is up */
};

typedef struct Request Request;

/* A call to be answered. The bus's; given to the broker with a request, and back with the answer,
 * exactly once. */
typedef struct Call Call;

typedef enum RequestKind {
        REQUEST_RENEW,  /* answered when the window is closed */
        REQUEST_WINDOW, /* answered when the window is open */
        REQUEST_CLOSE,  /* answered when the window is closed */
        REQUEST_WAIT,   /* the same */
        REQUEST_LOG,
        REQUEST_CHECK,
} RequestKind;

/* Owned by the broker, valid during the callback. */
typedef struct Answer {
        RequestKind kind;
        int outcome;              /* an Outcome, or negative errno */
        const char *text;         /* where outcome is not OUTCOME_OK and not negative */
        const Renewal *renewal;   /* where outcome is OUTCOME_OK, REQUEST_CHECK apart */
        const char *const *lines; /* REQUEST_LOG: NULL-terminated */
        const Findings *findings; /* REQUEST_CHECK */
} Answer;

typedef struct BrokerObserver {
        void (*answer)(Call *call, const Answer *answer, void *userdata);
        void (*added)(const Renewal *renewal, void *userdata);
        void (*changed)(const Renewal *renewal, void *userdata);
        void (*opened)(const Renewal *renewal, void *userdata);
        void (*closed)(const Renewal *renewal, void *userdata);
        void (*forgotten)(const Renewal *renewal, void *userdata); /* it can still be found */
        /* broker->owed has another number of closes, for this profile one more or one less */
        void (*owed)(const char *profile, void *userdata);
} BrokerObserver;

typedef struct BrokerOptions {
        const char *config_dir;
        const char *state_dir;
        const char *runtime_dir;
        const char *run_path;
        const char *run_socket; /* instead, or NULL; see runner_use_socket() */
        bool allow_sticky_parents;
} BrokerOptions;

/* Fields are for broker.c, request.c, renewal.c and hint.c. */
struct Broker {
        sd_event *event;
        BrokerOptions options;
        BrokerObserver observer;
        void *observer_data;

        Quota *quota;
        struct {
                uint64_t question; /* 0: none */
                uid_t uid;
        } abandoned[QUOTA_QUESTIONS]; /* their callers left; counted until polkit has answered */
        Prompts prompts;
        Records *records;
        Door *door;
        GateFirewalld *firewalld;
        Owed *owed;
        Passage *passage;
        Runner *runner;
        Peers *peers;
        Authority *authority;
        Checks *checks;
        SleepGuard *sleep;

        Renewal *renewals; /* newest first */
        Request *requests;
        uint64_t next_request;
        bool somebody_came;    /* since it was last looked from where */
        sd_event_source *poll; /* counts the connections of open windows, once a second */
        bool stopping;
};

/* The options' strings and the observer's table stay the caller's and must stay. */
int broker_new(Broker **ret, sd_event *event, sd_bus *bus, const BrokerOptions *options,
               const BrokerObserver *observer, void *userdata);
/* Shuts every door and ends every run at once. */
Broker *broker_free(Broker *broker);

/* Removes what an earlier daemon left open, and ends what it left running. */
int broker_sweep(Broker *broker);

/* Closes every window and refuses every request from now on. */
void broker_stop(Broker *broker);
/* Nothing is left to close or to answer. */
bool broker_is_stopped(const Broker *broker);
/* There is nothing that would be lost if the daemon left now: no call, no window, closed ones that
 * can still be read included, nothing of ours in the kernel, no prompts that count, no state that
 * could not be written. */
bool broker_is_idle(const Broker *broker);

/* Loads a profile with the broker's options; see profile_load(). */
int broker_load_profile(const Broker *broker, const char *name, Profile **ret, char **ret_problem);

Renewal *broker_find(const Broker *broker, const char *window_id);
/* The profile's one window that is not closed, or NULL. */
Renewal *broker_find_live(const Broker *broker, const char *profile);
unsigned broker_count_live(const Broker *broker);

/* For request.c and renewal.c: what happens to a renewal that is in the list. */
void broker_on_changed(Renewal *renewal);
void broker_on_opened(Renewal *renewal);
void broker_on_closed(Renewal *renewal);
/* Says so and frees it. */
void broker_forget(Renewal *renewal);
/* Puts a new renewal, which somebody joined already, into the list and begins it. */
void broker_begin(Broker *broker, Renewal *renewal);
