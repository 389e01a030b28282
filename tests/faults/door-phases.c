/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Each is called with a fault that is set and not yet armed, and arms it for what it is about. */

#include "door-phases.h"

#include "faults.h"
#include "loopback.h"
#include "sites.h"

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/door.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TURNS_MAX = 50 };

#define WINDOW       "w000000000001"
#define OTHER_WINDOW "w000000000002"

static const char *runtime_dir;
static sd_event *event;
static Door *kept_door; /* of the phases that do not make one of their own */
static char ruleset_before[TEXT_MAX];
static struct { unsigned lost, restored; } news;
/* What a phase's doors have beside their port. */
static const DoorOuter *with_outer;
static const LeaseReach *with_reach;

/* Between the door and its timers, so that a retry is not waited for. */
int __wrap_sd_event_source_set_time_relative(sd_event_source *source, uint64_t usec);
int __real_sd_event_source_set_time_relative(sd_event_source *source, uint64_t usec);
int __wrap_sd_event_source_set_time_relative(sd_event_source *source, uint64_t usec) {
        return __real_sd_event_source_set_time_relative(source, 0);
}

/* For a deferred source, as the door's own: it takes memory where the queue of what is due has to
 * grow, which by itself it does once. A timer has its place from the beginning. */
int __wrap_sd_event_source_set_enabled(sd_event_source *source, int how);
int __real_sd_event_source_set_enabled(sd_event_source *source, int how);
int __wrap_sd_event_source_set_enabled(sd_event_source *source, int how) {
        uint64_t usec;

        if (how != SD_EVENT_OFF && sd_event_source_get_time(source, &usec) < 0 &&
            faults_next(FAULT_ALLOCATION, "sd_event_source_set_enabled"))
                return -ENOMEM;
        return __real_sd_event_source_set_enabled(source, how);
}

/* --- the door -----------------------------------------------------------------------------------
 */

static void on_news(const char *window_id, DoorNews kind, const char *why, void *userdata) {
        if (kind == DOOR_NEWS_LOST)
                news.lost++;
        else
                news.restored++;
}

static int make_door(Door **ret) {
        return door_new(ret, event, runtime_dir, on_news, NULL);
}

static Door *need_door(void) {
        Door *door;

        if (make_door(&door) < 0)
                die("door_new");
        return door;
}

static int open_door(Door *door, const char *id, uint16_t port) {
        const Profile profile = {.n_ports = 1, .ports = {{PROTOCOL_TCP, port}}};
        _cleanup_free_ char *gate = NULL, *problem = NULL;
        struct timespec now;
        int r;

        clock_gettime(CLOCK_BOOTTIME, &now);
        r = door_open(door, id, &profile, (uint64_t) now.tv_sec * 1000000 + 120 * 1000000, "",
                      with_outer, with_reach, &gate, &problem);
        if (r == DOOR_OK && !gate)
                wrong("opened, and not said where");
        if (r == DOOR_REFUSED && !problem)
                wrong("refused, and not said why");
        return r;
}

static void need_open(Door *door, const char *id, uint16_t port) {
        if (open_door(door, id, port) != DOOR_OK)
                die("a door does not open without a fault");
}

/* As long as there is something to do; while a fault lasts, that may be for ever. */
static void turn(void) {
        for (unsigned i = 0; i < TURNS_MAX && sd_event_run(event, 0) > 0; i++)
                ;
}

/* The fault is over: whatever was left is made good by the daemon's own loop. */
static void settle(Door *door) {
        for (unsigned i = 0; i < TURNS_MAX && !door_is_idle(door); i++)
                turn();
        if (!door_is_idle(door))
                wrong("nothing tidies up");
}

static void expect_clean(const char *when) {
        static char now[TEXT_MAX];

        run_command("nft list ruleset", now, sizeof(now));
        if (strcmp(now, ruleset_before) != 0) {
                wrong(when);
                printf("%s\n", now);
                run_command("nft flush ruleset", now, sizeof(now));
                exit(1); /* what follows would say nothing */
        }
}

/* --- the phases -------------------------------------------------------------------------------
 */

static void arm_again(void) {
        atomic_store(&faults->armed, 1);
}

static void arm(void) {
        n_transactions = 0;
        arm_again();
}

/* Opens it while the fault is armed, and holds what is said against what is; then the fault is
 * over. */
