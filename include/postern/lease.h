/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * lease: our own nftables table, which says what packets belong to an open window.
 *
 * It is owned by the broker's netlink socket: the kernel deletes it when that goes, however it
 * goes. It holds one set per window with the ports, each element with a timeout, and labels new
 * connections to them W (wanted). The host's gate rule turns W into G (let in by the gate). Every
 * packet of a G connection whose port is in a set gets a stamp; a G packet without the stamp is
 * cut, here and by the guard, which outlives the broker (guard.h).
 *
 * A window's *outer* ports are opened by somebody else's firewall as well, which no rule of ours
 * turns from W to G. For these the lease itself sets G, behind everybody's rules.
 */

#include <postern/blueprint.h>
#include <postern/profile.h>
#include <postern/rule.h>
#include <postern/ruleset.h>

#define LEASE_TABLE "postern"

/* Drawn at random per broker start, from bits that nothing else on the host uses. */
typedef struct LeaseMarks {
        Label wanted; /* W */
        Label gated;  /* G */
        Label cut;    /* C: its answers are cut, too */
        uint32_t stamp;
} LeaseMarks;

/* used: label bits that are taken. -ENOSPC when fewer than three are left. */
int lease_draw_marks(const Label *used, LeaseMarks *ret);

enum {
        LEASE_WINDOWS_MAX = BLUEPRINT_SETS_MAX,
        LEASE_TIMEOUT_MIN_MSEC = 1000,    /* shorter ones never expired on older kernels */
        LEASE_TIMEOUT_MAX_MSEC = 3600000, /* no profile allows more */
        LEASE_ID_MAX = 32,
};

/* Whose sockets a window leads to: those that were made in this cgroup of version 2, or below it.
 */
typedef struct LeaseReach {
        uint32_t level; /* of the cgroup: 1 below the root; 0: everybody's sockets */
        uint64_t cgroup;
} LeaseReach;

typedef struct LeaseWindow {
        char id[LEASE_ID_MAX]; /* the window's, and its set's name */
        Port ports[PROFILE_PORTS_MAX];
        size_t n_ports;
        uint64_t deadline;   /* CLOCK_BOOTTIME, microseconds */
        uint64_t early_msec; /* its timeout ends so much before: what a busy host takes to commit */
        Port outer[PROFILE_PORTS_MAX]; /* of its ports */
        size_t n_outer;
        LeaseReach reach;
} LeaseWindow;

/* The timeout it would be drawn with now; below LEASE_TIMEOUT_MIN_MSEC its own end does the rest.
 */
uint64_t lease_time_left_msec(const LeaseWindow *window);

/* Timeouts are computed here, so: just before it is sent. -EINVAL for one outside the limits above,
 * however it came about; -ENOMEM. */
int lease_draw(const LeaseMarks *marks, const LeaseWindow *windows, size_t n_windows,
               Blueprint **ret);

/* Reads the sets back: each port is there, expires no later than its window, and no other. 0,
 * -ENOENT if something is missing or more than asked for, -EINTR if something expires too late (it
 * was drawn too long before it was committed) and how much, or another negative errno. */
int lease_verify_sets(Netlink *netlink, const LeaseWindow *windows, size_t n_windows,
                      uint64_t *ret_late_msec);

/* Empties a window's set: from here on it lets nobody in, and what it let in is cut. Needs no
 * ruleset read first, however large that is. */
void lease_silence(const char *window_id, Batch *batch, Netlink *netlink);

/* Connections that a window has let in since its lease stands; 0 where there is none. */
uint64_t lease_admitted(const Ruleset *ruleset, const char *window_id);
/* The same, read from the kernel: 0 or a negative errno. */
int lease_read_admitted(Netlink *netlink, const char *window_id, uint64_t *ret);
