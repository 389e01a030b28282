/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Runs the effects of one window; see renewal.h. */

#include <errno.h>
#include <inttypes.h>
#include <postern/audit.h>
#include <postern/broker.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/hint.h>
#include <postern/log.h>
#include <postern/run-cgroup.h>
#include <string.h>
#include <sys/random.h>

#define RENEWAL_TIMER_ACCURACY_USEC 1000

static void renewal_log(const Renewal *renewal, int priority, const char *message_id,
                        const char *format, const char *text) {
        const char *const fields[] = {"POSTERN_PROFILE", renewal->profile->name, "POSTERN_WINDOW",
                                      renewal->id, NULL};

        log_event(priority, message_id, fields, "%s%s", format, text);
}

static int renewal_new_id(const Broker *broker, char ret[RENEWAL_ID_SIZE]) {
        uint8_t random[6];

        do {
                /* waits in the first second of a boot, and never again */
                if (getrandom(random, sizeof(random), 0) != sizeof(random))
                        return -EIO;
                (void) snprintf(ret, RENEWAL_ID_SIZE, "w%02x%02x%02x%02x%02x%02x", random[0],
                                random[1], random[2], random[3], random[4], random[5]);
        } while (broker_find(broker, ret));

        return 0;
}

/* The first text is the cause; what follows from it is not. */
static void renewal_note_problem(Renewal *renewal, const char *problem) {
        if (!renewal->problem && problem && *problem)
                renewal->problem = strdup(problem);
}

static void renewal_post(Renewal *renewal, const WindowEvent *event) {
        /* A lost answer would leave a door in an unknown state. It cannot happen; if it does, dying
         * is what shuts every door. */
        if (renewal->n_queue >= RENEWAL_QUEUE_MAX)
                abort();
        renewal->queue[renewal->n_queue++] = *event;
}

/* Once the door is shut. */
static void renewal_count_visitors(Renewal *renewal) {
        (void) renewal_poll_admitted(renewal);
        (void) renewal_poll_sources(renewal);
        renewal->was_shut = true;
}

static void renewal_shut_door(Renewal *renewal) {
        passage_shut(renewal->broker->passage, renewal->id);
        renewal_count_visitors(renewal);
}

static void renewal_open_door(Renewal *renewal) {
        renewal->was_shut = false;
        passage_open(renewal->broker->passage, renewal->id, renewal->profile,
                     renewal->window.deadline, renewal->legacy ? renewal->legacy : "",
                     &renewal->reach);
}

static void renewal_deliver_step(Renewal *renewal, WindowEventType type) {
        renewal_deliver(renewal, &(WindowEvent){.type = type, .step = renewal->window.door_step});
}

void renewal_on_passage(Renewal *renewal, PassageNews news, const char *text) {
        switch (news) {
        case PASSAGE_OPENED:
                free(renewal->gate);
                renewal->gate = strdup(text);
                renewal->admitted_earlier = renewal->admitted;
                renewal_deliver_step(renewal, EVENT_DOOR_OPENED);
                return;
        case PASSAGE_REFUSED:
                renewal_note_problem(renewal, text);
                renewal_log(renewal, LOG_WARNING, NULL,
                            "The door was not opened: ", text ? text : "no reason given");
                renewal_deliver_step(renewal, EVENT_DOOR_REFUSED);
                return;
        case PASSAGE_SHUT:
                renewal_deliver_step(renewal, EVENT_DOOR_SHUT);
                return;
        case PASSAGE_LOST:
                renewal_on_door_lost(renewal, text);
                return;
        }
}

/* It is lost when nothing of it is left, which a run that was started tells by itself. */
static void renewal_lose_run(Renewal *renewal, const char *problem) {
        renewal_note_problem(renewal, problem);
        if (renewal->run)
                run_stop(renewal->run);
        else
                renewal_post(renewal, &(WindowEvent){.type = EVENT_RUN_LOST});
}

