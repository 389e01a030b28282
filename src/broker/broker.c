/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The list of windows, and who is told what happens to them; see broker.h. */

#include <errno.h>
#include <inttypes.h>
#include <postern/audit.h>
#include <postern/broker.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/expiry.h>
#include <postern/log.h>
#include <postern/request.h>
#include <string.h>

#define BROKER_POLL_USEC ((uint64_t) 1000 * 1000)

Renewal *broker_find(const Broker *broker, const char *window_id) {
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                if (strcmp(renewal->id, window_id) == 0)
                        return renewal;
        return NULL;
}

Renewal *broker_find_live(const Broker *broker, const char *profile) {
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                if (renewal->window.state != WINDOW_CLOSED &&
                    strcmp(renewal->profile->name, profile) == 0)
                        return renewal;
        return NULL;
}

unsigned broker_count_live(const Broker *broker) {
        unsigned n = 0;

        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                n += renewal->window.state != WINDOW_CLOSED;
        return n;
}

void broker_on_changed(Renewal *renewal) {
        Broker *broker = renewal->broker;

        broker->observer.changed(renewal, broker->observer_data);
}

void broker_on_opened(Renewal *renewal) {
        Broker *broker = renewal->broker;
        broker->observer.opened(renewal, broker->observer_data);
        request_on_opened(renewal);
        if (renewal->window.has_door)
                (void) sd_event_source_set_enabled(broker->poll, SD_EVENT_ON);
}

void broker_on_closed(Renewal *renewal) {
        Broker *broker = renewal->broker;

        quota_window_done(broker->quota, renewal->opened_by);
        records_note_closed(broker->records, renewal->profile->name, renewal->window.result,
                            renewal->closed_at, &renewal->certificate);

        audit_closed(renewal);
        expiry_on_closed(renewal);

        broker->observer.closed(renewal, broker->observer_data);
        request_on_closed(renewal);
        if (broker_count_live(broker) == 0)
                sleep_guard_hold(broker->sleep, false);
}

static void broker_unlink(Renewal *renewal) {
        for (Renewal **link = &renewal->broker->renewals; *link; link = &(*link)->next)
                if (*link == renewal) {
                        *link = renewal->next;
                        return;
                }
}

void broker_forget(Renewal *renewal) {
        Broker *broker = renewal->broker;

        broker->observer.forgotten(renewal, broker->observer_data);
        broker_unlink(renewal);
        renewal_free(renewal);
}

/* Newest first, so the last that may go is the oldest. */
static void broker_make_room(Broker *broker) {
        Renewal *oldest = NULL;
        unsigned n = 0;

        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next) {
                n++;
                if (renewal->window.state == WINDOW_CLOSED && !renewal->forgotten)
                        oldest = renewal;
        }
        if (n >= BROKER_WINDOWS_KEPT && oldest)
                renewal_expire(oldest);
}

void broker_begin(Broker *broker, Renewal *renewal) {
        broker_make_room(broker);
        renewal->next = broker->renewals;
        broker->renewals = renewal;
        broker->observer.added(renewal, broker->observer_data);
        sleep_guard_hold(broker->sleep, true);
        renewal_deliver_type(renewal, EVENT_BEGIN);
}

int broker_load_profile(const Broker *broker, const char *name, Profile **ret, char **ret_problem) {
        int r;

        r = profile_load(broker->options.config_dir, name,
                         broker->options.allow_sticky_parents ? PROFILE_ALLOW_STICKY_PARENTS : 0,
                         ret, ret_problem);
        if (r >= 0 || r == -ENOMEM)
                return r;
        /* One file that cannot be read is one bad profile, and no reason to say nothing of others.
         */
        if (asprintf(ret_problem,
                     "%s.conf could not be read (%s): see what is wrong with the file or "
                     "the disk, and ask again",
                     name, strerror(-r)) < 0) {
                *ret_problem = NULL;
                return -ENOMEM;
        }
        return PROFILE_BAD;
}

static void broker_on_passage(const char *window_id, PassageNews news, const char *text,
                              void *userdata) {
        Renewal *renewal = broker_find(userdata, window_id);

        if (renewal)
                renewal_on_passage(renewal, news, text);
}

static int broker_on_owed_load(const char *profile, Profile **ret, char **ret_problem,
                               void *userdata) {
        return broker_load_profile(userdata, profile, ret, ret_problem);
}

static void broker_on_owed_attempted(const char *window_id, const char *problem, void *userdata) {
        Broker *broker = userdata;

        passage_on_attempted(broker->passage, window_id, problem);
}

static void broker_on_owed_gone(const char *window_id, void *userdata) {
        Broker *broker = userdata;

        door_unban(broker->door, window_id);
}

