/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A fixed table: a place is given away only when nothing in it counts any more, so nobody gets
 * prompts by crowding others out. */

#include <assert.h>
#include <postern/prompts.h>
#include <string.h>

/* Till then it takes a place. */
static uint64_t prompter_counts_until(const Prompter *prompter) {
        uint64_t until = prompter->peace_until;

        if (prompter->open)
                return UINT64_MAX;
        if (prompter->n_times > 0 &&
            prompter->times[prompter->n_times - 1] + PROMPTS_INTERVAL_USEC > until)
                until = prompter->times[prompter->n_times - 1] + PROMPTS_INTERVAL_USEC;
        return until;
}

static void prompter_forget(Prompter *prompter, uint64_t now) {
        unsigned n = 0;

        while (n < prompter->n_times && prompter->times[n] + PROMPTS_INTERVAL_USEC <= now)
                n++;
        prompter->n_times -= n;
        memmove(prompter->times, prompter->times + n,
                prompter->n_times * sizeof(prompter->times[0]));
}

/* Its own, or the one that is free first. */
static Prompter *prompts_find(Prompts *prompts, uid_t uid, uint64_t now) {
        Prompter *first = &prompts->prompters[0];

        for (size_t i = 0; i < PROMPTS_UIDS; i++) {
                Prompter *prompter = &prompts->prompters[i];

                if (prompter->uid == uid && prompter_counts_until(prompter) > now)
                        return prompter;
                if (prompter_counts_until(prompter) < prompter_counts_until(first))
                        first = prompter;
        }
        return first;
}

PromptOutcome prompts_begin(Prompts *prompts, uid_t uid, uint64_t now, uint64_t *ret_retry_at) {
        Prompter *prompter = prompts_find(prompts, uid, now);

        if (prompter_counts_until(prompter) > now) {
                if (prompter->open)
                        return PROMPT_OPEN;
                if (prompter->uid != uid) {
                        *ret_retry_at = prompter_counts_until(prompter);
                        return PROMPT_LIMITED;
                }
        } else
                *prompter = (Prompter){.uid = uid};

        prompter_forget(prompter, now);
        if (prompter->n_times == PROMPTS_PER_UID) {
                *ret_retry_at = prompter->times[0] + PROMPTS_INTERVAL_USEC;
                if (prompter->peace_until > *ret_retry_at)
                        *ret_retry_at = prompter->peace_until;
                return PROMPT_LIMITED;
        }
        if (prompter->peace_until > now) {
                *ret_retry_at = prompter->peace_until;
                return PROMPT_LIMITED;
        }

        prompter->times[prompter->n_times++] = now;
        prompter->open = true;
        return PROMPT_OK;
}

void prompts_end(Prompts *prompts, uid_t uid, PromptEnd end, uint64_t now) {
        Prompter *prompter = prompts_find(prompts, uid, now);

        assert(prompter->uid == uid && prompter->open);
        prompter->open = false;
        switch (end) {
        case PROMPT_OVER:
                return;
        case PROMPT_DISMISSED:
                prompter->peace_until = now + PROMPTS_PEACE_USEC;
                return;
        case PROMPT_NOT_SHOWN:
                prompter->n_times--;
                return;
        }
}

bool prompts_count(const Prompts *prompts, uint64_t now) {
        for (size_t i = 0; i < PROMPTS_UIDS; i++)
                if (prompter_counts_until(&prompts->prompters[i]) > now)
                        return true;
        return false;
}
