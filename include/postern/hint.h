/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * hint: what a person should look at after a window that did not end well.
 */

#include <postern/renewal.h>

/* A sentence or two, "" where there is nothing to say; NULL when memory lacks. Holds no output. */
char *hint_new(const Renewal *renewal);

/* The text of the bus error for a window that did not end well: result, exit status, hint, how to
 * read the log. NULL when memory lacks. */
char *hint_new_failure(const Renewal *renewal);
