/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Every directory on the way is watched for the next name on it, the last one for all names. A
 * watch is placed before it is looked at what is there, so that nothing comes in between unseen.
 *
 * Whoever may write a directory on the way may lead it elsewhere at any time, also to a file system
 * whose host is dead: nothing is opened by more than one name at once (near-way.h).
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/near-way.h>
#include <postern/path-watch.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

typedef struct Station {
        PathWatch *watch;
        sd_event_source *source;
        char name[NAME_MAX + 1]; /* the one that matters in this directory; "": all */
} Station;

struct PathWatch {
        sd_event *event;
        char *directory;
        PathWatchCallback callback;
        void *userdata;

        /* With the last source sd-event closes its inotify instance, for which the kernel takes 13
         * ms. */
        sd_event_source *anchor;
        Station stations[PATH_WATCHES_MAX];
        size_t n_stations;
        int found;   /* the directory, with O_PATH; -1: none */
        bool astray; /* the way is to be followed anew */
};

static int on_change(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        Station *station = userdata;
        PathWatch *watch = station->watch;
        bool itself = event->mask &
                      (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_Q_OVERFLOW | IN_UNMOUNT);

        if (!itself && *station->name &&
            (event->len == 0 || strcmp(event->name, station->name) != 0))
                return 0;
        if (itself || *station->name)
                watch->astray = true;
        watch->callback(watch->userdata);
        return 0;
}

static int on_anchor(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        return 0;
}

static void leave(PathWatch *watch) {
        while (watch->n_stations > 0)
                sd_event_source_disable_unref(watch->stations[--watch->n_stations].source);
        if (watch->found >= 0)
                close(watch->found);
        watch->found = -1;
}

static int add_station(PathWatch *watch, int directory, const char *name) {
        uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF |
                        IN_MOVE_SELF | IN_ONLYDIR;
        Station *station;
        int r;

        if (watch->n_stations == PATH_WATCHES_MAX)
                return -ENAMETOOLONG;
        /* the way ends here: a file that is there may also be written anew */
        if (!*name)
                mask |= IN_CLOSE_WRITE;
        station = &watch->stations[watch->n_stations];
        station->watch = watch;
        (void) snprintf(station->name, sizeof(station->name), "%s", name);
        r = sd_event_add_inotify_fd(watch->event, &station->source, directory, mask, on_change,
                                    station);
        if (r < 0)
                return r;
        watch->n_stations++;
        return 0;
}

/* One name further. */
static int go_on(PathWatch *watch, NearWay *way, const char *name) {
        struct stat status;
        int r;

        /* who may only pass through it learns nothing of late names, but need not, if it is there
         */
        r = strcmp(name, "..") == 0 ? 0 : add_station(watch, way->at, name);
        if (r < 0 && r != -EACCES)
                return r;
        r = near_way_enter(way, name, &status);
        return r < 0 ? r : 0;
}

static int find(PathWatch *watch) {
        char name[NAME_MAX + 1];
        NearWay way;
        int r;

        r = near_way_begin(&way, watch->directory);
        while (r == 0 && (r = near_way_next(&way, name)) > 0)
                r = go_on(watch, &way, name);
        if (r == 0)
                r = add_station(watch, way.at, "");
        if (r == 0)
                watch->found = TAKE_FD(way.at);
        near_way_end(&way);
        return r;
}

int path_watch_find(PathWatch *watch, int *ret) {
        int r = 0;

        if (watch->astray) {
                leave(watch);
                watch->astray = false;
                r = find(watch);
                /* nothing there, and the last station tells when that changes */
                if (r == -ENOENT || r == -ENOTDIR)
                        r = 0;
                watch->astray = r < 0;
        }
        *ret = watch->found;
        return r;
}

int path_watch_new(PathWatch **ret, sd_event *event, const char *directory,
                   PathWatchCallback callback, void *userdata) {
        PathWatch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->event = sd_event_ref(event);
        watch->callback = callback;
        watch->userdata = userdata;
        watch->found = -1;
        watch->astray = true;
        watch->directory = strdup(directory);
        r = watch->directory ? sd_event_add_inotify(event, &watch->anchor, "/", IN_DELETE_SELF,
                                                    on_anchor, NULL)
                             : -ENOMEM;
        if (r < 0) {
                path_watch_free(watch);
                return r;
        }
        *ret = watch;
        return 0;
}

PathWatch *path_watch_free(PathWatch *watch) {
        if (!watch)
                return NULL;
        leave(watch);
        sd_event_source_disable_unref(watch->anchor);
        sd_event_unref(watch->event);
        free(watch->directory);
        free(watch);
        return NULL;
}
