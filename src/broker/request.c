/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The way of one call; see request.h. A function that may answer a request ends its life with that:
 * the request is not touched afterwards. */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/hint.h>
#include <postern/log.h>
#include <postern/request.h>
#include <stdarg.h>
#include <string.h>

DEFINE_CLEANUP(Profile, profile_free);

#define REQUEST_DURATION_MIN_USEC ((uint64_t) 1000 * 1000)

static void request_unlink(Request *request) {
        for (Request **link = &request->broker->requests; *link; link = &(*link)->next)
                if (*link == request) {
                        *link = request->next;
                        return;
                }
}

void request_end_question(Request *request, PromptEnd end) {
        Broker *broker = request->broker;

        if (request->prompting)
                prompts_end(&broker->prompts, request->uid, end, clock_now(CLOCK_BOOTTIME));
        if (request->counted)
                quota_question_done(broker->quota, request->uid);
        request->prompting = request->counted = false;
}

static void request_free(Request *request) {
        Broker *broker = request->broker;

        request_unlink(request);
        request_end_question(request, PROMPT_OVER);
        if (request->state == REQUEST_CHECKING)
                checks_cancel(broker->checks, request->id);
        if (request->sender)
                peer_release(broker->peers, request->sender);
        free(request->sender);
        profile_free(request->profile);
        free(request->profile_name);
        free(request);
}

/* Every request ends here. */
static void request_answer(Request *request, const Answer *answer) {
        Broker *broker = request->broker;
        Call *call = TAKE_POINTER(request->call);

        request_free(request);
        broker->observer.answer(call, answer, broker->observer_data);
}

void request_fail(Request *request, int error) {
        request_log_end(request, strerror(-error));
        request_answer(request, &(Answer){.kind = request->kind, .outcome = error});
}

void request_refuse(Request *request, Outcome outcome, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        va_end(arguments);

        request_log_end(request, text ? text : "memory ran out");
        request_answer(request,
                       &(Answer){.kind = request->kind,
                                 .outcome = outcome,
                                 .text = text ? text : "Memory ran out; free some and ask again."});
}

void request_answer_window(Request *request, const Renewal *renewal) {
        Outcome outcome = OUTCOME_OK;
        _cleanup_free_ char *text = NULL;

        if (request->kind == REQUEST_RENEW ||
            (request->kind == REQUEST_WINDOW && renewal->window.state == WINDOW_CLOSED &&
             !renewal->window.announced_open))
                outcome = outcome_from_result(renewal->window.result);
        if (outcome == OUTCOME_OK) {
                request_answer(request, &(Answer){.kind = request->kind, .renewal = renewal});
                return;
        }

        text = hint_new_failure(renewal);
        request_refuse(request, outcome, "%s",
                       text ? text : "Memory ran out; free some and ask again.");
}

void request_answer_log(Request *request, const Renewal *renewal) {
        _cleanup_free_ const char **lines = NULL;
        int r = renewal_tail(renewal, request->lines, &lines);

        if (r < 0)
                request_fail(request, r);
        else
                request_answer(request, &(Answer){.kind = request->kind,
                                                  .renewal = renewal,
                                                  .lines = (const char *const *) lines});
}

static void request_refuse_missing(Request *request, const char *name) {
        if (profile_name_is_valid(name))
                request_refuse(request, OUTCOME_NO_SUCH_PROFILE,
                               "There is no profile %s; ListProfiles says which there are.", name);
        else
                request_refuse(request, OUTCOME_NO_SUCH_PROFILE,
                               "That cannot be a profile's name: up to %i letters, digits, dots, "
                               "dashes and underscores, the first a letter or digit. ListProfiles "
                               "says which there are.",
                               PROFILE_NAME_MAX);
}

