/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See the header. */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/run-output.h>
#include <unistd.h>

enum {
        READ_BUDGET = 64 * 1024, /* per wakeup: a flood waits its turn */
        DRAIN_LIMIT = 1024 * 1024,
};

static void close_pipe(RunOutput *output) {
        output->source = sd_event_source_disable_unref(output->source);
        if (output->fd >= 0)
                close(TAKE_FD(output->fd));
}

static void tell_hidden(RunOutput *output) {
        char line[64];

        if (output->n_hidden == 0)
                return;
        snprintf(line, sizeof(line), "[%u lines not shown]", output->n_hidden);
        output->n_hidden = 0;
        output->callback(line, output->userdata);
}

static void on_line(const char *line, void *userdata) {
        RunOutput *output = userdata;
        uint64_t now = 0;

        (void) sd_event_now(output->event, CLOCK_MONOTONIC, &now);
        if (output->since == 0 || now - output->since > RUN_LINES_USEC) {
                tell_hidden(output);
                output->since = now;
                output->n_lines = 0;
        }
        if (output->n_lines++ < RUN_LINES_MAX)
                output->callback(line, output->userdata);
        else
                output->n_hidden++;
}

/* Reads up to `budget` bytes; closes it at its end. */
static void read_pipe(RunOutput *output, size_t budget) {
        char buffer[16 * 1024];
        ssize_t n = 0;

        while (output->fd >= 0 && budget > 0) {
                n = read(output->fd, buffer, budget < sizeof(buffer) ? budget : sizeof(buffer));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0) {
                        close_pipe(output);
                        return;
                }
                output_write(output->output, buffer, n);
                budget -= n;
        }
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        read_pipe(userdata, READ_BUDGET);
        return 0;
}

int run_output_open(RunOutput *ret, sd_event *event, OutputCallback callback, void *userdata,
                    int *ret_theirs) {
        _cleanup_close_ int theirs = -1;
        int pipes[2], r;

        *ret = RUN_OUTPUT_NONE;
        ret->event = event;
        ret->callback = callback;
        ret->userdata = userdata;
        r = output_new(&ret->output, on_line, ret);
        if (r < 0)
                return r;
        if (pipe2(pipes, O_CLOEXEC) < 0)
                return -errno;
        ret->fd = pipes[0];
        theirs = pipes[1];
        /* Our end alone: that of the renewal blocks, as programs expect. */
        if (fcntl(ret->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        r = sd_event_add_io(event, &ret->source, ret->fd, EPOLLIN, on_readable, ret);
        if (r < 0)
                return r;
        *ret_theirs = TAKE_FD(theirs);
        return 0;
}

void run_output_close(RunOutput *output) {
        close_pipe(output);
        output->output = output_free(output->output);
}

void run_output_finish(RunOutput *output) {
        /* Should a writer have got away, its output has no window to belong to. */
        read_pipe(output, DRAIN_LIMIT);
        close_pipe(output);
        if (output->output)
                output_finish(output->output);
        tell_hidden(output);
}

Output *run_output_take(RunOutput *output) {
        close_pipe(output);
        return output_shrink(TAKE_POINTER(output->output));
}
