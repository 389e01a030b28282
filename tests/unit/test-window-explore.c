/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Every state that a window can reach, every event in it, at every moment that matters: breadth
 * first, until nothing new is found.
 *
 * Time makes the states infinite, so two that differ by a shift of the clock alone, or in what the
 * state no longer looks at, are one (world_key). What matters about a moment is which of the
 * pending times it lies before, at or after.
 */

#include "window-world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <postern/cleanup.h>

enum {
        SECOND = 1000 * 1000,
        START = 1000 * SECOND, /* far from 0, which means "not yet" */
        SLOTS = 1 << 22,
};

typedef struct Key {
        uint64_t opening;
        uint64_t deadline;
        uint64_t closed;
        uint8_t state, door, run, result;
        uint8_t exited, opened, has_deadline, pending;
        uint8_t world_door, owes, flags;
} Key;

typedef struct Node {
        World world;
        uint64_t now;
        Key key;
} Node;

typedef struct Explorer {
        Node *nodes;
        size_t count, capacity;
        uint32_t *slots; /* index + 1 */
        uint64_t transitions;
        uint64_t endings;
} Explorer;

static Key world_key(const World *world, uint64_t now) {
        const Window *window = &world->window;
        Key key;

        memset(&key, 0, sizeof(key));
        key.state = window->state;
        key.door = window->door;
        key.run = window->run;
        key.result = window->result;
        key.exited = window->exit_status != -1;
        key.opened = window->opened_at != 0;
        key.has_deadline = window->deadline != 0;
        key.pending = window->challenge_pending;
        key.world_door = world->door;
        key.owes = world->owes;
        key.flags = (world->begun_at != 0) | world->run_alive << 1 | world->run_ready << 2 |
                    world->run_going << 3 | world->run_stopped << 4 | world->challenge << 5 |
                    world->announced_open << 6 | world->announced_closed << 7;

        if (window->state == WINDOW_OPENING && world->begun_at != 0)
                key.opening = window->opening_until - now;
        if (window->result == RESULT_NONE && window->deadline != 0)
                key.deadline = window->deadline - now;
        if (window->state == WINDOW_CLOSED && now - window->closed_at < WINDOW_FORGET_AFTER_USEC)
                key.closed = window->closed_at + WINDOW_FORGET_AFTER_USEC - now;

        return key;
}

static size_t key_hash(const Key *key) {
        const unsigned char *bytes = (const unsigned char *) key;
        uint64_t hash = 14695981039346656037u;

        for (size_t i = 0; i < sizeof(*key); i++)
                hash = (hash ^ bytes[i]) * 1099511628211u;

        return hash ^ hash >> 32;
}

static void explorer_add(Explorer *explorer, const World *world, uint64_t now) {
        Key key = world_key(world, now);
        size_t slot = key_hash(&key) % SLOTS;

        for (; explorer->slots[slot] != 0; slot = (slot + 1) % SLOTS)
                if (memcmp(&explorer->nodes[explorer->slots[slot] - 1].key, &key, sizeof(key)) == 0)
                        return;

        if (explorer->count == explorer->capacity) {
                explorer->capacity = explorer->capacity ? explorer->capacity * 2 : 1024;
                assert_true(explorer->capacity < SLOTS);
                explorer->nodes =
                        realloc(explorer->nodes, explorer->capacity * sizeof(*explorer->nodes));
                assert_non_null(explorer->nodes);
        }

        explorer->nodes[explorer->count] = (Node){.world = *world, .now = now, .key = key};
        explorer->slots[slot] = ++explorer->count;
}

static size_t add_moment(uint64_t *moments, size_t count, uint64_t now, uint64_t moment) {
        if (moment <= now)
                return count;

        for (size_t i = 0; i < count; i++)
                if (moments[i] == moment)
                        return count;

        moments[count] = moment;
        return count + 1;
}

/* Now; and just before, at and just after everything that is pending; and long after all of it. */
static size_t world_moments(const World *world, uint64_t now, uint64_t *moments) {
        const Window *window = &world->window;
        bool live = window->result == RESULT_NONE;
        const uint64_t pending[] = {
                live && world->begun_at != 0 && !world->run_going ? window->opening_until : 0,
                live ? window->deadline : 0,
                live && window->on_challenge && window->deadline != 0
                        ? window->deadline - WINDOW_REOPEN_MIN_USEC
                        : 0,
                window->state == WINDOW_CLOSED ? window->closed_at + WINDOW_FORGET_AFTER_USEC : 0,
        };
        size_t count = 0;

        moments[count++] = now;
        for (size_t i = 0; i < ELEMENTS(pending); i++) {
                if (pending[i] == 0)
                        continue;
                count = add_moment(moments, count, now, pending[i] - 1);
                count = add_moment(moments, count, now, pending[i]);
                count = add_moment(moments, count, now, pending[i] + 1);
        }
        return add_moment(moments, count, now, now + 86400ULL * SECOND);
}

