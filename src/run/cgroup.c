/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The mount is looked for, since a hybrid host has it beside the v1 hierarchies; the own cgroup is
 * the line "0::" of /proc/self/cgroup.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/directory.h>
#include <postern/run-cgroup.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

enum { SIGNALLED_MAX = 4096 };

int run_cgroup_find_mount(char *ret, int size) {
        _cleanup_fclose_ FILE *mounts = NULL;
        char line[4096], target[2048], type[64];

        mounts = fopen("/proc/self/mounts", "re");
        if (!mounts)
                return -errno;
        while (fgets(line, sizeof(line), mounts))
                if (sscanf(line, "%*s %2047s %63s", target, type) == 2 &&
                    strcmp(type, "cgroup2") == 0) {
                        if (snprintf(ret, size, "%s", target) >= size)
                                return -ENAMETOOLONG;
                        return 0;
                }
        return -ENOENT;
}

static int find_own(char *ret, size_t size) {
        _cleanup_fclose_ FILE *file = NULL;
        char line[RUN_CGROUP_PATH_MAX + 16];

        file = fopen("/proc/self/cgroup", "re");
        if (!file)
                return -errno;
        while (fgets(line, sizeof(line), file)) {
                if (strncmp(line, "0::/", 4) != 0)
                        continue;
                line[strcspn(line, "\n")] = 0;
                /* Above the root of the cgroup namespace, or deleted: not ours to write below. */
                if (strstr(line, "/../") || strstr(line, " (deleted)") ||
                    strcmp(line, "0::/..") == 0)
                        return -ENOENT;
                if (snprintf(ret, size, "%s", line + 3) >= (int) size)
                        return -ENAMETOOLONG;
                if (strcmp(ret, "/") == 0)
                        ret[0] = 0;
                return 0;
        }
        return -ENOENT;
}

