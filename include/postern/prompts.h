/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * prompts: how often a user may have a person asked for a password.
 *
 * Prompts cost somebody's attention, and wrong answers can lock an administrator out: one at a time
 * for each uid, three in ten minutes, and after a no a minute of peace. Times are CLOCK_BOOTTIME in
 * microseconds.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
        PROMPTS_PER_UID = 3,
        PROMPTS_INTERVAL_USEC = 10 * 60 * 1000 * 1000,
        PROMPTS_PEACE_USEC = 60 * 1000 * 1000,
        PROMPTS_UIDS = 128, /* that have been prompted for in the last ten minutes */
};

typedef struct Prompter {
        uid_t uid;
        bool open;
        uint64_t peace_until;
        unsigned n_times;
        uint64_t times[PROMPTS_PER_UID]; /* oldest first */
} Prompter;

/* All zero is ready for use. */
typedef struct Prompts {
        Prompter prompters[PROMPTS_UIDS];
} Prompts;

typedef enum PromptOutcome {
        PROMPT_OK = 0,
        PROMPT_OPEN,    /* there is one already */
        PROMPT_LIMITED, /* *ret_retry_at says when the next may be */
} PromptOutcome;

typedef enum PromptEnd {
        PROMPT_OVER,      /* answered, or taken back */
        PROMPT_DISMISSED, /* somebody did not want it, or did not know the password */
        PROMPT_NOT_SHOWN, /* there was nothing to show it: it does not count */
} PromptEnd;

/* One more prompt for this uid, until prompts_end(). */
PromptOutcome prompts_begin(Prompts *prompts, uid_t uid, uint64_t now, uint64_t *ret_retry_at);
void prompts_end(Prompts *prompts, uid_t uid, PromptEnd end, uint64_t now);

/* Somebody's prompts are still counted. */
bool prompts_count(const Prompts *prompts, uint64_t now);
