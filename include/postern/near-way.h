/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * near-way: goes the way to a file name by name and link by link, as the kernel would, but by
 * near_open() alone.
 */

#include <limits.h>
#include <sys/stat.h>

enum {
        NEAR_LINKS_MAX = 40,  /* as the kernel's own limit */
        NEAR_STEPS_MAX = 256, /* whoever may write a link on the way may make it go to and fro */
};

typedef struct NearWay {
        int at;              /* where it has come to, opened with O_PATH: no symlink; or -1 */
        char rest[PATH_MAX]; /* what is left to go */
        unsigned n_links, n_steps;
} NearWay;

typedef enum NearStep {
        NEAR_ENTERED,
        NEAR_LINK,           /* its target and then the rest is the way from here */
        NEAR_LINK_FROM_ROOT, /* from "/" */
} NearStep;

/* path: absolute. 0, or -ENAMETOOLONG or those of near_open(). To be ended in either case. */
int near_way_begin(NearWay *ret, const char *path);
void near_way_end(NearWay *way);

/* Takes the next name off the rest, ".." too, never ".": 1; 0: there is none left; or
 * -ENAMETOOLONG, -ELOOP. */
int near_way_next(NearWay *way, char ret[NAME_MAX + 1]);

/* Looks at what has this name in the directory that the way has come to, and goes there; or on by
 * where a symlink leads. A NearStep and *ret_st, of the symlink itself; or a negative errno: those
 * of near_open(), -ELOOP, -ENAMETOOLONG. */
int near_way_enter(NearWay *way, const char *name, struct stat *ret_st);