static void renewal_start_run(Renewal *renewal) {
        int r = run_start(renewal->broker->runner, renewal->id, renewal->profile, &renewal->run);

        if (r < 0) {
                renewal_log(renewal, LOG_ERR, NULL, "Cannot start postern-run: ", strerror(-r));
                renewal_lose_run(renewal, "The helper postern-run could not be started; the "
                                          "service's log says why.");
        }
}

static void renewal_go(Renewal *renewal) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);
        uint64_t left = renewal->window.deadline > now ? renewal->window.deadline - now : 0;
        int r = run_go(renewal->run, clock_now(CLOCK_REALTIME) + left);

        if (r < 0) {
                renewal_log(renewal, LOG_ERR, NULL, "Cannot talk to postern-run: ", strerror(-r));
                renewal_lose_run(renewal,
                                 "The helper postern-run did not take the order to start; ask "
                                 "again, and see the service's log if that does not help.");
        }
}

static void renewal_stop_run(Renewal *renewal) {
        if (renewal->run)
                run_stop(renewal->run);
        else
                renewal_post(renewal, &(WindowEvent){.type = EVENT_RUN_LOST});
}

static void renewal_note_times(Renewal *renewal) {
        const Window *window = &renewal->window;
        uint64_t boot = clock_now(CLOCK_BOOTTIME), real = clock_now(CLOCK_REALTIME);

        if (window->deadline && !renewal->deadline)
                renewal->deadline = real + window->deadline - boot;
        if (window->opened_at && !renewal->opened_at)
                renewal->opened_at = real - boot + window->opened_at;
        if (window->closed_at && !renewal->closed_at)
                renewal->closed_at = real - boot + window->closed_at;
}

/* Who came in, or that nobody did, means something only where nobody could come in otherwise. */
static void renewal_look_for_visitors(Renewal *renewal) {
        const Window *window = &renewal->window;

        if ((window->result == RESULT_FAILED || window->result == RESULT_TIMEOUT) &&
            window->has_door && window->opened_at)
                renewal->host_admits = door_host_admits(renewal->broker->door, renewal->profile);
}

static void renewal_tell_state(const Renewal *renewal, WindowState before) {
        const WindowState state = renewal->window.state;

        if (state == before)
                return;
        if (state == WINDOW_OPEN)
                audit_opened(renewal);
        else if (state == WINDOW_ARMED && before == WINDOW_OPENING)
                audit_armed(renewal);
        else if (state == WINDOW_ARMED)
                audit_shut(renewal);
}

static void renewal_run_effects(Renewal *renewal, WindowState before, unsigned effects) {
        if (effects & EFFECT_SHUT_DOOR)
                renewal_shut_door(renewal);
        if (effects & EFFECT_STOP_RUN)
                renewal_stop_run(renewal);
        if (effects & EFFECT_START_RUN)
                renewal_start_run(renewal);
        if (effects & EFFECT_OPEN_DOOR)
                renewal_open_door(renewal);
        if (effects & EFFECT_GO)
                renewal_go(renewal);

        renewal_note_times(renewal);
        if (renewal->window.result != RESULT_NONE && !renewal->hint) {
                renewal_look_for_visitors(renewal);
                renewal->hint = hint_new(renewal);
        }

        renewal_tell_state(renewal, before);
        if (effects & EFFECT_ANNOUNCE_OPEN)
                broker_on_opened(renewal);
        if (effects & EFFECT_CHANGED)
                broker_on_changed(renewal);
        if (effects & EFFECT_ANNOUNCE_CLOSED)
                broker_on_closed(renewal);
        if (effects & EFFECT_FORGET)
                renewal->forgotten = true;
}

