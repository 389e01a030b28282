/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-output: the pipe from what a run has started, and who hears of its lines.
 *
 * All of it is kept as output.h says. Told are RUN_LINES_MAX lines in a while at most; of the
 * others, how many there were.
 */

#include <postern/output.h>
#include <stdint.h>
#include <systemd/sd-event.h>

enum {
        RUN_LINES_MAX = 1000,              /* told in */
        RUN_LINES_USEC = 10 * 1000 * 1000, /* this time */
};

typedef struct RunOutput {
        sd_event *event;
        int fd; /* -1: nothing comes any more */
        sd_event_source *source;
        Output *output; /* NULL: there never was any, or it was taken */
        OutputCallback callback;
        void *userdata;
        uint64_t since; /* CLOCK_MONOTONIC, microseconds */
        unsigned n_lines, n_hidden;
} RunOutput;

/* Nothing is open. */
#define RUN_OUTPUT_NONE ((RunOutput){.fd = -1})

/* ret, which stays where it is: to be closed in any case. *ret_theirs: the end to write to, which
 * blocks. 0 or a negative errno. callback: one line, escaped, without newline. */
int run_output_open(RunOutput *ret, sd_event *event, OutputCallback callback, void *userdata,
                    int *ret_theirs);
void run_output_close(RunOutput *output);

/* Its writers are gone: tells what is in the pipe, all there is, and closes it. */
void run_output_finish(RunOutput *output);

/* What is kept, in as little memory as it needs: the caller frees it. */
Output *run_output_take(RunOutput *output);