/* Every event, the answers both timely and stale, the end of the run with each of its results. */
static size_t world_events(const World *world, WindowEvent *events) {
        static const WindowEventType answers[] = {EVENT_DOOR_OPENED, EVENT_DOOR_REFUSED,
                                                  EVENT_DOOR_SHUT};
        static const WindowEventType others[] = {
                EVENT_BEGIN,
                EVENT_RUN_READY,
                EVENT_RUN_LOST,
                EVENT_DOOR_LOST,
                EVENT_CHALLENGE_PENDING,
                EVENT_CHALLENGE_DONE,
                EVENT_CANCEL,
                EVENT_STOP,
                EVENT_TICK,
        };
        size_t count = 0;

        for (size_t i = 0; i < ELEMENTS(others); i++)
                events[count++] = (WindowEvent){.type = others[i]};

        for (WindowResult result = RESULT_RENEWED; result <= RESULT_FAILED; result++)
                events[count++] = (WindowEvent){.type = EVENT_RUN_ENDED,
                                                .result = result,
                                                .exit_status = result == RESULT_FAILED ? 7 : 0};

        for (size_t i = 0; i < ELEMENTS(answers); i++) {
                events[count++] = (WindowEvent){answers[i], .step = world->window.door_step};
                events[count++] = (WindowEvent){answers[i], .step = world->window.door_step - 1};
        }

        return count;
}

static void explore(bool has_door, bool on_challenge, uint64_t duration_usec, size_t states_min,
                    uint64_t transitions_min) {
        Explorer explorer = {.slots = calloc(SLOTS, sizeof(uint32_t))};
        size_t seen[WINDOW_CLOSED + 1] = {};
        World world;

        assert_non_null(explorer.slots);
        world_init(&world, has_door, on_challenge, duration_usec);
        explorer_add(&explorer, &world, START);

        for (size_t i = 0; i < explorer.count; i++) {
                const Node node = explorer.nodes[i];
                uint64_t moments[32];
                WindowEvent events[32];
                size_t moments_count = world_moments(&node.world, node.now, moments);
                size_t events_count = world_events(&node.world, events);

                seen[node.world.window.state]++;

                for (size_t m = 0; m < moments_count; m++)
                        for (size_t e = 0; e < events_count; e++) {
                                World next = node.world;

                                world_step(&next, &events[e], moments[m]);
                                explorer.transitions++;
                                explorer_add(&explorer, &next, moments[m]);
                        }

                for (WorldManner manner = 0; manner < WORLD_MANNERS; manner++)
                        explorer.endings += world_run_to_end(&node.world, node.now, manner);
        }

        print_message("door=%d challenge=%d duration=%" PRIu64 "ms: %zu states (opening %zu, armed "
                      "%zu, open %zu, closing %zu, closed %zu), %" PRIu64
                      " transitions, and %" PRIu64 " steps to their ends\n",
                      has_door, on_challenge, duration_usec / 1000, explorer.count,
                      seen[WINDOW_OPENING], seen[WINDOW_ARMED], seen[WINDOW_OPEN],
                      seen[WINDOW_CLOSING], seen[WINDOW_CLOSED], explorer.transitions,
                      explorer.endings);

        /* So that it cannot come to explore less without a word. */
        assert_true(explorer.count >= states_min);
        assert_true(explorer.transitions >= transitions_min);

        free(explorer.nodes);
        free(explorer.slots);
}

static void test_door(void **state) {
        explore(true, false, 3 * SECOND, 560, 36000);
}

static void test_door_longer_than_opening(void **state) {
        explore(true, false, 120 * SECOND, 575, 36900);
}

static void test_no_door(void **state) {
        explore(false, false, 3 * SECOND, 270, 19900);
}

static void test_no_door_on_challenge(void **state) {
        explore(false, true, 3 * SECOND, 270, 19900);
}

static void test_challenge(void **state) {
        explore(true, true, 5 * SECOND / 2, 720, 47000);
}

static void test_challenge_never_opened(void **state) {
        explore(true, true, WINDOW_REOPEN_MIN_USEC - 1, 270, 19900);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_door),      cmocka_unit_test(test_door_longer_than_opening),
                cmocka_unit_test(test_no_door),   cmocka_unit_test(test_no_door_on_challenge),
                cmocka_unit_test(test_challenge), cmocka_unit_test(test_challenge_never_opened),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
