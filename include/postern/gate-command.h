/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-command: a firewall elsewhere, opened and closed by a command that the profile names.
 *
 * It knows no deadline, and nothing here can see what the command has done: what was opened stays
 * open until CloseCommand= has succeeded. On this host the guard bounds it (lease.h).
 */

#include <postern/runner.h>

enum {
        GATE_COMMAND_LIMIT_USEC = 60 * 1000 * 1000,
        GATE_COMMAND_PROBLEM_MAX = RUN_PROBLEM_MAX + 128,
};

typedef struct GateCommand GateCommand;

/* problem: NULL where the command has succeeded; else a sentence. Nothing of it is left. */
typedef void (*GateCommandCallback)(const char *problem, void *userdata);

/*
 * Starts OpenCommand= (RUN_GATE_OPEN) or CloseCommand= (RUN_GATE_CLOSE) of the profile by way of
 * the helper. What it prints goes to the journal.
 *
 * deadline_usec: CLOCK_REALTIME, for its environment. limit_usec: then it is ended.
 * 0: the callback follows, never from inside this call; it may free the command. Negative errno:
 * nothing was started.
 */
int gate_command_start(GateCommand **ret, sd_event *event, Runner *runner, RunVerb verb,
                       const char *window_id, const Profile *profile, const Port *ports,
                       size_t n_ports, uint64_t deadline_usec, uint64_t limit_usec,
                       GateCommandCallback callback, void *userdata);

/* It is ended after so long from now on, if that is sooner. */
void gate_command_limit(GateCommand *command, uint64_t limit_usec);

/* Ends it early; the callback follows. */
void gate_command_stop(GateCommand *command);

/* Ends it, and nothing more is said. NULL is taken. */
GateCommand *gate_command_free(GateCommand *command);
