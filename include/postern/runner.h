/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * runner: starts the root helper for a renewal, watches it, and ends it with everything it started.
 *
 * The helper is reached over one SOCK_SEQPACKET connection (run-protocol.h, runner-helper.h).
 * Everything is asynchronous: a Run reports through one callback, which names the
 * window by its id. The callback may call run_free() on the Run it is called for.
 */

#include <postern/output.h>
#include <postern/profile.h>
#include <postern/run-protocol.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

enum {
        RUN_STOP_LIMIT_USEC = 5 * 1000 * 1000, /* after run_stop(): then the helper is killed */
};

typedef struct Runner Runner;
typedef struct Run Run;

typedef enum RunnerEventType {
        RUNNER_READY,  /* cgroup, legacy */
        RUNNER_OUTPUT, /* line: one line that the renewal printed; see run-output.h */
        RUNNER_ENDED,  /* exit_status, before, after; nothing of the run is left. Last event. */
        RUNNER_LOST,   /* problem; nothing of the run is left. Last event. */
} RunnerEventType;

typedef struct RunnerEvent {
        RunnerEventType type;
        const char *cgroup;
        const char *legacy;
        const char *line;
        int exit_status;
        const Certificate *before, *after; /* what the profile's Certificate= held */
        const char *problem;               /* a sentence for a person: what failed and what to do */
} RunnerEvent;

typedef void (*RunnerCallback)(const char *window_id, const RunnerEvent *event, void *userdata);

/* helper_path: absolute. config_dir and allow_sticky_parents are handed to the helper as options.
 * runtime_dir must exist: runs are noted there (run-note.h). */
int runner_new(Runner **ret, sd_event *event, const char *helper_path, const char *config_dir,
               const char *runtime_dir, bool allow_sticky_parents, RunnerCallback callback,
               void *userdata);
/* Helpers are not started here but come from the socket at this path: before the first run. 0 or
 * -ENOMEM. Their runs are not noted: who listens there ends what a helper leaves behind. */
int runner_use_socket(Runner *runner, const char *path);
/* Every Run is freed before. */
Runner *runner_free(Runner *runner);

/* Kills what an earlier posternd of this runtime directory has left running, that was killed
 * together with its helpers; what does not go at once, goes on being killed in the event loop.
 * Before the first run. 0 or a negative errno. */
int runner_sweep(Runner *runner);

/* Starts a helper and sends `renew`. RUNNER_READY or RUNNER_LOST follows, never from inside this
 * call. Negative errno: nothing was started. */
int run_start(Runner *runner, const char *window_id, const Profile *profile, Run **ret);

/* The same for a gate command, RUN_GATE_OPEN or RUN_GATE_CLOSE: ports as ports_format() writes
 * them, and a callback of its own. */
int run_start_gate(Runner *runner, RunVerb verb, const char *window_id, const Profile *profile,
                   const char *ports, RunnerCallback callback, void *userdata, Run **ret);

/* Sends `go`. deadline_usec: CLOCK_REALTIME. RUNNER_ENDED or RUNNER_LOST follows. */
int run_go(Run *run, uint64_t deadline_usec);

/* Hangs up. RUNNER_ENDED or RUNNER_LOST follows, within RUN_STOP_LIMIT_USEC at the latest: after
 * that the helper and its cgroup are killed. Calling it twice does nothing more. */
void run_stop(Run *run);

/* The last lines it printed, see output_tail(); and the whole of it, which is the caller's from
 * then on: no more is read, and there is no tail any more. */
int run_output_tail(const Run *run, size_t lines, const char ***ret);
Output *run_take_output(Run *run);

/* Reports nothing more. A run that is not over is hung up on and its cgroup is killed; what of it
 * takes longer goes on in the event loop, or without it in the helper. Takes NULL; returns NULL. */
Run *run_free(Run *run);
