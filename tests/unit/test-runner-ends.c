/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * How runs end with the real helper, at every stage, with a cgroup and without one. This process is
 * the subreaper of all that is started, so whatever escapes comes to it; every test ends with
 * nothing left: no process, no cgroup, no descriptor. Needs root.
 *
 *     test-runner-ends HELPER [no-cgroup]
 */

#include "profile-fixture.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/run-cgroup.h>
#include <postern/run-output.h>
#include <postern/runner.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { PATIENCE_SECONDS = 60, CHILDREN_MAX = 64 };

#define DEAF "trap \"\" TERM HUP INT; setsid sleep 1000 & echo up; while :; do sleep 1000; done"

typedef struct Heard {
        char types[32]; /* of the events in order: Ready, Output (a row of them is one), Ended, Lost
                         */
        char last_line[OUTPUT_LINE_MAX + 1];
        char lines[256]; /* the first of them, each with '|' */
        unsigned n_lines, n_hidden, n_notices;
        char cgroup[RUN_CGROUP_PATH_MAX];
        char problem[1024];
        int exit_status;
        Certificate before, after;
} Heard;

static const char *helper_path;
static bool have_cgroup; /* found out by the first test */
static sd_event *event;
static Runner *runner;
static Run *run;
static pid_t helper; /* of `run` */
static char window_id[32];
static Heard heard;
static char free_at; /* the event in whose callback the run is freed */
static unsigned fds_before;

static unsigned count_fds(void) {
        unsigned n = 0;
        DIR *directory = opendir("/proc/self/fd");

        assert_non_null(directory);
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

static size_t list_children(pid_t ret[CHILDREN_MAX]) {
        _cleanup_fclose_ FILE *file = NULL;
        char path[64];
        size_t n = 0;

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int) getpid());
        file = fopen(path, "re");
        assert_non_null(file);
        while (n < CHILDREN_MAX && fscanf(file, "%d", &ret[n]) == 1)
                n++;
        return n;
}

static char state_of(pid_t pid) {
        _cleanup_fclose_ FILE *file = NULL;
        char path[64], state = 0;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        file = fopen(path, "re");
        if (file)
                (void) !fscanf(file, "%*d %*[^)]) %c", &state);
        return state;
}

/* The helper is the runner's to wait for; other children are what it left behind, and only their
 * dead bodies may have come to us. Those that were there are no proof: they may have left some more
 * meanwhile. */
static bool processes_are_gone(void) {
        pid_t children[CHILDREN_MAX];
        size_t n = list_children(children);

        for (size_t i = 0; i < n; i++)
                if (!(runner && children[i] == helper) && state_of(children[i]) == 'Z')
                        (void) waitpid(children[i], NULL, 0);
        return n == 0;
}

static bool cgroup_is_gone(void) {
        char mount[512], path[sizeof(mount) + RUN_CGROUP_PATH_MAX];

        if (!*heard.cgroup || run_cgroup_find_mount(mount, sizeof(mount)) < 0)
                return true;
        snprintf(path, sizeof(path), "%s%s", mount, heard.cgroup);
        return access(path, F_OK) < 0;
}

static bool all_is_gone(void) {
        return processes_are_gone() && cgroup_is_gone();
}

static bool it_is_over(void) {
        return strpbrk(heard.types, "EL") != NULL;
}

static bool it_is_ready(void) {
        return strchr(heard.types, 'R') != NULL;
}

static bool it_has_printed(void) {
        return heard.n_lines > 0;
}

static bool helper_is_stopped(void) {
        return state_of(helper) == 'T';
}

static bool helper_is_dead(void) {
        char state = state_of(helper);

        return state == 'Z' || state == 0;
}

static void wait_until(bool (*condition)(void), const char *what) {
        time_t until = time(NULL) + PATIENCE_SECONDS;

        while (!condition()) {
                if (time(NULL) > until)
                        fail_msg("waited in vain until %s; heard: %s (%s)", what, heard.types,
                                 heard.problem);
                if (event)
                        assert_true(sd_event_run(event, 10 * 1000) >= 0);
                else
                        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        }
}

#define WAIT(condition) wait_until(condition, #condition)

static void add_type(char type) {
        size_t n = strlen(heard.types);

        if (type == 'O' && n > 0 && heard.types[n - 1] == 'O')
                return;
        assert_true(n + 1 < sizeof(heard.types));
        heard.types[n] = type;
}

