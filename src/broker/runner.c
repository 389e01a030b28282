/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A Run is a conversation with one helper (runner-helper.h), which may outlive it by the moment it
 * takes to exit.
 *
 * A run is over when the helper says `ended`, for then its whole tree is gone; or when the helper
 * is gone without having said so, and what it left in its cgroup is killed. A Run that is freed
 * before lives on until then, forgotten: it reports nothing. So does what a note of a dead posternd
 * tells of.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/log.h>
#include <postern/run-cgroup.h>
#include <postern/run-note.h>
#include <postern/run-output.h>
#include <postern/run-protocol.h>
#include <postern/runner-helper.h>
#include <postern/runner.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

enum {
        CLEANUP_POLL_USEC = 10 * 1000,
        CLEANUP_ACCURACY_USEC = 1000, /* not with other timers, up to 250 ms later */
        CLEANUP_TRIES = 500,
};

struct Runner {
        sd_event *event;
        char *helper_path;
        char *config_option;
        char *socket_path;
        HelperWay way; /* of the strings above */
        int runtime_fd;
        RunnerCallback callback;
        void *userdata;
        Run *forgotten; /* a list */
};

struct Run {
        Runner *runner;
        Helper *helper; /* NULL once it has exited; and where it is no child of ours */
        RunVerb verb;
        char window_id[RUN_NAME_MAX];
        char name[RUN_NAME_MAX]; /* of its cgroup and its note */
        RunnerCallback callback;
        void *userdata;
        char cgroup[RUN_CGROUP_PATH_MAX];
        int note; /* what the next posternd would look for; -1: there is none */
        int socket;
        sd_event_source *socket_source;
        sd_event_source *timer; /* the stop limit, then the clean-up */
        RunOutput output;
        bool stopped, over;
        bool forgotten; /* freed by its owner */
        Run *next_forgotten;
        char problem[RUN_PROBLEM_MAX + 1]; /* why it will be lost */
        RunCgroup leftover;
        unsigned cleanup_tries;
};

static void on_helper_exit(void *owner);

