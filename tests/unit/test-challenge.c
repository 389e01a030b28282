/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Real directories, and the event loop that the daemon has. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <postern/challenge.h>
#include <postern/cleanup.h>
#include <postern/clock.h>

#define PATIENCE_USEC ((uint64_t) 20 * 1000 * 1000)

enum { SLOW_SECONDS = 5 };

int __real_near_open(int directory, const char *name);
int __wrap_near_open(int directory, const char *name);

static bool slow; /* the next step of the way is */

int __wrap_near_open(int directory, const char *name) {
        if (slow)
                sleep(SLOW_SECONDS);
        slow = false;
        return __real_near_open(directory, name);
}

typedef struct Scene {
        char root[sizeof("/tmp/postern-challenge-XXXXXX")];
        char directory[256];
        sd_event *event;
        Challenge *challenge;
        bool pending;
        unsigned told;
} Scene;

static void on_challenge(bool pending, void *userdata) {
        Scene *scene = userdata;

        assert_int_not_equal(pending, scene->pending);
        scene->pending = pending;
        scene->told++;
}

static void shell(const Scene *scene, const char *command) {
        _cleanup_free_ char *line = NULL;

        assert_true(asprintf(&line, "cd '%s' && %s", scene->root, command) > 0);
        assert_int_equal(system(line), 0);
}

static int set_up(void **state) {
        Scene *scene = calloc(1, sizeof(*scene));

        assert_non_null(scene);
        strcpy(scene->root, "/tmp/postern-challenge-XXXXXX");
        assert_non_null(mkdtemp(scene->root));
        assert_true(sd_event_new(&scene->event) >= 0);
        snprintf(scene->directory, sizeof(scene->directory), "%s/www/.well-known/acme-challenge",
                 scene->root);
        *state = scene;
        return 0;
}

static int tear_down(void **state) {
        Scene *scene = *state;

        challenge_free(scene->challenge);
        sd_event_unref(scene->event);
        shell(scene, "rm -rf \"$PWD\"");
        free(scene);
        return 0;
}

static void watch(Scene *scene) {
        assert_int_equal(challenge_new(&scene->challenge, scene->event, scene->directory,
                                       on_challenge, scene),
                         0);
        assert_false(scene->pending);
}

static void turn(Scene *scene, uint64_t usec) {
        assert_true(sd_event_run(scene->event, usec) >= 0);
}

static void wait_for(Scene *scene, bool pending) {
        uint64_t until = clock_now(CLOCK_MONOTONIC) + PATIENCE_USEC;

        while (scene->pending != pending) {
                assert_true(clock_now(CLOCK_MONOTONIC) < until);
                turn(scene, 100 * 1000);
        }
}

/* What has been done until now is looked at, and nothing is told. */
static void assert_quiet(Scene *scene) {
        unsigned told = scene->told;
        uint64_t until = clock_now(CLOCK_MONOTONIC) + 50 * CHALLENGE_PACE_USEC;

        while (clock_now(CLOCK_MONOTONIC) < until)
                turn(scene, 10 * CHALLENGE_PACE_USEC);
        assert_int_equal(scene->told, told);
}

static void test_come_and_go(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge");
        watch(scene);
        assert_quiet(scene);
        for (int i = 0; i < 3; i++) {
                shell(scene, "echo x >www/.well-known/acme-challenge/t0ken-_1");
                wait_for(scene, true);
                shell(scene, "echo x >www/.well-known/acme-challenge/t0ken-_2");
                shell(scene, "rm www/.well-known/acme-challenge/t0ken-_1");
                assert_quiet(scene);
                shell(scene, "rm www/.well-known/acme-challenge/t0ken-_2");
                wait_for(scene, false);
        }
}

/* A look that was held up for seconds does not make the next one come nine times as late. */
static void test_slow_look(void **state) {
        Scene *scene = *state;

        watch(scene);
        slow = true;
        shell(scene, "mkdir -p www/.well-known/acme-challenge");
        while (slow)
                turn(scene, 100 * 1000);
        shell(scene, "echo x >www/.well-known/acme-challenge/token");
        wait_for(scene, true);
        shell(scene, "rm www/.well-known/acme-challenge/token");
        wait_for(scene, false);
}

static void test_what_is_no_token(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge");
        watch(scene);
        shell(scene, "cd www/.well-known/acme-challenge && touch .htaccess token.tmp 'a b' && "
                     "mkdir directory && mkfifo fifo");
        assert_quiet(scene);
        assert_false(scene->pending);
        /* written beside, then renamed */
        shell(scene, "cd www/.well-known/acme-challenge && mv token.tmp token");
        wait_for(scene, true);
        shell(scene, "cd www/.well-known/acme-challenge && mv token token.old");
        wait_for(scene, false);
        shell(scene, "cd www/.well-known/acme-challenge && ln -s /nowhere link");
        wait_for(scene, true);
}

