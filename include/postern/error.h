/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * error: what a caller can be told, and the one place where that becomes the name of a bus error.
 */

#include <postern/window.h>

#define ERROR_PREFIX "org.postern.Renewal1.Error."

typedef enum Outcome {
        OUTCOME_OK = 0,
        OUTCOME_NOT_AUTHORIZED,
        OUTCOME_INTERACTION_REQUIRED,
        OUTCOME_NO_SUCH_PROFILE,
        OUTCOME_BAD_PROFILE,
        OUTCOME_BAD_DURATION,
        OUTCOME_BAD_FLAGS,
        OUTCOME_RATE_LIMITED,
        OUTCOME_TOO_MANY_WINDOWS,
        OUTCOME_NO_SUCH_WINDOW,
        OUTCOME_GATE_FAILED,
        OUTCOME_RUN_FAILED,
        OUTCOME_RENEWAL_FAILED,
        OUTCOME_TIMED_OUT,
        OUTCOME_CANCELED,
        OUTCOME_STOPPED,
} Outcome;

/* NULL for OUTCOME_OK. */
const char *outcome_to_error_name(Outcome outcome);

/* How the end of a window is told to who asked for it: OUTCOME_OK for renewed, unchanged, success.
 */
Outcome outcome_from_result(WindowResult result);
