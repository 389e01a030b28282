/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * records: what is known of each profile from the windows it had, in memory and on disk.
 *
 * One file for each profile in the state directory, read once at start and written when a window
 * begins and when it has closed. A file that cannot be read, or written, is said in the log and
 * stops nothing: certificates must be renewed on a host with a full disk, too. But a daemon that
 * could not write stays: else a caller could have a limit forgotten by staying away for a while.
 */

#include <postern/certificate.h>
#include <postern/quota.h>
#include <postern/window.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Records Records;

typedef struct Record {
        struct Record *next;
        bool unsaved;
        WindowResult last_result; /* RESULT_NONE: no window has closed yet */
        /* CLOCK_REALTIME, microseconds; 0: unknown */
        uint64_t last_closed_at;
        Certificate certificate; /* as far as the last window told */
        char profile[];
} Record;

/* Reads what is there, and gives the quota its histories back. state_dir must exist. */
int records_new(Records **ret, const char *state_dir, Quota *quota);
Records *records_free(Records *records);

/* The list of all that is known. */
const Record *records_first(const Records *records);
/* NULL: nothing is known. */
const Record *records_find(const Records *records, const char *profile);

/* Tries again what could not be written. */
void records_save_all(Records *records);
bool records_are_saved(const Records *records);

/* The quota has counted a window of this profile: before anything is opened for it. */
void records_note_begun(Records *records, const char *profile);
/* certificate: one without a serial leaves what was known. */
void records_note_closed(Records *records, const char *profile, WindowResult result,
                         uint64_t closed_at, const Certificate *certificate);
