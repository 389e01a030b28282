/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The directory that a window with OpenOn=challenge watches: what it says when it begins,
 * beforehand. */

#include <errno.h>
#include <postern/challenge.h>
#include <postern/check-way.h>
#include <postern/check.h>

#define SUBJECT "ChallengeDirectory"

static void report_there(const Way *way, const struct stat *st, const char *shown,
                         Findings *findings) {
        if (!S_ISDIR(st->st_mode))
                findings_add(findings, FINDING_ERROR, SUBJECT,
                             "%s is not a directory: name the one where the client puts its tokens",
                             shown);
        else if (!way->readable)
                findings_add(findings, FINDING_ERROR, SUBJECT, "%s", challenge_explain(-EACCES));
        else if (way->hidden_from_some)
                findings_add(findings, FINDING_NOTE, SUBJECT,
                             "%s is there, but not every user may enter it or a directory on the "
                             "way to it: see that the web server's may",
                             shown);
        else
                findings_add(findings, FINDING_OK, SUBJECT,
                             "%s is there: while a token lies in it, the ports are open", shown);
}

void check_challenge(const char *directory, bool by_name, Findings *findings) {
        const char *shown = by_name ? directory : "the directory", *fault = NULL;
        struct stat st;
        Way way;

        switch (way_walk(&way, directory, WAY_ANYBODY, &st, &fault)) {
        case WAY_GOOD:
                report_there(&way, &st, shown, findings);
                return;
        case WAY_MISSING:
                findings_add(
                        findings, FINDING_NOTE, SUBJECT,
                        "%s does not exist, as far as posternd sees: right if the client makes "
                        "it. The port stays shut until then, so see that it is where the "
                        "client puts its tokens, and not in /tmp, /var/tmp or a user's home",
                        shown);
                return;
        case WAY_HIDDEN:
                findings_add(findings, FINDING_ERROR, SUBJECT, "%s", challenge_explain(-EACCES));
                return;
        case WAY_FAR:
                findings_add(findings, FINDING_ERROR, SUBJECT, "%s", challenge_explain(-EREMOTE));
                return;
        case WAY_BAD:
                findings_add(findings, FINDING_ERROR, SUBJECT, "%s %s", shown, fault);
                return;
        }
}
