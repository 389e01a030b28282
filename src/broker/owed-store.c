/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Unlike records.c this syncs: a power cut in a window leaves a port open in a firewall that does
 * not lose its power. A few milliseconds, before the window opens.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/directory.h>
#include <postern/log.h>
#include <postern/owed-store.h>
#include <string.h>
#include <sys/stat.h>

#define STORE_DIRECTORY "owed"
#define STORE_TEMPORARY ".new"

bool owed_store_is_window(const char *name) {
        return name[0] == 'w' && strspn(name + 1, "0123456789abcdef") == 12 && !name[13];
}

int owed_store_open(const char *state_dir) {
        _cleanup_close_ int fd = -1;
        int store_fd;

        fd = open(state_dir, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (mkdirat(fd, STORE_DIRECTORY, 0700) < 0 && errno != EEXIST)
                return -errno;
        /* also where it was there: who made it may have died before this */
        if (fsync(fd) < 0)
                return -errno;
        store_fd = openat(fd, STORE_DIRECTORY, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return store_fd < 0 ? -errno : store_fd;
}

static int store_write_temporary(int store_fd, const char *text, size_t size) {
        _cleanup_close_ int fd = -1;
        ssize_t n;

        fd = openat(store_fd, STORE_TEMPORARY,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        n = write(fd, text, size);
        if (n != (ssize_t) size)
                return n < 0 ? -errno : -ENOSPC;
        return fsync(fd) < 0 ? -errno : 0;
}

int owed_store_write(int store_fd, const char *window_id, const OwedRecord *record) {
        char text[OWED_RECORD_MAX];
        size_t size = owed_record_format(record, text);
        int r;

        if (!owed_store_is_window(window_id))
                return -EINVAL;
        r = store_write_temporary(store_fd, text, size);
        if (r == 0 && renameat(store_fd, STORE_TEMPORARY, store_fd, window_id) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(store_fd, STORE_TEMPORARY, 0);
                return r;
        }
        return fsync(store_fd) < 0 ? -errno : 0;
}

int owed_store_remove(int store_fd, const char *window_id) {
        if (unlinkat(store_fd, window_id, 0) < 0 && errno != ENOENT)
                return -errno;
        /* Should the name come back after a power cut, it is closed once more: that does no harm.
         */
        return 0;
}

static int store_load(int store_fd, const char *name, OwedRecord *ret) {
        _cleanup_close_ int fd = -1;
        char text[OWED_RECORD_MAX + 1];
        struct stat st;
        ssize_t n;

        fd = openat(store_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
                return -EPERM;
        n = read(fd, text, sizeof(text));
        if (n < 0)
                return -errno;
        return owed_record_parse(text, (size_t) n, ret);
}

/* Kept for a person to look at, and out of the way. */
static void store_set_aside(int store_fd, const char *name) {
        char aside[sizeof(((struct dirent *) NULL)->d_name) + sizeof(".bad")];

        (void) snprintf(aside, sizeof(aside), "%s.bad", name);
        if (renameat(store_fd, name, store_fd, aside) < 0)
                (void) snprintf(aside, sizeof(aside), "%s", name);
        log_error("The note of a port to be closed elsewhere, owed/%s in the state directory, "
                  "cannot be read (%s): see in that firewall whether the port is shut, then remove "
                  "the file.",
                  aside, strerror(EBADMSG));
}

int owed_store_read(int store_fd, OwedStoreCallback callback, void *userdata) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;
        int r;

        directory = directory_open(store_fd, ".");
        if (!directory)
                return -errno;
        while ((errno = 0, entry = readdir(directory))) {
                OwedRecord record;

                if (!owed_store_is_window(entry->d_name))
                        continue;
                r = store_load(store_fd, entry->d_name, &record);
                if (r == -EBADMSG) {
                        store_set_aside(store_fd, entry->d_name);
                        continue;
                }
                if (r < 0) {
                        log_error("The note of a port to be closed elsewhere, owed/%s in the state "
                                  "directory, cannot be read (%s). posternd does not start without "
                                  "it, as it would forget the port: mend what is in the way, or "
                                  "see in that firewall that the port is shut and remove the file.",
                                  entry->d_name, strerror(-r));
                        return r;
                }
                r = callback(entry->d_name, &record, userdata);
                if (r < 0)
                        return r;
        }
        return -errno;
}
