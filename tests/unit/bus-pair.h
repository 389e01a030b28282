/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Two sd-bus connections that are each other's only peer, in one event loop: the daemon's, and the
 * test's, which plays the rest of the bus.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

typedef struct BusPair {
        sd_event *event;
        sd_bus *ours;
        sd_bus *theirs;
} BusPair;

static inline void bus_pair_open(BusPair *pair) {
        int sockets[2];

        *pair = (BusPair){};
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        assert_true(sd_event_new(&pair->event) >= 0);
        assert_true(sd_bus_new(&pair->ours) >= 0);
        assert_true(sd_bus_new(&pair->theirs) >= 0);
        assert_true(sd_bus_set_fd(pair->ours, sockets[0], sockets[0]) >= 0);
        assert_true(sd_bus_set_fd(pair->theirs, sockets[1], sockets[1]) >= 0);
        assert_true(sd_bus_set_server(pair->theirs, 1, (sd_id128_t){.qwords = {1, 1}}) >= 0);
        assert_true(sd_bus_start(pair->ours) >= 0);
        assert_true(sd_bus_start(pair->theirs) >= 0);
        assert_true(sd_bus_attach_event(pair->ours, pair->event, 0) >= 0);
        assert_true(sd_bus_attach_event(pair->theirs, pair->event, 0) >= 0);
        /* a call that is made before has no proper timeout */
        while (sd_bus_is_ready(pair->ours) <= 0 || sd_bus_is_ready(pair->theirs) <= 0)
                assert_true(sd_event_run(pair->event, UINT64_MAX) >= 0);
}

static inline void bus_pair_close(BusPair *pair) {
        sd_bus_close_unref(pair->ours);
        sd_bus_close_unref(pair->theirs);
        sd_event_unref(pair->event);
        *pair = (BusPair){};
}

static inline int bus_pair_on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        fail_msg("waited in vain");
        return 0;
}

/* Runs the loop until this is true. */
static inline void bus_pair_wait(const BusPair *pair, const bool *condition) {
        sd_event_source *patience = NULL;

        assert_true(sd_event_add_time_relative(pair->event, &patience, CLOCK_MONOTONIC,
                                               30 * 1000 * 1000, 0, bus_pair_on_patience,
                                               NULL) >= 0);
        while (!*condition)
                assert_true(sd_event_run(pair->event, UINT64_MAX) >= 0);
        sd_event_source_disable_unref(patience);
}