void request_begin_check(Request *request) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;
        uint64_t now = clock_now(CLOCK_BOOTTIME), begun = clock_now(CLOCK_PROCESS_CPUTIME_ID);
        int r = broker_load_profile(request->broker, request->profile_name, &profile, &problem);

        if (r == PROFILE_MISSING) {
                request_refuse_missing(request, request->profile_name);
                return;
        }
        if (r == PROFILE_BAD && !problem)
                r = -ENOMEM;
        if (r >= 0)
                r = checks_begin(request->broker->checks, request->id, request->profile_name,
                                 profile, problem, request->uid);
        quota_charge_check(request->broker->quota, request->uid, now,
                           clock_now(CLOCK_PROCESS_CPUTIME_ID) - begun);
        if (r < 0)
                request_fail(request, r);
        else
                request->state = REQUEST_CHECKING;
}

void request_on_check(Broker *broker, uint64_t id, const Findings *findings) {
        for (Request *request = broker->requests; request; request = request->next)
                if (request->id == id) {
                        request_answer(request,
                                       &(Answer){.kind = request->kind, .findings = findings});
                        return;
                }
}

Renewal *request_find_window(Request *request) {
        Renewal *renewal = broker_find(request->broker, request->window_id);

        if (!renewal)
                request_refuse(request, OUTCOME_NO_SUCH_WINDOW,
                               "There is no such window: it is readable for a minute after it "
                               "closed. ListWindows says which are open.");
        return renewal;
}

/* Makes the request and gives it its place; NULL: the call has been answered. */
static Request *request_new(Broker *broker, Call *call, const Caller *caller, RequestKind kind) {
        Request *request, **end = &broker->requests;
        unsigned n_unknown = 0, n_unknown_all = 0;
        uid_t uid;
        int r;

        if (!caller->sender) { /* no bus lets such a call through */
                broker->observer.answer(call, &(Answer){.kind = kind, .outcome = -EACCES},
                                        broker->observer_data);
                return NULL;
        }
        for (; *end; end = &(*end)->next)
                if ((*end)->state == REQUEST_KNOWING) {
                        n_unknown_all++;
                        n_unknown += strcmp((*end)->sender, caller->sender) == 0;
                }

        request = calloc(1, sizeof(*request));
        if (!request) {
                broker->observer.answer(call, &(Answer){.kind = kind, .outcome = -ENOMEM},
                                        broker->observer_data);
                return NULL;
        }
        request->broker = broker;
        request->id = ++broker->next_request;
        request->kind = kind;
        request->call = call;
        request->uid = UID_NOBODY_KNOWN;
        request->action = caller->action;
        request->interactive = caller->interactive;
        *end = request; /* at the end: whoever came first is served first */

        if (broker->stopping) {
                request_refuse(request, OUTCOME_STOPPED, "The service is ending; ask again.");
                return NULL;
        }
        if (n_unknown >= BROKER_CALLS_UNKNOWN) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many calls of this program wait for an answer already; ask "
                               "again in a moment.");
                return NULL;
        }

        r = n_unknown_all < BROKER_CALLS_UNKNOWN_ALL ? peer_hold(broker->peers, caller->sender)
                                                     : -EUSERS;
        if (r >= 0) {
                request->sender = strdup(caller->sender);
                if (!request->sender) {
                        peer_release(broker->peers, caller->sender);
                        r = -ENOMEM;
                }
        }
        if (r == -EUSERS) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many programs wait for an answer already; ask again in a "
                               "moment.");
                return NULL;
        }
        if (r < 0) {
                request_fail(request, r);
                return NULL;
        }

        /* before anything is done for it that costs more than a refusal */
        uid = peer_get_uid(broker->peers, request->sender);
        if (uid != UID_NOBODY_KNOWN && !request_take_place(request, uid))
                return NULL;
        return request;
}

static void request_start(Request *request) {
        uid_t uid = peer_get_uid(request->broker->peers, request->sender);

        if (uid != UID_NOBODY_KNOWN)
                request_on_known(request, uid);
        else
                request->state = REQUEST_KNOWING;
}

