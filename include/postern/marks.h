/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * marks: the label bits and the stamp of this broker, drawn at random from what nothing else uses.
 *
 * Fixed bits would let the gate rule of a crashed broker, or of a ruleset that was saved during a
 * window, open for the windows of the next.
 */

#include <postern/lease.h>
#include <postern/netlink.h>
#include <postern/ruleset.h>

typedef struct Marks {
        int runtime_fd; /* the directory with the note */
        bool drawn;
        bool noted; /* the label in use is written down */
        LeaseMarks lease;
} Marks;

int marks_init(Marks *ret, const char *runtime_dir);
void marks_deinit(Marks *marks);

/*
 * Draws the labels where there are none yet, or where the host has begun to use them (unless they
 * are in use: a lease stands, or a connection lingers), and writes the one down that tells what a
 * window let in: even if the guard is wiped and the broker killed, the next sweep knows what to
 * end. 0 or a negative errno.
 */
int marks_choose(Marks *marks, Netlink *query, const Ruleset *ruleset, bool in_use);

/* Goes on with the label of an earlier broker, of which connections linger; the rest is drawn. 0 or
 * a negative errno. */
int marks_take_over(Marks *marks, Netlink *query, const Ruleset *ruleset, const Label *gated);

/* Removes the note: no connection carries the label any more. */
void marks_forget(Marks *marks);

/* The label G of earlier brokers, from all that may still tell: the note, the guard, gate rules. W
 * is not in it: connections that the host's own rules admitted may carry that. */
Label marks_find_old(const Marks *marks, const Ruleset *ruleset);