static void hear_line(const char *line) {
        size_t n = strlen(heard.lines);
        unsigned hidden;

        assert_true(strlen(line) <= OUTPUT_LINE_MAX);
        if (sscanf(line, "[%u lines not shown]", &hidden) == 1) {
                heard.n_hidden += hidden;
                heard.n_notices++;
                return;
        }
        heard.n_lines++;
        strcpy(heard.last_line, line);
        if (n + strlen(line) + 2 < sizeof(heard.lines))
                snprintf(heard.lines + n, sizeof(heard.lines) - n, "%s|", line);
}

static void hear(const char *id, const RunnerEvent *said, void *userdata) {
        static const char types[] = {
                [RUNNER_READY] = 'R',
                [RUNNER_OUTPUT] = 'O',
                [RUNNER_ENDED] = 'E',
                [RUNNER_LOST] = 'L',
        };

        assert_ptr_equal(userdata, &heard);
        assert_string_equal(id, window_id);
        if (it_is_over())
                fail_msg("%c after the last event", types[said->type]);
        if (free_at && !run)
                fail_msg("%c after it was freed", types[said->type]);
        add_type(types[said->type]);
        if (said->type == RUNNER_READY) {
                strcpy(heard.cgroup, said->cgroup);
                assert_non_null(said->legacy);
        } else if (said->type == RUNNER_OUTPUT)
                hear_line(said->line);
        else if (said->type == RUNNER_ENDED) {
                heard.exit_status = said->exit_status;
                heard.before = *said->before;
                heard.after = *said->after;
        } else
                strcpy(heard.problem, said->problem);

        if (free_at == types[said->type])
                run = run_free(run);
}

static void make_runner(const char *path) {
        assert_int_equal(
                runner_new(&runner, event, path, config_dir, config_dir, true, hear, &heard), 0);
}

/* Another window each time, as it is with the broker: what is left of one is cleaned up by its id.
 */
static void begin_window(void) {
        static unsigned n;

        snprintf(window_id, sizeof(window_id), "wtest%dn%u", (int) getpid(), n++);
        heard = (Heard){};
        free_at = 0;
}

static int make_loop(void **state) {
        fds_before = count_fds();
        begin_window();
        helper = 0;
        assert_int_equal(sd_event_new(&event), 0);
        make_runner(helper_path);
        return 0;
}

static void end_loop(void) {
        runner = runner_free(runner);
        event = sd_event_unref(event);
}

static int nothing_is_left(void **state) {
        unsigned fds;

        run = run_free(run);
        WAIT(all_is_gone);
        end_loop();
        fds = count_fds();
        if (fds != fds_before)
                print_error("%d descriptors stayed open\n", (int) (fds - fds_before));
        return fds == fds_before ? 0 : -1;
}

/* The profile "web" that runs this shell command. */
static Profile *make_profile(const char *command, const char *head) {
        char text[2048], *problem = NULL;
        Profile *profile = NULL;

        snprintf(text, sizeof(text), "%s[Renewal]\nExec=/bin/sh -c '%s'\n[Window]\nPorts=80/tcp\n",
                 head, command);
        write_profile("web.conf", text);
        if (load("web", &profile, &problem) != 0)
                fail_msg("%s", problem);
        return profile;
}

static void start_profile(const Profile *profile) {
        pid_t children[CHILDREN_MAX];

        assert_int_equal(run_start(runner, window_id, profile, &run), 0);
        assert_string_equal(heard.types, ""); /* never from inside the call */
        assert_int_equal(list_children(children), 1);
        helper = children[0];
}

static void start(const char *command) {
        Profile *profile = make_profile(command, "");

        start_profile(profile);
        profile_free(profile); /* it is not needed any longer */
}

static void start_and_go(const char *command) {
        start(command);
        WAIT(it_is_ready);
        assert_int_equal(run_go(run, UINT64_C(1234567890) * 1000000), 0);
}