static int write_file(int directory, const char *name, const char *text) {
        _cleanup_close_ int fd = -1;

        fd = openat(directory, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (write(fd, text, strlen(text)) < 0)
                return -errno;
        return 0;
}

int run_cgroup_make(RunCgroup *ret, const char *window) {
        RunCgroup cgroup = {.fd = -1, .parent_fd = -1};
        char mount[1024], own[RUN_CGROUP_PATH_MAX / 2], directory[RUN_CGROUP_PATH_MAX];
        int r;

        *ret = cgroup;
        r = run_cgroup_find_mount(mount, sizeof(mount));
        if (r == 0)
                r = find_own(own, sizeof(own));
        if (r < 0)
                return -ENOENT;
        if (snprintf(cgroup.name, sizeof(cgroup.name), "postern-%s", window) >=
                    (int) sizeof(cgroup.name) ||
            snprintf(cgroup.path, sizeof(cgroup.path), "%s/%s", own, cgroup.name) >=
                    (int) sizeof(cgroup.path) ||
            snprintf(directory, sizeof(directory), "%s%s", mount, own) >= (int) sizeof(directory))
                return -ENOENT;

        cgroup.parent_fd = open(directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (cgroup.parent_fd < 0)
                return -ENOENT;
        if (mkdirat(cgroup.parent_fd, cgroup.name, 0755) < 0 && errno != EEXIST) {
                close(cgroup.parent_fd);
                return -ENOENT;
        }
        cgroup.fd = openat(cgroup.parent_fd, cgroup.name,
                           O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (cgroup.fd < 0 || faccessat(cgroup.fd, "cgroup.kill", W_OK, 0) < 0) {
                /* a kernel before 5.14 cannot kill it as one */
                (void) unlinkat(cgroup.parent_fd, cgroup.name, AT_REMOVEDIR);
                if (cgroup.fd >= 0)
                        close(cgroup.fd);
                close(cgroup.parent_fd);
                return -ENOENT;
        }
        *ret = cgroup;
        return 0;
}

int run_cgroup_guess(char *ret, size_t size, const char *window) {
        char own[RUN_CGROUP_PATH_MAX / 2];
        int r;

        r = find_own(own, sizeof(own));
        if (r < 0)
                return r;
        return snprintf(ret, size, "%s/postern-%s", own, window) >= (int) size ? -ENAMETOOLONG : 0;
}

int run_cgroup_identify(const char *path, uint32_t *ret_level, uint64_t *ret_id) {
        char mount[1024], directory[RUN_CGROUP_PATH_MAX + 1024];
        uint32_t level = 0;
        struct stat status;
        int r;

        if (path[0] != '/' || strstr(path, "/../") || strstr(path, "//"))
                return -ENOENT;
        r = run_cgroup_find_mount(mount, sizeof(mount));
        if (r < 0)
                return r;
        (void) snprintf(directory, sizeof(directory), "%s%s", mount, path);
        if (lstat(directory, &status) < 0)
                return -errno;
        if (!S_ISDIR(status.st_mode))
                return -ENOENT;
        for (const char *slash = path; slash; slash = strchr(slash + 1, '/'))
                level++;
        *ret_level = level;
        *ret_id = status.st_ino; /* of kernfs, the two are one */
        return 0;
}

int run_cgroup_open(RunCgroup *ret, const char *path, const char *window) {
        RunCgroup cgroup = {.fd = -1, .parent_fd = -1};
        char mount[1024], parent[RUN_CGROUP_PATH_MAX];
        const char *last = strrchr(path, '/');
        int r;

        *ret = cgroup;
        if (path[0] != '/' || strstr(path, "/../") || strstr(path, "//") ||
            snprintf(cgroup.name, sizeof(cgroup.name), "postern-%s", window) >=
                    (int) sizeof(cgroup.name) ||
            strcmp(last + 1, cgroup.name) != 0)
                return -EINVAL;
        r = run_cgroup_find_mount(mount, sizeof(mount));
        if (r < 0)
                return r;
        if (snprintf(cgroup.path, sizeof(cgroup.path), "%s", path) >= (int) sizeof(cgroup.path) ||
            snprintf(parent, sizeof(parent), "%s%.*s", mount, (int) (last - path), path) >=
                    (int) sizeof(parent))
                return -ENAMETOOLONG;
        cgroup.parent_fd = open(parent, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (cgroup.parent_fd < 0)
                return -errno;
        cgroup.fd = openat(cgroup.parent_fd, cgroup.name,
                           O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (cgroup.fd < 0) {
                r = -errno;
                close(cgroup.parent_fd);
                return r;
        }
        *ret = cgroup;
        return 0;
}

int run_cgroup_enter(const RunCgroup *cgroup) {
        return cgroup->fd < 0 ? 0 : write_file(cgroup->fd, "cgroup.procs", "0");
}

/* SIGTERM and the like: one after the other, each by a pidfd, so that no number that was used anew
 * is hit: the process is looked for in the cgroup again once the pidfd holds it. */
static void signal_each(const RunCgroup *cgroup, int signal) {
        _cleanup_fclose_ FILE *procs = NULL;
        char line[32];
        int fd;

        fd = openat(cgroup->fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        procs = fdopen(fd, "re");
        if (!procs) {
                close(fd);
                return;
        }
        /* a tree that forks faster than it is read is not worth a goodbye */
        for (unsigned n = 0; n < SIGNALLED_MAX && fgets(line, sizeof(line), procs); n++) {
                _cleanup_close_ int pidfd = -1;
                char path[64], own[RUN_CGROUP_PATH_MAX + 16] = "";
                _cleanup_fclose_ FILE *membership = NULL;
                int pid = atoi(line);

                pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
                if (pidfd < 0)
                        continue;
                snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
                membership = fopen(path, "re");
                while (membership && fgets(own, sizeof(own), membership)) {
                        own[strcspn(own, "\n")] = 0;
                        if (strncmp(own, "0::", 3) == 0 &&
                            strncmp(own + 3, cgroup->path, strlen(cgroup->path)) == 0)
                                (void) pidfd_send_signal(pidfd, signal, NULL, 0);
                }
        }
}

void run_cgroup_signal(const RunCgroup *cgroup, int signal) {
        if (cgroup->fd < 0)
                return;
        if (signal == SIGKILL)
                (void) write_file(cgroup->fd, "cgroup.kill", "1");
        else
                signal_each(cgroup, signal);
}

bool run_cgroup_populated(const RunCgroup *cgroup) {
        _cleanup_close_ int fd = -1;
        char text[256];
        ssize_t n;

        if (cgroup->fd < 0)
                return false;
        fd = openat(cgroup->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno != ENOENT && errno != ENODEV;
        n = read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return errno != ENODEV;
        text[n] = 0;
        return strstr(text, "populated 1") != NULL;
}

/* A renewal may have made cgroups of its own below; they are empty by now. */
static void remove_below(int directory, unsigned depth) {
        _cleanup_closedir_ DIR *stream = directory_open(directory, ".");
        struct dirent *entry;

        while (stream && depth > 0 && (entry = readdir(stream))) {
                _cleanup_close_ int below = -1;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                below = openat(directory, entry->d_name,
                               O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                if (below >= 0)
                        remove_below(below, depth - 1);
                (void) unlinkat(directory, entry->d_name, AT_REMOVEDIR);
        }
}

int run_cgroup_remove(RunCgroup *cgroup) {
        if (cgroup->fd < 0)
                return 0;
        remove_below(cgroup->fd, 16);
        if (unlinkat(cgroup->parent_fd, cgroup->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return -errno;
        run_cgroup_close(cgroup);
        return 0;
}

void run_cgroup_close(RunCgroup *cgroup) {
        if (cgroup->fd >= 0) {
                close(cgroup->fd);
                close(cgroup->parent_fd);
        }
        *cgroup = (RunCgroup){.fd = -1, .parent_fd = -1};
}
