/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * peer: who a caller is, and whether it is still there.
 *
 * Asks the bus driver alone, and never waits for it. A signal that a caller has left may be forged
 * by any local user (a unicast NameOwnerChanged passes every match), so it is only a reason to ask
 * the driver; the driver's answer is what counts.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

/* Far more than the 256 connections that a bus grants one uid, so that nobody alone can use them up,
 * not even by those who have left before the driver could say who they were. */
enum { PEERS_MAX = 4096 };

#define UID_NOBODY_KNOWN ((uid_t) -1)

typedef struct Peers Peers;

typedef enum PeerNews {
        PEER_KNOWN,   /* its uid is known now */
        PEER_UNKNOWN, /* the bus does not say who it is: refuse it */
        PEER_STAYS,   /* it was in doubt, and is still there */
        PEER_GONE,    /* or nobody can tell */
} PeerNews;

/* Never called from inside a function of this module. */
typedef void (*PeerCallback)(const char *name, PeerNews news, void *userdata);

int peers_new(Peers **ret, sd_bus *bus, PeerCallback callback, void *userdata);
Peers *peers_free(Peers *peers);

/* Watches the unique name until as many peer_release(). -EUSERS: PEERS_MAX are watched. */
int peer_hold(Peers *peers, const char *name);
void peer_release(Peers *peers, const char *name);

/* UID_NOBODY_KNOWN until PEER_KNOWN. */
uid_t peer_get_uid(Peers *peers, const char *name);

/* Something says that it left, and the driver has not answered yet: PEER_STAYS or PEER_GONE
 * follows. */
bool peer_is_in_doubt(Peers *peers, const char *name);
