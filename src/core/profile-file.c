/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a profile says is done as root, so whoever can change the file, or any directory on the way
 * to it, is root. The way is therefore walked from "/", one component at a time, no symlink
 * followed, and each is looked at through the descriptor by which the next is found: what was
 * checked and what is used cannot be two different things. The text is read once, from a descriptor
 * that was checked.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <postern/cleanup.h>
#include <postern/profile-file.h>
#include <postern/profile-problem.h>
#include <postern/profile-value.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Walk {
        const char *config_dir;
        const char *file_name;
        char **ret_problem;
} Walk;

/* The directory that was looked at: the first `length` bytes of config_dir, then suffix. */
static int walk_bad(const Walk *walk, size_t length, const char *suffix, const char *fault) {
        if (length > PROFILE_PROBLEM_PATH_MAX)
                length = PROFILE_PROBLEM_PATH_MAX;
        return profile_problem_set(PROFILE_BAD, walk->ret_problem, "%s: %.*s%s %s", walk->file_name,
                                   (int) length, walk->config_dir, suffix, fault);
}

static int walk_missing(const Walk *walk) {
        return profile_problem_set(PROFILE_MISSING, walk->ret_problem,
                                   "There is no profile %s; create it as %.*s%s%s", walk->file_name,
                                   PROFILE_PROBLEM_PATH_MAX, walk->config_dir, "/profiles/",
                                   walk->file_name);
}

/* NULL when only root can have made it what it is. */
static const char *owner_fault(const struct stat *st, bool sticky_allowed) {
        if (st->st_uid != 0)
                return "does not belong to root; make it root's with chown root";
        /* an access list that lets somebody write shows as the group's bit */
        if (st->st_mode & (S_IWGRP | S_IWOTH) && !(sticky_allowed && st->st_mode & S_ISVTX))
                return "can be written by others than root; take that away with chmod go-w";
        return NULL;
}

static const char *directory_fault(const struct stat *st, bool sticky_allowed) {
        if (S_ISLNK(st->st_mode))
                return "is a symlink; put the directory itself there";
        if (!S_ISDIR(st->st_mode))
                return "is not a directory; put one there";
        return owner_fault(st, sticky_allowed);
}

static const char *file_fault(const struct stat *st) {
        if (S_ISLNK(st->st_mode))
                return "is a symlink; put the file itself there";
        if (!S_ISREG(st->st_mode))
                return "is not a regular file; put one there";
        if (st->st_nlink > 1)
                return "has another name (a hard link); replace it with a copy that has only one";
        if (st->st_size > PROFILE_FILE_MAX)
                return "is larger than 64 KiB; leave out what is not needed";
        return owner_fault(st, false);
}

/* Goes one directory on from *fd, which is replaced. component is not 0-terminated; length and
 * suffix say for walk_bad() where that is. */
static int walk_into(const Walk *walk, int *fd, const char *component, size_t component_length,
                     size_t length, const char *suffix, bool sticky_allowed) {
        _cleanup_close_ int next = -1;
        char name[NAME_MAX + 1];
        const char *fault;
        struct stat st;

        if (component_length > NAME_MAX)
                return -ENAMETOOLONG;
        memcpy(name, component, component_length);
        name[component_length] = 0;

        /* not O_DIRECTORY: that hides whether it was a symlink */
        next = openat(*fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && errno == ENOENT)
                return walk_missing(walk);
        if (next < 0 && errno == EACCES)
                return walk_bad(walk, length, suffix,
                                "cannot be reached by this service; make the directories above it "
                                "searchable with chmod a+x");
        if (next < 0)
                return -errno;
        if (fstat(next, &st) < 0)
                return -errno;
        fault = directory_fault(&st, sticky_allowed);
        if (fault)
                return walk_bad(walk, length, suffix, fault);

        if (*fd >= 0)
                close(*fd);
        *fd = TAKE_FD(next);
        return 0;
}

