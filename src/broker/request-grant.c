/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a request may do: the limits, the question to polkit, and, after the one yes, the window.
 * request_on_granted() is the only way to what needs an authorisation.
 */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/log.h>
#include <postern/request.h>
#include <string.h>

static void request_refuse_quota(Request *request, int outcome, const Profile *profile,
                                 uint64_t retry_at) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);
        uint64_t seconds = retry_at > now ? (retry_at - now + 999999) / 1000000 : 1;

        if (outcome < 0)
                request_fail(request, outcome);
        else if (outcome == QUOTA_RATE_LIMITED) {
                time_t when = time(NULL) + (time_t) seconds;
                struct tm tm;
                char text[32] = "";

                if (gmtime_r(&when, &tm))
                        (void) strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
                request_refuse(request, OUTCOME_RATE_LIMITED,
                               "RateLimit= of profile %s allows %u windows in %" PRIu64
                               " s, all callers together. Ask again in %" PRIu64 " s (%s).",
                               profile->name, profile->rate_limit_count,
                               profile->rate_limit_interval_usec / 1000000, seconds, text);
        } else
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many windows are open: %i for one user and %i in all are "
                               "allowed. Ask again when one has closed; ListWindows shows them.",
                               QUOTA_WINDOWS_PER_UID, QUOTA_WINDOWS);
}

static void request_join(Request *request, Renewal *renewal) {
        int r = renewal_join(renewal, request->sender, request->uid,
                             request->flags & BROKER_FLAG_CLOSE_WITH_HOLDER);

        if (r == -EUSERS) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many callers have joined this window already; ask again when "
                               "it has closed.");
                return;
        }
        if (r < 0) {
                request_fail(request, r);
                return;
        }

        request->state = REQUEST_WAITING;
        memcpy(request->window_id, renewal->id, sizeof(request->window_id));
        request_log(request, LOG_NOTICE, MESSAGE_JOINED, "joins a window that is there already");
        request->told = true;
        if (request->kind == REQUEST_WINDOW && renewal->window.announced_open)
                request_answer_window(request, renewal);
}

static void request_open(Request *request) {
        Broker *broker = request->broker;
        Profile *profile = request->profile;
        uint64_t retry_at = 0;
        Renewal *renewal;
        int r;

        r = quota_window_begin(broker->quota, profile->name, profile->rate_limit_count,
                               profile->rate_limit_interval_usec, request->uid,
                               clock_now(CLOCK_BOOTTIME), &retry_at);
        if (r != QUOTA_OK) {
                request_refuse_quota(request, r, profile, retry_at);
                return;
        }

        records_note_begun(broker->records, profile->name);

        r = renewal_new(&renewal, broker, TAKE_POINTER(request->profile), request->duration_usec,
                        request->uid);
        if (r >= 0) {
                renewal->request = request->id;
                r = renewal_join(renewal, request->sender, request->uid,
                                 request->flags & BROKER_FLAG_CLOSE_WITH_HOLDER);
                if (r < 0)
                        renewal_free(renewal);
        }
        if (r < 0) {
                quota_window_done(broker->quota, request->uid);
                request_fail(request, r);
                return;
        }

        /* from here on the window answers, perhaps within broker_begin() */
        request->state = REQUEST_WAITING;
        request->told = true;
        memcpy(request->window_id, renewal->id, sizeof(request->window_id));
        broker_begin(broker, renewal);
}

void request_enter(Request *request) {
        Renewal *renewal = broker_find_live(request->broker, request->profile->name);

        if (request->broker->stopping)
                request_refuse(request, OUTCOME_STOPPED, "The service is ending; ask again.");
        else if (!renewal)
                request_open(request);
        else if (renewal->window.state == WINDOW_CLOSING) {
                request->state = REQUEST_QUEUED;
                memcpy(request->window_id, renewal->id, sizeof(request->window_id));
        } else
                request_join(request, renewal);
}

static void request_close(Request *request, Renewal *renewal) {
        request->told = true;
        if (renewal->window.state == WINDOW_CLOSED) {
                request_answer_window(request, renewal);
                return;
        }
        request->state = REQUEST_WAITING;
        request_log(request, LOG_NOTICE, NULL, "closes the window");
        renewal_deliver_type(renewal, EVENT_CANCEL);
}

void request_on_granted(Request *request) {
        Renewal *renewal;

        switch (request->kind) {
        case REQUEST_RENEW:
        case REQUEST_WINDOW:
                request_enter(request);
                return;
        case REQUEST_CLOSE:
                renewal = request_find_window(request);
                if (renewal)
                        request_close(request, renewal);
                return;
        case REQUEST_LOG:
                renewal = request_find_window(request);
                if (renewal)
                        request_answer_log(request, renewal);
                return;
        case REQUEST_WAIT: /* these are never asked about */
        case REQUEST_CHECK:
                request_fail(request, -EINVAL);
                return;
        }
}

