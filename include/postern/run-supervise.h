/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-supervise: waits for a renewal, or for the reason to end it, and leaves nothing of it behind.
 */

#include <postern/run-cgroup.h>
#include <postern/run-child.h>

enum { RUN_GRACE_MSEC = 500 }; /* between SIGTERM and SIGKILL */

/* Before the child is started: makes this process the one that orphans come to, and blocks the
 * signals that the supervisor reads. A descriptor for it, or a negative errno. */
int run_supervise_prepare(void);

/* Before there is a child: waits for something on the socket (1) or such a signal (0). */
int run_supervise_wait(int socket, int signal_fd);

/*
 * Returns when nothing of the tree is left: the main process's status (0..255, or 128 + signal).
 *
 * Ends it early when the other side of `socket` hangs up or says anything, or on SIGTERM: SIGTERM
 * to all of it, then SIGKILL.
 */
int run_supervise(const RunChild *child, const RunCgroup *cgroup, int socket, int signal_fd);
