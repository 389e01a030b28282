/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * runner-helper: how posternd comes by a process of the root helper postern-run.
 *
 * As root it starts one itself, and waits for it. As the installed service it is nobody who could:
 * it connects to a socket that only it may connect to, and the service manager starts a unit for
 * the connection (postern-run@.service). Such a helper is not our child: its hang-up is all there
 * is to see of its end, and the service manager ends what it leaves behind.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

/* A child that has not been waited for. Ends with its process, whoever still thinks of it. */
typedef struct Helper Helper;

/* It has exited and is no more, and its owner's pointer is NULL. owner: as given to
 * helper_start(). */
typedef void (*HelperCallback)(void *owner);

typedef struct HelperWay {
        sd_event *event;
        const char *socket;        /* NULL: helpers are started here */
        const char *path;          /* of postern-run */
        const char *config_option; /* --config-dir= */
        bool allow_sticky_parents;
        HelperCallback callback;
} HelperWay;

/* Two ends of a SOCK_SEQPACKET connection, both blocking and closed on exec. *ret_theirs is for
 * helper_start(); -1 where the other end is the service manager's. 0 or a negative errno (logged
 * where it is of the socket). */
int helper_connect(const HelperWay *way, int *ret_ours, int *ret_theirs);

/* Starts a child with theirs, which stays the caller's, as standard input. window_id: for the log.
 * Nothing to do, and *ret is NULL, where theirs is -1. ret must be good until helper_disown() or
 * until *ret is NULL again, as it is when the child has ended. 0 or a negative errno: nothing runs.
 */
int helper_start(const HelperWay *way, const char *window_id, int theirs, void *owner,
                 Helper **ret);

/* SIGKILL. Takes NULL. */
void helper_kill(const Helper *helper);
/* Its end is reported to nobody. Takes NULL. */
void helper_disown(Helper *helper);
