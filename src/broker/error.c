/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The one switch from an outcome to the name of a bus error; see error.h. */

#include <postern/error.h>
#include <stddef.h>

/* No default: an outcome without a name must not compile. */
const char *outcome_to_error_name(Outcome outcome) {
        switch (outcome) {
        case OUTCOME_OK:
                return NULL;
        case OUTCOME_NOT_AUTHORIZED:
                /* not the standard AccessDenied: busctl hides the text of that one */
                return ERROR_PREFIX "NotAuthorized";
        case OUTCOME_INTERACTION_REQUIRED:
                return "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
        case OUTCOME_NO_SUCH_PROFILE:
                return ERROR_PREFIX "NoSuchProfile";
        case OUTCOME_BAD_PROFILE:
                return ERROR_PREFIX "BadProfile";
        case OUTCOME_BAD_DURATION:
                return ERROR_PREFIX "BadDuration";
        case OUTCOME_BAD_FLAGS:
                return ERROR_PREFIX "BadFlags";
        case OUTCOME_RATE_LIMITED:
                return ERROR_PREFIX "RateLimited";
        case OUTCOME_TOO_MANY_WINDOWS:
                return ERROR_PREFIX "TooManyWindows";
        case OUTCOME_NO_SUCH_WINDOW:
                return ERROR_PREFIX "NoSuchWindow";
        case OUTCOME_GATE_FAILED:
                return ERROR_PREFIX "GateFailed";
        case OUTCOME_RUN_FAILED:
                return ERROR_PREFIX "RunFailed";
        case OUTCOME_RENEWAL_FAILED:
                return ERROR_PREFIX "RenewalFailed";
        case OUTCOME_TIMED_OUT:
                return ERROR_PREFIX "TimedOut";
        case OUTCOME_CANCELED:
                return ERROR_PREFIX "Canceled";
        case OUTCOME_STOPPED:
                return ERROR_PREFIX "Stopped";
        }

        return ERROR_PREFIX "NotAuthorized";
}

Outcome outcome_from_result(WindowResult result) {
        switch (result) {
        case RESULT_RENEWED:
        case RESULT_UNCHANGED:
        case RESULT_SUCCESS:
                return OUTCOME_OK;
        case RESULT_FAILED:
                return OUTCOME_RENEWAL_FAILED;
        case RESULT_TIMEOUT:
                return OUTCOME_TIMED_OUT;
        case RESULT_CANCELED:
                return OUTCOME_CANCELED;
        case RESULT_GATE_FAILED:
                return OUTCOME_GATE_FAILED;
        case RESULT_RUN_FAILED:
                return OUTCOME_RUN_FAILED;
        case RESULT_STOPPED:
        case RESULT_NONE: /* closed without one: only where the daemon is torn down */
                return OUTCOME_STOPPED;
        }

        return OUTCOME_STOPPED;
}
