/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A Run is a conversation with one helper; the Helper is the process, which may outlive its Run by
 * the moment it takes to exit, and is waited for in any case.
 *
 * A run is over when the helper says `ended`, for then its whole tree is gone; or when the helper
 * is gone without having said so, and what it left in its cgroup is killed.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <postern/run-cgroup.h>
#include <postern/run-protocol.h>
#include <postern/runner.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
        READ_BUDGET = 64 * 1024, /* of output per wakeup: a flood waits its turn */
        DRAIN_LIMIT = 1024 * 1024,
        CLEANUP_POLL_USEC = 10 * 1000,
        CLEANUP_TRIES = 500,
        WINDOW_ID_MAX = 32,
};

struct Runner {
        sd_event *event;
        char *helper_path;
        char *config_option;
        bool allow_sticky_parents;
        RunnerCallback callback;
        void *userdata;
};

/* Owned by its event source. */
typedef struct Helper {
        int pidfd;
        Run *run; /* NULL once that is freed */
} Helper;

struct Run {
        Runner *runner;
        Helper *helper; /* NULL once it has exited */
        char window_id[WINDOW_ID_MAX];
        char cgroup[RUN_CGROUP_PATH_MAX];
        int socket;
        int output_fd;
        sd_event_source *socket_source;
        sd_event_source *output_source;
        sd_event_source *timer; /* the stop limit, then the clean-up */
        Output *output;
        bool stopped, over;
        char problem[RUN_PROBLEM_MAX + 1]; /* why it will be lost */
        RunCgroup leftover;
        unsigned cleanup_tries;
        uint64_t lines_since; /* CLOCK_MONOTONIC */
        unsigned n_lines, n_hidden;
};

int runner_new(Runner **ret, sd_event *event, const char *helper_path, const char *config_dir,
               bool allow_sticky_parents, RunnerCallback callback, void *userdata) {
        Runner *runner;

        runner = calloc(1, sizeof(*runner));
        if (!runner)
                return -ENOMEM;
        runner->event = sd_event_ref(event);
        runner->allow_sticky_parents = allow_sticky_parents;
        runner->callback = callback;
        runner->userdata = userdata;
        runner->helper_path = strdup(helper_path);
        if (asprintf(&runner->config_option, "--config-dir=%s", config_dir) < 0)
                runner->config_option = NULL;
        if (!runner->helper_path || !runner->config_option) {
                runner_free(runner);
                return -ENOMEM;
        }
        *ret = runner;
        return 0;
}

Runner *runner_free(Runner *runner) {
        if (!runner)
                return NULL;
        sd_event_unref(runner->event);
        free(runner->helper_path);
        free(runner->config_option);
        free(runner);
        return NULL;
}

static void run_report(Run *run, const RunnerEvent *event) {
        run->runner->callback(run->window_id, event, run->runner->userdata);
}

static void run_report_hidden(Run *run) {
        char line[64];

        if (run->n_hidden == 0)
                return;
        snprintf(line, sizeof(line), "[%u lines not shown]", run->n_hidden);
        run->n_hidden = 0;
        run_report(run, &(RunnerEvent){.type = RUNNER_OUTPUT, .line = line});
}

static void on_line(const char *line, void *userdata) {
        Run *run = userdata;
        uint64_t now = 0;

        (void) sd_event_now(run->runner->event, CLOCK_MONOTONIC, &now);
        if (run->lines_since == 0 || now - run->lines_since > RUN_LINES_USEC) {
                run_report_hidden(run);
                run->lines_since = now;
                run->n_lines = 0;
        }
        if (run->n_lines++ < RUN_LINES_MAX)
                run_report(run, &(RunnerEvent){.type = RUNNER_OUTPUT, .line = line});
        else
                run->n_hidden++;
}

static void run_close_output(Run *run) {
        run->output_source = sd_event_source_disable_unref(run->output_source);
        if (run->output_fd >= 0)
                close(TAKE_FD(run->output_fd));
}

/* Reads up to `budget` bytes of output; closes it at its end. */
static void run_read_output(Run *run, size_t budget) {
        char buffer[16 * 1024];
        ssize_t n = 0;

        while (run->output_fd >= 0 && budget > 0) {
                n = read(run->output_fd, buffer, budget < sizeof(buffer) ? budget : sizeof(buffer));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0) {
                        run_close_output(run);
                        return;
                }
                output_write(run->output, buffer, n);
                budget -= n;
        }
}