static void renewal_set_timer(Renewal *renewal) {
        uint64_t wakeup = renewal->forgotten ? 0 : window_wakeup(&renewal->window);
        int r;

        if (wakeup == WINDOW_NEVER) {
                (void) sd_event_source_set_enabled(renewal->timer, SD_EVENT_OFF);
                return;
        }

        r = sd_event_source_set_time(renewal->timer, wakeup);
        if (r >= 0)
                r = sd_event_source_set_enabled(renewal->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                renewal_log(renewal, LOG_CRIT, NULL,
                            "Cannot set the window's timer; the kernel's own closes it: ",
                            strerror(-r));
}

void renewal_deliver(Renewal *renewal, const WindowEvent *event) {
        renewal_post(renewal, event);
        if (renewal->delivering)
                return;

        renewal->delivering = true;
        while (renewal->n_queue > 0) {
                const WindowState before = renewal->window.state;
                WindowEvent next = renewal->queue[0];
                unsigned effects;

                renewal->n_queue--;
                memmove(renewal->queue, renewal->queue + 1,
                        renewal->n_queue * sizeof(renewal->queue[0]));
                effects = window_step(&renewal->window, &next, clock_now(CLOCK_BOOTTIME),
                                      &renewal->window);
                renewal_run_effects(renewal, before, effects);
        }
        renewal->delivering = false;

        renewal_set_timer(renewal);
}

void renewal_deliver_type(Renewal *renewal, WindowEventType type) {
        renewal_deliver(renewal, &(WindowEvent){.type = type});
}

void renewal_stop(Renewal *renewal, const char *why) {
        if (renewal->window.result == RESULT_NONE)
                renewal_note_problem(renewal, why);
        renewal_deliver_type(renewal, EVENT_STOP);
}

/* The only place where a renewal goes while the daemon runs, so that whoever delivers an event, or
 * walks the list, may rely on it. */
static int renewal_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Renewal *renewal = userdata;

        if (!renewal->forgotten)
                renewal_deliver_type(renewal, EVENT_TICK);
        if (renewal->forgotten)
                broker_forget(renewal);
        return 0;
}

void renewal_expire(Renewal *renewal) {
        renewal->forgotten = true;
        renewal_set_timer(renewal);
}

/* exit 0 is told apart by the certificate alone: ACME clients exit 0 when nothing was due. One that
 * cannot be read afterwards tells nothing; the hint says so. */
static WindowResult renewal_judge(const Renewal *renewal, const RunnerEvent *event) {
        if (event->exit_status != 0)
                return RESULT_FAILED;
        if (!renewal->profile->certificate || !*event->after->serial)
                return RESULT_SUCCESS;
        if (strcmp(event->before->serial, event->after->serial) != 0 ||
            event->before->not_after != event->after->not_after)
                return RESULT_RENEWED;
        return RESULT_UNCHANGED;
}

static void renewal_on_challenge(bool pending, void *userdata) {
        Renewal *renewal = userdata;

        renewal_log(renewal, LOG_INFO, NULL,
                    pending ? "A token is there" : "The last token is gone", "");
        renewal_deliver_type(renewal, pending ? EVENT_CHALLENGE_PENDING : EVENT_CHALLENGE_DONE);
}

/* Before the client can have put anything there. */
static int renewal_watch_challenge(Renewal *renewal) {
        int r;

        if (!renewal->window.on_challenge)
                return 0;
        r = challenge_new(&renewal->challenge, renewal->broker->event,
                          renewal->profile->challenge_directory, renewal_on_challenge, renewal);
        if (r < 0) {
                renewal_log(renewal, LOG_ERR, NULL,
                            "Cannot watch the challenge directory: ", strerror(-r));
                renewal_lose_run(renewal, challenge_explain(r));
        }
        return r;
}

/* Only what the renewal makes itself: its cgroup is a new one each time. */
static int renewal_narrow(Renewal *renewal, const char *cgroup) {
        int r;

        if (!renewal->profile->reach_renewal || !renewal->window.has_door)
                return 0;
        r = run_cgroup_identify(cgroup ? cgroup : "", &renewal->reach.level,
                                &renewal->reach.cgroup);
        if (r < 0)
                renewal_lose_run(renewal,
                                 "Reach=renewal needs control groups of version 2 that the helper "
                                 "can make one in, and this host has none: leave it out");
        return r;
}

