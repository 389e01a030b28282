/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * check-way: goes the way to a file step by step, as the kernel would, for check-*.c.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#define WAY_ANYBODY ((uid_t) -1)

typedef struct Way {
        char here[PATH_MAX]; /* what has been looked at, without links; "" for / */
        uid_t owner; /* besides root, who may own what is on the way; WAY_ANYBODY: not asked */
        bool hidden_from_some; /* a directory on it that not everybody may enter */
        bool readable;         /* at its end is a directory that this service may read */
} Way;

typedef enum WayEnd {
        WAY_GOOD,
        WAY_MISSING,
        WAY_HIDDEN, /* this service may not look there */
        WAY_FAR,    /* `here` is one to keep away from (near-open.h) */
        WAY_BAD,    /* and *ret_fault says what is wrong with `here` */
} WayEnd;

/* path: absolute. *ret_st: of what is at its end, with WAY_GOOD. */
WayEnd way_walk(Way *way, const char *path, uid_t owner, struct stat *ret_st,
                const char **ret_fault);

/* What is wrong with who owns it and who may write it, and what to do; NULL: nothing. */
const char *way_fault_of_owner(const struct stat *st, uid_t owner);
