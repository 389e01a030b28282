/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * What the broker stands on, made of nothing: profiles, a clock that is moved by hand, doors, runs,
 * and no log. A door asks whether it may open.
 */

#include <postern/broker.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct FakeWorld {
        uint64_t skipped_usec; /* the clock is ahead by so much */
        bool door_refuses, door_breaks;
        unsigned n_doors;

        /* Was opening a window of this profile granted to anybody? */
        bool (*may_open)(const char *profile);
} FakeWorld;

extern FakeWorld fake_world;

enum { FAKE_PROFILES = 7 };

/* NULL: there are no more. */
const char *fake_profile_at(unsigned i);
/* One of them, as a byte of the input says: from 0xe0 on, one whose window does not simply open. */
const char *fake_profile_name(uint8_t byte);

/* Moves the clock, and with it the broker's timers. */
void fake_world_skip(Broker *broker, uint64_t usec);

/* Something happens to the nth run, as far as it can happen to it now. text: what it says. */
void fake_runner_tell(unsigned n, uint8_t what, const char *text);
/* A token is there, or no longer, for the nth window that waits for one. */
void fake_challenge_tell(unsigned n, bool pending);
/* Something happens to the nth open door. */
void fake_door_tell(unsigned n, DoorNews news, const char *text);
