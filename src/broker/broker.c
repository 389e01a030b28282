/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The list of windows, and who is told what happens to them; see broker.h. */

#include <errno.h>
#include <inttypes.h>
#include <postern/broker.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
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

const ProfileRecord *broker_find_record(const Broker *broker, const char *profile) {
        for (ProfileRecord *record = broker->records; record; record = record->next)
                if (strcmp(record->name, profile) == 0)
                        return record;
        return NULL;
}

static void broker_record(Broker *broker, const Renewal *renewal) {
        const char *name = renewal->profile->name;
        ProfileRecord *record = (ProfileRecord *) broker_find_record(broker, name);

        if (!record) {
                size_t size = strlen(name) + 1;

                record = calloc(1, sizeof(*record) + size);
                if (!record)
                        return; /* it only informs */
                memcpy(record->name, name, size);
                record->next = broker->records;
                broker->records = record;
        }
        record->last_result = renewal->window.result;
        record->last_closed_at = renewal->closed_at;
        if (renewal->not_after)
                record->not_after = renewal->not_after;
}

static void broker_log_window(const Renewal *renewal, const char *message_id, const char *text) {
        const char *result = window_result_to_string(renewal->window.result);
        char uid[12];
        const char *const fields[] = {
                "POSTERN_PROFILE", renewal->profile->name,  "POSTERN_WINDOW",
                renewal->id,       "POSTERN_UID",           uid,
                "POSTERN_RESULT",  *result ? result : NULL, NULL,
        };

        (void) snprintf(uid, sizeof(uid), "%" PRIu32, (uint32_t) renewal->opened_by);
        log_event(LOG_NOTICE, message_id, fields, "Window of profile %s %s", renewal->profile->name,
                  text);
}

void broker_on_changed(Renewal *renewal) {
        Broker *broker = renewal->broker;

        broker->observer.changed(renewal, broker->observer_data);
}

void broker_on_opened(Renewal *renewal) {
        Broker *broker = renewal->broker;
        char text[256];

        (void) snprintf(text, sizeof(text), "is open for up to %" PRIu64 " s: %s",
                        renewal->window.duration_usec / 1000000,
                        renewal->gate ? renewal->gate : "no port is opened");
        broker_log_window(renewal, MESSAGE_OPENED, text);

        broker->observer.opened(renewal, broker->observer_data);
        request_on_opened(renewal);
        if (renewal->window.has_door)
                (void) sd_event_source_set_enabled(broker->poll, SD_EVENT_ON);
}

void broker_on_closed(Renewal *renewal) {
        Broker *broker = renewal->broker;
        char text[256];

        quota_window_done(broker->quota, renewal->opened_by);
        broker_record(broker, renewal);

        (void) snprintf(text, sizeof(text),
                        "is closed: %s, exit status %i, %" PRIu64 " connections let in",
                        window_result_to_string(renewal->window.result),
                        renewal->window.exit_status, renewal->admitted);
        broker_log_window(renewal, MESSAGE_CLOSED, text);

        broker->observer.closed(renewal, broker->observer_data);
        request_on_closed(renewal);
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

int broker_check(Broker *broker, const Profile *profile, FindingCallback callback, void *userdata) {
        return door_check(broker->door, profile, callback, userdata);
}

int broker_sweep(Broker *broker) {
        return door_sweep(broker->door);
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

static void broker_on_authority(uint64_t question, AuthorityAnswer answer, void *userdata) {
        request_on_authority(userdata, question, answer);
}

static int broker_on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
        Broker *broker = userdata;
        bool wanted = false;

        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next) {
                if (renewal->window.door != DOOR_OPEN)
                        continue;
                wanted = true;
                if (renewal_poll_admitted(renewal))
                        broker_on_changed(renewal);
        }
        if (!wanted)
                return sd_event_source_set_enabled(source, SD_EVENT_OFF);

        return sd_event_source_set_time(source, clock_now(CLOCK_BOOTTIME) + BROKER_POLL_USEC);
}

void broker_stop(Broker *broker) {
        broker->stopping = true;
        request_stop_all(broker);
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                renewal_deliver_type(renewal, EVENT_STOP);
}

bool broker_is_stopped(const Broker *broker) {
        return broker->stopping && !broker->requests && broker_count_live(broker) == 0;
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

        r = quota_new(&broker->quota);
        if (r >= 0)
                r = peers_new(&broker->peers, bus, broker_on_peer, broker);
        if (r >= 0)
                r = authority_new(&broker->authority, bus, broker_on_authority, broker);
        if (r >= 0)
                r = runner_new(&broker->runner, event, options->run_path, options->config_dir,
                               options->allow_sticky_parents, broker_on_run, broker);
        if (r >= 0)
                r = door_new(&broker->door, event, options->runtime_dir, broker_on_door, broker);
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
        while (broker->records) {
                ProfileRecord *record = broker->records;

                broker->records = record->next;
                free(record);
        }
        runner_free(broker->runner);
        authority_free(broker->authority);
        peers_free(broker->peers);
        quota_free(broker->quota);
        sd_event_unref(broker->event);
        free(broker);
        return NULL;
}