static void test_order(void **state) {
        start_and_go("echo one; echo two >&2; echo $POSTERN_DEADLINE; printf unfinished; exit 7");
        have_cgroup = *heard.cgroup;
        WAIT(it_is_over);
        assert_string_equal(heard.types, "ROE");
        assert_string_equal(heard.lines, "one|two|1234567890|unfinished|");
        assert_int_equal(heard.exit_status, 7);
        assert_string_equal(heard.before.serial, "");
        assert_int_equal(heard.after.not_after, 0);
        /* nothing is left of it at that moment */
        assert_true(cgroup_is_gone());
}

static void test_nothing_printed(void **state) {
        start_and_go("kill -KILL $$");
        WAIT(it_is_over);
        assert_string_equal(heard.types, "RE");
        assert_int_equal(heard.exit_status, 137);
}

static void test_certificate(void **state) {
        uint64_t now_usec = (uint64_t) time(NULL) * 1000000;
        char head[1024], command[1024];
        Profile *profile;

        snprintf(head, sizeof(head), "[Profile]\nCertificate=%.500s/c.pem\n", config_dir);
        for (unsigned i = 0; i < 2; i++) {
                snprintf(command, sizeof(command),
                         "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                         "-subj /CN=a -addext subjectAltName=DNS:example.com,IP:192.0.2.1 -keyout "
                         "/dev/null -days 2 -set_serial 0xabc%u "
                         "-out %.500s/c.pem",
                         i, config_dir);
                begin_window();
                profile = make_profile(command, head);
                start_profile(profile);
                profile_free(profile);
                WAIT(it_is_ready);
                assert_int_equal(run_go(run, 1), 0);
                WAIT(it_is_over);
                assert_int_equal(heard.exit_status, 0);
                assert_string_equal(heard.before.serial, i == 0 ? "" : "abc0");
                assert_string_equal(heard.after.serial, i == 0 ? "abc0" : "abc1");
                assert_true(i == 0 ? heard.before.not_after == 0
                                   : heard.before.not_after > now_usec);
                assert_true(heard.after.not_after > now_usec);
                assert_int_equal(heard.after.not_after - heard.after.not_before,
                                 UINT64_C(2) * 24 * 60 * 60 * 1000000);
                assert_string_equal(heard.after.names, "example.com 192.0.2.1");
                assert_int_equal(heard.after.names_left_out, 0);
                run = run_free(run);
                WAIT(all_is_gone);
        }
}

/* Wherever the descriptors run out, nothing was started. */
static void test_descriptors_run_out(void **state) {
        Profile *profile = make_profile("true", "");
        unsigned before = count_fds(), refused = 0;
        struct rlimit limit;
        int r = -EMFILE;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        for (unsigned n = 3; r < 0; n++) {
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){n, limit.rlim_max}), 0);
                r = run_start(runner, window_id, profile, &run);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
                if (r < 0) {
                        pid_t children[CHILDREN_MAX];

                        refused++;
                        assert_int_equal(r, -EMFILE);
                        assert_null(run);
                        assert_int_equal(list_children(children), 0);
                        assert_int_equal(count_fds(), before);
                }
        }
        assert_true(refused >= 5);
        profile_free(profile);
        run = run_free(run);
}

static void test_window_id_too_long(void **state) {
        Profile *profile = make_profile("true", "");

        assert_int_equal(run_start(runner, "w0123456789012345678901234567890", profile, &run),
                         -EINVAL);
        assert_null(run);
        profile_free(profile);
}

static void test_stop_before_ready(void **state) {
        start("echo no");
        run_stop(run);
        run_stop(run);
        WAIT(it_is_over);
        assert_null(strchr(heard.types, 'O'));
        assert_non_null(strchr(heard.types, 'L'));
        run_stop(run);
}

static void test_stop_before_go(void **state) {
        start("echo no");
        WAIT(it_is_ready);
        run_stop(run);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "RL");
        assert_true(cgroup_is_gone());
}

static void test_stop_after_go(void **state) {
        start_and_go(DEAF);
        WAIT(it_has_printed);
        run_stop(run);
        run_stop(run);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "ROE");
        assert_int_equal(heard.exit_status, 137);
        assert_true(cgroup_is_gone());
}

static void test_stop_is_a_request_first(void **state) {
        start_and_go("trap \"echo bye; exit 5\" TERM; echo up; while :; do sleep 0.01; done");
        WAIT(it_has_printed);
        run_stop(run);
        WAIT(it_is_over);
        assert_int_equal(heard.exit_status, 5);
        assert_string_equal(heard.last_line, "bye");
}

