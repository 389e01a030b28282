/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Long lives at random: what exploring shortens (many challenges, an hour of them) is walked here,
 * against the same books. POSTERN_SEED and POSTERN_EVENTS repeat or lengthen a walk.
 */

#include "window-world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <postern/cleanup.h>

enum {
        SECOND = 1000 * 1000,
        EVENTS = 2 * 1000 * 1000,
};

/* splitmix64: the same walk from the same seed on every machine */
static uint64_t random_next(uint64_t *seed) {
        uint64_t z = (*seed += 0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
}

static uint64_t random_below(uint64_t *seed, uint64_t limit) {
        return random_next(seed) % limit;
}

static uint64_t setting(const char *name, uint64_t otherwise) {
        const char *value = getenv(name);

        return value ? strtoull(value, NULL, 0) : otherwise;
}

/* Mostly what a real world would say; one time in 512 anything at all. What would end the window
 * comes seldom, or no life would be long. */
static WindowEvent random_event(const World *world, uint64_t *seed) {
        WindowEvent event = {
                .type = EVENT_TICK,
                .step = world->window.door_step,
                .result = RESULT_RENEWED + random_below(seed, 4),
                .exit_status = random_below(seed, 256),
        };
        uint64_t dice = random_below(seed, 64);

        if (random_below(seed, 512) == 0) {
                event.type = random_below(seed, EVENT_TICK + 1);
                event.step -= random_below(seed, 3);
        } else if (dice < 8 && random_below(seed, 4) == 0)
                event.type = EVENT_BEGIN;
        else if (dice < 8)
                event.type = EVENT_TICK;
        else if (world->begun_at == 0)
                event.type = EVENT_BEGIN;
        else if (dice < 24)
                event.type = random_below(seed, 2) ? EVENT_CHALLENGE_PENDING : EVENT_CHALLENGE_DONE;
        else if (world->owes == OWES_OPEN)
                event.type = random_below(seed, 256) ? EVENT_DOOR_OPENED : EVENT_DOOR_REFUSED;
        else if (world->owes == OWES_SHUT)
                event.type = EVENT_DOOR_SHUT;
        else if (world->run_alive && world->run_stopped)
                event.type = random_below(seed, 2) ? EVENT_RUN_ENDED : EVENT_RUN_LOST;
        else if (world->run_alive && !world->run_ready)
                event.type = EVENT_RUN_READY;
        else if (world->run_alive && random_below(seed, 256) == 0)
                event.type = EVENT_RUN_ENDED;

        return event;
}

/* Often the same instant, often a wake-up that is on time or a little off, else some while. */
static uint64_t random_moment(const World *world, uint64_t now, uint64_t *seed) {
        uint64_t wakeup = window_wakeup(&world->window);
        uint64_t moment = now;

        switch (random_below(seed, 8)) {
        case 0:
                if (wakeup != WINDOW_NEVER && (wakeup < now + SECOND || !random_below(seed, 64)))
                        moment = wakeup + random_below(seed, 3) - 1;
                break;
        case 1:
                moment = now + random_below(seed, SECOND / 10);
                break;
        case 2:
                moment = now + random_below(seed, random_below(seed, 64) ? SECOND : 90 * SECOND);
                break;
        default:
                break;
        }

        return moment > now ? moment : now;
}

static void random_birth(World *world, uint64_t *seed) {
        static const uint64_t durations[] = {
                1, SECOND - 1, SECOND, 20ULL * SECOND, 120ULL * SECOND, 3600ULL * SECOND};

        world_init(world, random_below(seed, 8) != 0, random_below(seed, 2) != 0,
                   durations[random_below(seed, ELEMENTS(durations))]);
}

static void test_random(void **state) {
        uint64_t seed = setting("POSTERN_SEED", (uint64_t) time(NULL));
        uint64_t events = setting("POSTERN_EVENTS", EVENTS);
        uint64_t now = 1000ULL * SECOND;
        uint64_t lives = 0, longest = 0, age = 0, opened = 0, results[RESULT_STOPPED + 1] = {};
        World world;

        print_message("POSTERN_SEED=%" PRIu64 "\n", seed);
        random_birth(&world, &seed);

        for (uint64_t i = 0; i < events; i++) {
                WindowEvent event = random_event(&world, &seed);
                unsigned effects;

                now = random_moment(&world, now, &seed);
                effects = world_step(&world, &event, now);
                opened += !!(effects & EFFECT_OPEN_DOOR);
                age++;

                if (effects & EFFECT_FORGET) {
                        results[world.window.result]++;
                        lives++;
                        longest = age > longest ? age : longest;
                        age = 0;
                        random_birth(&world, &seed);
                }
        }

        print_message("%" PRIu64 " events, %" PRIu64 " lives, the longest of %" PRIu64
                      " events, doors opened %" PRIu64 " times\n",
                      events, lives, longest, opened);
        for (WindowResult result = RESULT_RENEWED; result <= RESULT_STOPPED; result++)
                print_message("  %s: %" PRIu64 "\n", window_result_to_string(result),
                              results[result]);

        if (events < EVENTS)
                return;

        /* The walk went everywhere, not round in a circle. */
        assert_true(lives >= events / 1000);
        assert_true(opened >= lives / 2);
        assert_true(longest >= 500);
        for (WindowResult result = RESULT_RENEWED; result <= RESULT_STOPPED; result++)
                assert_true(results[result] > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
