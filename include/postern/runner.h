/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * runner: starts the root helper for a renewal, watches it, and ends it with everything it started.
 *
 * The helper is reached over one SOCK_SEQPACKET connection (run-protocol.h); here by socketpair,
 * fork and exec. Everything is asynchronous: a Run reports through one callback, which names the
 * window by its id. The callback may call run_free() on the Run it is called for, but not for
 * RUNNER_OUTPUT.
 */

#include <postern/output.h>
#include <postern/profile.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

enum {
        RUN_STOP_LIMIT_USEC = 5 * 1000 * 1000, /* after run_stop(): then the helper is killed */
        RUN_LINES_MAX = 1000,                  /* reported as RUNNER_OUTPUT in */
        RUN_LINES_USEC = 10 * 1000 * 1000,     /* this time; the rest is counted */
};

typedef struct Runner Runner;
typedef struct Run Run;

typedef enum RunnerEventType {
        RUNNER_READY,  /* cgroup, legacy */
        RUNNER_OUTPUT, /* line: one line that the renewal printed, escaped, without newline */
        RUNNER_ENDED,  /* exit_status, serials and dates; nothing of the run is left. Last event. */
        RUNNER_LOST,   /* problem; nothing of the run is left. Last event. */
} RunnerEventType;

typedef struct RunnerEvent {
        RunnerEventType type;
        const char *cgroup;
        const char *legacy;
        const char *line;
        int exit_status;
        const char *serial_before;
        const char *serial_after;
        uint64_t not_after_before; /* CLOCK_REALTIME, seconds; 0: unknown */
        uint64_t not_after_after;
        const char *problem; /* a sentence for a person: what failed and what to do */
} RunnerEvent;

typedef void (*RunnerCallback)(const char *window_id, const RunnerEvent *event, void *userdata);

/* helper_path: absolute. config_dir and allow_sticky_parents are handed to the helper as options.
 */
int runner_new(Runner **ret, sd_event *event, const char *helper_path, const char *config_dir,
               bool allow_sticky_parents, RunnerCallback callback, void *userdata);
Runner *runner_free(Runner *runner);

/* Starts a helper and sends `renew`. RUNNER_READY or RUNNER_LOST follows, never from inside this
 * call. Negative errno: nothing was started. */
int run_start(Runner *runner, const char *window_id, const Profile *profile, Run **ret);

/* Sends `go`. deadline_usec: CLOCK_REALTIME. RUNNER_ENDED or RUNNER_LOST follows. */
int run_go(Run *run, uint64_t deadline_usec);

/* Hangs up. RUNNER_ENDED or RUNNER_LOST follows, within RUN_STOP_LIMIT_USEC at the latest: after
 * that the helper and its cgroup are killed. Calling it twice does nothing more. */
void run_stop(Run *run);

/* The last lines it printed, see output_tail(); and the whole of it, which is the caller's from
 * then on. */
int run_output_tail(const Run *run, size_t lines, const char ***ret);
Output *run_take_output(Run *run);

/* Kills what is in the cgroup and hangs up, upon which the helper ends the rest and exits; reports
 * nothing more. Takes NULL; returns NULL. */
Run *run_free(Run *run);
