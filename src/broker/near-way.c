/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See the header. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/near-open.h>
#include <postern/near-way.h>
#include <string.h>

static int go_to(NearWay *way, int fd) {
        if (fd < 0)
                return fd;
        near_way_end(way);
        way->at = fd;
        return 0;
}

int near_way_begin(NearWay *ret, const char *path) {
        size_t length = strlen(path);

        *ret = (NearWay){.at = -1};
        if (length >= sizeof(ret->rest))
                return -ENAMETOOLONG;
        memcpy(ret->rest, path, length + 1);
        return go_to(ret, near_open(NEAR_ROOT, NULL));
}

void near_way_end(NearWay *way) {
        if (way->at >= 0)
                close(TAKE_FD(way->at));
}

int near_way_next(NearWay *way, char ret[NAME_MAX + 1]) {
        const char *p = way->rest;
        size_t length;

        do {
                p += strspn(p, "/");
                length = strcspn(p, "/");
                if (length > NAME_MAX)
                        return -ENAMETOOLONG;
                memcpy(ret, p, length);
                ret[length] = 0;
                p += length;
        } while (strcmp(ret, ".") == 0);
        memmove(way->rest, p, strlen(p) + 1);
        if (length > 0 && ++way->n_steps > NEAR_STEPS_MAX)
                return -ELOOP;
        return length > 0;
}

/* Puts the link's target in front of what is left. */
static int follow(NearWay *way, int link) {
        char target[PATH_MAX];
        size_t rest = strlen(way->rest), length;
        ssize_t n;

        if (++way->n_links > NEAR_LINKS_MAX)
                return -ELOOP;
        n = readlinkat(link, "", target, sizeof(target));
        if (n < 0)
                return -errno;
        length = (size_t) n;
        if (length + 1 + rest + 1 > sizeof(way->rest))
                return -ENAMETOOLONG;
        memmove(way->rest + length + 1, way->rest, rest + 1);
        memcpy(way->rest, target, length);
        way->rest[length] = '/';
        return way->rest[0] == '/' ? NEAR_LINK_FROM_ROOT : NEAR_LINK;
}

int near_way_enter(NearWay *way, const char *name, struct stat *ret_st) {
        int next, r;

        next = near_open(way->at, name);
        if (next < 0)
                return next;
        if (fstat(next, ret_st) < 0)
                r = -errno;
        else if (!S_ISLNK(ret_st->st_mode))
                return go_to(way, next);
        else
                r = follow(way, next);
        close(next);
        if (r == NEAR_LINK_FROM_ROOT) {
                int at = go_to(way, near_open(NEAR_ROOT, NULL));

                if (at < 0)
                        return at;
        }
        return r;
}