static void renewal_on_ready(Renewal *renewal, const RunnerEvent *event) {
        free(renewal->legacy);
        renewal->legacy = strdup(event->legacy ? event->legacy : "");
        if (!renewal->legacy) {
                /* not knowing of a second firewall would be opening blindly */
                renewal_lose_run(renewal, "Memory ran out; free some and ask again.");
                return;
        }
        if (renewal_narrow(renewal, event->cgroup) < 0)
                return;
        if (renewal_watch_challenge(renewal) < 0)
                return;
        renewal_deliver_type(renewal, EVENT_RUN_READY);
}

static void renewal_end_run(Renewal *renewal) {
        if (renewal->run && !renewal->output)
                renewal->output = run_take_output(renewal->run);
        renewal->run = run_free(renewal->run);
        renewal->challenge = challenge_free(renewal->challenge);
}

void renewal_on_run(Renewal *renewal, const RunnerEvent *event) {
        switch (event->type) {
        case RUNNER_READY:
                renewal_on_ready(renewal, event);
                return;
        case RUNNER_OUTPUT:
                renewal_log(renewal, LOG_INFO, MESSAGE_OUTPUT, "", event->line);
                return;
        case RUNNER_ENDED:
                audit_run_ended(renewal, event);
                renewal->certificate_before = *event->before;
                renewal->certificate = *event->after;
                renewal_end_run(renewal);
                renewal_deliver(renewal, &(WindowEvent){.type = EVENT_RUN_ENDED,
                                                        .result = renewal_judge(renewal, event),
                                                        .exit_status = event->exit_status});
                return;
        case RUNNER_LOST:
                audit_run_ended(renewal, event);
                renewal_note_problem(renewal, event->problem);
                renewal_end_run(renewal);
                renewal_deliver_type(renewal, EVENT_RUN_LOST);
                return;
        }
}

void renewal_on_door_lost(Renewal *renewal, const char *why) {
        renewal_log(renewal, LOG_WARNING, NULL, "The door was lost: ", why);
        renewal_note_problem(renewal, why);
        renewal_count_visitors(renewal);
        renewal_deliver_type(renewal, EVENT_DOOR_LOST);
}

bool renewal_poll_admitted(Renewal *renewal) {
        uint64_t admitted;

        if (renewal->window.door != DOOR_OPEN && renewal->window.door != DOOR_SHUTTING)
                return false;
        admitted = renewal->admitted_earlier + door_admitted(renewal->broker->door, renewal->id);
        /* it never counts down: a guard table that a reload took away begins again at 0 */
        if (admitted <= renewal->admitted)
                return false;
        renewal->admitted = admitted;
        return true;
}

bool renewal_poll_sources(Renewal *renewal) {
        unsigned before = renewal->sources.n_networks;

        door_take_sources(renewal->broker->door, renewal->id, &renewal->sources);
        return renewal->sources.n_networks != before;
}

bool renewal_knows_sources(const Renewal *renewal) {
        const Sources *sources = &renewal->sources;

        return renewal->was_shut && !sources->overflowed &&
               sources->n_connections >= renewal->admitted;
}

bool renewal_is_member(const Renewal *renewal, uid_t uid) {
        for (size_t i = 0; i < renewal->n_members; i++)
                if (renewal->members[i] == uid)
                        return true;
        return false;
}

static ssize_t renewal_find_holder(const Renewal *renewal, const char *name) {
        for (size_t i = 0; i < renewal->n_holders; i++)
                if (strcmp(renewal->holders[i], name) == 0)
                        return (ssize_t) i;
        return -1;
}

