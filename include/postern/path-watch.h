/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * path-watch: tells that something has changed in a directory, or on the way to it.
 *
 * The directory and any other on the way may be missing at first, come and go, or be a symlink that
 * is replaced. Works by inotify: on file systems whose changes the kernel makes itself.
 */

#include <limits.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

enum {
        PATH_WATCHES_MAX = 64, /* directories on the way, those of symlinks included */
};

typedef struct PathWatch PathWatch;

/* Called as often as something changes: it is for the callback to wait before it looks. */
typedef void (*PathWatchCallback)(void *userdata);

/* directory: absolute. Watches nothing of it yet. 0 or -ENOMEM, -ENOSPC, -EMFILE. */
int path_watch_new(PathWatch **ret, sd_event *event, const char *directory,
                   PathWatchCallback callback, void *userdata);
/* NULL is taken. */
PathWatch *path_watch_free(PathWatch *watch);

/*
 * Follows the way anew if something on it has changed, and watches what is there.
 *
 * ret: the directory, opened with O_PATH, or -1 while there is none. It is the watch's, until the
 * next call. Returns 0 or a negative errno: -EACCES (the directory may not be read, or a way not be
 * entered), -EREMOTE (the way comes by a file system of another host, or of a program), -ELOOP,
 * -ENAMETOOLONG (too long a way), -ENOSPC, -EMFILE, -ENOMEM. After an error the next call tries
 * again.
 */
int path_watch_find(PathWatch *watch, int *ret);
