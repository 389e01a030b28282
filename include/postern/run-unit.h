/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-unit: a renewal that is a service of systemd's (Unit=), started and waited for, and stopped
 * when nobody waits any more.
 *
 * The unit is not below the helper, so that systemd does not end it with the helper. The runtime
 * directory of the helper's own unit ($RUNTIME_DIRECTORY) holds its name meanwhile, for
 * ExecStopPost= of the helper's unit to stop it in any case.
 */

#include <stddef.h>

/*
 * Starts the service and returns when it is inactive again.
 *
 * Stops it when the other side of `socket` hangs up or says anything, or on a signal at signal_fd.
 * output: a pipe; gets a line that says where the unit's own output is.
 *
 * 0, and *ret_status: 128 + signal if the main process was killed; else 0 where systemd calls the
 * run a success, the main process's status where not, or 1 when what failed was another. A negative
 * errno, with the reason and what to do in problem: it was not run, or what became of it is not
 * known.
 */
int run_unit(const char *name, int socket, int signal_fd, int output, int *ret_status,
             char *problem, size_t size);

/* For ExecStopPost=: stops what a helper has left running that did not live to do it. 0: nothing
 * is; a negative errno: it could not be stopped, and that was said on standard error. */
int run_unit_end_left(void);
