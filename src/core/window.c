/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One switch over the events; below it the few moves it is made of. Each move changes the window in
 * place and returns the effects it asks for.
 *
 * The door and the run are two parties that answer in their own time. So a window never assumes:
 * while an answer is owed (DOOR_OPENING, DOOR_SHUTTING, RUN_STOPPING) it waits, and what it wants
 * by then is read from its state when the answer comes. That is why closing needs no queue and why
 * a challenge that comes or goes while the door moves is not lost.
 */

#include <assert.h>
#include <postern/cleanup.h>
#include <postern/window.h>

void window_init(Window *window, bool has_door, bool on_challenge, uint64_t duration_usec) {
        assert(duration_usec > 0);

        *window = (Window){
                .state = WINDOW_OPENING,
                .door = DOOR_SHUT,
                .run = RUN_NONE,
                .result = RESULT_NONE,
                .exit_status = -1,
                .has_door = has_door,
                .on_challenge = on_challenge && has_door,
                .duration_usec = duration_usec,
                .opening_until = WINDOW_NEVER,
        };
}

static bool window_is_live(const Window *window) {
        return window->state != WINDOW_CLOSING && window->state != WINDOW_CLOSED;
}

static unsigned door_begin_open(Window *window) {
        window->door = DOOR_OPENING;
        window->door_step++;
        return EFFECT_OPEN_DOOR;
}

static unsigned door_begin_shut(Window *window) {
        window->door = DOOR_SHUTTING;
        window->door_step++;
        return EFFECT_SHUT_DOOR;
}

/* The only way into closing. An opening door, which may take a minute, is shut at once; what it
 * answers from then on is late. */
static unsigned window_close(Window *window, WindowResult result) {
        unsigned effects = 0;

        if (!window_is_live(window))
                return 0;

        window->state = WINDOW_CLOSING;
        window->result = result;
        window->opening_until = WINDOW_NEVER;

        if (window->door == DOOR_OPEN || window->door == DOOR_OPENING)
                effects |= door_begin_shut(window);

        if (window->run == RUN_STARTING || window->run == RUN_READY || window->run == RUN_GOING) {
                window->run = RUN_STOPPING;
                effects |= EFFECT_STOP_RUN;
        }

        return effects;
}

/* The renewal starts, and whoever asked is told. */
static unsigned window_go(Window *window) {
        window->run = RUN_GOING;
        window->opening_until = WINDOW_NEVER;
        window->announced_open = true;
        return EFFECT_GO | EFFECT_ANNOUNCE_OPEN;
}

static unsigned window_begin(Window *window, uint64_t now) {
        if (window->state != WINDOW_OPENING || window->run != RUN_NONE)
                return 0;

        window->run = RUN_STARTING;
        window->opening_until = now + WINDOW_OPENING_LIMIT_USEC;
        return EFFECT_START_RUN | EFFECT_CHANGED;
}

static unsigned window_run_ready(Window *window, uint64_t now) {
        if (window->state != WINDOW_OPENING || window->run != RUN_STARTING)
                return 0;

        window->run = RUN_READY;
        window->deadline = now + window->duration_usec;

        if (window->on_challenge) {
                window->state = WINDOW_ARMED;
                return window_go(window);
        }

        if (window->has_door) {
                window->opening_until = now + WINDOW_DOOR_LIMIT_USEC;
                return door_begin_open(window);
        }

        window->state = WINDOW_OPEN;
        window->opened_at = now;
        return window_go(window);
}

static unsigned window_run_lost(Window *window) {
        if (window->run == RUN_NONE || window->run == RUN_GONE)
                return 0;

        window->run = RUN_GONE;
        return window_close(window, RESULT_RUN_FAILED);
}

static unsigned window_run_ended(Window *window, const WindowEvent *event) {
        /* It was never told to go: whatever ended, it was not the renewal. */
        if (window->run != RUN_GOING && window->run != RUN_STOPPING)
                return window_run_lost(window);

        window->run = RUN_GONE;
        window->exit_status = event->exit_status;
        return window_close(window, event->result);
}

static unsigned window_door_opened(Window *window, uint64_t now) {
        window->door = DOOR_OPEN;
        window->state = WINDOW_OPEN;
        if (window->opened_at == 0)
                window->opened_at = now;

        return window->run == RUN_READY ? window_go(window) : 0;
}