int runner_new(Runner **ret, sd_event *event, const char *helper_path, const char *config_dir,
               const char *runtime_dir, bool allow_sticky_parents, RunnerCallback callback,
               void *userdata) {
        Runner *runner;
        int r;

        runner = calloc(1, sizeof(*runner));
        if (!runner)
                return -ENOMEM;
        runner->event = sd_event_ref(event);
        runner->callback = callback;
        runner->userdata = userdata;
        runner->helper_path = strdup(helper_path);
        if (asprintf(&runner->config_option, "--config-dir=%s", config_dir) < 0)
                runner->config_option = NULL;
        runner->runtime_fd = open(runtime_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        r = runner->runtime_fd < 0 ? -errno : 0;
        if (!runner->helper_path || !runner->config_option)
                r = -ENOMEM;
        if (r < 0) {
                runner_free(runner);
                return r;
        }
        runner->way = (HelperWay){
                .event = event,
                .path = runner->helper_path,
                .config_option = runner->config_option,
                .allow_sticky_parents = allow_sticky_parents,
                .callback = on_helper_exit,
        };
        *ret = runner;
        return 0;
}

int runner_use_socket(Runner *runner, const char *path) {
        char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        free(runner->socket_path);
        runner->way.socket = runner->socket_path = copy;
        return 0;
}

static void run_remove_note(Run *run) {
        if (run->note >= 0)
                run_note_remove(run->runner->runtime_fd, run->name, TAKE_FD(run->note));
}

/* The note stays for the next posternd, in case that something of the run does. */
static void run_leave_note(Run *run) {
        if (run->note >= 0)
                close(TAKE_FD(run->note));
}

/* If it is not over, the helper sees the hang-up and ends it without us. */
static void run_destroy(Run *run) {
        for (Run **link = &run->runner->forgotten; *link; link = &(*link)->next_forgotten)
                if (*link == run) {
                        *link = run->next_forgotten;
                        break;
                }
        helper_disown(run->helper);
        (void) run_cgroup_remove(&run->leftover);
        run_cgroup_close(&run->leftover);
        sd_event_source_disable_unref(run->socket_source);
        sd_event_source_disable_unref(run->timer);
        run_output_close(&run->output);
        run_leave_note(run);
        if (run->socket >= 0)
                close(run->socket);
        free(run);
}

Runner *runner_free(Runner *runner) {
        if (!runner)
                return NULL;
        while (runner->forgotten)
                run_destroy(runner->forgotten);
        sd_event_unref(runner->event);
        if (runner->runtime_fd >= 0)
                close(runner->runtime_fd);
        free(runner->helper_path);
        free(runner->config_option);
        free(runner->socket_path);
        free(runner);
        return NULL;
}

static void run_report(Run *run, const RunnerEvent *event) {
        if (!run->forgotten)
                run->callback(run->window_id, event, run->userdata);
}

static void on_line(const char *line, void *userdata) {
        run_report(userdata, &(RunnerEvent){.type = RUNNER_OUTPUT, .line = line});
}

/* The last event of a run. It is freed afterwards, by its owner or here. */
static void run_finish(Run *run, const RunnerEvent *event) {
        run_output_finish(&run->output);
        run->over = true;
        run_remove_note(run);
        run->socket_source = sd_event_source_disable_unref(run->socket_source);
        run->timer = sd_event_source_disable_unref(run->timer);
        if (run->forgotten)
                run_destroy(run);
        else
                run_report(run, event);
}

static void run_lost(Run *run) {
        run_finish(run, &(RunnerEvent){
                                .type = RUNNER_LOST,
                                .problem = *run->problem
                                                   ? run->problem
                                                   : "the root helper postern-run ended without an "
                                                     "answer: its log or posternd's may say why",
                        });
}

/* Kills what is in the run's cgroup; true if that is nothing. */
static bool run_kill_tree(Run *run) {
        int r = 0;

        if (run->leftover.fd < 0)
                r = run_cgroup_open(&run->leftover, run->cgroup, run->name);
        if (r < 0) /* anything else, such as too many open files, may pass */
                return r == -ENOENT || r == -EINVAL || r == -ENAMETOOLONG;
        run_cgroup_signal(&run->leftover, SIGKILL);
        return !run_cgroup_populated(&run->leftover);
}

/* Likewise, and the cgroup is gone, which is the service manager's to do where it is below a unit.
 */
static bool run_clear_cgroup(Run *run) {
        return run_kill_tree(run) &&
               (run->runner->way.socket || run_cgroup_remove(&run->leftover) == 0);
}

/* The helper died before its run was over: nothing of it may go on. */
static int on_cleanup(sd_event_source *source, uint64_t usec, void *userdata) {
        Run *run = userdata;

        if (!run_clear_cgroup(run)) {
                if (run->cleanup_tries++ < CLEANUP_TRIES &&
                    sd_event_source_set_time_relative(source, CLEANUP_POLL_USEC) >= 0 &&
                    sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) >= 0)
                        return 0;
                log_error("What is left of window %s cannot be ended: see cgroup.procs in %s",
                          run->window_id, run->cgroup);
                run_leave_note(run);
        }
        run_cgroup_close(&run->leftover);
        run_lost(run);
        return 0;
}

static void run_begin_cleanup(Run *run) {
        run->stopped = true; /* the timer is the clean-up's from here on */
        run->socket_source = sd_event_source_disable_unref(run->socket_source);
        run->timer = sd_event_source_disable_unref(run->timer);
        /* one that the service manager has started says where it is before it starts anything */
        if (!*run->cgroup && !run->runner->way.socket &&
            run_cgroup_guess(run->cgroup, sizeof(run->cgroup), run->name) < 0)
                *run->cgroup = 0;
        if (*run->cgroup &&
            sd_event_add_time_relative(run->runner->event, &run->timer, CLOCK_MONOTONIC, 0,
                                       CLEANUP_ACCURACY_USEC, on_cleanup, run) >= 0)
                return;
        if (*run->cgroup && !run_clear_cgroup(run))
                run_leave_note(run);
        run_cgroup_close(&run->leftover);
        run_lost(run);
}