static void test_helper_killed(void **state) {
        if (!have_cgroup) /* nothing can hold a tree whose helper is killed; its root dies with it
                           */
                start_and_go("echo up; exec sleep 1000");
        else
                start_and_go(DEAF);
        WAIT(it_has_printed);
        kill(helper, SIGKILL);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "ROL");
        assert_contains(heard.problem, "without an answer");
        assert_true(cgroup_is_gone());
}

/* The helper is killed, what it ran goes on for a moment and has the last word. */
static void test_helper_killed_before_go(void **state) {
        start("echo no");
        WAIT(it_is_ready);
        kill(helper, SIGKILL);
        wait_until(helper_is_dead, "the helper is dead");
        assert_true(it_is_over() || run_go(run, 1) < 0);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "RL");
}

static void test_helper_hangs(void **state) {
        start_and_go(have_cgroup ? DEAF : "echo up; exec sleep 1000");
        WAIT(it_has_printed);
        kill(helper, SIGSTOP);
        WAIT(helper_is_stopped);
        run_stop(run);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "ROL");
        assert_true(cgroup_is_gone());
}

/* Freed at every moment, with a loop to go on in and without one. */
typedef enum Stage {
        STAGE_STARTED,
        STAGE_READY,
        STAGE_GOING,
        STAGE_RUNNING,
        STAGE_STOPPING,
        STAGE_HELPER_DEAD,
        STAGE_LAST = STAGE_HELPER_DEAD,
} Stage;

