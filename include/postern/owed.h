/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * owed: what was opened in a firewall elsewhere, kept on disk until it is closed there.
 *
 * A record is written before anything is opened (owed_take), and goes when nothing was (owed_drop)
 * or when closing has succeeded. Closing is tried when its window ends (owed_close); what fails is
 * *owed*, and tried again, at ever longer intervals, until it succeeds; so is what an earlier
 * posternd has left. All of it is in fixed arrays: to begin a close takes no memory that could be
 * refused, but for the command's own, and then it is tried again like any other that failed.
 *
 * A command that was cut off, or has failed, may have asked for a change that takes effect only
 * after a close has succeeded. Until it has reported success (owed_settle) its record is
 * *unsettled*, on disk as well; such a close counts only when it was begun OWED_SETTLE_USEC after
 * the command's end (or after the start that has found the record), so it is carried out twice. Nor
 * does a close count by a profile that opens in another way than the one that has opened.
 *
 * While a profile has a window open, nothing of an earlier one of its windows is closed: it would
 * close the newer one, too.
 */

#include <postern/gate-firewalld.h>
#include <postern/owed-record.h>
#include <postern/profile.h>
#include <postern/runner.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

enum {
        OWED_MAX = 32, /* records; more are not opened */
        OWED_WINDOW_MAX = 16,
        OWED_RETRY_FIRST_USEC = 1000 * 1000,
        OWED_RETRY_MAX_USEC = 300 * 1000 * 1000,
        /* as long as a command has to see its change take effect; see gate-command.h */
        OWED_SETTLE_USEC = 60 * 1000 * 1000,
        OWED_STOP_LIMIT_USEC = 8 * 1000 * 1000, /* for an attempt when the service ends */
};

typedef struct Owed Owed;

typedef struct OwedObserver {
        /* Reads the profile as it is now; see profile_load(). */
        int (*load)(const char *profile, Profile **ret, char **ret_problem, void *userdata);
        /* An attempt is over. problem: NULL where it is closed; then the record is gone, or stays
         * for one more attempt. */
        void (*attempted)(const char *window_id, const char *problem, void *userdata);
        /* Nothing of this window is open elsewhere any more, and its record is gone. */
        void (*gone)(const char *window_id, void *userdata);
        /* There is another number of them, or the profile owes one more or one less. */
        void (*changed)(const char *profile, void *userdata);
        /* firewalld lists nothing of this any more, or does not run. Are there rules of an earlier
         * one in the kernel all the same? See door_sees_firewalld(). */
        bool (*rules_remain)(const OwedRecord *record, bool runs, void *userdata);
} OwedObserver;

/* Reads the records in STATE_DIR/owed, which is made. A file that is none is said in the log and
 * moved aside; one that cannot be read makes it fail. The observer's table stays the caller's and
 * must stay. */
int owed_new(Owed **ret, sd_event *event, const char *state_dir, Runner *runner,
             GateFirewalld *firewalld, const OwedObserver *observer, void *userdata);
/* What is not closed stays on disk. NULL is taken. */
Owed *owed_free(Owed *owed);

/* For each that was read by owed_new(). */
typedef void (*OwedCallback)(const char *window_id, const OwedRecord *record, void *userdata);
void owed_each(const Owed *owed, OwedCallback callback, void *userdata);

/* Begins to close what was read by owed_new(). */
void owed_start(Owed *owed);

/* Writes the record, to stay. boot_id is filled in. A window that owes a close already (one that
 * opens for each challenge) gets the ports of both, and the claims of this one. -ENOSPC: there are
 * too many already; or another negative errno: nothing of this may be opened. */
int owed_take(Owed *owed, const char *window_id, const OwedRecord *record);
/* These are its claims from now on: 0 when that is on disk, or a negative errno. */
int owed_claim(Owed *owed, const char *window_id, const FirewalldClaims *claims);
/* The command that opens has succeeded: all that it has asked for has taken effect. */
void owed_settle(Owed *owed, const char *window_id);
/* Nothing was opened. */
void owed_drop(Owed *owed, const char *window_id);
/* The window has ended, or opening has failed: attempted() follows, never from inside this call.
 * Cannot fail. */
void owed_close(Owed *owed, const char *window_id);

/* Some close of this profile is being carried out. */
bool owed_is_closing(const Owed *owed, const char *profile);

/* For the observer of the gate. */
void owed_on_firewalld_shut(Owed *owed, const char *window_id, FirewalldOutcome outcome,
                            const char *problem);

/* Attempts get OWED_STOP_LIMIT_USEC from now on, and none is made a second time. */
void owed_stop(Owed *owed);

/* How many closes are owed: whose first attempt has failed, or which an earlier posternd has left.
 */
unsigned owed_count(const Owed *owed);
bool owed_has(const Owed *owed, const char *profile);
/* Nothing at all is to be closed. */
bool owed_is_empty(const Owed *owed);