static void broker_on_owed_changed(const char *profile, void *userdata) {
        Broker *broker = userdata;

        broker->observer.owed(profile, broker->observer_data);
}

static bool broker_on_rules_remain(const OwedRecord *record, bool runs, void *userdata) {
        Broker *broker = userdata;

        return door_sees_firewalld(broker->door, record->ports, record->n_ports, runs);
}

static const OwedObserver broker_owed_observer = {
        .load = broker_on_owed_load,
        .attempted = broker_on_owed_attempted,
        .gone = broker_on_owed_gone,
        .changed = broker_on_owed_changed,
        .rules_remain = broker_on_rules_remain,
};

static void broker_on_firewalld_planned(const char *id, FirewalldOutcome outcome,
                                        const FirewalldClaims *claims, const char *where,
                                        const char *problem, void *userdata) {
        Broker *broker = userdata;

        passage_on_planned(broker->passage, id, outcome, claims, where, problem);
}

static void broker_on_firewalld_opened(const char *id, FirewalldOutcome outcome,
                                       const char *problem, void *userdata) {
        Broker *broker = userdata;

        passage_on_firewalld_opened(broker->passage, id, outcome, problem);
}

static void broker_on_firewalld_shut(const char *id, FirewalldOutcome outcome, const char *problem,
                                     void *userdata) {
        Broker *broker = userdata;

        owed_on_firewalld_shut(broker->owed, id, outcome, problem);
}

static int broker_on_firewalld_claimed(const char *id, const FirewalldClaims *claims,
                                       void *userdata) {
        Broker *broker = userdata;

        return passage_on_claimed(broker->passage, id, claims);
}

static void broker_on_firewalld_mended(const char *id, const char *what, void *userdata) {
        log_warning("The door of window %s was put back: %s", id, what);
}

static void broker_on_firewalld_lost(const char *id, const char *why, void *userdata) {
        Broker *broker = userdata;

        passage_on_firewalld_lost(broker->passage, id, why);
}

static const FirewalldObserver broker_firewalld_observer = {
        .planned = broker_on_firewalld_planned,
        .opened = broker_on_firewalld_opened,
        .shut = broker_on_firewalld_shut,
        .claimed = broker_on_firewalld_claimed,
        .mended = broker_on_firewalld_mended,
        .lost = broker_on_firewalld_lost,
};

static void broker_ban(const char *window_id, const OwedRecord *record, void *userdata) {
        Broker *broker = userdata;

        if (door_ban(broker->door, window_id, record->ports, record->n_ports) < 0)
                log_error("More ports are to be closed in other firewalls than can be banned here; "
                          "those of window %s are not.",
                          window_id);
}

int broker_sweep(Broker *broker) {
        int r, door;

        owed_each(broker->owed, broker_ban, broker);
        door = door_sweep(broker->door);
        if (door == -EBUSY)
                return door;
        /* also where there is no firewall to see: what runs needs none */
        r = runner_sweep(broker->runner);
        /* after what may still be opening there */
        owed_start(broker->owed);
        return door < 0 ? door : r;
}

static void broker_on_run(const char *window_id, const RunnerEvent *event, void *userdata) {
        Renewal *renewal = broker_find(userdata, window_id);

        if (renewal)
                renewal_on_run(renewal, event);
}

static void broker_on_door(const char *window_id, DoorNews news, const char *why, void *userdata) {
        Renewal *renewal = broker_find(userdata, window_id);

        if (!renewal)
                return;

        switch (news) {
        case DOOR_NEWS_LOST:
                renewal_on_door_lost(renewal, why);
                return;
        case DOOR_NEWS_RESTORED:
                log_warning("The door of window %s was put back: %s", window_id, why);
                return;
        }
}

static void broker_on_peer(const char *name, PeerNews news, void *userdata) {
        Broker *broker = userdata;

        request_on_peer(broker, name, news);
        if (news != PEER_GONE)
                return;
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                renewal_on_peer_gone(renewal, name);
}

static void broker_on_check(uint64_t id, const Findings *findings, void *userdata) {
        request_on_check(userdata, id, findings);
}

static void broker_on_authority(uint64_t question, AuthorityAnswer answer, void *userdata) {
        request_on_authority(userdata, question, answer);
}

static void broker_on_sleep(void *userdata) {
        Broker *broker = userdata;

        log_info("The host is going to sleep; closing every window.");
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                renewal_stop(renewal, "This host went to sleep; ask again, now that it is awake");
}