static bool opens(Door *door) {
        bool opened = open_door(door, WINDOW, PORT) == DOOR_OK;

        faults_disarm();
        if (is_open(PORT) != opened)
                wrong(opened ? "said to be open, and shut" : "said to be shut, and open");
        return opened;
}

/* The fault is over by then, so the same door shuts. */
static Outcome open_and_shut(Door *door) {
        Outcome outcome = opens(door) ? SUCCEEDED : REFUSED;

        door_shut(door, WINDOW);
        if (is_open(PORT))
                wrong("does not shut");
        settle(door);
        expect_clean("rules are left after opening");
        return outcome;
}

/* The first window of a broker: sockets, labels and the note are made for it. */
static Outcome phase_first(void) {
        Outcome outcome = REFUSED;
        Door *door = NULL;

        arm();
        if (make_door(&door) == 0)
                outcome = open_and_shut(door);
        faults_disarm();
        door_free(door);
        return outcome;
}

static Outcome phase_open(void) {
        arm();
        return open_and_shut(kept_door);
}

static void expect_shut(Held *held) {
        if (is_open(PORT))
                wrong("said to be shut, and open");
        if (held_speaks(held))
                wrong("said to be shut, and a connection goes on");
}

static void shut_again(Door *door, Held *held) {
        arm_again();
        door_shut(door, WINDOW);
        faults_disarm();
        expect_shut(held);
}

static Outcome shut(Door *door, Held *held) {
        arm();
        door_shut(door, WINDOW);
        faults_disarm();
        expect_shut(held);
        return SUCCEEDED;
}

static Outcome phase_shut(void) {
        Door *door = kept_door;
        Outcome outcome;
        Held held;

        need_open(door, WINDOW, PORT);
        held = hold();
        outcome = shut(door, &held);
        settle(door);
        if (held_speaks(&held))
                wrong("a connection came back to life");
        release(&held);
        expect_clean("rules are left after shutting");
        return outcome;
}

static Outcome phase_shut_one(void) {
        Door *door = kept_door;
        Outcome outcome;
        Held held;

        need_open(door, WINDOW, PORT);
        need_open(door, OTHER_WINDOW, OTHER_PORT);
        held = hold();
        outcome = shut(door, &held);
        turn();
        if (is_open(OTHER_PORT) == (news.lost > 0))
                wrong(news.lost ? "said to be lost, and open" : "lost, and not said");
        if (news.lost)
                outcome = LOST;
        door_shut(door, OTHER_WINDOW);
        if (is_open(OTHER_PORT))
                wrong("the other window does not shut");
        settle(door);
        release(&held);
        expect_clean("rules are left after shutting one of two");
        return outcome;
}

static Outcome phase_mend(void) {
        static char text[TEXT_MAX];
        Door *door = kept_door;
        Outcome outcome;

        need_open(door, WINDOW, PORT);
        turn();
        /* as a reload does it */
        run_command("nft -f $POSTERN_FAULTS_RULESET", text, sizeof(text));
        arm();
        turn();
        faults_disarm();
        turn();
        outcome = news.lost ? LOST : SUCCEEDED;
        if (is_open(PORT) == (news.lost > 0))
                wrong(news.lost ? "said to be lost, and open" : "lost, and not said");
        door_shut(door, WINDOW);
        if (is_open(PORT))
                wrong("does not shut");
        settle(door);
        expect_clean("rules are left after a reload");
        return outcome;
}

static void sweep(void) {
        Door *door = need_door();

        if (door_sweep(door) != 0)
                wrong("does not sweep when nothing fails any more");
        settle(door);
        door_free(door);
        expect_clean("rules are left after a sweep");
}

static Outcome phase_end(void) {
        Door *door = need_door();
        Held held;

        need_open(door, WINDOW, PORT);
        held = hold();
        arm();
        door_free(door);
        faults_disarm();
        if (is_open(PORT) || held_speaks(&held))
                wrong("the broker has ended, and somebody comes in");
        sweep();
        if (is_open(PORT) || held_speaks(&held))
                wrong("swept, and somebody comes in");
        release(&held);
        return SUCCEEDED;
}