/* False: the call has been answered. */
static bool request_take_profile(Request *request) {
        _cleanup_free_ char *problem = NULL;
        const char *name = request->profile_name;
        int r = broker_load_profile(request->broker, name, &request->profile, &problem);

        if (r == PROFILE_OK)
                return true;

        if (r == PROFILE_BAD)
                request_refuse(request, OUTCOME_BAD_PROFILE, "%s",
                               problem ? problem : "The profile has an error; see ListProfiles.");
        else if (r == PROFILE_MISSING)
                request_refuse_missing(request, name);
        else
                request_fail(request, r);
        return false;
}

void request_window(Broker *broker, Call *call, const Caller *caller, RequestKind kind,
                    const char *name, uint64_t duration_usec, uint64_t flags) {
        Request *request = request_new(broker, call, caller, kind);

        if (!request)
                return;

        if (flags & ~(uint64_t) BROKER_FLAGS_KNOWN) {
                request_refuse(request, OUTCOME_BAD_FLAGS,
                               "The only flag is 1 (close the window when this caller leaves the "
                               "bus); pass 0 or 1.");
                return;
        }
        if (!profile_name_is_valid(name)) {
                request_refuse_missing(request, name);
                return;
        }
        request->profile_name = strdup(name);
        if (!request->profile_name) {
                request_fail(request, -ENOMEM);
                return;
        }
        request->duration_usec = duration_usec;
        request->flags = flags;

        request_start(request);
}

bool request_freeze(Request *request) {
        if (!request_take_profile(request))
                return false;

        if (request->duration_usec == 0)
                request->duration_usec = request->profile->default_duration_usec;
        else if (request->duration_usec < REQUEST_DURATION_MIN_USEC ||
                 request->duration_usec > request->profile->max_duration_usec) {
                request_refuse(request, OUTCOME_BAD_DURATION,
                               "The duration with profile %s may be 1 s to %" PRIu64
                               " s (in the call: microseconds, 1000000 to %" PRIu64
                               "), or 0 for its default.",
                               request->profile->name,
                               request->profile->max_duration_usec / 1000000,
                               request->profile->max_duration_usec);
                return false;
        }
        return true;
}

void request_about_window(Broker *broker, Call *call, const Caller *caller, RequestKind kind,
                          const char *window_id, uint32_t lines) {
        Request *request = request_new(broker, call, caller, kind);

        if (!request)
                return;
        (void) snprintf(request->window_id, sizeof(request->window_id), "%s", window_id);
        request->lines = lines;

        request_start(request);
}

void request_check(Broker *broker, Call *call, const Caller *caller, const char *profile) {
        Request *request = request_new(broker, call, caller, REQUEST_CHECK);

        if (!request)
                return;
        request->profile_name = strdup(profile);
        if (!request->profile_name) {
                request_fail(request, -ENOMEM);
                return;
        }

        request_start(request);
}

static void request_on_refused(Request *request, AuthorityAnswer answer) {
        const char *action = authority_action_to_string(request->action);

        switch (answer) {
        case AUTHORITY_GRANTED: /* not here */
        case AUTHORITY_REFUSED:
                request_log_refused(request, LOG_NOTICE, "polkit refused");
                request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                               "polkit refused %s. An administrator can allow it%s by a rule in "
                               "/etc/polkit-1/rules.d; see polkit(8).",
                               action,
                               request->action == ACTION_REQUEST_WINDOW
                                       ? " by adding you to the group postern, or"
                                       : "");
                return;
        case AUTHORITY_CHALLENGE:
                if (request->interactive) {
                        request_log_refused(
                                request, LOG_NOTICE,
                                "polkit wants a person to be asked, and has no agent to do so");
                        request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                                       "%s needs an administrator's password, and no agent of "
                                       "polkit is there to ask for it: call from a desktop "
                                       "session, or as root%s.",
                                       action,
                                       request->action == ACTION_REQUEST_WINDOW
                                               ? ", or have an administrator add you to the group "
                                                 "postern"
                                               : "");
                        return;
                }
                request_log_refused(
                        request, LOG_NOTICE,
                        "polkit wants a person to be asked, and the call allows no prompt");
                request_refuse(request, OUTCOME_INTERACTION_REQUIRED,
                               "%s needs an administrator's password, and the call allows no "
                               "prompt: allow interactive authorisation in it%s.",
                               action,
                               request->action == ACTION_REQUEST_WINDOW
                                       ? ", or have an administrator add you to the group postern"
                                       : "");
                return;
        case AUTHORITY_FAILED:
                request_log_refused(request, LOG_WARNING, "polkit could not be asked");
                request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                               "polkit could not be asked about %s, so it is refused. See whether "
                               "polkitd runs: systemctl status polkit.",
                               action);
                return;
        case AUTHORITY_SILENT:
                request_log_refused(request, LOG_WARNING, "polkit gave no answer");
                request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                               "polkit gave no answer about %s within %i s, so it is refused. Ask "
                               "again, and answer the prompt if there is one; otherwise see "
                               "whether polkitd is well: systemctl status polkit.",
                               action, (int) (AUTHORITY_TIMEOUT_USEC / 1000000));
                return;
        }
}