static int broker_on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
        Broker *broker = userdata;
        bool wanted = false;

        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next) {
                if (renewal->window.door != DOOR_OPEN)
                        continue;
                wanted = true;
                if (renewal_poll_admitted(renewal)) {
                        broker->somebody_came = true;
                        broker_on_changed(renewal);
                }
        }
        if (broker->somebody_came && door_look(broker->door)) {
                broker->somebody_came = false;
                for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                        if (renewal_poll_sources(renewal))
                                broker_on_changed(renewal);
        }
        if (!wanted)
                return sd_event_source_set_enabled(source, SD_EVENT_OFF);

        return sd_event_source_set_time(source, clock_now(CLOCK_BOOTTIME) + BROKER_POLL_USEC);
}

void broker_stop(Broker *broker) {
        broker->stopping = true;
        request_stop_all(broker);
        owed_stop(broker->owed);
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                renewal_deliver_type(renewal, EVENT_STOP);
}

bool broker_is_stopped(const Broker *broker) {
        return broker->stopping && !broker->requests && broker_count_live(broker) == 0;
}

bool broker_is_idle(const Broker *broker) {
        return !broker->requests && !broker->renewals && door_is_idle(broker->door) &&
               owed_is_empty(broker->owed) && records_are_saved(broker->records) &&
               !prompts_count(&broker->prompts, clock_now(CLOCK_BOOTTIME));
}

int broker_new(Broker **ret, sd_event *event, sd_bus *bus, const BrokerOptions *options,
               const BrokerObserver *observer, void *userdata) {
        Broker *broker = calloc(1, sizeof(*broker));
        int r;

        if (!broker)
                return -ENOMEM;
        broker->event = sd_event_ref(event);
        broker->options = *options;
        broker->observer = *observer;
        broker->observer_data = userdata;
        /* their records name requests by these; no request takes less than a microsecond */
        broker->next_request = clock_now(CLOCK_REALTIME);

        r = quota_new(&broker->quota);
        if (r >= 0)
                r = records_new(&broker->records, options->state_dir, broker->quota);
        if (r >= 0)
                r = peers_new(&broker->peers, bus, broker_on_peer, broker);
        if (r >= 0)
                r = authority_new(&broker->authority, bus, broker_on_authority, broker);
        if (r >= 0)
                r = runner_new(&broker->runner, event, options->run_path, options->config_dir,
                               options->runtime_dir, options->allow_sticky_parents, broker_on_run,
                               broker);
        if (r >= 0 && options->run_socket)
                r = runner_use_socket(broker->runner, options->run_socket);
        if (r >= 0)
                r = door_new(&broker->door, event, options->runtime_dir, broker_on_door, broker);
        if (r >= 0)
                r = gate_firewalld_new(&broker->firewalld, bus, &broker_firewalld_observer, broker);
        if (r >= 0)
                r = owed_new(&broker->owed, event, options->state_dir, broker->runner,
                             broker->firewalld, &broker_owed_observer, broker);
        if (r >= 0)
                r = checks_new(&broker->checks,
                               &(CheckHost){
                                       .bus = bus,
                                       .door = broker->door,
                                       .owed = broker->owed,
                                       .firewalld = broker->firewalld,
                                       .config_dir = options->config_dir,
                                       .run_path = options->run_path,
                                       .run_socket = options->run_socket,
                               },
                               broker_on_check, broker);
        if (r >= 0)
                r = passage_new(&broker->passage, event, broker->door, broker->owed, broker->runner,
                                broker->firewalld, broker_on_passage, broker);
        if (r >= 0)
                r = sleep_guard_new(&broker->sleep, bus, broker_on_sleep, broker);
        if (r >= 0)
                r = sd_event_add_time(event, &broker->poll, CLOCK_BOOTTIME, 0, 0, broker_on_poll,
                                      broker);
        if (r >= 0)
                r = sd_event_source_set_enabled(broker->poll, SD_EVENT_OFF);
        if (r < 0) {
                broker_free(broker);
                return r;
        }

        *ret = broker;
        return 0;
}

Broker *broker_free(Broker *broker) {
        if (!broker)
                return NULL;

        /* the ports first, whatever else there is to do */
        door_free(broker->door);
        sd_event_source_disable_unref(broker->poll);

        broker->stopping = true;
        request_abandon_all(broker);
        while (broker->renewals) {
                Renewal *renewal = broker->renewals;

                broker->renewals = renewal->next;
                renewal_free(renewal);
        }
        passage_free(broker->passage);
        owed_free(broker->owed);
        gate_firewalld_free(broker->firewalld);
        runner_free(broker->runner);
        sleep_guard_free(broker->sleep);
        checks_free(broker->checks);
        authority_free(broker->authority);
        peers_free(broker->peers);
        records_free(broker->records);
        quota_free(broker->quota);
        sd_event_unref(broker->event);
        free(broker);
        return NULL;
}
