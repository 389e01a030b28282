/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * request: one call that waits for its answer, from the cheap checks over polkit to the window.
 *
 *   knowing ─▶ asking ─▶ (doubting) ─▶ (queued) ─▶ waiting ─▶ answered
 *      └─────▶ checking ────────────────────────────────────────▲
 *
 * What is asked for is frozen as soon as it is known who asks (before, it would cost a file for
 * each call of those who come and go): the same profile is checked against the limits, shown to
 * polkit and opened. Everything that completes later names the request by its id, which is looked
 * up anew.
 */

#include <postern/authority.h>
#include <postern/broker.h>

enum { REQUEST_NAME_SIZE = sizeof("r0123456789abcdef") };

typedef enum RequestState {
        REQUEST_KNOWING,  /* the bus is asked who calls */
        REQUEST_CHECKING, /* the host is looked at, for a pre-flight */
        REQUEST_ASKING,   /* polkit is asked */
        REQUEST_DOUBTING, /* polkit has answered, and the caller may just have left */
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
        uint64_t question;      /* ASKING; several requests may wait for the same answer */
        bool asked;             /* and the records say so: they also say what came of it */
        bool told;              /* they do, or its window's do */
        bool counted;           /* its question, in quota */
        AuthorityAnswer answer; /* DOUBTING */
        bool prompting;         /* its question may show a prompt, and is counted as that */

        char *profile_name; /* RENEW, WINDOW and CHECK: the file is read when they may have that */
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
void request_on_check(Broker *broker, uint64_t id, const Findings *findings);
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
/* Looks at the profile as it is now, and at the host. */
void request_begin_check(Request *request);
/* The window that the request is about, or NULL, and then it is answered. */
Renewal *request_find_window(Request *request);
/* How the records name it: no other of this host has the same. */
void request_format_id(uint64_t id, char ret[REQUEST_NAME_SIZE]);
void request_log(const Request *request, int priority, const char *message_id, const char *text);
void request_log_refused(Request *request, int priority, const char *text);
/* It ends without what it asked for. What is refused before polkit is asked is told to the caller
 * alone: everybody could have that written, as fast as they can call. */
void request_log_end(Request *request, const char *text);

/* Its question is over: gives back what was counted for that. */
void request_end_question(Request *request, PromptEnd end);
/* The first that waits for this answer, which is the one that asked, or NULL. To be asked for again
 * after each, as answering one may end others. */
Request *request_find_question(const Broker *broker, uint64_t question);
/* polkit would have somebody asked, and the call allows that. */
void request_prompt(Request *request);

/* Reads the profile, which is what is asked about and opened from here on, and looks at the
 * duration. False: the call has been answered. */
bool request_freeze(Request *request);

/* Counts it as a call of this uid. False: that has too many of this kind already, and it has been
 * answered. */
bool request_take_place(Request *request, uid_t uid);

/* The bus has said whose call it is. */
void request_on_known(Request *request, uid_t uid);
/* polkit has said yes, and the caller is there. */
void request_on_granted(Request *request);
/* Opens or joins a window of the profile, or waits for the closing one. */
void request_enter(Request *request);