Request *request_find_question(const Broker *broker, uint64_t question) {
        for (Request *request = broker->requests; request; request = request->next)
                if (request->state == REQUEST_ASKING && request->question == question)
                        return request;
        return NULL;
}

static PromptEnd request_judge_prompt(AuthorityAnswer answer) {
        switch (answer) {
        case AUTHORITY_REFUSED:
                return PROMPT_DISMISSED;
        case AUTHORITY_CHALLENGE:
                return PROMPT_NOT_SHOWN;
        case AUTHORITY_GRANTED:
        case AUTHORITY_FAILED:
        case AUTHORITY_SILENT:
                return PROMPT_OVER;
        }
        return PROMPT_OVER;
}

static void request_settle(Request *request) {
        if (request->answer == AUTHORITY_GRANTED)
                request_on_granted(request);
        else
                request_on_refused(request, request->answer);
}

static void request_on_answer(Request *request, AuthorityAnswer answer) {
        bool in_doubt = peer_is_in_doubt(request->broker->peers, request->sender);

        /* polkit refuses who has just left, and that dismisses nothing */
        request_end_question(request, in_doubt ? PROMPT_OVER : request_judge_prompt(answer));
        request->answer = answer;

        if (answer == AUTHORITY_GRANTED)
                request_log(request, LOG_NOTICE, MESSAGE_GRANTED, "polkit said yes");
        if (in_doubt)
                request->state = REQUEST_DOUBTING;
        else
                request_settle(request);
}

/* polkit goes on with a question whose caller has left, until it comes to the cancellation. Were
 * this not counted, somebody who asks and leaves could have more under way than the bus allows us,
 * and nobody else could be asked about. */
static void request_abandon_question(Request *request) {
        Broker *broker = request->broker;
        size_t i = 0;

        authority_cancel(broker->authority, request->question);
        if (!request->counted)
                return;
        while (broker->abandoned[i].question != 0) /* as many as may be counted */
                i++;
        broker->abandoned[i].question = request->question;
        broker->abandoned[i].uid = request->uid;
        request->counted = false;
}

static void request_settle_question(Broker *broker, uint64_t question) {
        for (size_t i = 0; i < ELEMENTS(broker->abandoned); i++)
                if (broker->abandoned[i].question == question) {
                        quota_question_done(broker->quota, broker->abandoned[i].uid);
                        broker->abandoned[i].question = 0;
                        return;
                }
}

void request_on_authority(Broker *broker, uint64_t question, AuthorityAnswer answer) {
        Request *request = request_find_question(broker, question);

        request_settle_question(broker, question);
        if (request && answer == AUTHORITY_CHALLENGE && request->interactive &&
            !request->prompting) {
                request_prompt(request);
                return;
        }

        while ((request = request_find_question(broker, question)))
                request_on_answer(request, answer);
}