/* The last event of a run. The callback may free it. */
static void run_finish(Run *run, const RunnerEvent *event) {
        /* Its writers are gone: what is in the pipe is all there is. Should one have got away, its
         * output has no window to belong to. */
        run_read_output(run, DRAIN_LIMIT);
        run_close_output(run);
        output_finish(run->output);
        run_report_hidden(run);
        run->over = true;
        run->socket_source = sd_event_source_disable_unref(run->socket_source);
        run->timer = sd_event_source_disable_unref(run->timer);
        run_report(run, event);
}

static void run_lost(Run *run) {
        run_finish(run, &(RunnerEvent){
                                .type = RUNNER_LOST,
                                .problem = *run->problem
                                                   ? run->problem
                                                   : "the root helper postern-run ended without an "
                                                     "answer: posternd's log may say why",
                        });
}

static int on_output(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        run_read_output(userdata, READ_BUDGET);
        return 0;
}

/* The helper died before its run was over: nothing of it may go on. */
static int on_cleanup(sd_event_source *source, uint64_t usec, void *userdata) {
        Run *run = userdata;

        run_cgroup_signal(&run->leftover, SIGKILL);
        if (run_cgroup_populated(&run->leftover) && run->cleanup_tries++ < CLEANUP_TRIES) {
                if (sd_event_source_set_time_relative(source, CLEANUP_POLL_USEC) >= 0 &&
                    sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) >= 0)
                        return 0;
        }
        if (run_cgroup_populated(&run->leftover))
                log_error("Something of window %s cannot be killed: see cgroup.procs in %s",
                          run->window_id, run->cgroup);
        run_cgroup_remove(&run->leftover);
        run_lost(run);
        return 0;
}

static void run_begin_cleanup(Run *run) {
        run->socket_source = sd_event_source_disable_unref(run->socket_source);
        run->timer = sd_event_source_disable_unref(run->timer);
        if (*run->cgroup && run_cgroup_open(&run->leftover, run->cgroup, run->window_id) == 0 &&
            sd_event_add_time_relative(run->runner->event, &run->timer, CLOCK_MONOTONIC, 0, 0,
                                       on_cleanup, run) >= 0)
                return;
        run_cgroup_signal(&run->leftover, SIGKILL);
        run_cgroup_remove(&run->leftover);
        run_lost(run);
}

static uint64_t field_number(const RunPacket *packet, const char *key) {
        const char *text = run_packet_get(packet, key);

        return text && strspn(text, "0123456789") == strlen(text) ? strtoull(text, NULL, 10) : 0;
}

static const char *field_text(const RunPacket *packet, const char *key) {
        const char *text = run_packet_get(packet, key);

        return text ? text : "";
}

/* The run may be freed when this returns. */
static void run_take_packet(Run *run, const RunPacket *packet) {
        if (strcmp(packet->word, "ready") == 0) {
                snprintf(run->cgroup, sizeof(run->cgroup), "%s", field_text(packet, "cgroup"));
                run_report(run, &(RunnerEvent){
                                        .type = RUNNER_READY,
                                        .cgroup = run->cgroup,
                                        .legacy = field_text(packet, "legacy"),
                                });
                return;
        }
        if (strcmp(packet->word, "ended") == 0) {
                run_finish(run,
                           &(RunnerEvent){
                                   .type = RUNNER_ENDED,
                                   .exit_status = field_number(packet, "status"),
                                   .serial_before = field_text(packet, "serial_before"),
                                   .serial_after = field_text(packet, "serial_after"),
                                   .not_after_before = field_number(packet, "not_after_before"),
                                   .not_after_after = field_number(packet, "not_after_after"),
                           });
                return;
        }
        if (strcmp(packet->word, "refused") == 0 || strcmp(packet->word, "failed") == 0) {
                /* It cleans up and exits; that is the end of the run. */
                snprintf(run->problem, sizeof(run->problem), "%s", field_text(packet, "problem"));
                return;
        }
        snprintf(run->problem, sizeof(run->problem),
                 "the root helper is of another version: restart posternd");
        run_stop(run);
}

