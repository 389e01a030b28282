/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "window-world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct Step {
        const World *before;
        const World *after;
        const WindowEvent *event;
        uint64_t now;
        unsigned effects;
} Step;

#define CHECK(step, condition)                                                                     \
        do {                                                                                       \
                if (!(condition))                                                                  \
                        step_fail(step, #condition, __LINE__);                                     \
        } while (0)

/* a ⇒ b */
#define IMPLIES(a, b) (!(a) || (b))

static void window_print(const char *label, const Window *window) {
        print_error("%s: %s door=%s run=%s result='%s' exit=%d has_door=%d on_challenge=%d "
                    "opening_until=%" PRIu64 " deadline=%" PRIu64 " opened_at=%" PRIu64
                    " closed_at=%" PRIu64 " step=%" PRIu32 " pending=%d\n",
                    label, window_state_to_string(window->state),
                    door_state_to_string(window->door), run_state_to_string(window->run),
                    window_result_to_string(window->result), window->exit_status, window->has_door,
                    window->on_challenge, window->opening_until, window->deadline,
                    window->opened_at, window->closed_at, window->door_step,
                    window->challenge_pending);
}

static void step_fail(const Step *step, const char *condition, int line) {
        window_print("before", &step->before->window);
        print_error("event: %s step=%" PRIu32 " result='%s' now=%" PRIu64 " effects=%#x\n",
                    window_event_to_string(step->event->type), step->event->step,
                    window_result_to_string(step->event->result), step->now, step->effects);
        window_print("after", &step->after->window);
        fail_msg("window-world.c:%d: not so: %s", line, condition);
}

static bool window_equal(const Window *a, const Window *b) {
        return a->state == b->state && a->door == b->door && a->run == b->run &&
               a->result == b->result && a->exit_status == b->exit_status &&
               a->has_door == b->has_door && a->on_challenge == b->on_challenge &&
               a->duration_usec == b->duration_usec && a->opening_until == b->opening_until &&
               a->deadline == b->deadline && a->opened_at == b->opened_at &&
               a->closed_at == b->closed_at && a->door_step == b->door_step &&
               a->announced_open == b->announced_open &&
               a->challenge_pending == b->challenge_pending;
}

static bool is_live(const Window *window) {
        return window->state == WINDOW_OPENING || window->state == WINDOW_ARMED ||
               window->state == WINDOW_OPEN;
}

static bool is_answer(WindowEventType type) {
        return type == EVENT_DOOR_OPENED || type == EVENT_DOOR_REFUSED || type == EVENT_DOOR_SHUT;
}

void world_init(World *world, bool has_door, bool on_challenge, uint64_t duration_usec) {
        *world = (World){};
        window_init(&world->window, has_door, on_challenge, duration_usec);
}

/* The answer that the door owes, if this is it. */
static bool world_is_answered(const World *world, const WindowEvent *event) {
        WorldOwes owes = event->type == EVENT_DOOR_OPENED || event->type == EVENT_DOOR_REFUSED
                                 ? OWES_OPEN
                                 : OWES_SHUT;

        return is_answer(event->type) && world->owes == owes &&
               world->window.door_step == event->step;
}

static bool world_deadline_passed(const World *world, uint64_t now) {
        return world->window.deadline != 0 && now >= world->window.deadline;
}

static uint64_t world_opening_until(const World *world) {
        return world->run_ready ? world->ready_at + WINDOW_DOOR_LIMIT_USEC
                                : world->begun_at + WINDOW_OPENING_LIMIT_USEC;
}

static bool world_limit_passed(const World *world, uint64_t now) {
        return world->window.state == WINDOW_OPENING && world->begun_at != 0 &&
               now >= world_opening_until(world);
}

static bool world_is_due(const World *world, uint64_t now) {
        return world_deadline_passed(world, now) || world_limit_passed(world, now);
}

/* The second statement of the rules: what a live window comes to by this event. RESULT_NONE: it
 * goes on. */
static WindowResult world_expect_result(const World *world, const WindowEvent *event,
                                        uint64_t now) {
        if (event->type == EVENT_RUN_ENDED && world->run_alive)
                return world->run_going ? event->result : RESULT_RUN_FAILED;

        if (event->type == EVENT_RUN_LOST && world->run_alive)
                return RESULT_RUN_FAILED;

        if (event->type == EVENT_DOOR_REFUSED && world_is_answered(world, event))
                return RESULT_GATE_FAILED;

        if (world_deadline_passed(world, now))
                return RESULT_TIMEOUT;

        if (world_limit_passed(world, now))
                return world->run_ready ? RESULT_GATE_FAILED : RESULT_RUN_FAILED;

        if (event->type == EVENT_CANCEL)
                return RESULT_CANCELED;

        if (event->type == EVENT_STOP)
                return RESULT_STOPPED;

        if (event->type == EVENT_DOOR_LOST &&
            (world->owes == OWES_OPEN ||
             (world->door == WORLD_DOOR_OPEN && world->owes == OWES_NOTHING)))
                return RESULT_GATE_FAILED;

        return RESULT_NONE;
}

/* Books the event: what happened in the world before the window heard of it. */
static void world_take_event(World *world, const WindowEvent *event, uint64_t now) {
        if (event->type == EVENT_BEGIN && is_live(&world->window) && world->begun_at == 0)
                world->begun_at = now;

        if (event->type == EVENT_RUN_ENDED || event->type == EVENT_RUN_LOST)
                world->run_alive = false;

        if (event->type == EVENT_RUN_READY && is_live(&world->window) && world->run_alive &&
            !world_is_due(world, now)) {
                if (!world->run_ready)
                        world->ready_at = now;
                world->run_ready = true;
        }

        if (event->type == EVENT_CHALLENGE_PENDING)
                world->challenge = true;
        if (event->type == EVENT_CHALLENGE_DONE)
                world->challenge = false;

        if (!world_is_answered(world, event))
                return;

        world->owes = OWES_NOTHING;
        if (event->type == EVENT_DOOR_OPENED)
                world->door = WORLD_DOOR_OPEN;
        else
                world->door = WORLD_DOOR_SHUT;
}

/* Books the effects, in the broker's order, each where it makes sense only. */
static void world_take_effects(World *world, const Step *step) {
        const Window *window = &step->after->window;
        unsigned effects = step->effects;

        CHECK(step, !((effects & EFFECT_SHUT_DOOR) && (effects & EFFECT_OPEN_DOOR)));
        CHECK(step, window->door_step - step->before->window.door_step ==
                            !!(effects & (EFFECT_SHUT_DOOR | EFFECT_OPEN_DOOR)));

        if (effects & EFFECT_SHUT_DOOR) {
                /* One that is opening is shut when the window closes, and not before; also if it
                 * answers in the moment when its time is up. */
                if (is_live(window) || step->before->owes != OWES_OPEN) {
                        CHECK(step, world->owes == OWES_NOTHING);
                        CHECK(step, world->door != WORLD_DOOR_SHUT);
                }
                world->owes = OWES_SHUT;
        }

        if (effects & EFFECT_STOP_RUN) {
                CHECK(step, world->run_alive && !world->run_stopped);
                CHECK(step, !is_live(window));
                world->run_stopped = true;
        }

        if (effects & EFFECT_START_RUN) {
                CHECK(step, step->event->type == EVENT_BEGIN);
                CHECK(step, step->before->begun_at == 0);
                CHECK(step, is_live(window));
                world->run_alive = true;
        }

        if (effects & EFFECT_OPEN_DOOR) {
                CHECK(step, is_live(window) && window->has_door);
                CHECK(step, window->deadline != 0 && step->now < window->deadline);
                CHECK(step, world->owes == OWES_NOTHING);
                CHECK(step, world->door == WORLD_DOOR_SHUT);
                CHECK(step, IMPLIES(window->on_challenge,
                                    world->challenge && window->deadline - step->now >=
                                                                WINDOW_REOPEN_MIN_USEC));
                world->owes = OWES_OPEN;
        }

        if (effects & EFFECT_GO) {
                CHECK(step, !world->run_going && world->run_alive && world->run_ready);
                CHECK(step, is_live(window) && step->now < window->deadline);
                CHECK(step,
                      !window->has_door || window->on_challenge ||
                              (world->door == WORLD_DOOR_OPEN && world->owes == OWES_NOTHING));
                world->run_going = true;
        }

        CHECK(step, !(effects & EFFECT_ANNOUNCE_OPEN) == !(effects & EFFECT_GO));
        world->announced_open += !!(effects & EFFECT_ANNOUNCE_OPEN);
        world->announced_closed += !!(effects & EFFECT_ANNOUNCE_CLOSED);
        CHECK(step, world->announced_open == (world->run_going ? 1 : 0));
        CHECK(step, window->announced_open == world->run_going);
        CHECK(step, world->announced_closed == (window->state == WINDOW_CLOSED ? 1 : 0));
}

static void check_result(const Step *step) {
        const Window *before = &step->before->window, *after = &step->after->window;
        WindowResult expected = is_live(before)
                                        ? world_expect_result(step->before, step->event, step->now)
                                        : before->result;
        bool ended = step->event->type == EVENT_RUN_ENDED && step->before->run_alive &&
                     (step->before->run_going || step->before->run_stopped);

        CHECK(step, after->result == expected);
        CHECK(step, is_live(after) == (after->result == RESULT_NONE));
        CHECK(step, after->exit_status == (ended ? step->event->exit_status : before->exit_status));
}

static void check_times(const Step *step) {
        const Window *before = &step->before->window, *after = &step->after->window;
        uint64_t wakeup = window_wakeup(after);

        if (before->deadline != 0)
                CHECK(step, after->deadline == before->deadline);
        else if (after->deadline != 0)
                CHECK(step, step->event->type == EVENT_RUN_READY &&
                                    after->deadline == step->now + after->duration_usec);
        CHECK(step, IMPLIES(step->after->run_ready, after->deadline != 0));
        CHECK(step, IMPLIES(after->deadline != 0 && step->now >= after->deadline, !is_live(after)));

        if (before->opened_at != 0)
                CHECK(step, after->opened_at == before->opened_at);
        else
                CHECK(step, after->opened_at == (after->state == WINDOW_OPEN ? step->now : 0));

        if (before->closed_at != 0)
                CHECK(step, after->closed_at == before->closed_at);
        else
                CHECK(step, after->closed_at == (after->state == WINDOW_CLOSED ? step->now : 0));

        /* It wakes for whatever is due, never too late, and never spins. */
        if (after->state == WINDOW_CLOSED)
                CHECK(step, wakeup == after->closed_at + WINDOW_FORGET_AFTER_USEC);
        else
                CHECK(step, wakeup > step->now);
        if (after->state == WINDOW_OPENING && step->after->begun_at != 0)
                CHECK(step, wakeup <= world_opening_until(step->after));
        if (is_live(after) && after->deadline != 0)
                CHECK(step, wakeup <= after->deadline);
}

static void check_door(const Step *step) {
        const World *world = step->after;
        const Window *window = &world->window;
        bool settled = world->owes == OWES_NOTHING;

        /* What the window believes is what the world knows. */
        CHECK(step, (window->door == DOOR_OPENING) == (world->owes == OWES_OPEN));
        CHECK(step, (window->door == DOOR_SHUTTING) == (world->owes == OWES_SHUT));
        CHECK(step, (window->door == DOOR_OPEN) == (settled && world->door == WORLD_DOOR_OPEN));
        CHECK(step, (window->door == DOOR_SHUT) == (settled && world->door == WORLD_DOOR_SHUT));

        CHECK(step, IMPLIES(window->door != DOOR_SHUT, window->has_door && window->deadline != 0));
        CHECK(step, IMPLIES(window->door == DOOR_OPEN, window->state == WINDOW_OPEN));

        /* A challenge that comes or goes is followed as soon as the door stands still. */
        if (is_live(window) && window->on_challenge && world->run_going) {
                CHECK(step, IMPLIES(window->door == DOOR_OPEN, world->challenge));
                CHECK(step, IMPLIES(window->door == DOOR_SHUT && world->challenge,
                                    window->deadline - step->now < WINDOW_REOPEN_MIN_USEC));
        }
}

static void check_state(const Step *step) {
        const World *world = step->after;
        const Window *before = &step->before->window, *window = &world->window;
        bool run_over = !world->run_alive;
        bool door_over = world->owes == OWES_NOTHING && world->door == WORLD_DOOR_SHUT;

        switch (window->state) {

        case WINDOW_OPENING:
                CHECK(step, before->state == WINDOW_OPENING);
                CHECK(step, !world->run_going);
                CHECK(step, (window->run == RUN_READY) == world->run_ready);
                /* Nothing waits without being asked for. */
                CHECK(step, IMPLIES(world->begun_at != 0, world->run_alive));
                CHECK(step, IMPLIES(world->run_ready, world->owes == OWES_OPEN));
                break;

        case WINDOW_ARMED:
                CHECK(step, is_live(before));
                CHECK(step, window->on_challenge && world->run_going && world->run_alive);
                CHECK(step, window->door == DOOR_SHUT || window->door == DOOR_OPENING);
                break;

        case WINDOW_OPEN:
                CHECK(step, is_live(before));
                CHECK(step, world->run_going && world->run_alive);
                CHECK(step, window->has_door == (world->door != WORLD_DOOR_SHUT));
                CHECK(step, IMPLIES(!window->on_challenge,
                                    window->door == (window->has_door ? DOOR_OPEN : DOOR_SHUT)));
                break;

        case WINDOW_CLOSING:
                CHECK(step, before->state != WINDOW_CLOSED);
                /* Something is still to come, and it has been asked for. */
                CHECK(step, !run_over || !door_over);
                CHECK(step, IMPLIES(world->run_alive, world->run_stopped));
                CHECK(step, door_over || world->owes != OWES_NOTHING);
                break;

        case WINDOW_CLOSED:
                CHECK(step, run_over && door_over);
                break;
        }

        CHECK(step, !(step->effects & EFFECT_FORGET) ==
                            !(before->state == WINDOW_CLOSED &&
                              step->now >= before->closed_at + WINDOW_FORGET_AFTER_USEC));
        if (before->state == WINDOW_CLOSED) {
                CHECK(step, window_equal(before, window));
                CHECK(step, !(step->effects & ~EFFECT_FORGET));
        }
}

static void check_changed(const Step *step) {
        const Window *a = &step->before->window, *b = &step->after->window;
        bool changed = a->state != b->state || a->result != b->result ||
                       a->exit_status != b->exit_status || a->opened_at != b->opened_at ||
                       a->deadline != b->deadline || a->closed_at != b->closed_at ||
                       (step->effects & EFFECT_START_RUN);

        CHECK(step, changed == !!(step->effects & EFFECT_CHANGED));
}

/* An event that answers nothing is worth no more than the time it came at. */
static void check_meaningless(const Step *step) {
        Window ticked;
        unsigned effects;

        if (!is_answer(step->event->type) || world_is_answered(step->before, step->event))
                return;

        effects = window_step(&step->before->window, &(WindowEvent){.type = EVENT_TICK}, step->now,
                              &ticked);
        CHECK(step, effects == step->effects);
        CHECK(step, window_equal(&ticked, &step->after->window));
}

unsigned world_step(World *world, const WindowEvent *event, uint64_t now) {
        const World before = *world;
        Window aside;
        Step step = {.before = &before, .after = world, .event = event, .now = now};

        step.effects = window_step(&world->window, event, now, &aside);
        CHECK(&step, window_equal(&world->window, &before.window));
        CHECK(&step, window_step(&world->window, event, now, &world->window) == step.effects);
        CHECK(&step, window_equal(&world->window, &aside));

        CHECK(&step, world->window.has_door == before.window.has_door);
        CHECK(&step, world->window.on_challenge == before.window.on_challenge);
        CHECK(&step, world->window.duration_usec == before.window.duration_usec);

        /* Booked with the window as it was: the step numbers an answer names are the old ones. */
        {
                World booked = before;

                world_take_event(&booked, event, now);
                booked.window = world->window;
                *world = booked;
        }
        world_take_effects(world, &step);

        check_result(&step);
        check_times(&step);
        check_door(&step);
        check_state(&step);
        check_changed(&step);
        check_meaningless(&step);

        return step.effects;
}

/* What this world says next without being waited for; EVENT_TICK: nothing. */
static WindowEvent world_say(const World *world, WorldManner manner) {
        WindowEvent event = {.type = EVENT_TICK, .step = world->window.door_step};

        if (world->begun_at == 0 && is_live(&world->window))
                event.type = EVENT_BEGIN;
        else if (world->owes == OWES_OPEN)
                event.type = manner == WORLD_REFUSING ? EVENT_DOOR_REFUSED : EVENT_DOOR_OPENED;
        else if (world->owes == OWES_SHUT)
                event.type = EVENT_DOOR_SHUT;
        else if (world->run_alive && world->run_stopped)
                event.type = EVENT_RUN_LOST;
        else if (world->run_alive && !world->run_ready && manner != WORLD_LATE)
                event.type = EVENT_RUN_READY;
        else if (world->run_alive && world->run_going && manner == WORLD_RENEWING) {
                event.type = EVENT_RUN_ENDED;
                event.result = RESULT_RENEWED;
                event.exit_status = 0;
        }

        return event;
}

unsigned world_run_to_end(const World *start, uint64_t now, WorldManner manner) {
        World world = *start;

        for (unsigned steps = 1; steps < 200; steps++) {
                uint64_t wakeup = window_wakeup(&world.window);
                WindowEvent event = world_say(&world, manner);
                const Step step = {.before = start, .after = &world, .event = &event, .now = now};
                bool late =
                        manner == WORLD_LATE && wakeup != WINDOW_NEVER && event.type != EVENT_BEGIN;

                if (event.type == EVENT_TICK || late) {
                        /* Nobody speaks and no time is set: it would wait for ever. */
                        CHECK(&step, wakeup != WINDOW_NEVER);
                        event = (WindowEvent){.type = EVENT_TICK};
                        if (wakeup > now)
                                now = wakeup;
                }

                if (world_step(&world, &event, now) & EFFECT_FORGET) {
                        CHECK(&step, world.announced_closed == 1);
                        return steps;
                }
        }

        {
                const Step step = {
                        .before = start,
                        .after = &world,
                        .event = &(WindowEvent){.type = EVENT_TICK},
                        .now = now,
                };
                CHECK(&step, !"the window ends");
        }
        return 0;
}
