/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * broker: owns the windows and the requests for them, and what they are made of.
 *
 * Knows no wire format: the bus hands it parsed calls and is told through a table of functions what
 * to answer and what to announce.
 */

#include <postern/authority.h>
#include <postern/door.h>
#include <postern/error.h>
#include <postern/peer.h>
#include <postern/quota.h>
#include <postern/renewal.h>
#include <postern/runner.h>
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
        const Profile *profile;   /* REQUEST_CHECK; or NULL, and then */
        const char *problem;      /* what is wrong in it */
} Answer;

typedef struct BrokerObserver {
        void (*answer)(Call *call, const Answer *answer, void *userdata);
        void (*added)(const Renewal *renewal, void *userdata);
        void (*changed)(const Renewal *renewal, void *userdata);
        void (*opened)(const Renewal *renewal, void *userdata);
        void (*closed)(const Renewal *renewal, void *userdata);
        void (*forgotten)(const Renewal *renewal, void *userdata); /* it can still be found */
} BrokerObserver;

typedef struct BrokerOptions {
        const char *config_dir;
        const char *runtime_dir;
        const char *run_path;
        bool allow_sticky_parents;
} BrokerOptions;

/* What is remembered of a profile's last window, as long as the daemon lives. */
typedef struct ProfileRecord ProfileRecord;
struct ProfileRecord {
        ProfileRecord *next;
        WindowResult last_result;
        uint64_t last_closed_at; /* CLOCK_REALTIME, microseconds */
        uint64_t not_after;      /* CLOCK_REALTIME, microseconds; 0: unknown */
        char name[];
};

/* Fields are for broker.c, request.c and renewal.c. */
struct Broker {
        sd_event *event;
        BrokerOptions options;
        BrokerObserver observer;
        void *observer_data;

        Quota *quota;
        Door *door;
        Runner *runner;
        Peers *peers;
        Authority *authority;

        Renewal *renewals; /* newest first */
        Request *requests;
        ProfileRecord *records;
        uint64_t next_request;
        sd_event_source *poll; /* counts the connections of open windows, once a second */
        bool stopping;
};

/* The options' strings and the observer's table stay the caller's and must stay. */
int broker_new(Broker **ret, sd_event *event, sd_bus *bus, const BrokerOptions *options,
               const BrokerObserver *observer, void *userdata);
/* Shuts every door and ends every run at once. */
Broker *broker_free(Broker *broker);

/* Removes what an earlier daemon left open. */
int broker_sweep(Broker *broker);

/* Closes every window and refuses every request from now on. */
void broker_stop(Broker *broker);
/* Nothing is left to close or to answer. */
bool broker_is_stopped(const Broker *broker);

/* Loads a profile with the broker's options; see profile_load(). */
int broker_load_profile(const Broker *broker, const char *name, Profile **ret, char **ret_problem);

/* Findings about a profile's way to the network; opens nothing. */
int broker_check(Broker *broker, const Profile *profile, FindingCallback callback, void *userdata);

Renewal *broker_find(const Broker *broker, const char *window_id);
/* The profile's one window that is not closed, or NULL. */
Renewal *broker_find_live(const Broker *broker, const char *profile);
const ProfileRecord *broker_find_record(const Broker *broker, const char *profile);
unsigned broker_count_live(const Broker *broker);

/* For request.c and renewal.c: what happens to a renewal that is in the list. */
void broker_on_changed(Renewal *renewal);
void broker_on_opened(Renewal *renewal);
void broker_on_closed(Renewal *renewal);
/* Says so and frees it. */
void broker_forget(Renewal *renewal);
/* Puts a new renewal, which somebody joined already, into the list and begins it. */
void broker_begin(Broker *broker, Renewal *renewal);