/* Opens a door in a process of its own, which is killed after somebody has come in. */
static Held leave_a_mess(void) {
        char byte = 0;
        Held held;
        pid_t pid = -1;
        int fds[2];

        if (pipe(fds) < 0 || (pid = fork()) < 0)
                die("fork");
        if (pid == 0) {
                if (sd_event_new(&event) < 0) /* an event loop is of one process */
                        _exit(1);
                need_open(need_door(), WINDOW, PORT);
                if (write(fds[1], &byte, 1) == 1)
                        pause();
                _exit(1);
        }
        close(fds[1]);
        if (read(fds[0], &byte, 1) != 1)
                die("the other broker");
        close(fds[0]);
        held = hold();
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return held;
}

static Outcome phase_sweep(void) {
        Outcome outcome = SUCCEEDED;
        Held held = leave_a_mess();
        Door *door = NULL;
        int r;

        arm();
        r = make_door(&door);
        if (r == 0)
                r = door_sweep(door);
        faults_disarm();
        if (is_open(PORT))
                wrong("a new connection comes in after a broker's death");
        if (r < 0) {
                outcome = RETRIED;
                door_free(door); /* as the daemon does, which is started again */
                sweep();
        } else {
                settle(door);
                door_free(door);
                expect_clean("rules are left after a sweep");
        }
        if (held_speaks(&held))
                wrong("swept, and a connection goes on");
        release(&held);
        return outcome;
}

/* Whoever opens the port elsewhere must not find it without a bound: new connections from anywhere
 * but this host are dropped, which the loopback device cannot show. */
static bool is_banned(void) {
        static char now[TEXT_MAX];

        run_command("nft list ruleset", now, sizeof(now));
        return strstr(now, "dport 80 ");
}

/* A port that somebody else's firewall opens as well, from before it does until after it has shut.
 */
static Outcome phase_outer(void) {
        static const DoorOuter outer = {.ports = {{PROTOCOL_TCP, PORT}}, .n_ports = 1};
        Door *door = kept_door;
        Outcome outcome = REFUSED;
        Held held;

        with_outer = &outer;
        arm();
        if (opens(door)) {
                outcome = SUCCEEDED;
                if (!is_banned())
                        wrong("open elsewhere without a bound");
                held = hold();
                shut_again(door, &held);
                if (!is_banned())
                        wrong("shut here, and open elsewhere without a bound");
                arm_again();
                door_unban(door, WINDOW);
                faults_disarm();
                expect_shut(&held);
                release(&held);
        }
        settle(door);
        expect_clean("rules are left after a port that was open elsewhere");
        return outcome;
}

/* A port that leads to the sockets of one cgroup alone, which is that of the listener. */
static Outcome phase_reach(void) {
        static LeaseReach reach;
        Door *door = kept_door;
        Outcome outcome = REFUSED;
        Held held;

        if (sscanf(getenv("POSTERN_FAULTS_REACH"), "%" SCNu32 " %" SCNu64, &reach.level,
                   &reach.cgroup) != 2)
                die("POSTERN_FAULTS_REACH");
        with_reach = &reach;
        arm();
        if (opens(door)) {
                held = hold();
                shut_again(door, &held);
                outcome = SUCCEEDED;
                release(&held);
        }
        settle(door);
        expect_clean("rules are left after a window to one cgroup");
        return outcome;
}

static const Phase phases[] = {
        {"first", phase_first},       {"open", phase_open, true},
        {"shut", phase_shut, true},   {"shut-one", phase_shut_one, true},
        {"mend", phase_mend, true},   {"end", phase_end},
        {"sweep", phase_sweep},       {"outer", phase_outer, true},
        {"reach", phase_reach, true},
};

void phases_init(const char *directory) {
        runtime_dir = directory;
        if (sd_event_new(&event) < 0)
                die("sd_event_new");
        run_command("nft list ruleset", ruleset_before, sizeof(ruleset_before));
        if (is_open(PORT) || is_open(OTHER_PORT))
                die("the port is open to begin with");
}

void phases_deinit(void) {
        door_free(kept_door);
        sd_event_unref(event);
}

const Phase *phase_find(const char *name) {
        for (size_t i = 0; i < ELEMENTS(phases); i++)
                if (strcmp(phases[i].name, name) == 0)
                        return &phases[i];
        errno = EINVAL;
        die(name);
        return NULL;
}

Outcome phase_run(const Phase *phase) {
        memset(&news, 0, sizeof(news));
        with_outer = NULL;
        with_reach = NULL;
        if (phase->keeps && !kept_door)
                kept_door = need_door();
        return phase->run();
}
