/* SPDX-License-Identifier: GPL-2.0-or-later */

/* From how a window ended to what to look at. Only texts: nothing here decides anything. */

#include <postern/cleanup.h>
#include <postern/hint.h>
#include <string.h>

/* A problem is told without a full stop, as it also stands in the log and in findings. */
static char *hint_new_problem(const Renewal *renewal, const char *otherwise) {
        const char *problem = renewal->problem ? renewal->problem : otherwise;
        size_t length = strlen(problem);
        char *text;

        if (asprintf(&text, "%s%s", problem, length > 0 && problem[length - 1] != '.' ? "." : "") <
            0)
                return NULL;
        return text;
}

static char *hint_new_timeout(const Renewal *renewal) {
        char *text;
        int r;

        if (renewal->window.has_door && renewal->admitted == 0)
                r = asprintf(&text,
                             "The renewal was still running after %llu s, and no connection came "
                             "in: look at what is in front of this host, and whether its DNS names "
                             "point here.",
                             (unsigned long long) (renewal->window.duration_usec / 1000000));
        else
                r = asprintf(
                        &text,
                        "The renewal was still running after %llu s and was ended: read what it "
                        "printed, or ask for a longer duration.",
                        (unsigned long long) (renewal->window.duration_usec / 1000000));
        return r < 0 ? NULL : text;
}

/* Success where a certificate is named means that it could not be compared. */
static char *hint_new_success(const Renewal *renewal) {
        char *text;

        if (!renewal->profile->certificate)
                return strdup("");
        if (asprintf(&text,
                     "The command succeeded, but what Certificate= of profile %s names could not "
                     "be read as a certificate afterwards, so whether it is a new one is not "
                     "known: see that the path is right and leads to a certificate in PEM.",
                     renewal->profile->name) < 0)
                return NULL;
        return text;
}

char *hint_new(const Renewal *renewal) {
        const Window *window = &renewal->window;

        switch (window->result) {
        case RESULT_NONE:
        case RESULT_RENEWED:
        case RESULT_UNCHANGED:
                return strdup("");
        case RESULT_SUCCESS:
                return hint_new_success(renewal);
        case RESULT_FAILED:
                if (window->has_door && window->opened_at && renewal->admitted == 0)
                        return strdup(
                                "No connection came in while the port was open: something in front "
                                "of this host (a cloud or router firewall, or DNS) keeps visitors "
                                "away, or the renewal ended before it asked for any.");
                return strdup("What the renewal printed says why.");
        case RESULT_TIMEOUT:
                return hint_new_timeout(renewal);
        case RESULT_CANCELED:
                return strdup("The window was closed before the renewal ended; ask again.");
        case RESULT_GATE_FAILED:
                return hint_new_problem(renewal,
                                        "The firewall could not be opened: see the service's log, "
                                        "and what Check says about the profile");
        case RESULT_RUN_FAILED:
                return hint_new_problem(renewal,
                                        "The renewal could not be started: see the service's log");
        case RESULT_STOPPED:
                return strdup("The service ended or lost the bus; ask again when it is back.");
        }

        return strdup("");
}

char *hint_new_failure(const Renewal *renewal) {
        const char *hint = renewal->hint ? renewal->hint : "", *end = "";
        char status[40] = "";
        char *text;

        /* the helper's and the firewall's are no whole sentences */
        if (*hint)
                end = hint[strlen(hint) - 1] == '.' ? " " : ". ";

        if (renewal->window.exit_status >= 0)
                (void) snprintf(status, sizeof(status), ", exit status %i",
                                renewal->window.exit_status);

        if (asprintf(&text,
                     "Renewal with profile %s: %s%s. %s%sTo read what it printed: busctl "
                     "--timeout=infinity call org.postern.Renewal1 /org/postern/Renewal1/window/%s "
                     "org.postern.Renewal1.Window GetLog u 50 (for a minute), or as root: "
                     "journalctl "
                     "-t posternd POSTERN_WINDOW=%s",
                     renewal->profile->name, window_result_to_string(renewal->window.result),
                     status, hint, end, renewal->id, renewal->id) < 0)
                return NULL;
        return text;
}
