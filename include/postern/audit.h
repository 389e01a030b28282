/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * audit: the records of one window in the journal, one for each thing that happens to it. What is
 * asked, granted and refused is request-log.c's to tell, what is owed owed.c's; the fields are the
 * same (log.h).
 */

#include <postern/renewal.h>

/* The renewal runs and the port is shut until a token is there: OpenOn=challenge. */
void audit_armed(const Renewal *renewal);
void audit_opened(const Renewal *renewal);
/* The port is shut until the next token. */
void audit_shut(const Renewal *renewal);
/* event: RUNNER_ENDED or RUNNER_LOST. */
void audit_run_ended(const Renewal *renewal, const RunnerEvent *event);
void audit_closed(const Renewal *renewal);
