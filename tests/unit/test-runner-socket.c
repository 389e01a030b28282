/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The broker's side with helpers that somebody else starts for each connection, as systemd does. A
 * child of the test does that here, in C and in a few lines; systemd itself is in tests/host. The
 * real helper's path is the first argument. Needs root.
 */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/run-cgroup.h>
#include <postern/runner.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define WINDOW "w0123456789ac"

enum { PATIENCE_SEC = 60 };

static const char *helper_path;

typedef enum Manager {
        MANAGER_STARTS,   /* a helper for each connection */
        MANAGER_HANGS_UP, /* as when there are too many, or the unit cannot be started */
        MANAGER_STALLS,   /* starts one that says nothing and does not end */
} Manager;

typedef struct Fixture {
        char path[PATH_MAX];
        pid_t manager;
        sd_event *event;
        Runner *runner;
        Run *run;
        Profile *profile;
        bool stop_when_ready;
        bool kill_when_ready;
        unsigned n_ready, n_last;
        RunnerEventType last;
        int exit_status;
        char line[64];
        char problem[1024];
} Fixture;

__attribute__((noreturn)) static void serve(Manager manager, int listener, const char *option) {
        for (;;) {
                int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

                if (connection < 0)
                        _exit(1);
                if (manager != MANAGER_HANGS_UP && fork() == 0) {
                        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                        if (dup2(connection, STDIN_FILENO) < 0)
                                _exit(1);
                        if (manager == MANAGER_STALLS)
                                execl("/bin/sleep", "sleep", "1000", NULL);
                        execl(helper_path, helper_path, option, "--allow-sticky-parents", NULL);
                        _exit(1);
                }
                close(connection);
        }
}

static void begin(Fixture *fixture, Manager manager) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int listener = -1;
        char option[PATH_MAX];

        snprintf(option, sizeof(option), "--config-dir=%s", config_dir);
        strcpy(address.sun_path, fixture->path);
        listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_true(listener >= 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 8), 0);
        fixture->manager = fork();
        if (fixture->manager == 0)
                serve(manager, listener, option);
        assert_true(fixture->manager > 0);
}

static pid_t helper_pid(const Fixture *fixture) {
        _cleanup_fclose_ FILE *children = NULL;
        char path[64];
        int pid = 0;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int) fixture->manager,
                 (int) fixture->manager);
        children = fopen(path, "re");
        assert_non_null(children);
        assert_int_equal(fscanf(children, "%d", &pid), 1);
        return pid;
}

static void on_event(const char *window_id, const RunnerEvent *event, void *userdata) {
        Fixture *fixture = userdata;

        assert_string_equal(window_id, WINDOW);
        assert_int_equal(fixture->n_last, 0);
        switch (event->type) {
        case RUNNER_READY:
                fixture->n_ready++;
                if (fixture->stop_when_ready)
                        run_stop(fixture->run);
                else if (fixture->kill_when_ready)
                        assert_int_equal(kill(helper_pid(fixture), SIGKILL), 0);
                else
                        assert_int_equal(run_go(fixture->run, 1800000000ULL * 1000000), 0);
                return;
        case RUNNER_OUTPUT:
                snprintf(fixture->line, sizeof(fixture->line), "%s", event->line);
                return;
        case RUNNER_ENDED:
                fixture->exit_status = event->exit_status;
                break;
        case RUNNER_LOST:
                snprintf(fixture->problem, sizeof(fixture->problem), "%s", event->problem);
                break;
        }
        fixture->n_last++;
        fixture->last = event->type;
        fixture->run = run_free(fixture->run);
        sd_event_exit(fixture->event, 0);
}

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        make_config_dir("/tmp");
        snprintf(fixture->path, sizeof(fixture->path), "%s/socket", config_dir);
        assert_true(sd_event_new(&fixture->event) >= 0);
        assert_int_equal(runner_new(&fixture->runner, fixture->event, "/nonexistent/helper",
                                    config_dir, config_dir, true, on_event, fixture),
                         0);
        assert_int_equal(runner_use_socket(fixture->runner, fixture->path), 0);
        *state = fixture;
        return 0;
}

/* As systemd does with the cgroup of a unit that is no more. */
static void remove_cgroup(void) {
        char mount[1024], cgroup[RUN_CGROUP_PATH_MAX], path[RUN_CGROUP_PATH_MAX + 1024];

        if (run_cgroup_find_mount(mount, sizeof(mount)) < 0 ||
            run_cgroup_guess(cgroup, sizeof(cgroup), WINDOW) < 0)
                return;
        snprintf(path, sizeof(path), "%s%s", mount, cgroup);
        /* busy as long as the helper dies with its manager */
        while (rmdir(path) < 0 && errno == EBUSY)
                usleep(1000);
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        run_free(fixture->run);
        runner_free(fixture->runner);
        profile_free(fixture->profile);
        sd_event_unref(fixture->event);
        if (fixture->manager > 0) {
                kill(fixture->manager, SIGKILL);
                assert_int_equal(waitpid(fixture->manager, NULL, 0), fixture->manager);
                remove_cgroup();
        }
        free(fixture);
        return remove_config_dir(NULL);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        fail_msg("nothing came in %d s", PATIENCE_SEC);
        return 0;
}