static const char *field_text(const RunPacket *packet, const char *key) {
        const char *text = run_packet_get(packet, key);

        return text ? text : "";
}

/* False: it does not say how. What is not known is no success: it may have been to close a port. */
static bool run_take_end(Run *run, const RunPacket *packet) {
        uint64_t status = run_packet_get_number(packet, "status", 255);
        Certificate before, after;

        if (status == 0 && strcmp(field_text(packet, "status"), "0") != 0)
                return false;
        run_packet_get_certificates(packet, &before, &after);
        run_finish(run, &(RunnerEvent){
                                .type = RUNNER_ENDED,
                                .exit_status = (int) status,
                                .before = &before,
                                .after = &after,
                        });
        return true;
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
        if (strcmp(packet->word, "ended") == 0 && run_take_end(run, packet))
                return;
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

static void on_helper_exit(void *owner) {
        Run *run = owner;

        if (run->over)
                return;
        /* Its last words may still be in the socket; after them comes the hang-up. */
        if (!run->socket_source)
                run_begin_cleanup(run);
}

static int send_request(const Run *run, const Profile *profile, const char *ports, int output) {
        RunPacket packet;
        int r;

        run_packet_begin(&packet, run_verb_to_string(run->verb));
        run_packet_add(&packet, "profile", "%s", profile->name);
        run_packet_add(&packet, "version", "%s", profile->version);
        run_packet_add(&packet, "window", "%s", run->window_id);
        if (run->verb != RUN_RENEW)
                run_packet_add(&packet, "ports", "%s", ports);
        r = run_packet_send(&packet, run->socket, output);
        /* Turned away already (too many helpers): the event loop sees it hang up, as it does where
         * that comes a moment later. */
        return r == -EPIPE && run->runner->way.socket ? 0 : r;
}

static Run *run_new(Runner *runner, const char *window_id) {
        Run *run;

        run = calloc(1, sizeof(*run));
        if (!run)
                return NULL;
        run->runner = runner;
        run->note = run->socket = -1;
        run->output = RUN_OUTPUT_NONE;
        run->leftover = (RunCgroup){.fd = -1, .parent_fd = -1};
        run->callback = runner->callback;
        run->userdata = runner->userdata;
        /* one that is found by its note has no other name */
        memcpy(run->window_id, window_id, strlen(window_id) + 1);
        memcpy(run->name, window_id, strlen(window_id) + 1);
        return run;
}

static void run_forget(Run *run) {
        run->forgotten = true;
        run->next_forgotten = run->runner->forgotten;
        run->runner->forgotten = run;
}

/* Before there is a helper, which makes the cgroup. */
static void run_make_note(Run *run) {
        char cgroup[RUN_CGROUP_PATH_MAX];
        int r;

        r = run_cgroup_guess(cgroup, sizeof(cgroup), run->name);
        if (r >= 0)
                r = run_note_write(run->runner->runtime_fd, run->name, cgroup);
        if (r >= 0)
                run->note = r;
        else if (r != -ENOENT) /* no cgroup2 */
                log_warning("Cannot note where the renewal of window %s runs (%s): if posternd and "
                            "its helper are killed together, it goes on. Make room in the runtime "
                            "directory.",
                            run->window_id, strerror(-r));
}

static int run_begin(Runner *runner, RunVerb verb, const char *window_id, const Profile *profile,
                     const char *ports, RunnerCallback callback, void *userdata, Run **ret) {
        _cleanup_close_ int theirs = -1, output = -1;
        int r;
        char name[RUN_NAME_MAX];
        Run *run;

        r = run_name(verb, window_id, name);
        if (r < 0)
                return r;
        run = run_new(runner, window_id);
        if (!run)
                return -ENOMEM;
        run->verb = verb;
        run->callback = callback;
        run->userdata = userdata;
        memcpy(run->name, name, sizeof(run->name));
        if (!runner->way.socket) /* else the service manager knows */
                run_make_note(run);

        r = run_output_open(&run->output, runner->event, on_line, run, &output);
        if (r < 0)
                goto fail;
        r = helper_connect(&runner->way, &run->socket, &theirs);
        if (r < 0)
                goto fail;
        if (fcntl(run->socket, F_SETFL, O_NONBLOCK) < 0) { /* our end alone */
                r = -errno;
                goto fail;
        }
        if ((r = sd_event_add_io(runner->event, &run->socket_source, run->socket, EPOLLIN,
                                 on_socket, run)) < 0 ||
            (r = send_request(run, profile, ports, output)) < 0 ||
            (r = helper_start(&runner->way, run->window_id, theirs, run, &run->helper)) < 0)
                goto fail;
        *ret = run;
        return 0;

fail:
        run_remove_note(run);
        run_destroy(run);
        return r;
}

int run_start(Runner *runner, const char *window_id, const Profile *profile, Run **ret) {
        return run_begin(runner, RUN_RENEW, window_id, profile, NULL, runner->callback,
                         runner->userdata, ret);
}

int run_start_gate(Runner *runner, RunVerb verb, const char *window_id, const Profile *profile,
                   const char *ports, RunnerCallback callback, void *userdata, Run **ret) {
        return run_begin(runner, verb, window_id, profile, ports, callback, userdata, ret);
}

int run_go(Run *run, uint64_t deadline_usec) {
        RunPacket packet;

        run_packet_begin(&packet, "go");
        run_packet_add(&packet, "deadline", "%" PRIu64, deadline_usec / 1000000);
        return run_packet_send(&packet, run->socket, -1);
}

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata) {
        Run *run = userdata;

        if (run->helper) {
                log_warning("The root helper of window %s does not end: killing it",
                            run->window_id);
                helper_kill(run->helper);
        } else
                run_begin_cleanup(run); /* what still runs is the service manager's to end */
        return 0;
}

