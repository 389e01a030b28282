/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-cgroup: the cgroup that a renewal runs in, so that all it starts can be ended.
 *
 * Where cgroup2 is not mounted or not writable there is none, and the helper falls back to being
 * the subreaper of what it started.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

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
/* Where a helper that this process started makes it: for one that died before it could say so. */
int run_cgroup_guess(char *ret, size_t size, const char *window);
/* What the kernel knows a cgroup by that a helper has reported: its level below the root, and its
 * id. -ENOENT: there is none, or "" is its path. */
int run_cgroup_identify(const char *path, uint32_t *ret_level, uint64_t *ret_id);
/* Opens the cgroup that a helper has reported, to clean up after it. Only one that is named for the
 * window. -EINVAL: it is not; or another negative errno. */
int run_cgroup_open(RunCgroup *ret, const char *path, const char *window);
/* Moves the calling process into it: for the child, before exec. */
int run_cgroup_enter(const RunCgroup *cgroup);
/* Signal to every process in it (SIGKILL atomically, by the kernel). */
void run_cgroup_signal(const RunCgroup *cgroup, int signal);
/* Does any process live in it? */
bool run_cgroup_populated(const RunCgroup *cgroup);
/* Removes and closes it, or says what stands in the way, a negative errno, and leaves it open: for
 * another try, as the last process of a cgroup may still be on its way out. 0 where there is none.
 */
int run_cgroup_remove(RunCgroup *cgroup);
/* Lets go of it, wherever it is. */
void run_cgroup_close(RunCgroup *cgroup);

/* The directory where cgroup2 is mounted, or -ENOENT. */
int run_cgroup_find_mount(char *ret, int size);
