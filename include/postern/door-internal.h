/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* door-internal: what the files of door share and nobody else sees. */

#include <postern/bans.h>
#include <postern/door.h>
#include <postern/installation.h>
#include <postern/ruleset-watch.h>

enum { DOORS_MAX = LEASE_WINDOWS_MAX };

typedef enum DoorStanding {
        STANDING_FREE, /* the slot is free, or of a door that was shut (its count is still known) */
        STANDING_OPEN,
        STANDING_LOST, /* shut, and its window is still to be told */
} DoorStanding;

typedef struct DoorEntry {
        DoorStanding standing;
        char id[LEASE_ID_MAX];
        Profile profile; /* ports, chain and precedence alone */
        char *legacy;
        LeaseReach reach;
        uint64_t deadline;     /* CLOCK_BOOTTIME, microseconds */
        bool leased, left_out; /* of the last change: see InstallationWish */
        bool ending;           /* shut, and who came is still to be seen, as they are ended */
        Sources sources;       /* who came */
        uint64_t admitted;     /* by leases that were replaced; by all of them once it is shut */
        char why[256];         /* STANDING_LOST */
        DoorOuter outer;
} DoorEntry;

struct Door {
        sd_event *event;
        sd_event_source *news_source; /* tells windows of lost doors, outside of any call */
        sd_event_source *tidy_source;
        sd_event_source *mend_source; /* waits for a foreign program to have finished */
        char culprit[64];
        RulesetWatch *watch; /* from the first window or ban on */
        Installation installation;
        DoorEntry entries[DOORS_MAX];
        Bans bans;          /* gathered in the installation's */
        bool untidy;        /* something inert of ours is left in the kernel */
        uint64_t looked_at; /* for who came in; CLOCK_BOOTTIME, microseconds */
        DoorCallback callback;
        void *userdata;
};

/* What should stand: one wish for each open door. The slots hold what the wishes point to. */
size_t door_wishes(Door *door, InstallationWish *wishes);
void door_wishes_deinit(InstallationWish *wishes, size_t n_wishes);

/* Applies; whoever cannot stay open is lost, the others stay. Ends with all of them settled. */
void door_settle(Door *door);

/* door-mend.c: the timer for it, which takes memory once and for all. */
int door_mend_prepare(Door *door);
/* Begins to watch for foreign changes, and to mend them: from before the first ruleset is read, so
 * that none falls between reading and watching. */
int door_watch(Door *door);
