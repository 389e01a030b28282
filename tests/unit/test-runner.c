/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The broker's side with the real helper (its path is the first argument) in a real event loop.
 * Every test ends with no child, no cgroup and no descriptor more than it began with. Needs root.
 */

#include "profile-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <postern/cleanup.h>
#include <postern/run-cgroup.h>
#include <postern/run-output.h>
#include <postern/runner.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define WINDOW "w0123456789ab"

/* The tree: deaf grandchildren in sessions of their own, whose parents are gone. Each says its pid.
 */
#define TREE                                                                                       \
        "import os, signal, time\n"                                                                \
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"                                          \
        "for n in range(8):\n"                                                                     \
        "    if os.fork() == 0:\n"                                                                 \
        "        os.setsid()\n"                                                                    \
        "        if os.fork(): os._exit(0)\n"                                                      \
        "        break\n"                                                                          \
        "os.write(1, b'%d\\n' % os.getpid())\n"                                                    \
        "time.sleep(1000)\n"

enum { TREE_SIZE = 9, LINES_KEPT = 2048, PATIENCE_SEC = 60 };

static const char *helper_path;

int __real_pidfd_open(pid_t pid, unsigned int flags);
int __wrap_pidfd_open(pid_t pid, unsigned int flags);
int __real_sd_event_add_io(sd_event *event, sd_event_source **ret, int fd, uint32_t events,
                           sd_event_io_handler_t callback, void *userdata);
int __wrap_sd_event_add_io(sd_event *event, sd_event_source **ret, int fd, uint32_t events,
                           sd_event_io_handler_t callback, void *userdata);

/* What a test does when it hears of something. */
typedef enum Act {
        ACT_NONE,
        ACT_GO,
        ACT_STOP,
        ACT_FREE,
        ACT_GO_AND_STOP,
        ACT_GO_AND_FREE,
} Act;

typedef struct Fixture {
        sd_event *event;
        Runner *runner;
        Run *run;
        Profile *profile;
        Output *output;
        int n_open;

        Act on_ready;
        void (*on_line)(struct Fixture *fixture, const char *line);
        bool end_early; /* leave the loop without a last event */

        unsigned n_ready, n_lines, n_last;
        char lines[LINES_KEPT][64];
        RunnerEventType last;
        int exit_status;
        char cgroup[RUN_CGROUP_PATH_MAX];
        char problem[1024];
        char serial_after[256];
        unsigned n_ticks;
} Fixture;

static int count_open(void) {
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void act(Fixture *fixture, Act what) {
        if (what == ACT_GO || what == ACT_GO_AND_STOP || what == ACT_GO_AND_FREE)
                assert_int_equal(run_go(fixture->run, 1800000000ULL * 1000000), 0);
        if (what == ACT_STOP || what == ACT_GO_AND_STOP) {
                run_stop(fixture->run);
                run_stop(fixture->run);
        }
        if (what == ACT_FREE || what == ACT_GO_AND_FREE) {
                fixture->run = run_free(fixture->run);
                sd_event_exit(fixture->event, 0);
        }
}

static void on_event(const char *window_id, const RunnerEvent *event, void *userdata) {
        Fixture *fixture = userdata;

        assert_string_equal(window_id, WINDOW);
        assert_non_null(fixture->run); /* never before run_start() has returned */
        assert_int_equal(fixture->n_last, 0);
        switch (event->type) {
        case RUNNER_READY:
                fixture->n_ready++;
                snprintf(fixture->cgroup, sizeof(fixture->cgroup), "%s", event->cgroup);
                assert_non_null(event->legacy);
                act(fixture, fixture->on_ready);
                return;
        case RUNNER_OUTPUT:
                if (fixture->n_lines < LINES_KEPT)
                        snprintf(fixture->lines[fixture->n_lines], sizeof(fixture->lines[0]), "%s",
                                 event->line);
                fixture->n_lines++;
                if (fixture->on_line)
                        fixture->on_line(fixture, event->line);
                return;
        case RUNNER_ENDED:
                fixture->exit_status = event->exit_status;
                snprintf(fixture->serial_after, sizeof(fixture->serial_after), "%s",
                         event->after->serial);
                break;
        case RUNNER_LOST:
                snprintf(fixture->problem, sizeof(fixture->problem), "%s", event->problem);
                break;
        }
        fixture->n_last++;
        fixture->last = event->type;
        fixture->output = run_take_output(fixture->run);
        fixture->run = run_free(fixture->run);
        sd_event_exit(fixture->event, 0);
}

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        make_config_dir("/tmp");
        fixture->n_open = count_open();
        assert_true(sd_event_new(&fixture->event) >= 0);
        assert_int_equal(runner_new(&fixture->runner, fixture->event, helper_path, config_dir,
                                    config_dir, true, on_event, fixture),
                         0);
        *state = fixture;
        return 0;
}

