/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* owed-store: the files of owed closes, one for each window, named for it. */

#include <postern/owed-record.h>

enum { OWED_STORE_WINDOW_MAX = 16 }; /* with the final 0 */

/* Makes STATE_DIR/owed where it is not, and opens it: a descriptor, or a negative errno. */
int owed_store_open(const char *state_dir);

/* Replaces the window's file. 0: it is on the disk. A negative errno: the file is what it was, or
 * the new one that may not outlive a power cut. */
int owed_store_write(int store_fd, const char *window_id, const OwedRecord *record);
int owed_store_remove(int store_fd, const char *window_id);

/* Every record. A file that holds none is renamed to NAME.bad, and said in the log. One that cannot
 * be read now, of which that is not known, ends it with a negative errno, said in the log; so does
 * a negative errno from the callback. */
typedef int (*OwedStoreCallback)(const char *window_id, const OwedRecord *record, void *userdata);
int owed_store_read(int store_fd, OwedStoreCallback callback, void *userdata);

/* 'w' and twelve hex digits. */
bool owed_store_is_window(const char *name);