/* Takes one packet; sd-event calls again while there is more. */
static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Run *run = userdata;
        RunPacket packet;
        int r;

        r = run_packet_receive(&packet, run->socket, NULL);
        if (r == -EAGAIN)
                return 0;
        if (r > 0) {
                run_take_packet(run, &packet);
                return 0;
        }
        if (r < 0)
                snprintf(run->problem, sizeof(run->problem),
                         "the root helper said what nobody understands: restart posternd");
        /* It hung up: it has exited, exits soon, or is made to. */
        run->socket_source = sd_event_source_disable_unref(run->socket_source);
        if (run->helper)
                run_stop(run);
        else
                run_begin_cleanup(run);
        return 0;
}

static void on_helper_destroy(void *userdata) {
        Helper *helper = userdata;

        if (helper->run)
                helper->run->helper = NULL;
        close(helper->pidfd);
        free(helper);
}

static int on_helper_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Helper *helper = userdata;
        siginfo_t info = {};
        Run *run = helper->run;

        if (waitid(P_PIDFD, helper->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return 0;
        if (info.si_code != CLD_EXITED)
                log_warning("The root helper of window %s was killed by signal %d",
                            run ? run->window_id : "(gone)", info.si_status);
        helper->run = NULL;
        (void) sd_event_source_set_floating(source, 0); /* the last reference: frees the helper */
        if (!run)
                return 0;
        run->helper = NULL;
        if (run->over)
                return 0;
        /* Its last words may still be in the socket; after them comes the hang-up. */
        if (!run->socket_source)
                run_begin_cleanup(run);
        return 0;
}

static int helper_watch(Runner *runner, Run *run, int pidfd) {
        sd_event_source *source = NULL;
        Helper *helper;
        int r;

        helper = calloc(1, sizeof(*helper));
        if (!helper)
                return -ENOMEM;
        helper->pidfd = pidfd;
        helper->run = run;
        r = sd_event_add_io(runner->event, &source, pidfd, EPOLLIN, on_helper_exit, helper);
        if (r < 0) {
                free(helper);
                return r;
        }
        (void) sd_event_source_set_destroy_callback(source, on_helper_destroy);
        (void) sd_event_source_set_floating(source, 1);
        sd_event_source_unref(source);
        run->helper = helper;
        return 0;
}

/* posix_spawn: no descriptor but the socket and standard error, no signal state of ours. */
static int helper_spawn(const Runner *runner, int socket_fd, pid_t *ret) {
        char *arguments[] = {
                runner->helper_path,
                runner->config_option,
                runner->allow_sticky_parents ? (char *) "--allow-sticky-parents" : NULL,
                NULL,
        };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t all, none;
        int r;

        sigfillset(&all);
        sigemptyset(&none);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        r = posix_spawn_file_actions_adddup2(&actions, socket_fd, STDIN_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(&attributes, &all);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF |
                                                                  POSIX_SPAWN_SETSIGMASK |
                                                                  POSIX_SPAWN_SETSID);
        if (r == 0)
                r = posix_spawn(ret, runner->helper_path, &actions, &attributes, arguments,
                                environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int on_unwatched(sd_event_source *source, void *userdata) {
        siginfo_t info = {};

        /* running yet: again after the next event, of whatever */
        if (waitid(P_PID, (id_t) (intptr_t) userdata, &info, WEXITED | WNOHANG) == 0 &&
            info.si_pid == 0)
                return 0;
        return sd_event_source_set_floating(source, 0); /* the last reference */
}

/* Kills and reaps a helper that nothing watches. Needs no descriptor: those may be what lacks. */
static void helper_discard(const Runner *runner, pid_t pid) {
        sd_event_source *source = NULL;
        int r;

        /* Our child, not waited for: the number is its own. */
        (void) kill(pid, SIGKILL);

        r = sd_event_add_post(runner->event, &source, on_unwatched, (void *) (intptr_t) pid);
        if (r >= 0)
                r = sd_event_source_set_floating(source, 1);
        if (r < 0)
                log_warning("The root helper %d was killed, and stays a zombie: %s", (int) pid,
                            strerror(-r));
        sd_event_source_unref(source);
}

static int helper_start(Runner *runner, Run *run, int socket_fd) {
        _cleanup_close_ int reserve = -1;
        pid_t pid;
        int pidfd, r;

        /* A process without a pidfd could not be waited for: its descriptor is seen to beforehand.
         */
        reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (reserve < 0)
                return -errno;

        r = helper_spawn(runner, socket_fd, &pid);
        if (r < 0) {
                log_error("Cannot start %s: %s", runner->helper_path, strerror(-r));
                return r;
        }
        close(TAKE_FD(reserve));
        pidfd = pidfd_open(pid, 0);
        r = pidfd < 0 ? -errno : helper_watch(runner, run, pidfd);
        if (r < 0) {
                helper_discard(runner, pid);
                if (pidfd >= 0)
                        close(pidfd);
        }
        return r;
}

static int send_renew(const Run *run, const Profile *profile, int output) {
        RunPacket packet;

        run_packet_begin(&packet, "renew");
        run_packet_add(&packet, "profile", "%s", profile->name);
        run_packet_add(&packet, "version", "%s", profile->version);
        run_packet_add(&packet, "window", "%s", run->window_id);
        return run_packet_send(&packet, run->socket, output);
}

int run_start(Runner *runner, const char *window_id, const Profile *profile, Run **ret) {
        _cleanup_close_ int theirs = -1, output = -1;
        int sockets[2], pipes[2], r;
        Run *run;

        if (strlen(window_id) >= WINDOW_ID_MAX)
                return -EINVAL;
        run = calloc(1, sizeof(*run));
        if (!run)
                return -ENOMEM;
        run->runner = runner;
        run->socket = run->output_fd = -1;
        run->leftover = (RunCgroup){.fd = -1, .parent_fd = -1};
        memcpy(run->window_id, window_id, strlen(window_id) + 1);

        r = output_new(&run->output, on_line, run);
        if (r < 0)
                goto fail;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
                r = -errno;
                goto fail;
        }
        run->socket = sockets[0];
        theirs = sockets[1];
        if (pipe2(pipes, O_CLOEXEC) < 0) {
                r = -errno;
                goto fail;
        }
        run->output_fd = pipes[0];
        output = pipes[1];
        /* Our ends alone: those of the renewal block, as programs expect. */
        if (fcntl(run->socket, F_SETFL, O_NONBLOCK) < 0 ||
            fcntl(run->output_fd, F_SETFL, O_NONBLOCK) < 0) {
                r = -errno;
                goto fail;
        }
        if ((r = sd_event_add_io(runner->event, &run->socket_source, run->socket, EPOLLIN,
                                 on_socket, run)) < 0 ||
            (r = sd_event_add_io(runner->event, &run->output_source, run->output_fd, EPOLLIN,
                                 on_output, run)) < 0 ||
            (r = send_renew(run, profile, output)) < 0 ||
            (r = helper_start(runner, run, theirs)) < 0)
                goto fail;
        *ret = run;
        return 0;

fail:
        run_free(run);
        return r;
}

int run_go(Run *run, uint64_t deadline_usec) {
        RunPacket packet;

        run_packet_begin(&packet, "go");
        run_packet_add(&packet, "deadline", "%" PRIu64, deadline_usec / 1000000);
        return run_packet_send(&packet, run->socket, -1);
}

static void helper_kill(const Helper *helper) {
        if (helper)
                (void) pidfd_send_signal(helper->pidfd, SIGKILL, NULL, 0);
}

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata) {
        Run *run = userdata;

        log_warning("The root helper of window %s does not end: killing it", run->window_id);
        helper_kill(run->helper);
        return 0;
}

void run_stop(Run *run) {
        if (run->stopped || run->over)
                return;
        run->stopped = true;
        (void) shutdown(run->socket, SHUT_WR);
        if (sd_event_add_time_relative(run->runner->event, &run->timer, CLOCK_MONOTONIC,
                                       RUN_STOP_LIMIT_USEC, 0, on_stop_limit, run) < 0)
                helper_kill(run->helper); /* no timer: no patience */
}

int run_output_tail(const Run *run, size_t lines, const char ***ret) {
        return output_tail(run->output, lines, ret);
}

Output *run_take_output(Run *run) {
        return output_shrink(TAKE_POINTER(run->output));
}

Run *run_free(Run *run) {
        if (!run)
                return NULL;
        /* It sees the hang-up and cleans up: without a cgroup it alone can end the tree. */
        if (run->helper)
                run->helper->run = NULL;
        if (!run->over && *run->cgroup && run->leftover.fd < 0)
                (void) run_cgroup_open(&run->leftover, run->cgroup, run->window_id);
        run_cgroup_signal(&run->leftover, SIGKILL);
        run_cgroup_remove(&run->leftover);
        sd_event_source_disable_unref(run->socket_source);
        sd_event_source_disable_unref(run->timer);
        run_close_output(run);
        if (run->socket >= 0)
                close(run->socket);
        output_free(run->output);
        free(run);
        return NULL;
}
