/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * That something changed is all that is taken from a watch; then the whole directory is looked at.
 * It is the same for a token, for a hundred, and for a directory that came late.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/challenge.h>
#include <postern/clock.h>
#include <postern/directory.h>
#include <postern/log.h>
#include <postern/path-watch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One state of one file: what is written again is another one. */
typedef struct File {
        uint64_t device;
        uint64_t inode;
        uint64_t changed_nsec;
} File;

typedef struct Files {
        File *items;
        size_t n;
} Files;

struct Challenge {
        ChallengeCallback callback;
        void *userdata;

        PathWatch *watch;
        sd_event_source *timer; /* when to look next */
        uint64_t next_look;     /* not before: CLOCK_MONOTONIC, microseconds */

        Files before; /* what lay there at first, sorted */
        bool pending;
        int complained; /* about this error, once */
};

static int file_compare(const void *a, const void *b) {
        return memcmp(a, b, sizeof(File));
}

/* RFC 8555, 8.3: a token is of the base64url alphabet. A client's temporary file or a web server's
 * .htaccess is not. */
static bool is_token(const char *name) {
        return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789-_")] == '\0';
}

/* Calls one for each token, until it gives something else than 0, which is returned. */
static int for_each_token(int path_fd, int (*one)(const File *file, void *userdata),
                          void *userdata) {
        _cleanup_closedir_ DIR *directory = NULL;
        size_t n = 0;
        int r = 0;

        directory = directory_open(path_fd, ".");
        if (!directory)
                /* gone again: the watch tells, too */
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;

        while (r == 0) {
                const struct dirent *entry;
                struct stat status;
                File file;

                errno = 0;
                entry = readdir(directory);
                if (!entry)
                        return -errno;
                if (++n > CHALLENGE_FILES_MAX)
                        return -E2BIG;
                if (!is_token(entry->d_name))
                        continue;
                if (fstatat(dirfd(directory), entry->d_name, &status,
                            AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
                        r = errno == ENOENT ? 0 : -errno;
                        continue;
                }
                if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
                        continue;
                file = (File){
                        .device = status.st_dev,
                        .inode = status.st_ino,
                        .changed_nsec = (uint64_t) status.st_ctim.tv_sec * 1000000000 +
                                        (uint64_t) status.st_ctim.tv_nsec,
                };
                r = one(&file, userdata);
        }
        return r;
}

static int remember(const File *file, void *userdata) {
        Files *files = userdata;

        files->items[files->n++] = *file;
        return 0;
}

static int is_new(const File *file, void *userdata) {
        const Files *before = userdata;

        return !bsearch(file, before->items, before->n, sizeof(*file), file_compare);
}

static int remember_all(Challenge *challenge) {
        Files *before = &challenge->before;
        File *fitting;
        int directory, r;

        before->items = calloc(CHALLENGE_FILES_MAX, sizeof(*before->items));
        if (!before->items)
                return -ENOMEM;
        r = path_watch_find(challenge->watch, &directory);
        if (r < 0 || directory < 0)
                return r;
        r = for_each_token(directory, remember, before);
        if (r < 0)
                return r;
        qsort(before->items, before->n, sizeof(*before->items), file_compare);
        fitting = realloc(before->items, (before->n + 1) * sizeof(*fitting));
        if (fitting)
                before->items = fitting;
        return 0;
}

static void look_at(Challenge *challenge, uint64_t usec) {
        int r = sd_event_source_set_time(challenge->timer, usec);

        if (r >= 0)
                r = sd_event_source_set_enabled(challenge->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("Cannot look at the challenge directory: %s", strerror(-r));
}

static void on_change(void *userdata) {
        Challenge *challenge = userdata;

        look_at(challenge, challenge->next_look);
}

static void keep_pace(Challenge *challenge, uint64_t begun) {
        uint64_t ended = clock_now(CLOCK_MONOTONIC);
        uint64_t pause = CHALLENGE_PACE_SHARE * (ended - begun);

        if (pause < CHALLENGE_PACE_USEC)
                pause = CHALLENGE_PACE_USEC;
        if (pause > CHALLENGE_PAUSE_MAX_USEC)
                pause = CHALLENGE_PAUSE_MAX_USEC;
        challenge->next_look = ended + pause;
}

/* What cannot be seen is not there: the port stays shut. */
static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        Challenge *challenge = userdata;
        uint64_t begun = clock_now(CLOCK_MONOTONIC);
        int directory, r;

        r = path_watch_find(challenge->watch, &directory);
        if (r == 0 && directory >= 0)
                r = for_each_token(directory, is_new, &challenge->before);
        keep_pace(challenge, begun);
        if (r < 0) {
                if (challenge->complained != r)
                        log_warning("%s: %s", challenge_explain(r), strerror(-r));
                challenge->complained = r;
                look_at(challenge, begun + CHALLENGE_RETRY_USEC);
        }
        if (challenge->pending != (r > 0)) {
                challenge->pending = r > 0;
                challenge->callback(challenge->pending, challenge->userdata);
        }
        return 0;
}

const char *challenge_explain(int error) {
        switch (-error) {
        case E2BIG:
                return "More than 4096 files lie in ChallengeDirectory=: remove the old ones";
        case EACCES:
        case EPERM:
                return "posternd may not read ChallengeDirectory=, or not enter a directory on the "
                       "way to it: give its user the right, with chmod or setfacl";
        case EREMOTE:
                return "ChallengeDirectory= lies on a file system of another host or of a program "
                       "(NFS, SMB, FUSE), which tells of no changes: name a directory on this "
                       "host's own, or write OpenOn=start";
        case ELOOP:
        case ENAMETOOLONG:
                return "ChallengeDirectory= leads through too many symlinks or directories: name "
                       "the directory itself";
        case ENOSPC:
        case EMFILE:
                return "No directory can be watched any more: raise "
                       "fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl";
        default:
                return "ChallengeDirectory= cannot be watched: name a directory on a file system "
                       "of this host";
        }
}

int challenge_new(Challenge **ret, sd_event *event, const char *directory,
                  ChallengeCallback callback, void *userdata) {
        Challenge *challenge = calloc(1, sizeof(*challenge));
        int r;

        if (!challenge)
                return -ENOMEM;
        challenge->callback = callback;
        challenge->userdata = userdata;
        r = sd_event_add_time(event, &challenge->timer, CLOCK_MONOTONIC, UINT64_MAX,
                              CHALLENGE_ACCURACY_USEC, on_look, challenge);
        if (r >= 0)
                r = sd_event_source_set_enabled(challenge->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = path_watch_new(&challenge->watch, event, directory, on_change, challenge);
        if (r >= 0)
                r = remember_all(challenge);
        if (r < 0) {
                challenge_free(challenge);
                return r;
        }
        *ret = challenge;
        return 0;
}

Challenge *challenge_free(Challenge *challenge) {
        if (!challenge)
                return NULL;
        path_watch_free(challenge->watch);
        sd_event_source_disable_unref(challenge->timer);
        free(challenge->before.items);
        free(challenge);
        return NULL;
}