/* *ret_fd: CONFIG_DIR/profiles, which is safe. */
static int walk_directories(const Walk *walk, unsigned flags, int *ret_fd) {
        _cleanup_close_ int fd = -1;
        const char *path = walk->config_dir;
        const char *p = path + strspn(path, "/");
        bool sticky = flags & PROFILE_ALLOW_STICKY_PARENTS;
        int r;

        /* absolute, so the descriptor to start from is not looked at */
        r = walk_into(walk, &fd, "/", 1, 1, "", sticky && *p);
        while (r == 0 && *p) {
                size_t length = strcspn(p, "/");
                const char *next = p + length + strspn(p + length, "/");

                r = walk_into(walk, &fd, p, length, (size_t) (p + length - path), "",
                              sticky && *next);
                p = next;
        }
        if (r == 0)
                r = walk_into(walk, &fd, "profiles", strlen("profiles"), strlen(path), "/profiles",
                              false);
        if (r != 0)
                return r;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

static uint64_t nanoseconds(const struct timespec *time) {
        return (uint64_t) time->tv_sec * 1000000000 + (uint64_t) time->tv_nsec;
}

static void format_version(const struct stat *st, char ret[PROFILE_VERSION_MAX]) {
        (void) snprintf(ret, PROFILE_VERSION_MAX,
                        "%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64,
                        (uint64_t) st->st_dev, (uint64_t) st->st_ino, (uint64_t) st->st_size,
                        nanoseconds(&st->st_mtim), nanoseconds(&st->st_ctim));
}

/* Opens with the given way of opening, and looks at what was opened. */
static int open_file(const Walk *walk, int directory, int flags, int *ret_fd, struct stat *ret_st) {
        _cleanup_close_ int fd = -1;
        const char *fault;
        struct stat st;

        fd = openat(directory, walk->file_name, flags | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return walk_missing(walk);
        if (fd < 0 && errno == EACCES)
                return profile_problem_set(PROFILE_BAD, walk->ret_problem,
                                           "%s: may not be read by this service; make it readable "
                                           "with chmod a+r, and its directory with chmod a+x",
                                           walk->file_name);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        fault = file_fault(&st);
        if (fault)
                return profile_problem_set(PROFILE_BAD, walk->ret_problem, "%s: %s",
                                           walk->file_name, fault);

        *ret_fd = TAKE_FD(fd);
        *ret_st = st;
        return 0;
}

/* Reads at most size bytes; *ret_n fewer only at the end of the file. */
static int read_all(int fd, char *buffer, size_t size, size_t *ret_n) {
        size_t n = 0;

        while (n < size) {
                ssize_t some = read(fd, buffer + n, size - n);

                if (some < 0 && errno == EINTR)
                        continue;
                if (some < 0)
                        return -errno;
                if (some == 0)
                        break;
                n += (size_t) some;
        }
        *ret_n = n;
        return 0;
}

int profile_file_read(const char *config_dir, const char *file_name, unsigned flags,
                      ProfileFile *ret, char **ret_problem) {
        const Walk walk = {config_dir, file_name, ret_problem};
        _cleanup_close_ int directory = -1, path = -1, fd = -1;
        _cleanup_(profile_file_deinit) ProfileFile file = {};
        char version[PROFILE_VERSION_MAX];
        struct stat st;
        size_t size;
        int r;

        if (!value_is_path(config_dir) || strchr(file_name, '/'))
                return -EINVAL;

        r = walk_directories(&walk, flags, &directory);
        if (r != 0)
                return r;

        /* First without opening it: to open some devices is to do something. Then for reading, and
         * looked at again, as it may be another by now. */
        r = open_file(&walk, directory, O_PATH, &path, &st);
        if (r == 0)
                r = open_file(&walk, directory, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd, &st);
        if (r == -ELOOP) /* it was a file a moment ago */
                return profile_problem_set(
                        PROFILE_BAD, ret_problem,
                        "%s: was replaced by a symlink; put the file itself there", file_name);
        if (r != 0)
                return r;

        size = (size_t) st.st_size;
        format_version(&st, file.version);
        file.text = malloc(size + 1);
        if (!file.text)
                return -ENOMEM;
        r = read_all(fd, file.text, size + 1, &file.size);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return -errno;
        format_version(&st, version);
        if (file.size != size || strcmp(version, file.version) != 0)
                return profile_problem_set(PROFILE_BAD, ret_problem,
                                           "%s: is being changed; try again when that is done",
                                           file_name);

        file.text[file.size] = 0;
        *ret = file;
        file.text = NULL;
        return PROFILE_OK;
}

void profile_file_deinit(ProfileFile *file) {
        free(file->text);
        *file = (ProfileFile){};
}