static void cgroup_directory(const Fixture *fixture, char *ret, size_t size) {
        char mount[1024];

        assert_int_equal(run_cgroup_find_mount(mount, sizeof(mount)), 0);
        assert_true((size_t) snprintf(ret, size, "%s%s", mount, fixture->cgroup) < size);
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        char cgroup[4096];
        siginfo_t info;

        run_free(fixture->run);
        /* A helper that was let go alone ends by itself. */
        while (waitid(P_ALL, 0, &info, WEXITED) == 0)
                ;
        assert_int_equal(errno, ECHILD);
        runner_free(fixture->runner);
        output_free(fixture->output);
        profile_free(fixture->profile);
        sd_event_unref(fixture->event);
        assert_int_equal(count_open(), fixture->n_open);
        if (*fixture->cgroup) {
                cgroup_directory(fixture, cgroup, sizeof(cgroup));
                assert_int_equal(access(cgroup, F_OK), -1);
        }
        free(fixture);
        return remove_config_dir(NULL);
}

static void load_profile(Fixture *fixture, const char *exec) {
        _cleanup_free_ char *problem = NULL;
        char text[1024];

        snprintf(text, sizeof(text), "[Renewal]\nExec=%s\n[Window]\nPorts=80/tcp\n", exec);
        write_profile("web.conf", text);
        if (load("web", &fixture->profile, &problem) != PROFILE_OK)
                fail_msg("%s", problem ? problem : "no reason");
}

/* Exec= for a program with this text. */
static const char *program(const char *interpreter, const char *text) {
        static char path[PATH_MAX];
        char script[4096];

        snprintf(path, sizeof(path), "%s/program", config_dir);
        assert_true((size_t) snprintf(script, sizeof(script), "#!%s\n%s", interpreter, text) <
                    sizeof(script));
        write_bytes(path, script, strlen(script));
        assert_int_equal(chmod(path, 0755), 0);
        return path;
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        fail_msg("nothing came in %d s", PATIENCE_SEC);
        return 0;
}

static void loop(Fixture *fixture) {
        sd_event_source *patience = NULL;

        assert_true(sd_event_add_time_relative(fixture->event, &patience, CLOCK_MONOTONIC,
                                               PATIENCE_SEC * 1000000ULL, 0, on_patience,
                                               NULL) >= 0);
        assert_int_equal(sd_event_loop(fixture->event), 0);
        sd_event_source_disable_unref(patience);
}

static void start(Fixture *fixture) {
        assert_int_equal(run_start(fixture->runner, WINDOW, fixture->profile, &fixture->run), 0);
        assert_int_equal(fixture->n_ready + fixture->n_lines + fixture->n_last, 0);
}

static pid_t helper_pid(void) {
        _cleanup_fclose_ FILE *children = NULL;
        char path[64];
        int pid = 0;

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int) getpid());
        children = fopen(path, "re");
        assert_non_null(children);
        assert_int_equal(fscanf(children, "%d", &pid), 1);
        return pid;
}

/* It runs no more, whether or not somebody has waited for it. */
static bool is_gone(pid_t pid) {
        _cleanup_fclose_ FILE *file = NULL;
        char path[64], state = 'Z';

        snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        file = fopen(path, "re");
        return !file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1 || state == 'Z' ||
               state == 'X';
}

static void assert_tree_gone(const Fixture *fixture) {
        assert_int_equal(fixture->n_lines, TREE_SIZE);
        for (unsigned i = 0; i < TREE_SIZE; i++)
                if (!is_gone(atoi(fixture->lines[i])))
                        fail_msg("%s lives", fixture->lines[i]);
}

