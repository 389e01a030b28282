/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The lock is POSIX's, which belongs to the process: a helper that was just forked, and has not
 * closed its copy yet, would go on holding any other kind.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/directory.h>
#include <postern/run-note.h>
#include <string.h>

#define PREFIX "run-"

enum { NAME_SIZE = sizeof(PREFIX) - 1 + RUN_NOTE_WINDOW_MAX };

static bool window_is_valid(const char *window) {
        size_t length = strspn(window, "abcdefghijklmnopqrstuvwxyz0123456789");

        return length > 0 && length < RUN_NOTE_WINDOW_MAX && !window[length];
}

static int note_lock(int fd) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        return fcntl(fd, F_SETLK, &lock) < 0 ? -errno : 0;
}

int run_note_write(int runtime_fd, const char *window, const char *cgroup) {
        _cleanup_close_ int fd = -1;
        size_t size = strlen(cgroup);
        char name[NAME_SIZE];
        ssize_t n;
        int r;

        if (!window_is_valid(window))
                return -EINVAL;
        (void) snprintf(name, sizeof(name), PREFIX "%s", window);
        fd = openat(runtime_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = note_lock(fd);
        if (r == 0) {
                n = write(fd, cgroup, size);
                if (n == (ssize_t) size)
                        return TAKE_FD(fd);
                r = n < 0 ? -errno : -ENOSPC;
        }
        (void) unlinkat(runtime_fd, name, 0);
        return r;
}

void run_note_remove(int runtime_fd, const char *window, int note_fd) {
        char name[NAME_SIZE];

        (void) snprintf(name, sizeof(name), PREFIX "%s", window);
        (void) unlinkat(runtime_fd, name, 0);
        close(note_fd);
}

static int take_over(int runtime_fd, const char *name, RunNoteCallback callback, void *userdata) {
        char cgroup[RUN_CGROUP_PATH_MAX];
        _cleanup_close_ int fd = -1;
        ssize_t n;
        int r;

        fd = openat(runtime_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = note_lock(fd);
        if (r == -EAGAIN || r == -EACCES)
                return 0;
        if (r < 0)
                return r;
        n = read(fd, cgroup, sizeof(cgroup) - 1);
        if (n < 0)
                return -errno;
        cgroup[n] = 0;
        return callback(name + strlen(PREFIX), cgroup, TAKE_FD(fd), userdata);
}

int run_notes_take_over(int runtime_fd, RunNoteCallback callback, void *userdata) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;
        int r;

        directory = directory_open(runtime_fd, ".");
        if (!directory)
                return -errno;
        while ((errno = 0, entry = readdir(directory))) {
                if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
                    !window_is_valid(entry->d_name + strlen(PREFIX)))
                        continue;
                r = take_over(runtime_fd, entry->d_name, callback, userdata);
                if (r < 0)
                        return r;
        }
        return -errno;
}
