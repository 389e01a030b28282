/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * request: one call that waits for its answer, from the cheap checks over polkit to the window.
 *
 *   knowing ─▶ asking ─▶ (doubting) ─▶ (queued) ─▶ waiting ─▶ answered
 *
 * What is asked for is frozen when the call comes in: the same profile is shown to polkit, checked
 * against the limits and opened. Everything that completes later names the request by its id, which
 * is looked up anew.
 */

#include <postern/authority.h>
#include <postern/broker.h>

typedef enum RequestState {
        REQUEST_KNOWING,  /* the bus is asked who calls */
        REQUEST_ASKING,   /* polkit is asked */
        REQUEST_DOUBTING, /* polkit said yes, and the caller may just have left */
        REQUEST_QUEUED,   /* granted; the profile's last window is still closing */
        REQUEST_WAITING,  /* for the window to open or to close */
} RequestState;

/* Who calls, as the bus says. */
typedef struct Caller {
        const char *sender; /* unique name */
        bool interactive;   /* it allows a prompt */
        AuthorityAction action;
} Caller;

struct Request {
        Broker *broker;
        Request *next;

        uint64_t id;
        RequestKind kind;
        RequestState state;
        Call *call;
        char *sender;
        uid_t uid;
        AuthorityAction action;
        bool interactive;
        bool counted; /* as a question, in quota */

        char *profile_name; /* CHECK, which reads the file when it may */
        Profile *profile;   /* RENEW and WINDOW, until it becomes the window's */
        uint64_t duration_usec;
        uint64_t flags;

        char window_id[RENEWAL_ID_SIZE]; /* the window it is about, once there is one */
        uint32_t lines;
};

/* Each takes `call` over and answers it through the broker's observer, perhaps before it returns.
 */
void request_window(Broker *broker, Call *call, const Caller *caller, RequestKind kind,
                    const char *profile, uint64_t duration_usec, uint64_t flags);
void request_about_window(Broker *broker, Call *call, const Caller *caller, RequestKind kind,
                          const char *window_id, uint32_t lines);
void request_check(Broker *broker, Call *call, const Caller *caller, const char *profile);

/* For the broker, which is told these things. */
void request_on_peer(Broker *broker, const char *name, PeerNews news);
void request_on_authority(Broker *broker, uint64_t question, AuthorityAnswer answer);
void request_on_opened(Renewal *renewal);
void request_on_closed(Renewal *renewal);
/* Answers what waits for no window. */
void request_stop_all(Broker *broker);
/* Answers everything. */
void request_abandon_all(Broker *broker);

/*
 * Between request.c (how a call comes and goes) and request-grant.c (what it may do). Whatever may
 * answer a request ends its life with that: it is not touched afterwards.
 */
void request_fail(Request *request, int error);
void request_refuse(Request *request, Outcome outcome, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* When the window is open or closed, as the kind asks for. */
void request_answer_window(Request *request, const Renewal *renewal);
void request_answer_log(Request *request, const Renewal *renewal);
/* With the profile, as it is now. */
void request_answer_check(Request *request);
/* The window that the request is about, or NULL, and then it is answered. */
Renewal *request_find_window(Request *request);
void request_log(const Request *request, int priority, const char *message_id, const char *text);

/* The bus has said whose call it is. */
void request_on_known(Request *request, uid_t uid);
/* polkit has said yes, and the caller is there. */
void request_on_granted(Request *request);
/* Opens or joins a window of the profile, or waits for the closing one. */
void request_enter(Request *request);
