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

#include <postern/profile.h>
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

/* At start: removes what an earlier broker left (gate rules, guard table, conntrack entries of
 * connections that came in through a window). 0 or negative errno. Logs what it found. */
int door_sweep(Door *door);

/*
 * Opens the profile's ports until deadline (CLOCK_BOOTTIME, microseconds).
 *
 * legacy: what the helper found of legacy iptables, "" if nothing.
 * *ret_gate: where it opened ("nftables: inet filter input"; "none: ..." when nothing denies and
 * there is nothing to open). Freed by the caller.
 * Returns DOOR_OK, DOOR_REFUSED with *ret_problem, or a negative errno after which it is known
 * shut.
 */
int door_open(Door *door, const char *window_id, const Profile *profile, uint64_t deadline,
              const char *legacy, char **ret_gate, char **ret_problem);

/* Shuts it, cuts the connections that it let in. 0: known shut (also if it was not open). A
 * negative errno: not known to be shut; call again. */
int door_shut(Door *door, const char *window_id);

/* Connections let in since this door opened, as far as the kernel says. */
uint64_t door_admitted(Door *door, const char *window_id);

typedef enum FindingLevel {
        FINDING_OK,
        FINDING_NOTE,
        FINDING_ERROR,
} FindingLevel;

typedef void (*FindingCallback)(FindingLevel level, const char *subject, const char *message,
                                void *userdata);

/* What opening would do and what stands in the way; opens nothing. */
int door_check(Door *door, const Profile *profile, FindingCallback callback, void *userdata);