/* The same caller asks the same: one answer is one for both. Who calls is part of it, as rules look
 * at the calling process. */
static bool request_asks_same(const Request *request, const Request *other) {
        const Profile *a = request->profile, *b = other->profile;

        if (other->state != REQUEST_ASKING || request->action != other->action ||
            request->interactive != other->interactive ||
            strcmp(request->sender, other->sender) != 0)
                return false;
        if (!a || !b)
                return !a && !b && strcmp(request->window_id, other->window_id) == 0;
        return request->duration_usec == other->duration_usec && a->gate == b->gate &&
               strcmp(a->name, b->name) == 0 &&
               ports_are_same(a->ports, a->n_ports, b->ports, b->n_ports);
}

static Request *request_find_same(const Request *request) {
        for (Request *other = request->broker->requests; other; other = other->next)
                if (other != request && request_asks_same(request, other))
                        return other;
        return NULL;
}

/* Under a new number, which is the request's when this returns 0. */
static int request_send_question(Request *request, bool may_prompt) {
        Broker *broker = request->broker;
        const Profile *profile = request->profile;
        const uint64_t question = ++broker->next_request;
        char ports[PROFILE_PORTS_TEXT_MAX];
        AuthorityDetails details = {.ports = ports, .duration_usec = request->duration_usec};
        int r;

        if (!profile) {
                const Renewal *renewal = broker_find(broker, request->window_id);

                if (!renewal)
                        return -ENOENT;
                profile = renewal->profile;
                details.duration_usec = renewal->window.duration_usec;
        }
        details.profile = profile->name;
        details.gate = gate_type_to_string(profile->gate);
        profile_format_ports(profile, ports, sizeof(ports));

        r = authority_ask(broker->authority, question, request->sender, request->action, &details,
                          may_prompt);
        if (r >= 0)
                request->question = question;
        return r;
}

static void request_ask(Request *request) {
        Broker *broker = request->broker;
        const Request *same = request_find_same(request);
        int r;

        if (same) {
                request->question = same->question;
                request->state = REQUEST_ASKING;
                request_log(request, LOG_INFO, MESSAGE_ASKED, "polkit is being asked that already");
                request->asked = true;
                return;
        }

        r = quota_question_begin(broker->quota, request->uid);
        if (r < 0) {
                request_fail(request, r);
                return;
        }
        if (r != QUOTA_OK) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many requests wait for an answer of polkit: %i for one user "
                               "and %i in all are allowed. Answer or end one of them first.",
                               QUOTA_QUESTIONS_PER_UID, QUOTA_QUESTIONS);
                return;
        }
        request->counted = true;

        /* First without a prompt, so that only what needs one takes from the user's budget. */
        r = request_send_question(request, false);
        if (r < 0) {
                request_fail(request, r);
                return;
        }
        request->state = REQUEST_ASKING;
        request_log(request, LOG_INFO, MESSAGE_ASKED, "asking polkit");
        request->asked = true;
}

static void request_refuse_prompt(Request *request, PromptOutcome outcome, uint64_t retry_at) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);

        if (outcome == PROMPT_OPEN)
                request_refuse(request, OUTCOME_RATE_LIMITED,
                               "A prompt for a password is open for this user already: answer that "
                               "one, or ask again when it is gone, in %i s at the latest.",
                               (int) (AUTHORITY_TIMEOUT_USEC / 1000000));
        else
                request_refuse(request, OUTCOME_RATE_LIMITED,
                               "Too many prompts for a password: %i in %i min are allowed for one "
                               "user, and none for %i s after one that was refused. Ask again in "
                               "%" PRIu64 " s.",
                               PROMPTS_PER_UID, PROMPTS_INTERVAL_USEC / 60000000,
                               PROMPTS_PEACE_USEC / 1000000,
                               retry_at > now ? (retry_at - now + 999999) / 1000000 : 1);
}

void request_prompt(Request *request) {
        Broker *broker = request->broker;
        const uint64_t before = request->question;
        uint64_t retry_at = 0;
        PromptOutcome outcome;
        int r;

        if (!request->profile && !broker_find(broker, request->window_id)) {
                /* it was forgotten meanwhile */
                while ((request = request_find_question(broker, before)))
                        (void) request_find_window(request);
                return;
        }

        outcome =
                prompts_begin(&broker->prompts, request->uid, clock_now(CLOCK_BOOTTIME), &retry_at);
        if (outcome != PROMPT_OK) {
                while ((request = request_find_question(broker, before)))
                        request_refuse_prompt(request, outcome, retry_at);
                return;
        }

        request->prompting = true;
        r = request_send_question(request, true);
        if (r < 0) {
                log_error("Cannot have polkit ask a person: %s", strerror(-r));
                request_on_authority(broker, before, AUTHORITY_FAILED);
                return;
        }
        request_log(request, LOG_INFO, MESSAGE_ASKED, "polkit is to have a person asked");
        for (Request *other = broker->requests; other; other = other->next)
                if (other->state == REQUEST_ASKING && other->question == before)
                        other->question = request->question;
}

