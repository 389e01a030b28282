/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * O_PATH asks a file system nothing, nor has it one mounted by autofs. On which mount the step
 * ended the kernel tells by a number (fdinfo), and of which type that is by another file
 * (mountinfo).
 *
 *     proc_pid_mountinfo(5): ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE OPTIONS
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/near-open.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* autofs: who looks there has it mounted. */
static bool type_is_far(const char *type) {
        static const char *const types[] = {
                "9p",   "afs",   "autofs", "beegfs",    "ceph",     "cifs",
                "coda", "davfs", "gfs2",   "glusterfs", "gpfs",     "lustre",
                "nfs",  "nfs4",  "ocfs2",  "orangefs",  "prl_fs",   "pvfs2",
                "smb3", "smbfs", "sshfs",  "vboxsf",    "virtiofs",
        };

        if (strncmp(type, "fuse", strlen("fuse")) == 0)
                return true;
        for (size_t i = 0; i < ELEMENTS(types); i++)
                if (strcmp(type, types[i]) == 0)
                        return true;
        return false;
}

static int read_mount_id(int fd, long *ret) {
        _cleanup_fclose_ FILE *file = NULL;
        char path[64], line[128];

        (void) snprintf(path, sizeof(path), "/proc/self/fdinfo/%i", fd);
        file = fopen(path, "re");
        if (!file)
                return -errno;
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "mnt_id: %ld", ret) == 1)
                        return 0;
        return -EIO;
}

/* Of a mount that is there, as something of it is open. 1: far, 0: near. */
static int mount_is_far(long id) {
        _cleanup_fclose_ FILE *file = fopen("/proc/self/mountinfo", "re");
        _cleanup_free_ char *line = NULL;
        size_t size = 0;

        if (!file)
                return -errno;
        while (getline(&line, &size, file) >= 0) {
                char *rest, *type;

                if (strtol(line, &rest, 10) != id || *rest != ' ')
                        continue;
                /* blanks in names are escaped */
                type = strstr(rest, " - ");
                if (!type)
                        return -EIO;
                type += strlen(" - ");
                type[strcspn(type, " ")] = 0;
                return type_is_far(type);
        }
        /* detached, or out of this process's sight: not known, so not trusted */
        return 1;
}

int near_open(int directory, const char *name) {
        long from, to;
        int fd, r;

        fd = openat(directory, name ? name : "/", O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (directory == NEAR_ROOT)
                return fd; /* whatever it lies on, all else does, too */
        r = read_mount_id(directory, &from);
        if (r == 0)
                r = read_mount_id(fd, &to);
        if (r == 0 && from != to)
                r = mount_is_far(to);
        if (r == 0)
                return fd;
        close(fd);
        return r > 0 ? -EREMOTE : r;
}
