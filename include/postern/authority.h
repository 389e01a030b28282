/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * authority: asks polkit. The only module that knows it.
 *
 * The subject is the caller's unique bus name, never a pid. Anything but polkit's plain yes is a
 * no.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#define AUTHORITY_TIMEOUT_USEC ((uint64_t) 120 * 1000 * 1000)

/* Zero is no action on purpose: what is left out of a table can never be asked for, or granted. */
typedef enum AuthorityAction {
        ACTION_INVALID = 0,
        ACTION_NOT_NEEDED,
        ACTION_REQUEST_WINDOW,
        ACTION_CLOSE_WINDOW,
        ACTION_READ_LOG,
} AuthorityAction;

typedef enum AuthorityAnswer {
        AUTHORITY_REFUSED = 0,
        AUTHORITY_GRANTED,
        AUTHORITY_CHALLENGE, /* somebody would have to be asked: the question did not allow that,
                              * or there is no agent to ask */
        AUTHORITY_FAILED,    /* no polkit, or it answered with an error */
        AUTHORITY_SILENT,    /* no answer in time */
} AuthorityAnswer;

/* What rules may decide by, and what a prompt shows. Keys are fixed; values come from a checked
 * profile, never from the caller. */
typedef struct AuthorityDetails {
        const char *profile;
        const char *ports;
        const char *gate;
        uint64_t duration_usec;
} AuthorityDetails;

typedef struct Authority Authority;

/* Called once per question, never from inside authority_ask(). */
typedef void (*AuthorityCallback)(uint64_t question, AuthorityAnswer answer, void *userdata);

int authority_new(Authority **ret, sd_bus *bus, AuthorityCallback callback, void *userdata);
/* Cancels what is asked. */
Authority *authority_free(Authority *authority);

/* question: the caller's number for it, never used twice. Negative errno: nothing was asked. */
int authority_ask(Authority *authority, uint64_t question, const char *sender,
                  AuthorityAction action, const AuthorityDetails *details, bool interactive);

/* Takes the prompt away. The answer still follows, whatever it is: until then polkit is at work on
 * it. An unknown question is ignored. */
void authority_cancel(Authority *authority, uint64_t question);

/* The name polkit knows it by; NULL for ACTION_INVALID and ACTION_NOT_NEEDED. */
const char *authority_action_to_string(AuthorityAction action);
