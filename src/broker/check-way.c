/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Nothing in it waits: near-way.h keeps away from file systems of other hosts. */

#include <errno.h>
#include <fcntl.h>
#include <postern/check-way.h>
#include <postern/near-way.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static WayEnd end_of(int error, const char **ret_fault) {
        switch (-error) {
        case 0:
                return WAY_GOOD;
        case EREMOTE:
                return WAY_FAR;
        case ENOENT:
        case ENOTDIR:
        case ELOOP: /* for whoever opens it, too */
        case ENAMETOOLONG:
                return WAY_MISSING;
        case EACCES:
                return WAY_HIDDEN;
        default:
                if (!*ret_fault)
                        *ret_fault = "cannot be looked at";
                return WAY_BAD;
        }
}

/* Whoever may write a directory may put something else into it; a sticky one keeps what is there.
 */
const char *way_fault_of_owner(const struct stat *st, uid_t owner) {
        if (st->st_uid != 0 && st->st_uid != owner)
                return "belongs to somebody else: make it root's with chown root";
        if (S_ISLNK(st->st_mode) || (S_ISDIR(st->st_mode) && st->st_mode & S_ISVTX))
                return NULL;
        if (st->st_mode & (S_IWGRP | S_IWOTH))
                return "can be written by others: take that away with chmod go-w";
        return NULL;
}

static void up(Way *way) {
        char *slash = strrchr(way->here, '/');

        if (slash)
                *slash = 0;
}

/* The name onto `here`. */
static int add(Way *way, const char *name) {
        size_t here = strlen(way->here);

        if (strcmp(name, "..") == 0) { /* of a link's target */
                up(way);
                return 0;
        }
        if (here + 1 + strlen(name) + 1 > sizeof(way->here))
                return -ENAMETOOLONG;
        (void) snprintf(way->here + here, sizeof(way->here) - here, "/%s", name);
        return 0;
}

static int judge(const Way *way, const struct stat *st, const char **ret_fault) {
        *ret_fault = way->owner == WAY_ANYBODY ? NULL : way_fault_of_owner(st, way->owner);
        return *ret_fault ? -EPERM : 0;
}

/* *st: of what has been looked at. 1: there is more to go. */
static int go_on(Way *way, NearWay *near, struct stat *st, const char **ret_fault) {
        char name[NAME_MAX + 1];
        int step, r;

        r = judge(way, st, ret_fault);
        if (r < 0)
                return r;
        way->hidden_from_some |= S_ISDIR(st->st_mode) && !(st->st_mode & S_IXOTH);
        r = near_way_next(near, name);
        if (r <= 0)
                return r;
        r = add(way, name);
        if (r < 0)
                return r;
        step = near_way_enter(near, name, st);
        if (step <= NEAR_ENTERED)
                return step < 0 ? step : 1;
        r = judge(way, st, ret_fault);
        if (r < 0)
                return r;
        /* on from the directory that the link is in */
        up(way);
        if (step == NEAR_LINK_FROM_ROOT)
                *way->here = 0;
        return fstat(near->at, st) < 0 ? -errno : 1;
}

WayEnd way_walk(Way *way, const char *path, uid_t owner, struct stat *ret_st,
                const char **ret_fault) {
        NearWay near;
        struct stat st;
        int r;

        *way = (Way){.owner = owner};
        *ret_fault = NULL;
        r = near_way_begin(&near, path);
        if (r == 0)
                r = fstat(near.at, &st) < 0 ? -errno : 1;
        while (r > 0)
                r = go_on(way, &near, &st, ret_fault);
        if (r == 0) {
                *ret_st = st;
                way->readable = faccessat(near.at, ".", R_OK | X_OK, AT_EACCESS) == 0;
        }
        near_way_end(&near);
        return end_of(r, ret_fault);
}
