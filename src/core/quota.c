/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Two ledgers. What is going on now is counted per uid, in a table that cannot overflow: an account
 * exists only while it holds a question or a window, and the caps over all bound both. What was
 * opened lately is kept per profile, as the times themselves, so that "5 in any hour" means any
 * hour. Pre-flights cost nothing but time, so a bucket per uid will do.
 */

#include <assert.h>
#include <errno.h>
#include <postern/quota.h>
#include <stdlib.h>
#include <string.h>

enum { ACCOUNTS = QUOTA_QUESTIONS + QUOTA_WINDOWS };

typedef struct Account {
        uid_t uid;
        unsigned questions;
        unsigned windows;
} Account;

/* A bucket that is full again in time: full_at says when, so an untouched one is all zero. */
typedef struct Checker {
        uid_t uid;
        uint64_t full_at;
} Checker;

typedef struct History {
        struct History *next;
        QuotaHistory opened;
        char profile[];
} History;

struct Quota {
        unsigned questions;
        unsigned windows;
        Account accounts[ACCOUNTS];
        Checker checkers[QUOTA_CHECKERS];
        History *histories;
};

int quota_new(Quota **ret) {
        Quota *quota;

        quota = calloc(1, sizeof(*quota));
        if (!quota)
                return -ENOMEM;

        *ret = quota;
        return 0;
}

Quota *quota_free(Quota *quota) {
        History *next;

        if (!quota)
                return NULL;

        for (History *history = quota->histories; history; history = next) {
                next = history->next;
                free(history);
        }

        free(quota);
        return NULL;
}

/* The account of this uid, or a free one with nothing in it, or NULL where all are taken. */
static Account *quota_find_account(Quota *quota, uid_t uid) {
        Account *unused = NULL;

        for (size_t i = 0; i < ACCOUNTS; i++) {
                Account *account = &quota->accounts[i];

                if (account->questions == 0 && account->windows == 0)
                        unused = account;
                else if (account->uid == uid)
                        return account;
        }

        return unused;
}

int quota_question_begin(Quota *quota, uid_t uid) {
        Account *account;

        if (quota->questions >= QUOTA_QUESTIONS)
                return QUOTA_TOO_MANY;

        account = quota_find_account(quota, uid);
        assert(account); /* below the caps there is always a free one */
        if (account->questions >= QUOTA_QUESTIONS_PER_UID)
                return QUOTA_TOO_MANY;

        account->uid = uid;
        account->questions++;
        quota->questions++;
        return QUOTA_OK;
}

void quota_question_done(Quota *quota, uid_t uid) {
        Account *account = quota_find_account(quota, uid);

        assert(account && account->questions > 0);
        account->questions--;
        quota->questions--;
}

static History *quota_find_history(const Quota *quota, const char *profile) {
        for (History *history = quota->histories; history; history = history->next)
                if (strcmp(history->profile, profile) == 0)
                        return history;

        return NULL;
}

static int quota_add_history(Quota *quota, const char *profile, History **ret) {
        size_t size = strlen(profile) + 1;
        History *history;

        history = calloc(1, sizeof(*history) + size);
        if (!history)
                return -ENOMEM;

        memcpy(history->profile, profile, size);
        history->next = quota->histories;
        quota->histories = history;
        *ret = history;
        return 0;
}

/* The nth newest time, from 1. */
static uint64_t history_at(const QuotaHistory *history, unsigned nth) {
        return history->times[history->n_times - nth];
}

/* The oldest makes room: no rate limit counts further back. */
static void history_add(QuotaHistory *history, uint64_t interval_usec, uint64_t now) {
        if (history->n_times == QUOTA_HISTORY_MAX)
                memmove(history->times, history->times + 1,
                        --history->n_times * sizeof(history->times[0]));
        history->times[history->n_times++] = now;
        history->interval_usec = interval_usec;
}

static void quota_drop_aged(Quota *quota, uint64_t now) {
        History **link = &quota->histories;

        while (*link) {
                History *history = *link;

                if (now - history_at(&history->opened, 1) >= history->opened.interval_usec) {
                        *link = history->next;
                        free(history);
                } else
                        link = &history->next;
        }
}