static int run_hang_up(Run *run) {
        if (run->stopped || run->over)
                return 0;
        run->stopped = true;
        (void) shutdown(run->socket, SHUT_WR);
        /* Not from when this turn of the loop began: a firewall may have been changed since, which
         * takes seconds on a busy host. */
        return sd_event_add_time(run->runner->event, &run->timer, CLOCK_MONOTONIC,
                                 clock_now(CLOCK_MONOTONIC) + RUN_STOP_LIMIT_USEC, 0, on_stop_limit,
                                 run);
}

void run_stop(Run *run) {
        if (run_hang_up(run) < 0)
                helper_kill(run->helper); /* no timer: no patience */
}

int run_output_tail(const Run *run, size_t lines, const char ***ret) {
        return output_tail(run->output.output, lines, ret);
}

Output *run_take_output(Run *run) {
        return run_output_take(&run->output);
}

Run *run_free(Run *run) {
        if (!run)
                return NULL;
        if (run->over) {
                run_destroy(run);
                return NULL;
        }
        /* Killing the helper now would leave its cgroup, and without one all but the main process.
         */
        run_forget(run);
        (void) run_hang_up(run); /* no timer in a loop that has ended */
        if (*run->cgroup)
                (void) run_kill_tree(run);
        return NULL;
}

/* Like a run whose helper died, and whose owner is no more. */
static int on_note(const char *window_id, const char *cgroup, int note_fd, void *userdata) {
        const char *const fields[] = {"POSTERN_WINDOW", window_id, NULL};
        Run *run;

        run = run_new(userdata, window_id);
        if (!run) {
                close(note_fd);
                return -ENOMEM;
        }
        run->note = note_fd;
        snprintf(run->cgroup, sizeof(run->cgroup), "%s", cgroup);
        run_forget(run);

        if (run_cgroup_open(&run->leftover, run->cgroup, run->name) == 0 &&
            run_cgroup_populated(&run->leftover))
                log_event(LOG_NOTICE, NULL, fields,
                          "The renewal of window %s outlived the posternd that began it; killing "
                          "it.",
                          run->window_id);
        if (run_clear_cgroup(run))
                run_lost(run);
        else
                run_begin_cleanup(run);
        return 0;
}

int runner_sweep(Runner *runner) {
        return run_notes_take_over(runner->runtime_fd, on_note, runner);
}
