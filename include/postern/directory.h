/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* directory: its entries, by a descriptor of it or of one above. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* at: may be one of O_PATH. name: "." for that itself. Read from the beginning, whoever has read
 * there already. NULL and errno. */
static inline DIR *directory_open(int at, const char *name) {
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;
        DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;

        if (!directory && fd >= 0) {
                error = errno;
                close(fd);
                errno = error;
        }
        return directory;
}

static inline void closedir_cleanup(DIR **directory) {
        if (*directory)
                closedir(*directory);
}

#define _cleanup_closedir_ __attribute__((cleanup(closedir_cleanup)))