static unsigned window_door_refused(Window *window) {
        window->door = DOOR_SHUT;
        return window_close(window, RESULT_GATE_FAILED);
}

static unsigned window_door_shut(Window *window) {
        window->door = DOOR_SHUT;

        /* Outside closing a door is shut for one reason: the challenge is done. */
        if (window_is_live(window))
                window->state = WINDOW_ARMED;

        return 0;
}

/* This host's part of it is shut; a firewall elsewhere knows nothing of that. While the door shuts
 * an answer is due and will tell. */
static unsigned window_door_lost(Window *window) {
        if (window->door != DOOR_OPEN && window->door != DOOR_OPENING)
                return 0;

        return window_close(window, RESULT_GATE_FAILED);
}

/* Is this the answer that the door owes? Else it is late, or a stranger's. */
static bool window_awaits(const Window *window, const WindowEvent *event, DoorState door) {
        return window->door == door && window->door_step == event->step;
}

static unsigned window_handle(Window *window, const WindowEvent *event, uint64_t now) {
        switch (event->type) {

        case EVENT_BEGIN:
                return window_begin(window, now);

        case EVENT_RUN_READY:
                return window_run_ready(window, now);

        case EVENT_RUN_ENDED:
                return window_run_ended(window, event);

        case EVENT_RUN_LOST:
                return window_run_lost(window);

        case EVENT_DOOR_OPENED:
                return window_awaits(window, event, DOOR_OPENING) ? window_door_opened(window, now)
                                                                  : 0;

        case EVENT_DOOR_REFUSED:
                return window_awaits(window, event, DOOR_OPENING) ? window_door_refused(window) : 0;

        case EVENT_DOOR_SHUT:
                return window_awaits(window, event, DOOR_SHUTTING) ? window_door_shut(window) : 0;

        case EVENT_DOOR_LOST:
                return window_door_lost(window);

        case EVENT_CHALLENGE_PENDING:
        case EVENT_CHALLENGE_DONE:
                if (window_is_live(window))
                        window->challenge_pending = event->type == EVENT_CHALLENGE_PENDING;
                return 0;

        case EVENT_CANCEL:
                return window_close(window, RESULT_CANCELED);

        case EVENT_STOP:
                return window_close(window, RESULT_STOPPED);

        case EVENT_TICK:
                return 0;
        }

        return 0;
}

static unsigned window_see_time(Window *window, uint64_t now) {
        unsigned effects = 0;

        if (window->deadline != 0 && now >= window->deadline)
                effects |= window_close(window, RESULT_TIMEOUT);

        if (now >= window->opening_until)
                effects |= window_close(window, window->run == RUN_STARTING ? RESULT_RUN_FAILED
                                                                            : RESULT_GATE_FAILED);

        if (window->state == WINDOW_CLOSED && now >= window->closed_at + WINDOW_FORGET_AFTER_USEC)
                effects |= EFFECT_FORGET;

        return effects;
}

/* Door and challenge agree, as soon as the door stands still. */
static unsigned window_follow_challenge(Window *window, uint64_t now) {
        if (!window->on_challenge || !window_is_live(window) || window->run != RUN_GOING)
                return 0;

        if (window->door == DOOR_OPEN && !window->challenge_pending)
                return door_begin_shut(window);

        /* Before the deadline here, or the window would be closing. */
        if (window->door == DOOR_SHUT && window->challenge_pending &&
            window->deadline - now >= WINDOW_REOPEN_MIN_USEC)
                return door_begin_open(window);

        return 0;
}

static unsigned window_finish(Window *window, uint64_t now) {
        if (window->state != WINDOW_CLOSING || window->door != DOOR_SHUT)
                return 0;
        if (window->run != RUN_GONE && window->run != RUN_NONE)
                return 0;

        window->state = WINDOW_CLOSED;
        window->closed_at = now;
        return EFFECT_ANNOUNCE_CLOSED;
}

/* What the bus shows as a property. */
static bool window_looks_changed(const Window *before, const Window *after) {
        return before->state != after->state || before->result != after->result ||
               before->exit_status != after->exit_status || before->opened_at != after->opened_at ||
               before->deadline != after->deadline || before->closed_at != after->closed_at;
}

