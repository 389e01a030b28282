/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-cgroup: the cgroup that a renewal runs in, so that all it starts can be ended.
 *
 * Where cgroup2 is not mounted or not writable there is none, and the helper falls back to being
 * the subreaper of what it started.
 */

#include <stdbool.h>

enum { RUN_CGROUP_PATH_MAX = 2048 };

typedef struct RunCgroup {
        int fd;                         /* the cgroup's directory, -1: there is none */
        int parent_fd;                  /* the one above */
        char name[64];                  /* below parent_fd */
        char path[RUN_CGROUP_PATH_MAX]; /* below the cgroup2 mount, with a leading slash; "" for
                                           none */
} RunCgroup;

/* Makes the cgroup "postern-WINDOW" below this process's own. 0: made; -ENOENT: no cgroup2 that can
 * be written to. */
int run_cgroup_make(RunCgroup *ret, const char *window);
/* Opens the cgroup that a helper has reported, to clean up after it. Only one that is named for the
 * window. -EINVAL: it is not; or another negative errno. */
int run_cgroup_open(RunCgroup *ret, const char *path, const char *window);
/* Moves the calling process into it: for the child, before exec. */
int run_cgroup_enter(const RunCgroup *cgroup);
/* Signal to every process in it (SIGKILL atomically, by the kernel). */
void run_cgroup_signal(const RunCgroup *cgroup, int signal);
/* Does any process live in it? */
bool run_cgroup_populated(const RunCgroup *cgroup);
/* Removes it; nothing may live in it. */
void run_cgroup_remove(RunCgroup *cgroup);

/* The directory where cgroup2 is mounted, or -ENOENT. */
int run_cgroup_find_mount(char *ret, int size);
