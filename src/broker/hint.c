/* SPDX-License-Identifier: GPL-2.0-or-later */

/* From how a window ended to what to look at. Only texts: nothing here decides anything. */

#include <inttypes.h>
#include <postern/broker.h>
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

enum { VISITORS_TEXT_MAX = 384 };

/* Only if all are known who came. */
static const char *hint_about_families(const Renewal *renewal) {
        if (renewal->host_admits || !renewal_knows_sources(renewal))
                return "";
        if (renewal->sources.n_ipv6 == 0)
                return " All came over IPv4: if the name has an AAAA record as well, see that it "
                       "leads here.";
        if (renewal->sources.n_ipv6 == renewal->sources.n_connections)
                return " All came over IPv6, which authorities prefer where a name has both "
                       "records.";
        return "";
}

/* What the number of visitors tells, behind a sentence that says more. */
static void hint_about_visitors(const Renewal *renewal, char ret[VISITORS_TEXT_MAX]) {
        const Window *window = &renewal->window;
        unsigned networks = renewal->sources.n_networks;

        *ret = 0;
        if (!window->has_door || !window->opened_at)
                return;
        if (renewal->admitted > 0)
                (void) snprintf(ret, VISITORS_TEXT_MAX,
                                " %" PRIu64 " connection%s came in, from %s%u network%s, so the "
                                "port was reached: look at what answered there.%s",
                                renewal->admitted, renewal->admitted == 1 ? "" : "s",
                                renewal_knows_sources(renewal) ? "" : "at least ", networks,
                                networks == 1 ? "" : "s", hint_about_families(renewal));
        else
                (void) snprintf(
                        ret, VISITORS_TEXT_MAX, "%s",
                        renewal->host_admits
                                ? " The port was open already by this host's own rules, so how "
                                  "many visitors came is not known."
                                : " No connection came in through the window: it ended before "
                                  "the authority called, or something in front of this host (a "
                                  "cloud or router firewall, or DNS) keeps visitors away.");
}

/* What an authority answers is in the output, which no hint may hold; its limits are known. */
static const char *hint_about_repetition(const Renewal *renewal) {
        const Record *record = records_find(renewal->broker->records, renewal->profile->name);

        if (!record || record->last_result != RESULT_FAILED)
                return "";
        return " The one before failed as well. Mend the cause before you ask again: Let's Encrypt "
               "allows five failed validations of a name in an hour and gives one back every 12 "
               "minutes; its staging authority is there to try.";
}

static char *hint_new_failed(const Renewal *renewal) {
        char visitors[VISITORS_TEXT_MAX], *text;

        hint_about_visitors(renewal, visitors);
        if (asprintf(&text, "What the renewal printed says why, its last lines first of all.%s%s",
                     visitors, hint_about_repetition(renewal)) < 0)
                return NULL;
        return text;
}

static char *hint_new_timeout(const Renewal *renewal) {
        char visitors[VISITORS_TEXT_MAX], *text;

        hint_about_visitors(renewal, visitors);
        if (asprintf(&text,
                     "The renewal was still running after %llu s and was ended: read what it "
                     "printed, or ask for a longer duration.%s",
                     (unsigned long long) (renewal->window.duration_usec / 1000000), visitors) < 0)
                return NULL;
        return text;
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
                return hint_new_failed(renewal);
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
                return hint_new_problem(
                        renewal, "The service ended or lost the bus; ask again when it is back");
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
                     "journalctl -t posternd POSTERN_WINDOW=%s",
                     renewal->profile->name, window_result_to_string(renewal->window.result),
                     status, hint, end, renewal->id, renewal->id) < 0)
                return NULL;
        return text;
}
