/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See idle.h for the order of things. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/idle.h>
#include <postern/log.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

/* or it would wait for other timers, up to a quarter of a second */
#define IDLE_ACCURACY_USEC 1000

/* In this time after a release a SIGTERM is the service manager's answer to it. */
#define IDLE_TERM_USEC ((uint64_t) 10 * 1000 * 1000)
/* systemd/posternd.service.in */
#define IDLE_UNIT "posternd.service"
/* What a manager that waits for the end is asked for, and how often. */
#define IDLE_EXTEND_USEC       "60000000"
#define IDLE_EXTEND_EVERY_USEC ((uint64_t) 1000 * 1000)

typedef enum IdleState {
        IDLE_SERVING,
        IDLE_RELEASING, /* the name is being given back */
        IDLE_RETAKING,  /* there was a call after all */
        IDLE_OVER,
} IdleState;

struct Idle {
        sd_event *event;
        sd_bus *connection;
        Bus *bus;
        const Broker *broker;
        uint64_t timeout_usec;
        IdleCallback callback;
        void *userdata;

        IdleState state;
        sd_event_source *timer;
        uint64_t n_calls; /* as of the last look */
        uint64_t busy_at; /* CLOCK_BOOTTIME */

        bool has_manager;
        uint64_t term_until; /* CLOCK_BOOTTIME; 0: a SIGTERM is somebody's order */
        sd_event_source *extend;
        sd_bus_slot *jobs;
        bool ordered;
};

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);

static void idle_set_timer(Idle *idle) {
        int r = sd_event_source_set_time(idle->timer, idle->busy_at + idle->timeout_usec);

        if (r >= 0)
                r = sd_event_source_set_enabled(idle->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning("Cannot start a timer: the service stays up without work: %s.",
                            strerror(-r));
}

static void idle_serve(Idle *idle) {
        idle->state = IDLE_SERVING;
        idle->busy_at = clock_now(CLOCK_BOOTTIME);
        idle_set_timer(idle);
}

static void idle_leave(Idle *idle) {
        idle->state = IDLE_OVER;
        log_info("Nothing to do for a while; leaving until somebody calls.");
        idle->callback(idle->userdata);
}

void idle_on_turn(Idle *idle) {
        uint64_t n_calls = bus_count_calls(idle->bus);
        bool is_idle = broker_is_idle(idle->broker);

        if (n_calls != idle->n_calls || !is_idle)
                idle->busy_at = clock_now(CLOCK_BOOTTIME);
        idle->n_calls = n_calls;
}

/* Comes once in a timeout at least, as some work ends without waking anybody up. */
static int idle_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Idle *idle = userdata;

        if (idle->state != IDLE_SERVING)
                return 0;
        records_save_all(idle->broker->records);
        idle_on_turn(idle);
        if (clock_now(CLOCK_BOOTTIME) < idle->busy_at + idle->timeout_usec) {
                idle_set_timer(idle);
                return 0;
        }

        if (bus_release_name(idle->bus) < 0) {
                idle_serve(idle);
                return 0;
        }
        idle->state = IDLE_RELEASING;
        if (idle->has_manager && !idle->extend)
                idle->term_until = clock_now(CLOCK_BOOTTIME) + IDLE_TERM_USEC;
        return 0;
}

static int idle_on_jobs(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const char *unit, *type;
        Idle *idle = userdata;
        int r;

        idle->jobs = sd_bus_slot_unref(idle->jobs);
        if (idle->ordered || sd_bus_message_is_method_error(reply, NULL))
                return 0;
        r = sd_bus_message_enter_container(reply, 'a', "(usssoo)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(usssoo)", NULL, &unit, &type, NULL, NULL,
                                                  NULL)) > 0)
                if (strcmp(unit, IDLE_UNIT) == 0 &&
                    (strcmp(type, "stop") == 0 || strcmp(type, "restart") == 0)) {
                        idle->ordered = true;
                        (void) raise(SIGTERM);
                        break;
                }
        return 0;
}

/* The manager sends no SIGTERM to one that it has sent one already: whoever orders a stop now, or
 * shuts the host down, would wait for the last window, and a minute more. The order stands among
 * its jobs. */
static void idle_look_for_orders(Idle *idle) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *message = NULL;
        int r;

        if (idle->jobs || idle->ordered || idle->state == IDLE_OVER)
                return;
        r = sd_bus_message_new_method_call(idle->connection, &message, "org.freedesktop.systemd1",
                                           "/org/freedesktop/systemd1",
                                           "org.freedesktop.systemd1.Manager", "ListJobs");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(message, 0);
        if (r >= 0)
                r = sd_bus_call_async(idle->connection, &idle->jobs, message, idle_on_jobs, idle,
                                      0);
        if (r < 0)
                log_warning("Cannot ask the service manager whether it is to stop this service "
                            "(%s): should a stop take long, systemctl kill it.",
                            strerror(-r));
}

static int idle_on_extend(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) sd_notify(0, "EXTEND_TIMEOUT_USEC=" IDLE_EXTEND_USEC);
        idle_look_for_orders(userdata);
        (void) sd_event_source_set_time(source, clock_now(CLOCK_BOOTTIME) + IDLE_EXTEND_EVERY_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

bool idle_on_term(Idle *idle) {
        bool is_answer = clock_now(CLOCK_BOOTTIME) < idle->term_until;

        idle->term_until = 0;
        if (!is_answer || idle->state == IDLE_OVER)
                return false;
        if (sd_event_add_time(idle->event, &idle->extend, CLOCK_BOOTTIME, 0, 0, idle_on_extend,
                              idle) < 0)
                return false;
        return true;
}

bool idle_on_bus(Idle *idle, BusNews news) {
        switch (news) {
        case BUS_READY:
                if (idle->state != IDLE_RETAKING)
                        return false;
                idle_serve(idle);
                return true;
        case BUS_REFUSED:
                if (idle->state != IDLE_RETAKING)
                        return false;
                /* A new one was faster. There must not be two: who called in between is told to
                 * ask again. */
                idle_leave(idle);
                return true;
        case BUS_RELEASED:
                if (broker_is_idle(idle->broker) || bus_take_name(idle->bus) < 0)
                        idle_leave(idle);
                else
                        idle->state = IDLE_RETAKING;
                return true;
        case BUS_LOST:
                return false;
        }
        return false;
}

int idle_new(Idle **ret, sd_event *event, sd_bus *connection, Bus *bus, const Broker *broker,
             uint64_t timeout_usec, IdleCallback callback, void *userdata) {
        Idle *idle = calloc(1, sizeof(*idle));
        int r;

        if (!idle)
                return -ENOMEM;
        idle->event = event;
        idle->has_manager = getenv("NOTIFY_SOCKET");
        idle->connection = connection;
        idle->bus = bus;
        idle->broker = broker;
        idle->timeout_usec = timeout_usec;
        idle->callback = callback;
        idle->userdata = userdata;
        r = sd_event_add_time(event, &idle->timer, CLOCK_BOOTTIME, 0, IDLE_ACCURACY_USEC,
                              idle_on_timer, idle);
        if (r < 0) {
                idle_free(idle);
                return r;
        }
        idle_serve(idle);
        *ret = idle;
        return 0;
}

Idle *idle_free(Idle *idle) {
        if (!idle)
                return NULL;
        sd_event_source_disable_unref(idle->timer);
        sd_event_source_disable_unref(idle->extend);
        sd_bus_slot_unref(idle->jobs);
        free(idle);
        return NULL;
}
