/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * window-world: a window together with the world it believes in.
 *
 * The world keeps its own books, from the effects and the events alone: whether a door is really
 * open, which answer is owed, whether a run lives, what was promised to whom. world_step() hands
 * one event to the window and holds the outcome against these books, against every invariant, and
 * against a second statement of the rules. What fails is printed with the state before it, and the
 * test ends.
 */

#include <postern/window.h>

typedef enum WorldDoor {
        WORLD_DOOR_SHUT,
        WORLD_DOOR_OPEN,
} WorldDoor;

typedef enum WorldOwes {
        OWES_NOTHING,
        OWES_OPEN,
        OWES_SHUT,
} WorldOwes;

typedef struct World {
        Window window;

        WorldDoor door;
        WorldOwes owes;
        uint64_t begun_at; /* 0 until EVENT_BEGIN */
        uint64_t ready_at;
        bool run_alive;
        bool run_ready;
        bool run_going;   /* was told to go, once */
        bool run_stopped; /* was told to stop, once */
        bool challenge;
        unsigned announced_open;
        unsigned announced_closed;
} World;

void world_init(World *world, bool has_door, bool on_challenge, uint64_t duration_usec);

/* Returns the effects. */
unsigned world_step(World *world, const WindowEvent *event, uint64_t now);

/* Would a fair world bring this window to its end? Steps until it is forgotten, at most so many
 * times; answers come promptly or only after time has run out, and a door may be refused. */
typedef enum WorldManner {
        WORLD_PROMPT,   /* every answer at once; the renewal hangs */
        WORLD_RENEWING, /* every answer at once; the renewal ends well */
        WORLD_LATE,     /* answers only when nothing is left to wait for but them */
        WORLD_REFUSING, /* doors are refused */
        WORLD_MANNERS,
} WorldManner;

unsigned world_run_to_end(const World *world, uint64_t now, WorldManner manner);
