/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * bans: which ports the guard bans, for which windows. Fixed arrays: to keep or end a ban takes no
 * memory.
 */

#include <postern/guard.h>
#include <postern/profile.h>
#include <stdbool.h>

enum { BANS_WINDOWS_MAX = 32 };

typedef struct Bans {
        struct {
                char window[LEASE_ID_MAX]; /* "": free */
                Port ports[PROFILE_PORTS_MAX];
                size_t n_ports;
        } list[BANS_WINDOWS_MAX];
} Bans;

/* To what the window has already: an earlier opening of it may still be owed. -ENOSPC: there are
 * too many windows, or ports of this one. n_ports: at most PROFILE_PORTS_MAX. */
int bans_add(Bans *bans, const char *window_id, const Port *ports, size_t n_ports);
bool bans_have(const Bans *bans, const char *window_id);
/* false: it had none. */
bool bans_end(Bans *bans, const char *window_id);

/* Every port that is banned for some window: sorted, once. false: there are more than fit; these
 * are the first. */
bool bans_gather(const Bans *bans, Port ret[GUARD_BANS_MAX], size_t *ret_n);
