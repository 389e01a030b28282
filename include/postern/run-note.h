/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-note: a file in the runtime directory for each run, "run-WINDOW", that says where its cgroup
 * is. When posternd and the helper are killed together, the next posternd finds by it what lives
 * on.
 *
 * A note is locked as long as its posternd lives, so that another one that was given the same
 * directory does not take it for a dead one's.
 */

#include <postern/run-cgroup.h>

enum { RUN_NOTE_WINDOW_MAX = 32 }; /* with the final 0 */

/* window: of small letters and digits. Returns a descriptor that holds the lock, or a negative
 * errno. */
int run_note_write(int runtime_fd, const char *window, const char *cgroup);
/* Closes the descriptor. Nothing of the run may be left. */
void run_note_remove(int runtime_fd, const char *window, int note_fd);

/* note_fd is the callback's from then on. Negative errno: no more are looked at. */
typedef int (*RunNoteCallback)(const char *window, const char *cgroup, int note_fd, void *userdata);

/* Every note that no living process holds. Before the first of this process's own, whose locks it
 * would lose. 0 or a negative errno. */
int run_notes_take_over(int runtime_fd, RunNoteCallback callback, void *userdata);
