/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* firewalld-task: opens, or shuts, a list of claims one by one. */

#include <postern/gate-firewalld.h>

typedef struct FirewalldTask FirewalldTask;

typedef enum FirewalldVerb {
        FIREWALLD_ADD,    /* ends at the first that fails */
        FIREWALLD_REMOVE, /* goes on to the next, unless firewalld does not answer */
} FirewalldVerb;

/* Is this one to be left as it is? */
typedef bool (*FirewalldSkips)(const FirewalldClaim *claim, void *userdata);

/* Once, unless freed before; the task is still there, and may be freed. n_sent: so many of the
 * claims, from the first on, firewalld has been told of.
 *
 * ADD: DONE, or REFUSED; ABSENT if the instance of the claims is not there (any more).
 * REMOVE: DONE also where another instance is there, which knows nothing of the claims; ABSENT if
 * none is. */
typedef void (*FirewalldTaskEnded)(FirewalldOutcome outcome, const char *problem, size_t n_sent,
                                   void *userdata);

/* claims: the caller's; must stay as they are. */
int firewalld_task_new(FirewalldTask **ret, sd_bus *bus, FirewalldVerb verb,
                       const FirewalldClaims *claims, FirewalldSkips skips,
                       FirewalldTaskEnded ended, void *userdata);
/* A call that firewalld has got will be worked off by it all the same. */
FirewalldTask *firewalld_task_free(FirewalldTask *task);

/* Nothing more is asked; ended() follows when what was asked last has been answered. */
void firewalld_task_stop(FirewalldTask *task);
