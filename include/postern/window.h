/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * window: the life of one granted request, as a pure function
 *
 *     (state, event, now) → (state, effects)
 *
 * No I/O, no allocation, no clock. The broker delivers events and runs the effects. A window starts
 * after authorisation; it has a door (the lease and the gate together, opened and shut as one) and
 * a run (the root helper with the renewal).
 *
 *   opening ──▶ open ──▶ closing ──▶ closed          OpenOn=start
 *   opening ──▶ armed ◀──▶ open ──▶ closing ──▶ closed   OpenOn=challenge
 *
 * Times are CLOCK_BOOTTIME in microseconds.
 */

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_NEVER UINT64_MAX

enum {
        WINDOW_OPENING_LIMIT_USEC = 30 * 1000 * 1000, /* the helper is ready by then; */
        WINDOW_DOOR_LIMIT_USEC = 90 * 1000 * 1000,    /* so long after that the door is open */
        WINDOW_FORGET_AFTER_USEC = 60 * 1000 * 1000,  /* a closed window stays readable so long */
        WINDOW_REOPEN_MIN_USEC = 1000 * 1000,         /* less time than this left: not opened */
};

typedef enum WindowState {
        WINDOW_OPENING,
        WINDOW_ARMED,
        WINDOW_OPEN,
        WINDOW_CLOSING,
        WINDOW_CLOSED,
} WindowState;

typedef enum WindowResult {
        RESULT_NONE, /* not decided yet */
        RESULT_RENEWED,
        RESULT_UNCHANGED,
        RESULT_SUCCESS,
        RESULT_FAILED,
        RESULT_TIMEOUT,
        RESULT_CANCELED,
        RESULT_GATE_FAILED,
        RESULT_RUN_FAILED,
        RESULT_STOPPED,
} WindowResult;

typedef enum DoorState {
        DOOR_SHUT,
        DOOR_OPENING,
        DOOR_OPEN,
        DOOR_SHUTTING,
} DoorState;

typedef enum RunState {
        RUN_NONE, /* before EVENT_BEGIN */
        RUN_STARTING,
        RUN_READY, /* the helper waits for `go` */
        RUN_GOING,
        RUN_STOPPING,
        RUN_GONE, /* nothing that the run started is left */
} RunState;

typedef struct Window {
        WindowState state;
        DoorState door;
        RunState run;
        WindowResult result; /* decided once, when closing begins */
        int exit_status;     /* 0..255, 128 + signal, or -1: did not run */

        bool has_door;     /* false for Ports=none and Type=none: nothing to open */
        bool on_challenge; /* OpenOn=challenge, and there is a door to open */
        uint64_t duration_usec;

        uint64_t opening_until; /* WINDOW_NEVER once the run goes */
        uint64_t deadline;      /* 0 until fixed, then never later */
        uint64_t opened_at;     /* first time open; 0 until then */
        uint64_t closed_at;     /* 0 until closed */

        uint32_t door_step; /* numbers the open and shut effects; an answer names the one it answers
                             */
        bool announced_open;
        bool challenge_pending; /* last told; acted on once the door stands still */
} Window;

typedef enum WindowEventType {
        EVENT_BEGIN,        /* once, first */
        EVENT_RUN_READY,    /* the helper has checked the profile and waits */
        EVENT_RUN_ENDED,    /* the renewal ended and its whole tree is gone: result, exit_status */
        EVENT_RUN_LOST,     /* no helper, or it hung up without an answer; its tree is gone */
        EVENT_DOOR_OPENED,  /* step */
        EVENT_DOOR_REFUSED, /* step; known to be shut */
        EVENT_DOOR_SHUT,    /* step; shutting does not fail (passage.h) */
        EVENT_DOOR_LOST,    /* it cannot be kept: reload that could not be mended */
        EVENT_CHALLENGE_PENDING, /* OpenOn=challenge: a token is there */
        EVENT_CHALLENGE_DONE,    /* the last token is gone */
        EVENT_CANCEL,            /* Close(), or the last holder left */
        EVENT_STOP,              /* the service ends, or the bus is gone */
        EVENT_TICK,              /* time passed: deliver at window_wakeup() */
} WindowEventType;

typedef struct WindowEvent {
        WindowEventType type;
        uint32_t step;       /* EVENT_DOOR_OPENED, _REFUSED, _SHUT */
        WindowResult result; /* EVENT_RUN_ENDED: RENEWED, UNCHANGED, SUCCESS or FAILED */
        int exit_status;     /* EVENT_RUN_ENDED */
} WindowEvent;

/* Bits; the broker runs them in this order. */
typedef enum WindowEffect {
        EFFECT_SHUT_DOOR = 1 << 0, /* answer with EVENT_DOOR_SHUT, step = door_step; perhaps before
                                      it has opened: then nothing else follows */
        EFFECT_STOP_RUN = 1 << 1,  /* hang up; answer with EVENT_RUN_ENDED or EVENT_RUN_LOST */
        EFFECT_START_RUN = 1 << 2, /* answer with EVENT_RUN_READY or EVENT_RUN_LOST */
        EFFECT_OPEN_DOOR =
                1 << 3,     /* until `deadline`; EVENT_DOOR_OPENED or _REFUSED, step = door_step */
        EFFECT_GO = 1 << 4, /* tell the helper to start; EVENT_RUN_ENDED or _LOST follows */
        EFFECT_ANNOUNCE_OPEN = 1 << 5,   /* open or armed for the first time: reply, WindowOpened */
        EFFECT_CHANGED = 1 << 6,         /* a property changed */
        EFFECT_ANNOUNCE_CLOSED = 1 << 7, /* reply to everyone who waits, WindowClosed */
        EFFECT_FORGET = 1 << 8,          /* the window may be freed */
} WindowEffect;

/* duration_usec > 0. */
void window_init(Window *window, bool has_door, bool on_challenge, uint64_t duration_usec);

/* The next state in *ret_next and the effects to run. window and ret_next may be the same. An event
 * that means nothing in this state (a late answer) changes nothing and has no effects; only time
 * that has passed is still seen to. That comes first: what arrives at or after the deadline finds
 * the window timed out. The end of the run alone keeps its own result, however late it is told. */
unsigned window_step(const Window *window, const WindowEvent *event, uint64_t now,
                     Window *ret_next);

/* When EVENT_TICK is due next, or WINDOW_NEVER. */
uint64_t window_wakeup(const Window *window);

const char *window_state_to_string(WindowState state);
const char *window_result_to_string(WindowResult result); /* RESULT_NONE: "" */
const char *window_event_to_string(WindowEventType type);
const char *door_state_to_string(DoorState state);
const char *run_state_to_string(RunState state);
