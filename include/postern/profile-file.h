/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * profile-file: a profile's bytes, from a file that nobody but root can have written.
 *
 * Says nothing about what is in them.
 */

#include <postern/profile.h>

typedef struct ProfileFile {
        char *text; /* size bytes and a 0 after them; the bytes may hold zeros too */
        size_t size;
        char version[PROFILE_VERSION_MAX]; /* "DEV:INO:SIZE:MTIME_NS:CTIME_NS" of what was read */
} ProfileFile;

/*
 * Reads CONFIG_DIR/profiles/FILE_NAME, once.
 *
 * config_dir: absolute, printable, without ".."; file_name: without '/'; otherwise -EINVAL. flags:
 * ProfileCheck bits.
 * Returns PROFILE_OK and sets *ret; or PROFILE_MISSING or PROFILE_BAD and sets *ret_problem; or a
 * negative errno.
 */
int profile_file_read(const char *config_dir, const char *file_name, unsigned flags,
                      ProfileFile *ret, char **ret_problem);

/* Takes an empty one (all zero). */
void profile_file_deinit(ProfileFile *file);
