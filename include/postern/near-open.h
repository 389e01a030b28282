/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * near-open: one step on the way to a file, and none onto a file system of another host or of a
 * program (NFS, SMB, FUSE): a look at one waits for as long as whoever serves it is silent, and an
 * event loop may not.
 *
 * Of a way that somebody else may change meanwhile each step is taken from the directory that the
 * step before has opened, so what was found near stays so.
 */

#include <fcntl.h>

/* NEAR_ROOT: "/" */
enum { NEAR_ROOT = AT_FDCWD };

/*
 * directory: of an earlier step, or NEAR_ROOT and no name (NULL). name: one component, ".." too.
 * Opens with O_PATH what has the name, a symlink itself. The descriptor, or a negative errno:
 * -EREMOTE where it is a file system to keep away from, and those of openat().
 */
int near_open(int directory, const char *name);
