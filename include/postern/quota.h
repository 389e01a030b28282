/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * quota: who may ask how often.
 *
 * Knows neither the bus nor a clock: `now` is CLOCK_BOOTTIME in microseconds, so that stepping the
 * wall clock neither opens nor locks anything.
 */

#include <stdint.h>
#include <sys/types.h>

enum {
        QUOTA_QUESTIONS_PER_UID = 4, /* requests that wait for an answer of polkit */
        QUOTA_QUESTIONS = 32,
        QUOTA_WINDOWS_PER_UID = 4,
        QUOTA_WINDOWS = 16,
        QUOTA_CHECKS_PER_UID = 20, /* pre-flights in a row, and as many again in this time */
        QUOTA_CHECKS_INTERVAL_USEC = 10 * 1000 * 1000,
        QUOTA_CHECKS_SHARE = 20, /* of the processor's time a uid's get one part in so many */
        QUOTA_CHECKERS = 32,     /* uids that pre-flight at the same time */
        QUOTA_HISTORY_MAX = 100, /* the highest count that a rate limit may name */
};

/* When windows of one profile were opened lately. */
typedef struct QuotaHistory {
        uint64_t interval_usec; /* of the last window: when all are older, it is dropped */
        unsigned n_times;
        uint64_t times[QUOTA_HISTORY_MAX]; /* oldest first */
} QuotaHistory;

typedef struct Quota Quota;

typedef enum QuotaOutcome {
        QUOTA_OK = 0,
        QUOTA_RATE_LIMITED, /* *ret_retry_at says when the next window may be asked for */
        QUOTA_TOO_MANY,     /* a cap above is reached */
} QuotaOutcome;

int quota_new(Quota **ret);
Quota *quota_free(Quota *quota);

/* One more question of this uid, until quota_question_done(). QUOTA_OK or QUOTA_TOO_MANY. */
int quota_question_begin(Quota *quota, uid_t uid);
void quota_question_done(Quota *quota, uid_t uid);

/* May a window of this profile be opened by this uid now: `count` windows in any `interval_usec`,
 * all callers together, and the caps on windows that are open? count: 1..100. Changes nothing. */
int quota_window_check(Quota *quota, const char *profile, unsigned count, uint64_t interval_usec,
                       uid_t uid, uint64_t now, uint64_t *ret_retry_at);

/* Checks and counts it, until quota_window_done() as far as the caps go. Also -ENOMEM. */
int quota_window_begin(Quota *quota, const char *profile, unsigned count, uint64_t interval_usec,
                       uid_t uid, uint64_t now, uint64_t *ret_retry_at);
void quota_window_done(Quota *quota, uid_t uid);

/* What rate limits go by, to be kept over a restart. All zero for a profile without windows. */
void quota_get_history(const Quota *quota, const char *profile, QuotaHistory *ret);
/* Before the first window of this profile. Times that are not yet come are no times of this boot's,
 * and are left out. 0 or -ENOMEM. */
int quota_set_history(Quota *quota, const char *profile, const QuotaHistory *history, uint64_t now);

/* May this uid have a pre-flight now, which reads the whole ruleset? Counts it. QUOTA_OK or
 * QUOTA_RATE_LIMITED. */
int quota_check(Quota *quota, uid_t uid, uint64_t now, uint64_t *ret_retry_at);
/* The one that was counted, at `now` or before, has taken so much processor time: of a very large
 * ruleset it counts for more than one. */
void quota_charge_check(Quota *quota, uid_t uid, uint64_t now, uint64_t took_usec);
