/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * door: the lease and the gate, opened and shut as one.
 *
 * Owns the netlink sockets. Opening and shutting are one nftables transaction each, synchronous
 * (the kernel answers before sendmsg() returns), read back and compared. While any door is open the
 * ruleset is watched; what a foreign reload took away is put back for the remaining time.
 *
 * Several doors may be open at once, also on the same port. Doors are named by their window's id.
 */

#include <postern/finding.h>
#include <postern/lease.h>
#include <postern/profile.h>
#include <postern/sources.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct Door Door;

/* DOOR_LOST: this window's door is shut and could not be kept open; why: a sentence.
 * DOOR_RESTORED: a foreign change was mended; why says what. */
typedef enum DoorNews {
        DOOR_NEWS_LOST,
        DOOR_NEWS_RESTORED,
} DoorNews;

typedef void (*DoorCallback)(const char *window_id, DoorNews news, const char *why, void *userdata);

typedef enum DoorOutcome {
        DOOR_OK = 0,
        DOOR_REFUSED, /* *ret_problem: the chain or feature in the way, and what to do. It is shut.
                       */
} DoorOutcome;

/* runtime_dir must exist. Opens the sockets; changes nothing in the kernel. Where netlink or
 * CAP_NET_ADMIN lacks, it still succeeds, and opening is refused with the reason. */
int door_new(Door **ret, sd_event *event, const char *runtime_dir, DoorCallback callback,
             void *userdata);

/* Shuts every door at once, without needing memory, and frees. NULL is taken. */
Door *door_free(Door *door);

/* Nothing of ours is in the kernel, bans included, or is to be taken away from there. */
bool door_is_idle(const Door *door);

/* At start: removes what an earlier broker left (gate rules, guard table, conntrack entries of
 * connections that came in through a window). 0 or negative errno. Logs what it found. */
int door_sweep(Door *door);

/* What of a window is not this host's nftables alone to open. */
typedef struct DoorOuter {
        /* Of the profile's ports, those that somebody else's firewall opens, too. They are banned
         * (lease.h) from when the door opens until door_unban(). */
        Port ports[PROFILE_PORTS_MAX];
        size_t n_ports;
        bool spare_firewalld; /* firewalld opens its own tables: no rule is put there */
} DoorOuter;

/*
 * Opens the profile's ports until deadline (CLOCK_BOOTTIME, microseconds).
 *
 * legacy: what the helper found of legacy iptables, "" if nothing. outer: NULL for a window of this
 * host's alone.
 * reach: NULL for whoever listens on the ports.
 * *ret_gate: where it opened ("nftables: inet filter input"; "none: ..." when nothing denies and
 * there is nothing to open). Freed by the caller.
 * Returns DOOR_OK, DOOR_REFUSED with *ret_problem, or a negative errno after which it is known
 * shut.
 */
int door_open(Door *door, const char *window_id, const Profile *profile, uint64_t deadline,
              const char *legacy, const DoorOuter *outer, const LeaseReach *reach, char **ret_gate,
              char **ret_problem);

/* What an earlier posternd has left open elsewhere: before door_sweep(), which puts the bans up.
 * -ENOSPC: more than can be banned; the rest is. */
int door_ban(Door *door, const char *window_id, const Port *ports, size_t n_ports);
/* Nobody else lists the window's ports any more; it is shut. What cannot be taken away now is tried
 * again. */
void door_unban(Door *door, const char *window_id);

/* Are there rules in the kernel that an earlier firewalld has left, and that admit these ports? If
 * none runs: any rules of firewalld's. true where that cannot be told. */
bool door_sees_firewalld(Door *door, const Port *ports, size_t n_ports, bool runs);

/* Shuts it, cuts the connections that it let in; does nothing if it is not open. Its bans stay.
 * Cannot fail: where the kernel refuses, the owning socket is closed, and with that every door. */
void door_shut(Door *door, const char *window_id);

/* Connections let in since this door opened, as far as the kernel says. */
uint64_t door_admitted(Door *door, const char *window_id);

/* Looks who has come in through open doors, for door_take_sources(): the kernel forgets a
 * connection some time after its end. When a door shuts, that is done as well. False: too soon
 * after the last time, since all connections of the host are gone through. */
bool door_look(Door *door);
/* Adds where those came from that were seen since it was called last. Where two windows lead to the
 * same port, each has those of both. */
void door_take_sources(Door *door, const char *window_id, Sources *to);

/* Do the host's own rules let a stranger come to one of the ports, over IPv4 or IPv6, without any
 * window? For advice: reads the ruleset; false where it cannot. */
bool door_host_admits(Door *door, const Profile *profile);

/* What opening would do and what stands in the way; opens nothing. 0 or -ENOMEM. */
int door_check(Door *door, const Profile *profile, bool firewalld_runs, Findings *findings);