unsigned window_step(const Window *window, const WindowEvent *event, uint64_t now,
                     Window *ret_next) {
        Window next = *window;
        unsigned effects = 0;
        bool over;

        /* A run that is over has its own result, however late the news of it; and there is nothing
         * left to stop. A door that was refused says why, which may be that it took too long. All
         * else that comes too late finds the window closing. */
        over = event->type == EVENT_RUN_ENDED || event->type == EVENT_RUN_LOST ||
               event->type == EVENT_DOOR_REFUSED;

        if (over)
                effects |= window_handle(&next, event, now);

        effects |= window_see_time(&next, now);

        if (!over)
                effects |= window_handle(&next, event, now);

        effects |= window_follow_challenge(&next, now);
        effects |= window_finish(&next, now);

        if (window_looks_changed(window, &next))
                effects |= EFFECT_CHANGED;

        *ret_next = next;
        return effects;
}

static uint64_t earlier(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

uint64_t window_wakeup(const Window *window) {
        uint64_t wakeup = window->opening_until;

        if (window->deadline != 0 && window_is_live(window))
                wakeup = earlier(wakeup, window->deadline);

        if (window->state == WINDOW_CLOSED)
                wakeup = earlier(wakeup, window->closed_at + WINDOW_FORGET_AFTER_USEC);

        return wakeup;
}

static const char *const state_names[] = {
        [WINDOW_OPENING] = "opening", [WINDOW_ARMED] = "armed",   [WINDOW_OPEN] = "open",
        [WINDOW_CLOSING] = "closing", [WINDOW_CLOSED] = "closed",
};

static const char *const result_names[] = {
        [RESULT_NONE] = "",
        [RESULT_RENEWED] = "renewed",
        [RESULT_UNCHANGED] = "unchanged",
        [RESULT_SUCCESS] = "success",
        [RESULT_FAILED] = "failed",
        [RESULT_TIMEOUT] = "timeout",
        [RESULT_CANCELED] = "canceled",
        [RESULT_GATE_FAILED] = "gate-failed",
        [RESULT_RUN_FAILED] = "run-failed",
        [RESULT_STOPPED] = "stopped",
};

static const char *const event_names[] = {
        [EVENT_BEGIN] = "begin",
        [EVENT_RUN_READY] = "run-ready",
        [EVENT_RUN_ENDED] = "run-ended",
        [EVENT_RUN_LOST] = "run-lost",
        [EVENT_DOOR_OPENED] = "door-opened",
        [EVENT_DOOR_REFUSED] = "door-refused",
        [EVENT_DOOR_SHUT] = "door-shut",
        [EVENT_DOOR_LOST] = "door-lost",
        [EVENT_CHALLENGE_PENDING] = "challenge-pending",
        [EVENT_CHALLENGE_DONE] = "challenge-done",
        [EVENT_CANCEL] = "cancel",
        [EVENT_STOP] = "stop",
        [EVENT_TICK] = "tick",
};

static const char *const door_names[] = {
        [DOOR_SHUT] = "shut",
        [DOOR_OPENING] = "opening",
        [DOOR_OPEN] = "open",
        [DOOR_SHUTTING] = "shutting",
};

static const char *const run_names[] = {
        [RUN_NONE] = "none",   [RUN_STARTING] = "starting", [RUN_READY] = "ready",
        [RUN_GOING] = "going", [RUN_STOPPING] = "stopping", [RUN_GONE] = "gone",
};

static const char *name_of(const char *const *names, size_t count, size_t value) {
        return value < count ? names[value] : "?";
}

const char *window_state_to_string(WindowState state) {
        return name_of(state_names, ELEMENTS(state_names), state);
}

const char *window_result_to_string(WindowResult result) {
        return name_of(result_names, ELEMENTS(result_names), result);
}

const char *window_event_to_string(WindowEventType type) {
        return name_of(event_names, ELEMENTS(event_names), type);
}

const char *door_state_to_string(DoorState state) {
        return name_of(door_names, ELEMENTS(door_names), state);
}

const char *run_state_to_string(RunState state) {
        return name_of(run_names, ELEMENTS(run_names), state);
}