/* certbot makes both directories when it needs them, and removes them again. */
static void test_directories_come_late(void **state) {
        Scene *scene = *state;

        watch(scene);
        for (int i = 0; i < 3; i++) {
                shell(scene, "mkdir -p www/.well-known/acme-challenge");
                assert_quiet(scene);
                shell(scene, "touch www/.well-known/acme-challenge/token");
                wait_for(scene, true);
                shell(scene, "rm -r www");
                wait_for(scene, false);
        }
        /* all at once, and moved into place */
        shell(scene, "mkdir -p new/.well-known/acme-challenge && "
                     "touch new/.well-known/acme-challenge/token && mv new www");
        wait_for(scene, true);
        shell(scene, "mv www old");
        wait_for(scene, false);
}

static void test_symlinks(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p releases/1/.well-known/acme-challenge releases/2/.well-known tokens "
                     "&& ln -s releases/1 www");
        watch(scene);
        shell(scene, "touch releases/1/.well-known/acme-challenge/token");
        wait_for(scene, true);
        shell(scene, "ln -s releases/2 next && mv -T next www");
        wait_for(scene, false);
        shell(scene, "touch tokens/token");
        assert_quiet(scene);
        shell(scene, "ln -s ../../../././tokens/ releases/2/.well-known/acme-challenge");
        wait_for(scene, true);
        shell(scene, "rm tokens/token");
        wait_for(scene, false);
        shell(scene, "rm www && ln -s \"$PWD/releases/1\" www");
        wait_for(scene, true);
        /* a circle leads nowhere, and is left again */
        shell(scene, "ln -s www circle && ln -sfT circle www");
        wait_for(scene, false);
        shell(scene, "ln -sfT releases/1 www");
        wait_for(scene, true);
}

static void test_left_by_an_earlier_client(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge && cd www/.well-known/acme-challenge "
                     "&& touch stale1 stale2");
        watch(scene);
        shell(scene, "touch www/.well-known/acme-challenge/other");
        wait_for(scene, true);
        shell(scene, "rm www/.well-known/acme-challenge/other");
        wait_for(scene, false);
        shell(scene, "rm www/.well-known/acme-challenge/stale1");
        assert_quiet(scene);
        /* the same name, but written anew */
        shell(scene, "echo x >www/.well-known/acme-challenge/stale2");
        wait_for(scene, true);
}

static void test_hundreds(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge");
        watch(scene);
        shell(scene, "cd www/.well-known/acme-challenge && seq 1 800 | xargs touch");
        wait_for(scene, true);
        shell(scene, "cd www/.well-known/acme-challenge && seq 1 799 | xargs rm");
        assert_quiet(scene);
        shell(scene, "rm www/.well-known/acme-challenge/800");
        wait_for(scene, false);
        /* from the first to the last there was one */
        assert_int_equal(scene->told, 2);
}

static void test_too_many_old_files(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge && cd www/.well-known/acme-challenge "
                     "&& seq 1 4097 | xargs touch");
        assert_int_equal(challenge_new(&scene->challenge, scene->event, scene->directory,
                                       on_challenge, scene),
                         -E2BIG);
        assert_null(scene->challenge);
}

/* To root nothing is unreadable, so as another user. */
static void test_unreadable(void **state) {
        Scene *scene = *state;

        shell(scene, "mkdir -p www/.well-known/acme-challenge && chmod 755 . && "
                     "chmod 700 www/.well-known/acme-challenge");
        assert_int_equal(seteuid(65534), 0);
        assert_int_equal(challenge_new(&scene->challenge, scene->event, scene->directory,
                                       on_challenge, scene),
                         -EACCES);
        assert_int_equal(seteuid(0), 0);

        /* who may pass, but not read on the way, misses nothing that is there */
        shell(scene, "chmod 711 www && chmod 755 www/.well-known/acme-challenge");
        assert_int_equal(seteuid(65534), 0);
        watch(scene);
        assert_int_equal(seteuid(0), 0);
        shell(scene, "touch www/.well-known/acme-challenge/token");
        wait_for(scene, true);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_come_and_go, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_slow_look, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_what_is_no_token, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_directories_come_late, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_symlinks, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_left_by_an_earlier_client, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_hundreds, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_too_many_old_files, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