static void ended(void **state) {
        Fixture *fixture = *state;
        const char **lines = NULL;

        load_profile(fixture, program("/bin/sh", "echo one; echo two >&2; printf three; exit 3"));
        fixture->on_ready = ACT_GO;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 3);
        assert_int_equal(fixture->n_ready, 1);
        assert_int_equal(fixture->n_lines, 3);
        assert_string_equal(fixture->lines[0], "one");
        assert_string_equal(fixture->lines[1], "two");
        assert_string_equal(fixture->lines[2], "three");
        assert_string_equal(fixture->serial_after, "");
        /* what it printed outlives it */
        assert_int_equal(output_tail(fixture->output, 2, &lines), 0);
        assert_string_equal(lines[0], "two");
        assert_string_equal(lines[1], "three");
        assert_null(lines[2]);
        free(lines);
}

static void refused(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/true");
        write_profile("web.conf", "[Renewal]\nExec=/bin/false\n[Window]\nPorts=80/tcp\n");
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_int_equal(fixture->n_ready, 0);
        assert_contains(fixture->problem, "ask again");
}

static void failed(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/nonexistent/program");
        fixture->on_ready = ACT_GO;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_contains(fixture->problem, "the program of Exec= of profile web does not exist");
}

static void no_helper(void **state) {
        Fixture *fixture = *state;
        Runner *runner = NULL;
        Run *run = NULL;

        load_profile(fixture, "/bin/true");
        assert_int_equal(runner_new(&runner, fixture->event, "/nonexistent/helper", config_dir,
                                    config_dir, true, on_event, fixture),
                         0);
        assert_int_equal(run_start(runner, WINDOW, fixture->profile, &run), -ENOENT);
        assert_null(run);
        runner_free(runner);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata) {
        assert_true(sd_event_source_set_time_relative(source, 5 * 1000) >= 0);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int pidfd_error, watch_error;

int __wrap_pidfd_open(pid_t pid, unsigned int flags) {
        if (pidfd_error == 0)
                return __real_pidfd_open(pid, flags);
        errno = pidfd_error;
        return -1;
}

int __wrap_sd_event_add_io(sd_event *event, sd_event_source **ret, int fd, uint32_t events,
                           sd_event_io_handler_t callback, void *userdata) {
        /* of the helper's pidfd, the only one that is no socket and no pipe */
        struct stat st;

        if (watch_error != 0 && fstat(fd, &st) == 0 && !S_ISSOCK(st.st_mode) &&
            !S_ISFIFO(st.st_mode))
                return -watch_error;
        return __real_sd_event_add_io(event, ret, fd, events, callback, userdata);
}

/* A helper that cannot be watched is killed and waited for, and nobody stands still meanwhile. */
static void unwatched(void **state) {
        Fixture *fixture = *state;
        siginfo_t info;

        load_profile(fixture, "/bin/true");
        for (unsigned i = 0; i < 2; i++) {
                sd_event_source *patience = NULL, *turn = NULL;

                pidfd_error = i == 0 ? EMFILE : 0;
                watch_error = i == 1 ? ENOMEM : 0;
                assert_int_equal(
                        run_start(fixture->runner, WINDOW, fixture->profile, &fixture->run),
                        i == 0 ? -EMFILE : -ENOMEM);
                pidfd_error = watch_error = 0;
                assert_null(fixture->run);

                assert_true(sd_event_add_time_relative(fixture->event, &patience, CLOCK_MONOTONIC,
                                                       PATIENCE_SEC * 1000000ULL, 0, on_patience,
                                                       NULL) >= 0);
                /* what else the daemon has to do */
                assert_true(sd_event_add_time_relative(fixture->event, &turn, CLOCK_MONOTONIC, 0, 0,
                                                       on_turn, NULL) >= 0);
                while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
                        assert_true(sd_event_run(fixture->event, UINT64_MAX) >= 0);
                assert_int_equal(errno, ECHILD);
                sd_event_source_disable_unref(turn);
                sd_event_source_disable_unref(patience);
        }
        assert_int_equal(fixture->n_last, 0);
}

static void stopped_before_ready(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/true");
        start(fixture);
        run_stop(fixture->run);
        assert_int_equal(fixture->n_last, 0);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_LOST);
}