static void request_ask_for_window(Request *request) {
        Broker *broker = request->broker;
        const Profile *profile = request->profile;
        const Renewal *renewal = broker_find_live(broker, profile->name);
        uint64_t retry_at = 0;
        int r;

        /* whoever joins opens nothing, and is not counted */
        if (!renewal || renewal->window.state == WINDOW_CLOSING) {
                r = quota_window_check(broker->quota, profile->name, profile->rate_limit_count,
                                       profile->rate_limit_interval_usec, request->uid,
                                       clock_now(CLOCK_BOOTTIME), &retry_at);
                /* the caps may have room again when the closing one is gone: they are looked at
                 * then */
                if (r != QUOTA_OK && !(renewal && r == QUOTA_TOO_MANY)) {
                        request_refuse_quota(request, r, profile, retry_at);
                        return;
                }
        }

        request_ask(request);
}

static void request_ask_about_window(Request *request) {
        if (request_find_window(request))
                request_ask(request);
}

static void request_preflight(Request *request) {
        uint64_t now = clock_now(CLOCK_BOOTTIME), retry_at = now;

        /* everybody may ask, and an answer takes a walk through the whole ruleset */
        if (quota_check(request->broker->quota, request->uid, now, &retry_at) != QUOTA_OK)
                request_refuse(request, OUTCOME_RATE_LIMITED,
                               "Too many pre-flights in a short time; ask again in %" PRIu64 " s.",
                               (retry_at - now + 999999) / 1000000);
        else
                request_begin_check(request);
}

bool request_take_place(Request *request, uid_t uid) {
        const bool waits = request->kind == REQUEST_WAIT;
        const unsigned max = waits ? BROKER_WAITS : BROKER_CALLS;
        const unsigned max_uid = waits ? BROKER_WAITS_PER_UID : BROKER_CALLS_PER_UID;
        unsigned n = 0, n_uid = 0;

        for (const Request *other = request->broker->requests; other; other = other->next) {
                if (other->uid == UID_NOBODY_KNOWN || (other->kind == REQUEST_WAIT) != waits)
                        continue;
                n++;
                n_uid += other->uid == uid;
        }

        if (n_uid >= max_uid) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "%u calls of this user wait for an answer already; ask again when "
                               "one has returned.",
                               n_uid);
                return false;
        }
        if (n >= max) {
                request_refuse(request, OUTCOME_TOO_MANY_WINDOWS,
                               "Too many calls wait for an answer already; ask again in a moment.");
                return false;
        }

        request->uid = uid;
        return true;
}

void request_on_known(Request *request, uid_t uid) {
        Renewal *renewal;

        /* The broker never calls itself, so this is somebody who took a process over. Root is asked
         * about like anybody. */
        if (uid != 0 && uid == getuid()) {
                request_refuse(request, OUTCOME_NOT_AUTHORIZED,
                               "The service's own user may not ask for anything; call as another "
                               "user.");
                return;
        }
        if (request->uid == UID_NOBODY_KNOWN && !request_take_place(request, uid))
                return;

        switch (request->kind) {
        case REQUEST_RENEW:
        case REQUEST_WINDOW:
                if (request_freeze(request))
                        request_ask_for_window(request);
                return;
        case REQUEST_CLOSE:
                renewal = request_find_window(request);
                if (!renewal)
                        return;
                if (renewal->opened_by == uid || renewal->window.state == WINDOW_CLOSED)
                        request_close(request, renewal);
                else
                        request_ask_about_window(request);
                return;
        case REQUEST_LOG:
                renewal = request_find_window(request);
                if (!renewal)
                        return;
                if (renewal_is_member(renewal, uid))
                        request_answer_log(request, renewal);
                else
                        request_ask_about_window(request);
                return;
        case REQUEST_WAIT:
                renewal = request_find_window(request);
                if (!renewal)
                        return;
                if (renewal->window.state == WINDOW_CLOSED)
                        request_answer_window(request, renewal);
                else
                        request->state = REQUEST_WAITING;
                return;
        case REQUEST_CHECK:
                request_preflight(request);
                return;
        }
}
