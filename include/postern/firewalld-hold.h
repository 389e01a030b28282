/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * firewalld-hold: what one id has to do with firewalld: what it wishes, what it has claimed, and
 * the one thing that is under way for it, a survey or a task. For gate-firewalld.c, which finds
 * them by their ids.
 */

#include <postern/firewalld-survey.h>
#include <postern/firewalld-task.h>

typedef enum FirewalldHoldState {
        FIREWALLD_HOLD_PLANNING,
        FIREWALLD_HOLD_PLANNED,
        FIREWALLD_HOLD_OPENING,
        FIREWALLD_HOLD_OPEN,
        FIREWALLD_HOLD_DOUBTED,  /* a sign came: looked at when the timer rings */
        FIREWALLD_HOLD_MENDING,  /* it is being looked at, or put right */
        FIREWALLD_HOLD_LOST,     /* told; shut follows */
        FIREWALLD_HOLD_STOPPING, /* to be shut when what was asked last has been answered */
        FIREWALLD_HOLD_SHUTTING,
        FIREWALLD_HOLD_OWED, /* could not be shut */
} FirewalldHoldState;

typedef struct FirewalldHold FirewalldHold;

struct FirewalldHold {
        GateFirewalld *gate;
        FirewalldHold *next;
        char id[FIREWALLD_ID_MAX];
        FirewalldHoldState state;
        FirewalldWish wish;
        FirewalldClaims claims;
        FirewalldSurvey *survey;
        FirewalldTask *task;
        sd_event_source *timer;
        uint64_t mend_until; /* CLOCK_BOOTTIME, microseconds */
        bool doubted_again;  /* another sign while it was being opened or looked at */
        bool is_fresh;       /* it was never open: what firewalld was not told of is not there */
        bool inherits;       /* what another one has opened, and left for it to shut */
};

struct GateFirewalld {
        sd_bus *bus;
        sd_bus_slot *owner_question;
        sd_bus_slot *owner_match;
        sd_bus_slot *reloaded_match;
        const FirewalldObserver *observer;
        void *userdata;
        bool may_run;
        FirewalldHold *first;
};

/* In the gate's list from now on. OWED, with no claims. -EEXIST, -EINVAL: the id is in use, or is
 * too long. */
int firewalld_hold_new(FirewalldHold **ret, GateFirewalld *gate, const char *id);
/* Out of the list, and freed. */
void firewalld_hold_forget(FirewalldHold *hold);

/* What gate-firewalld.h says of them. */
int firewalld_hold_plan(FirewalldHold *hold);
int firewalld_hold_open(FirewalldHold *hold);
int firewalld_hold_shut(FirewalldHold *hold);

/* Something says that firewalld is not what it was. */
void firewalld_hold_doubt(FirewalldHold *hold, bool reloaded);