static void stopped_before_go(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/true");
        fixture->on_ready = ACT_STOP;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_int_equal(fixture->n_ready, 1);
}

static void stopped_at_go(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/sleep 1000");
        fixture->on_ready = ACT_GO_AND_STOP;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 128 + SIGTERM);
}

static void stop_when_grown(Fixture *fixture, const char *line) {
        if (fixture->n_lines == TREE_SIZE)
                run_stop(fixture->run);
}

static void stopped_tree(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, program("/usr/bin/python3", TREE));
        fixture->on_ready = ACT_GO;
        fixture->on_line = stop_when_grown;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 128 + SIGKILL);
        assert_tree_gone(fixture);
}

static void kill_helper_when_grown(Fixture *fixture, const char *line) {
        if (fixture->n_lines == TREE_SIZE)
                assert_int_equal(kill(helper_pid(), SIGKILL), 0);
}

static void killed_helper(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, program("/usr/bin/python3", TREE));
        fixture->on_ready = ACT_GO;
        fixture->on_line = kill_helper_when_grown;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_contains(fixture->problem, "postern-run");
        assert_tree_gone(fixture);
}

static void stall_helper_when_grown(Fixture *fixture, const char *line) {
        if (fixture->n_lines < TREE_SIZE)
                return;
        assert_int_equal(kill(helper_pid(), SIGSTOP), 0);
        run_stop(fixture->run);
}

/* The broker's patience ends, and it does the helper's work. */
static void stalled_helper(void **state) {
        Fixture *fixture = *state;
        struct timespec before, after;

        load_profile(fixture, program("/usr/bin/python3", TREE));
        fixture->on_ready = ACT_GO;
        fixture->on_line = stall_helper_when_grown;
        start(fixture);
        clock_gettime(CLOCK_MONOTONIC, &before);
        loop(fixture);
        clock_gettime(CLOCK_MONOTONIC, &after);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_true(after.tv_sec - before.tv_sec >= RUN_STOP_LIMIT_USEC / 1000000 - 1);
        assert_tree_gone(fixture);
}

static void freed_at_ready(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/true");
        fixture->on_ready = ACT_FREE;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->n_last, 0);
}

static void freed_at_go(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, "/bin/sleep 1000");
        fixture->on_ready = ACT_GO_AND_FREE;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->n_last, 0);
}

static void exit_when_grown(Fixture *fixture, const char *line) {
        if (fixture->n_lines == TREE_SIZE)
                sd_event_exit(fixture->event, 0);
}

/* Without another turn of the loop: the broker may be about to end. */
static void freed_tree(void **state) {
        Fixture *fixture = *state;

        load_profile(fixture, program("/usr/bin/python3", TREE));
        fixture->on_ready = ACT_GO;
        fixture->on_line = exit_when_grown;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->n_last, 0);
        fixture->run = run_free(fixture->run);
        /* it is our child, and leaves when its tree is gone */
        assert_int_equal(waitid(P_PID, helper_pid(), &(siginfo_t){}, WEXITED | WNOWAIT), 0);
        assert_tree_gone(fixture);
}

static void flood_that_ends(void **state) {
        Fixture *fixture = *state;
        unsigned hidden = 0;
        char rest;

        load_profile(fixture, program("/bin/sh", "yes | head -n 100000"));
        fixture->on_ready = ACT_GO;
        start(fixture);
        loop(fixture);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 0);
        assert_string_equal(fixture->lines[0], "y");
        if (fixture->n_lines == RUN_LINES_MAX + 1) {
                assert_int_equal(sscanf(fixture->lines[RUN_LINES_MAX], "[%u lines not shown%c",
                                        &hidden, &rest),
                                 2);
                assert_int_equal(hidden, 100000 - RUN_LINES_MAX);
        } else
                /* so slow a machine that it took longer than the limit's interval */
                assert_true(fixture->n_lines > RUN_LINES_MAX + 1);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Fixture *fixture = userdata;

        /* it has begun, however long that takes */
        if (fixture->n_lines >= RUN_LINES_MAX && ++fixture->n_ticks == 10) {
                run_stop(fixture->run);
                return 0;
        }
        assert_true(sd_event_source_set_time_relative(source, 20 * 1000) >= 0);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Others have their turn meanwhile, and it can be stopped. */