static void reach(Stage stage) {
        const char *command =
                have_cgroup || stage != STAGE_HELPER_DEAD ? DEAF : "echo up; exec sleep 1000";

        if (stage == STAGE_STARTED) {
                start(command);
                return;
        }
        if (stage == STAGE_READY) {
                start(command);
                WAIT(it_is_ready);
                return;
        }
        start_and_go(command);
        if (stage == STAGE_GOING)
                return;
        WAIT(it_has_printed);
        if (stage == STAGE_STOPPING)
                run_stop(run);
        if (stage == STAGE_HELPER_DEAD) {
                kill(helper, SIGKILL);
                while (!helper_is_dead())
                        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
}

static void test_free_with_loop(void **state) {
        for (Stage stage = 0; stage <= STAGE_LAST; stage++) {
                begin_window();
                reach(stage);
                run = run_free(run);
                free_at = '-'; /* nothing may be said any more */
                WAIT(all_is_gone);
        }
}

static void test_free_without_loop(void **state) {
        for (Stage stage = 0; stage <= STAGE_LAST; stage++) {
                begin_window();
                reach(stage);
                run = run_free(run);
                end_loop();
                /* the cgroup of a helper that is dead can only be emptied; the next run takes it */
                if (stage == STAGE_HELPER_DEAD)
                        wait_until(processes_are_gone, "no process is left");
                else
                        WAIT(all_is_gone);
                assert_int_equal(sd_event_new(&event), 0);
                make_runner(helper_path);
        }
        heard = (Heard){};
        start_and_go("true");
        WAIT(it_is_over);
        assert_int_equal(heard.exit_status, 0);
}

static bool it_is_freed(void) {
        return !run;
}

static void test_free_in_callback(void **state) {
        static const char moments[] = "ROEL";

        for (const char *moment = moments; *moment; moment++) {
                begin_window();
                free_at = *moment;
                start("for i in 1 2 3; do echo $i; done; exit 3");
                if (*moment != 'R') {
                        WAIT(it_is_ready);
                        if (*moment == 'L')
                                run_stop(run);
                        else
                                assert_int_equal(run_go(run, 1), 0);
                }
                WAIT(it_is_freed);
                WAIT(all_is_gone);
                if (*moment == 'O')
                        assert_int_equal(heard.n_lines, 1);
        }
}

/* While lines are read at the very end: freed in the middle of the last event's work. */
static void test_free_in_the_last_lines(void **state) {
        start_and_go("echo one; echo two");
        /* the loop does not run until all has been said */
        while (!helper_is_dead())
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        free_at = 'O';
        WAIT(it_is_freed);
        WAIT(all_is_gone);
        assert_int_equal(heard.n_lines, 1);
}

static void test_free_while_helper_hangs(void **state) {
        start_and_go(have_cgroup ? DEAF : "echo up; exec sleep 1000");
        WAIT(it_has_printed);
        kill(helper, SIGSTOP);
        WAIT(helper_is_stopped);
        run = run_free(run);
        free_at = '-';
        WAIT(all_is_gone);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        (*(unsigned *) userdata)++;
        return sd_event_source_set_time_relative(source, 10 * 1000);
}

static void test_flood(void **state) {
        enum { LINES = 7000000, BYTES = 54888896 }; /* of seq 1 LINES */
        _cleanup_free_ const char **tail = NULL;
        sd_event_source *tick = NULL;
        uint64_t first, last;
        unsigned ticks = 0;

        assert_int_equal(
                sd_event_add_time_relative(event, &tick, CLOCK_MONOTONIC, 0, 0, on_tick, &ticks),
                0);
        assert_int_equal(sd_event_source_set_enabled(tick, SD_EVENT_ON), 0);
        start_and_go("exec seq 1 7000000");
        WAIT(it_has_printed);
        assert_int_equal(sd_event_get_iteration(event, &first), 0);
        ticks = 0;
        WAIT(it_is_over);
        assert_int_equal(sd_event_get_iteration(event, &last), 0);
        sd_event_source_disable_unref(tick);

        /* whoever else waits is served at least each 128 KiB */
        assert_true(last - first >= BYTES / (128 * 1024));
        assert_true(ticks >= 3);
        assert_string_equal(heard.types, "ROE");
        assert_int_equal(heard.exit_status, 0);
        /* each line is shown or counted, and few are shown */
        assert_true(heard.n_notices >= 1);
        assert_true(heard.n_lines <= RUN_LINES_MAX * heard.n_notices);
        assert_int_equal(heard.n_lines + heard.n_hidden, LINES);

        assert_int_equal(run_output_tail(run, 2, &tail), 0);
        assert_string_equal(tail[0], "6999999");
        assert_string_equal(tail[1], "7000000");
        assert_null(tail[2]);
        output_free(run_take_output(run));
}

/* The pipe is full when nobody reads: what is in it at the end still comes before the end. */
static void test_what_is_in_the_pipe(void **state) {
        start_and_go("seq 1 9000");
        while (!helper_is_dead())
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        WAIT(it_is_over);
        assert_string_equal(heard.types, "ROE");
        assert_int_equal(heard.n_lines + heard.n_hidden, 9000);
}

static void test_output_taken_early(void **state) {
        Output *output;

        start_and_go("while echo again; do :; done");
        WAIT(it_has_printed);
        output = run_take_output(run);
        assert_non_null(output);
        output_free(output);
        run_stop(run);
        WAIT(it_is_over);
}

static void test_free_nothing(void **state) {
        assert_null(run_free(NULL));
        assert_null(runner_free(NULL));
}

static int set_up(void **state) {
        make_config_dir("/tmp");
        return 0;
}

static void hide_cgroups(void) {
        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL), 0);
}

int main(int argc, char **argv) {
        static char path[PATH_MAX];
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_loop, nothing_is_left)
        const struct CMUnitTest tests[] = {
                CASE(test_order),
                CASE(test_nothing_printed),
                CASE(test_certificate),
                CASE(test_descriptors_run_out),
                CASE(test_window_id_too_long),
                CASE(test_stop_before_ready),
                CASE(test_stop_before_go),
                CASE(test_stop_after_go),
                CASE(test_stop_is_a_request_first),
                CASE(test_helper_killed),
                CASE(test_helper_killed_before_go),
                CASE(test_helper_hangs),
                CASE(test_free_with_loop),
                CASE(test_free_without_loop),
                CASE(test_free_in_callback),
                CASE(test_free_in_the_last_lines),
                CASE(test_free_while_helper_hangs),
                CASE(test_flood),
                CASE(test_what_is_in_the_pipe),
                CASE(test_output_taken_early),
                CASE(test_free_nothing),
        };

        if (argc < 2 || !realpath(argv[1], path) || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
                fprintf(stderr, "usage: test-runner-ends HELPER [no-cgroup]\n");
                return 2;
        }
        helper_path = path;
        if (argc > 2)
                hide_cgroups();
        return cmocka_run_group_tests(tests, set_up, remove_config_dir);
}