/* The first request of this caller in this state. Asked for again after each, as answering one may
 * end others. */
static Request *request_find_caller(const Broker *broker, const char *name, RequestState state) {
        for (Request *request = broker->requests; request; request = request->next)
                if (request->state == state && strcmp(request->sender, name) == 0)
                        return request;
        return NULL;
}

/* It has no caller any more: what is answered reaches nobody, but ends here as well. */
static void request_lose_caller(Request *request) {
        if (request->state == REQUEST_ASKING)
                request_abandon_question(request);
        if (request->state == REQUEST_ASKING ||
            (request->state == REQUEST_DOUBTING && request->answer != AUTHORITY_GRANTED))
                request_log_refused(request, LOG_NOTICE, "the caller left before the answer");
        else if (request->state == REQUEST_DOUBTING)
                request_log_refused(
                        request, LOG_NOTICE,
                        "the caller had left when the answer came, so nothing was opened");
        request_refuse(request, OUTCOME_CANCELED, "The caller has left.");
}

static void request_on_peer_gone(Broker *broker, const char *name) {
        static const RequestState states[] = {REQUEST_KNOWING,  REQUEST_CHECKING, REQUEST_ASKING,
                                              REQUEST_DOUBTING, REQUEST_QUEUED,   REQUEST_WAITING};
        Request *request;

        for (size_t i = 0; i < ELEMENTS(states); i++)
                while ((request = request_find_caller(broker, name, states[i])))
                        request_lose_caller(request);
}

void request_on_peer(Broker *broker, const char *name, PeerNews news) {
        Request *request;

        switch (news) {
        case PEER_KNOWN:
                while ((request = request_find_caller(broker, name, REQUEST_KNOWING)))
                        request_on_known(request, peer_get_uid(broker->peers, name));
                return;
        case PEER_UNKNOWN:
                while ((request = request_find_caller(broker, name, REQUEST_KNOWING)))
                        request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                                       "The bus does not say who is calling, so it is refused; ask "
                                       "again.");
                return;
        case PEER_STAYS:
                while ((request = request_find_caller(broker, name, REQUEST_DOUBTING)))
                        request_settle(request);
                return;
        case PEER_GONE:
                request_on_peer_gone(broker, name);
                return;
        }
}

static Request *request_find_window_kind(const Renewal *renewal, RequestState state, bool any_kind,
                                         RequestKind kind) {
        for (Request *request = renewal->broker->requests; request; request = request->next)
                if (request->state == state && (any_kind || request->kind == kind) &&
                    strcmp(request->window_id, renewal->id) == 0)
                        return request;
        return NULL;
}

void request_on_opened(Renewal *renewal) {
        Request *request;

        while ((request =
                        request_find_window_kind(renewal, REQUEST_WAITING, false, REQUEST_WINDOW)))
                request_answer_window(request, renewal);
}

void request_on_closed(Renewal *renewal) {
        Request *request;

        while ((request = request_find_window_kind(renewal, REQUEST_WAITING, true, 0)))
                request_answer_window(request, renewal);

        /* the first of these opens anew, the others join that one */
        while ((request = request_find_window_kind(renewal, REQUEST_QUEUED, true, 0))) {
                request->window_id[0] = 0;
                request_enter(request);
        }
}

static Request *request_find_windowless(const Broker *broker) {
        for (Request *request = broker->requests; request; request = request->next)
                if (request->state != REQUEST_WAITING)
                        return request;
        return NULL;
}

static void request_stop(Request *request) {
        if (request->state == REQUEST_ASKING)
                authority_cancel(request->broker->authority, request->question);
        request_refuse(request, OUTCOME_STOPPED, "The service is ending; ask again.");
}

void request_stop_all(Broker *broker) {
        Request *request;

        while ((request = request_find_windowless(broker)))
                request_stop(request);
}

void request_abandon_all(Broker *broker) {
        while (broker->requests)
                request_stop(broker->requests);
}