static void flood_without_end(void **state) {
        Fixture *fixture = *state;
        sd_event_source *ticks = NULL;

        load_profile(fixture, "/usr/bin/yes");
        fixture->on_ready = ACT_GO;
        start(fixture);
        assert_true(sd_event_add_time_relative(fixture->event, &ticks, CLOCK_MONOTONIC, 200 * 1000,
                                               0, on_tick, fixture) >= 0);
        loop(fixture);
        sd_event_source_disable_unref(ticks);
        assert_int_equal(fixture->n_ticks, 10);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 128 + SIGTERM);
        assert_true(fixture->n_lines >= RUN_LINES_MAX);
}

/* Nobody can make a real helper say these: a program in its place does. */
static void mad_helper(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *says, *problem;
                bool ready;
        } table[] = {
                {"", "helper postern-run ended without an answer: its log", false},
                {"s.send(b'hello\\n')", "is of another version: restart posternd", false},
                {"s.send(b'\\x00')", "said what nobody understands: restart posternd", false},
                {"s.send(b'x' * 5000)", "nobody understands", false},
                {"s.send(b'refused\\nproblem=because\\n')", "because", false},
                {"s.send(b'ready\\ncgroup=\\nlegacy=\\n')", "ended without an answer", true},
                {"s.send(b'ready\\n'); s.send(b'ready\\n')", "ended without an answer", true},
                {"s.send(b'ready\\ncgroup=/\\nlegacy=\\n')", "ended without an answer", true},
                {"s.send(b'ready\\ncgroup=/../postern-" WINDOW "\\n')", "ended without", true},
                {"s.send(b'hello\\n'); signal.pause()", "another version", false},
                {"s.send(b'ended\\n')", "another version", false},
                {"s.send(b'ended\\nstatus=256\\n')", "another version", false},
                {"s.send(b'ended\\nstatus=-1\\n')", "another version", false},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char text[512];
                Runner *runner = NULL;

                profile_free(fixture->profile);
                load_profile(fixture, "/bin/true");
                snprintf(text, sizeof(text),
                         "import signal, socket\n"
                         "s = socket.socket(fileno=0)\n"
                         "s.recv(4096)\n"
                         "%s\n",
                         table[i].says);
                assert_int_equal(runner_new(&runner, fixture->event,
                                            program("/usr/bin/python3", text), config_dir,
                                            config_dir, true, on_event, fixture),
                                 0);
                assert_int_equal(run_start(runner, WINDOW, fixture->profile, &fixture->run), 0);
                /* so that all it said and its end are there at once */
                if (!strstr(table[i].says, "pause"))
                        assert_int_equal(
                                waitid(P_PID, helper_pid(), &(siginfo_t){}, WEXITED | WNOWAIT), 0);
                loop(fixture);
                assert_int_equal(fixture->last, RUNNER_LOST);
                assert_contains(fixture->problem, table[i].problem);
                assert_int_equal(fixture->n_ready > 0, table[i].ready);
                runner_free(runner);
                output_free(TAKE_POINTER(fixture->output));
                fixture->n_ready = fixture->n_last = 0;
                *fixture->cgroup = 0;
                sd_event_unref(fixture->event);
                assert_true(sd_event_new(&fixture->event) >= 0);
        }
}

int main(int argc, char **argv) {
        static char path[PATH_MAX];
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(ended),
                TEST(refused),
                TEST(failed),
                TEST(no_helper),
                TEST(unwatched),
                TEST(stopped_before_ready),
                TEST(stopped_before_go),
                TEST(stopped_at_go),
                TEST(stopped_tree),
                TEST(killed_helper),
                TEST(stalled_helper),
                TEST(freed_at_ready),
                TEST(freed_at_go),
                TEST(freed_tree),
                TEST(flood_that_ends),
                TEST(flood_without_end),
                TEST(mad_helper),
        };

        if (argc != 2) {
                fprintf(stderr, "usage: test-runner HELPER\n");
                return 2;
        }
        if (!realpath(argv[1], path)) {
                fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
                return 2;
        }
        helper_path = path;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