static void start_and_loop(Fixture *fixture, const char *exec) {
        _cleanup_free_ char *problem = NULL;
        sd_event_source *patience = NULL;
        char text[1024], note[PATH_MAX + 64];

        snprintf(text, sizeof(text), "[Renewal]\nExec=%s\n[Window]\nPorts=80/tcp\n", exec);
        write_profile("web.conf", text);
        assert_int_equal(load("web", &fixture->profile, &problem), PROFILE_OK);
        assert_int_equal(run_start(fixture->runner, WINDOW, fixture->profile, &fixture->run), 0);
        assert_int_equal(fixture->n_ready + fixture->n_last, 0);
        /* who starts the helpers ends what they leave: no next posternd has to look */
        snprintf(note, sizeof(note), "%s/run-" WINDOW, config_dir);
        assert_int_equal(access(note, F_OK), -1);

        assert_true(sd_event_add_time_relative(fixture->event, &patience, CLOCK_MONOTONIC,
                                               PATIENCE_SEC * 1000000ULL, 0, on_patience,
                                               NULL) >= 0);
        assert_int_equal(sd_event_loop(fixture->event), 0);
        sd_event_source_disable_unref(patience);
}

static void test_a_run_from_beginning_to_end(void **state) {
        Fixture *fixture = *state;

        begin(fixture, MANAGER_STARTS);
        start_and_loop(fixture, "/bin/sh -c \"echo one; exit 3\"");
        assert_int_equal(fixture->n_ready, 1);
        assert_int_equal(fixture->last, RUNNER_ENDED);
        assert_int_equal(fixture->exit_status, 3);
        assert_string_equal(fixture->line, "one");
}

static void test_a_run_that_is_stopped_before_it_goes(void **state) {
        Fixture *fixture = *state;

        begin(fixture, MANAGER_STARTS);
        fixture->stop_when_ready = true;
        start_and_loop(fixture, "/bin/true");
        assert_int_equal(fixture->last, RUNNER_LOST);
}

static void test_a_helper_that_is_killed(void **state) {
        Fixture *fixture = *state;

        begin(fixture, MANAGER_STARTS);
        fixture->kill_when_ready = true;
        start_and_loop(fixture, "/bin/true");
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_contains(fixture->problem, "ended without an answer");
}

static void test_a_connection_that_is_turned_away(void **state) {
        Fixture *fixture = *state;

        begin(fixture, MANAGER_HANGS_UP);
        start_and_loop(fixture, "/bin/true");
        assert_int_equal(fixture->n_ready, 0);
        assert_int_equal(fixture->last, RUNNER_LOST);
        assert_contains(fixture->problem, "ended without an answer");
}

/* Nothing of it is ours to kill: the run is given up when its time is over. */
static void test_a_helper_that_never_answers(void **state) {
        Fixture *fixture = *state;
        sd_event_source *stop = NULL;

        begin(fixture, MANAGER_STALLS);
        write_profile("web.conf", GOOD);
        assert_int_equal(load("web", &fixture->profile, &(char *){NULL}), PROFILE_OK);
        assert_int_equal(run_start(fixture->runner, WINDOW, fixture->profile, &fixture->run), 0);
        run_stop(fixture->run);
        assert_true(sd_event_add_time_relative(fixture->event, &stop, CLOCK_MONOTONIC,
                                               PATIENCE_SEC * 1000000ULL, 0, on_patience,
                                               NULL) >= 0);
        assert_int_equal(sd_event_loop(fixture->event), 0);
        sd_event_source_disable_unref(stop);
        assert_int_equal(fixture->last, RUNNER_LOST);
}

static void test_nobody_listens(void **state) {
        Fixture *fixture = *state;
        Run *run = NULL;

        write_profile("web.conf", GOOD);
        assert_int_equal(load("web", &fixture->profile, &(char *){NULL}), PROFILE_OK);
        assert_int_equal(run_start(fixture->runner, WINDOW, fixture->profile, &run), -ENOENT);
        assert_null(run);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_run_from_beginning_to_end, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_run_that_is_stopped_before_it_goes, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_helper_that_is_killed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_connection_that_is_turned_away, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_helper_that_never_answers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
        };

        if (argc != 2)
                return 2;
        helper_path = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
