/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * challenge: tells when an ACME client has put a token into the challenge directory, and when the
 * last one is gone.
 *
 * What lay in the directory before is an earlier client's and does not count, unless it is written
 * anew.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

enum {
        CHALLENGE_FILES_MAX = 4096, /* looked at in the directory */
        /* Between two looks, however much is written: an authority may call within milliseconds. */
        CHALLENGE_PACE_USEC = 1000,
        CHALLENGE_PACE_SHARE = 9, /* or so many times what the last look took, if that is more */
        /* One that was held up is no reason to leave the port open: the token may be gone. */
        CHALLENGE_PAUSE_MAX_USEC = 1000 * 1000,
        CHALLENGE_RETRY_USEC = 1000 * 1000, /* after a look that failed */
        CHALLENGE_ACCURACY_USEC = 1000,
};

typedef struct Challenge Challenge;

/* pending: a token is there. Told only when it changes; at first there is none. */
typedef void (*ChallengeCallback)(bool pending, void *userdata);

/*
 * directory: absolute; it need not exist.
 * Returns 0, or a negative errno: -E2BIG where more files lie there than are looked at, or those of
 * path_watch_find() and opendir(). challenge_explain() says it in words.
 */
int challenge_new(Challenge **ret, sd_event *event, const char *directory,
                  ChallengeCallback callback, void *userdata);
/* NULL is taken. */
Challenge *challenge_free(Challenge *challenge);

/* What is wrong with ChallengeDirectory= and what to do. Static text, without the path. */
const char *challenge_explain(int error);
