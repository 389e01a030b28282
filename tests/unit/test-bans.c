/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Which ports are banned is the union of what windows have banned, and only that. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <postern/bans.h>

static const Port web = {PROTOCOL_TCP, 80}, tls = {PROTOCOL_TCP, 443}, quic = {PROTOCOL_UDP, 443};

static bool same(const Port *a, const Port *b) {
        return a->protocol == b->protocol && a->number == b->number;
}

static void assert_gathered(const Bans *bans, const Port *ports, size_t n_ports) {
        Port found[GUARD_BANS_MAX];
        size_t n;

        assert_true(bans_gather(bans, found, &n));
        assert_int_equal(n, n_ports);
        for (size_t i = 0; i < n; i++)
                assert_true(same(&found[i], &ports[i]));
}

static void union_of_windows(void **state) {
        const Port a[] = {quic, web}, b[] = {tls, web}, all[] = {web, tls, quic},
                   rest[] = {web, tls};
        Bans bans = {};

        assert_gathered(&bans, NULL, 0);
        assert_int_equal(bans_add(&bans, "a", a, 2), 0);
        assert_int_equal(bans_add(&bans, "b", b, 2), 0);
        assert_gathered(&bans, all, 3);
        assert_true(bans_have(&bans, "a") && bans_have(&bans, "b") && !bans_have(&bans, "c"));

        assert_true(bans_end(&bans, "a"));
        assert_false(bans_end(&bans, "a"));
        assert_gathered(&bans, rest, 2);
        assert_int_equal(bans_add(&bans, "b", a, 2), 0);
        assert_gathered(&bans, all, 3);
        assert_true(bans_end(&bans, "b"));
        assert_gathered(&bans, NULL, 0);
}

/* A free place is nobody's. */
static void no_name(void **state) {
        Bans bans = {};

        assert_false(bans_have(&bans, ""));
        assert_false(bans_end(&bans, ""));
        assert_int_equal(bans_add(&bans, "a", &web, 1), 0);
        assert_false(bans_end(&bans, ""));
        assert_gathered(&bans, &web, 1);
}

static void limits(void **state) {
        Port ports[PROFILE_PORTS_MAX], found[GUARD_BANS_MAX];
        Bans bans = {};
        char id[8];
        size_t n;

        for (unsigned i = 0; i < BANS_WINDOWS_MAX; i++) {
                for (unsigned k = 0; k < PROFILE_PORTS_MAX; k++)
                        ports[k] = (Port){PROTOCOL_TCP, (uint16_t) (1 + i * PROFILE_PORTS_MAX + k)};
                (void) snprintf(id, sizeof(id), "w%u", i);
                assert_int_equal(bans_add(&bans, id, ports, PROFILE_PORTS_MAX), 0);
                assert_int_equal(bans_gather(&bans, found, &n),
                                 (i + 1) * PROFILE_PORTS_MAX <= GUARD_BANS_MAX);
        }
        assert_int_equal(n, GUARD_BANS_MAX);
        for (unsigned i = 0; i < GUARD_BANS_MAX; i++)
                assert_int_equal(found[i].number, i + 1);
        assert_int_equal(bans_add(&bans, "more", &web, 1), -ENOSPC);
        assert_int_equal(bans_add(&bans, "w0", ports, 1), -ENOSPC);
        assert_true(bans_end(&bans, "w0"));
        assert_int_equal(bans_add(&bans, "more", &web, 1), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(union_of_windows),
                cmocka_unit_test(no_name),
                cmocka_unit_test(limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