int quota_window_check(Quota *quota, const char *profile, unsigned count, uint64_t interval_usec,
                       uid_t uid, uint64_t now, uint64_t *ret_retry_at) {
        const Account *account;
        const History *history;
        uint64_t retry_at;

        assert(count > 0 && count <= QUOTA_HISTORY_MAX);

        if (quota->windows >= QUOTA_WINDOWS)
                return QUOTA_TOO_MANY;

        account = quota_find_account(quota, uid);
        assert(account);
        if (account->windows >= QUOTA_WINDOWS_PER_UID)
                return QUOTA_TOO_MANY;

        /* One more is one too many while the count-th newest is younger than the interval. */
        history = quota_find_history(quota, profile);
        if (!history || history->opened.n_times < count)
                return QUOTA_OK;

        retry_at = history_at(&history->opened, count) + interval_usec;
        if (now >= retry_at)
                return QUOTA_OK;

        *ret_retry_at = retry_at;
        return QUOTA_RATE_LIMITED;
}

int quota_window_begin(Quota *quota, const char *profile, unsigned count, uint64_t interval_usec,
                       uid_t uid, uint64_t now, uint64_t *ret_retry_at) {
        Account *account;
        History *history;
        int r;

        r = quota_window_check(quota, profile, count, interval_usec, uid, now, ret_retry_at);
        if (r != QUOTA_OK)
                return r;

        quota_drop_aged(quota, now);

        history = quota_find_history(quota, profile);
        if (!history) {
                r = quota_add_history(quota, profile, &history);
                if (r < 0)
                        return r;
        }
        history_add(&history->opened, interval_usec, now);

        account = quota_find_account(quota, uid);
        account->uid = uid;
        account->windows++;
        quota->windows++;
        return QUOTA_OK;
}

void quota_window_done(Quota *quota, uid_t uid) {
        Account *account = quota_find_account(quota, uid);

        assert(account && account->windows > 0);
        account->windows--;
        quota->windows--;
}

void quota_get_history(const Quota *quota, const char *profile, QuotaHistory *ret) {
        const History *history = quota_find_history(quota, profile);

        *ret = history ? history->opened : (QuotaHistory){0};
}

int quota_set_history(Quota *quota, const char *profile, const QuotaHistory *history,
                      uint64_t now) {
        History *added;
        unsigned n = history->n_times;
        int r;

        while (n > 0 && history->times[n - 1] > now)
                n--;
        if (n == 0)
                return 0;

        r = quota_add_history(quota, profile, &added);
        if (r < 0)
                return r;
        added->opened = *history;
        added->opened.n_times = n;
        return 0;
}

/* Its own, or the one that is full soonest; nobody's place is taken while it counts. */
static Checker *quota_find_checker(Quota *quota, uid_t uid, uint64_t now) {
        Checker *soonest = &quota->checkers[0];

        for (size_t i = 0; i < QUOTA_CHECKERS; i++) {
                Checker *checker = &quota->checkers[i];

                if (checker->full_at > now && checker->uid == uid)
                        return checker;
                if (checker->full_at < soonest->full_at)
                        soonest = checker;
        }

        return soonest;
}

static const uint64_t check_cost = QUOTA_CHECKS_INTERVAL_USEC / QUOTA_CHECKS_PER_UID;

int quota_check(Quota *quota, uid_t uid, uint64_t now, uint64_t *ret_retry_at) {
        Checker *checker = quota_find_checker(quota, uid, now);
        uint64_t full_at = checker->full_at > now ? checker->full_at : now;

        if (checker->full_at > now && checker->uid != uid) {
                *ret_retry_at = checker->full_at;
                return QUOTA_RATE_LIMITED;
        }
        if (full_at + check_cost > now + QUOTA_CHECKS_INTERVAL_USEC) {
                *ret_retry_at = full_at + check_cost - QUOTA_CHECKS_INTERVAL_USEC;
                return QUOTA_RATE_LIMITED;
        }

        checker->uid = uid;
        checker->full_at = full_at + check_cost;
        return QUOTA_OK;
}

void quota_charge_check(Quota *quota, uid_t uid, uint64_t now, uint64_t took_usec) {
        Checker *checker = quota_find_checker(quota, uid, now);
        uint64_t cost = took_usec * QUOTA_CHECKS_SHARE;

        if (checker->uid == uid && checker->full_at > now && cost > check_cost)
                checker->full_at += cost - check_cost;
}
