/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A run with a limit, of which only the exit status counts. */

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/gate-command.h>
#include <postern/log.h>
#include <string.h>

struct GateCommand {
        RunVerb verb;
        char window[RUN_NAME_MAX];
        char profile[PROFILE_NAME_MAX + 1];
        uint64_t deadline_usec, limit_usec;
        Run *run;
        sd_event_source *timer;
        bool overdue, stopped;
        GateCommandCallback callback;
        void *userdata;
};

static const char *command_key(const GateCommand *command) {
        return command->verb == RUN_GATE_OPEN ? "OpenCommand=" : "CloseCommand=";
}

static void command_log_line(const GateCommand *command, const char *line) {
        const char *const fields[] = {"POSTERN_PROFILE", command->profile, "POSTERN_WINDOW",
                                      command->window, NULL};

        log_event(LOG_INFO, MESSAGE_OUTPUT, fields, "%s %s", command_key(command), line);
}

/* The command may be freed when this returns. problem may be its run's own. */
static void command_end(GateCommand *command, const char *problem) {
        char text[GATE_COMMAND_PROBLEM_MAX];

        command->timer = sd_event_source_disable_unref(command->timer);
        if (!problem) {
                command->callback(NULL, command->userdata);
                return;
        }
        if (command->overdue)
                (void) snprintf(
                        text, sizeof(text),
                        "%s of profile %s had not ended after %" PRIu64 " s: see what it waits for",
                        command_key(command), command->profile, command->limit_usec / 1000000);
        else if (command->stopped)
                (void) snprintf(text, sizeof(text), "%s of profile %s was ended before it was done",
                                command_key(command), command->profile);
        else
                (void) snprintf(text, sizeof(text), "%s", problem);
        command->callback(text, command->userdata);
}

static void command_on_ended(GateCommand *command, int status) {
        char text[GATE_COMMAND_PROBLEM_MAX];

        /* one that says so when it is told to end has perhaps not come to the end */
        if (status == 0 && !command->overdue && !command->stopped) {
                command_end(command, NULL);
                return;
        }
        (void) snprintf(text, sizeof(text),
                        "%s of profile %s ended with exit status %i: what it printed is in the "
                        "journal, POSTERN_WINDOW=%s",
                        command_key(command), command->profile, status, command->window);
        command_end(command, text);
}

static void command_on_run(const char *window_id, const RunnerEvent *event, void *userdata) {
        GateCommand *command = userdata;

        switch (event->type) {
        case RUNNER_READY:
                if (run_go(command->run, command->deadline_usec) < 0)
                        run_stop(command->run);
                return;
        case RUNNER_OUTPUT:
                command_log_line(command, event->line);
                return;
        case RUNNER_ENDED:
                command_on_ended(command, event->exit_status);
                return;
        case RUNNER_LOST:
                command_end(command, event->problem ? event->problem : "the helper was lost");
                return;
        }
}

static int command_on_limit(sd_event_source *source, uint64_t usec, void *userdata) {
        GateCommand *command = userdata;

        command->overdue = true;
        run_stop(command->run);
        return 0;
}

int gate_command_start(GateCommand **ret, sd_event *event, Runner *runner, RunVerb verb,
                       const char *window_id, const Profile *profile, const Port *ports,
                       size_t n_ports, uint64_t deadline_usec, uint64_t limit_usec,
                       GateCommandCallback callback, void *userdata) {
        char text[PROFILE_PORTS_TEXT_MAX];
        GateCommand *command;
        int r;

        command = calloc(1, sizeof(*command));
        if (!command)
                return -ENOMEM;
        command->verb = verb;
        command->deadline_usec = deadline_usec;
        command->limit_usec = limit_usec;
        command->callback = callback;
        command->userdata = userdata;
        (void) snprintf(command->window, sizeof(command->window), "%s", window_id);
        (void) snprintf(command->profile, sizeof(command->profile), "%s", profile->name);
        ports_format(ports, n_ports, text, sizeof(text));

        r = sd_event_add_time_relative(event, &command->timer, CLOCK_BOOTTIME, limit_usec, 0,
                                       command_on_limit, command);
        if (r >= 0)
                r = run_start_gate(runner, verb, window_id, profile, text, command_on_run, command,
                                   &command->run);
        if (r < 0) {
                gate_command_free(command);
                return r;
        }
        *ret = command;
        return 0;
}

void gate_command_limit(GateCommand *command, uint64_t limit_usec) {
        uint64_t now = clock_now(CLOCK_BOOTTIME), until = 0;

        if (sd_event_source_get_time(command->timer, &until) < 0 || until <= now + limit_usec)
                return;
        command->limit_usec = limit_usec;
        if (sd_event_source_set_time(command->timer, now + limit_usec) < 0)
                gate_command_stop(command);
}

void gate_command_stop(GateCommand *command) {
        command->stopped = true;
        run_stop(command->run);
}

GateCommand *gate_command_free(GateCommand *command) {
        if (!command)
                return NULL;
        sd_event_source_disable_unref(command->timer);
        run_free(command->run);
        free(command);
        return NULL;
}