static void renewal_drop_holder(Renewal *renewal, size_t index) {
        char *name = renewal->holders[index];

        renewal->holders[index] = renewal->holders[--renewal->n_holders];
        peer_release(renewal->broker->peers, name);
        free(name);
}

static int renewal_add_holder(Renewal *renewal, const char *sender) {
        _cleanup_free_ char *name = NULL;
        int r;

        if (renewal_find_holder(renewal, sender) >= 0)
                return 0;
        if (renewal->n_holders >= RENEWAL_MEMBERS_MAX)
                return -EUSERS;
        name = strdup(sender);
        if (!name)
                return -ENOMEM;
        r = peer_hold(renewal->broker->peers, sender);
        if (r < 0)
                return r;
        renewal->holders[renewal->n_holders++] = TAKE_POINTER(name);
        return 0;
}

int renewal_join(Renewal *renewal, const char *sender, uid_t uid, bool leaves) {
        int r;

        if (!renewal_is_member(renewal, uid) && renewal->n_members >= RENEWAL_MEMBERS_MAX)
                return -EUSERS;

        if (leaves) {
                r = renewal_add_holder(renewal, sender);
                if (r < 0)
                        return r;
        } else
                renewal->held_for_good = true;

        if (!renewal_is_member(renewal, uid))
                renewal->members[renewal->n_members++] = uid;
        return 0;
}

void renewal_on_peer_gone(Renewal *renewal, const char *name) {
        ssize_t index = renewal_find_holder(renewal, name);

        if (index < 0)
                return;
        renewal_drop_holder(renewal, (size_t) index);
        if (renewal->n_holders == 0 && !renewal->held_for_good &&
            renewal->window.state != WINDOW_CLOSING && renewal->window.state != WINDOW_CLOSED) {
                renewal_log(renewal, LOG_NOTICE, NULL, "Nobody who holds the window is left", "");
                renewal_deliver_type(renewal, EVENT_CANCEL);
        }
}

int renewal_tail(const Renewal *renewal, size_t lines, const char ***ret) {
        const char **none;

        if (renewal->run)
                return run_output_tail(renewal->run, lines, ret);
        if (renewal->output)
                return output_tail(renewal->output, lines, ret);

        none = calloc(1, sizeof(*none));
        if (!none)
                return -ENOMEM;
        *ret = none;
        return 0;
}

int renewal_new(Renewal **ret, Broker *broker, Profile *profile, uint64_t duration_usec,
                uid_t opened_by) {
        Renewal *renewal = calloc(1, sizeof(*renewal));
        int r;

        if (!renewal) {
                profile_free(profile);
                return -ENOMEM;
        }
        renewal->broker = broker;
        renewal->profile = profile;
        renewal->opened_by = opened_by;

        r = renewal_new_id(broker, renewal->id);
        if (r < 0)
                goto fail;
        r = sd_event_add_time(broker->event, &renewal->timer, CLOCK_BOOTTIME, UINT64_MAX,
                              RENEWAL_TIMER_ACCURACY_USEC, renewal_on_timer, renewal);
        if (r < 0)
                goto fail;
        r = sd_event_source_set_enabled(renewal->timer, SD_EVENT_OFF);
        if (r < 0)
                goto fail;

        window_init(&renewal->window, profile->n_ports > 0 && profile->gate != GATE_NONE,
                    profile->open_on_challenge, duration_usec);
        *ret = renewal;
        return 0;

fail:
        renewal_free(renewal);
        return r;
}

Renewal *renewal_free(Renewal *renewal) {
        if (!renewal)
                return NULL;
        sd_event_source_disable_unref(renewal->timer);
        run_free(renewal->run);
        challenge_free(renewal->challenge);
        output_free(renewal->output);
        while (renewal->n_holders > 0)
                renewal_drop_holder(renewal, 0);
        profile_free(renewal->profile);
        free(renewal->legacy);
        free(renewal->gate);
        free(renewal->problem);
        free(renewal->hint);
        free(renewal);
        return NULL;
}
