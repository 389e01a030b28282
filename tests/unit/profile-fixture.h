/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* A configuration directory to try profiles in. Every failure ends the test. Needs root. */

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <postern/profile.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD                                                                                       \
        "[Renewal]\n"                                                                              \
        "Exec=/bin/true\n"                                                                         \
        "[Window]\n"                                                                               \
        "Ports=80/tcp\n"

static char config_dir[PATH_MAX / 2];  /* a test may go deeper */
static char fixture_dir[PATH_MAX / 2]; /* what is removed in the end */

/* Only the last of several in one test is valid. */
static inline const char *profile_path(const char *file_name) {
        static char path[PATH_MAX];

        assert_true((size_t) snprintf(path, sizeof(path), "%s/profiles/%s", config_dir, file_name) <
                    sizeof(path));
        return path;
}

static inline void write_bytes(const char *path, const void *data, size_t size) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, size), size);
        assert_int_equal(fchmod(fd, 0644), 0);
        assert_int_equal(close(fd), 0);
}

static inline void write_profile(const char *file_name, const char *text) {
        write_bytes(profile_path(file_name), text, strlen(text));
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static inline void remove_tree(const char *path) {
        assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Makes PARENT/postern-test-XXXXXX/profiles. */
static inline void make_config_dir(const char *parent) {
        assert_int_equal(geteuid(), 0);
        umask(022);
        (void) snprintf(config_dir, sizeof(config_dir), "%s/postern-test-XXXXXX", parent);
        assert_non_null(mkdtemp(config_dir));
        strcpy(fixture_dir, config_dir);
        assert_int_equal(mkdir(profile_path(""), 0755), 0);
}

static inline int remove_config_dir(void **state) {
        remove_tree(fixture_dir);
        return 0;
}

static inline int load(const char *name, Profile **ret, char **ret_problem) {
        return profile_load(config_dir, name, PROFILE_ALLOW_STICKY_PARENTS, ret, ret_problem);
}

static inline void assert_contains(const char *text, const char *part) {
        if (!text || !strstr(text, part))
                fail_msg("\"%s\" does not contain \"%s\"", text ? text : "", part);
}
