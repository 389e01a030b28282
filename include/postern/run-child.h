/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-child: starts a renewal in the surroundings that it may rely on, and with nothing else: no
 * descriptors of ours, no environment, no signals, no capabilities beyond its user's.
 */

#include <postern/profile.h>
#include <postern/run-cgroup.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct RunChild {
        pid_t pid;
        int pidfd;
} RunChild;

/* What of a profile is run. */
typedef struct RunCommand {
        const char *key; /* where it stands: "Exec=" */
        char **argv;
        const char *ports; /* for the environment of a gate command; NULL for a renewal */
} RunCommand;

/* The user of a profile, looked up. */
typedef struct RunUser RunUser;

/* 0; -ENOMEM; or a negative errno with the reason in problem. No renewal may be the broker: neither
 * its installed user nor peer, who asks for the run (unless that is root). Problems are for
 * everybody and name keys; what the profile has there goes to standard error. */
int run_user_find(const Profile *profile, uid_t peer, RunUser **ret, char *problem, size_t size);
RunUser *run_user_free(RunUser *user);

/*
 * Starts a command of the profile's.
 *
 * output: becomes standard output and error. deadline: CLOCK_REALTIME, seconds, for the
 * environment. Returns once the program runs; or a negative errno with the reason and what to do in
 * problem.
 */
int run_child_start(const Profile *profile, const RunCommand *command, const RunUser *user,
                    const RunCgroup *cgroup, const char *window, uint64_t deadline, int output,
                    RunChild *ret, char *problem, size_t size);
