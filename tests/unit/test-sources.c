/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <postern/sources.h>

static void add(Sources *sources, uint32_t id, const char *text) {
        uint8_t address[16];
        bool is_ipv6 = strchr(text, ':');

        assert_int_equal(inet_pton(is_ipv6 ? AF_INET6 : AF_INET, text, address), 1);
        sources_add(sources, id, is_ipv6, address);
}

static void test_networks(void **state) {
        Sources sources = {};

        add(&sources, 1, "192.0.2.1");
        add(&sources, 2, "192.0.2.255");
        assert_int_equal(sources.n_networks, 1);
        add(&sources, 3, "192.0.3.1");
        add(&sources, 4, "2001:db8:0:ffff::1");
        add(&sources, 5, "2001:db8::2");
        assert_int_equal(sources.n_networks, 3);
        add(&sources, 6, "2001:db8:1::1");
        assert_int_equal(sources.n_networks, 4);
        assert_int_equal(sources.n_connections, 6);
        assert_int_equal(sources.n_ipv6, 3);
        /* the same bytes in another family are another network */
        add(&sources, 7, "c000:200::1");
        assert_int_equal(sources.n_networks, 5);
        assert_false(sources.overflowed);
}

static void test_seen_again(void **state) {
        Sources sources = {};

        for (unsigned i = 0; i < 3; i++) {
                add(&sources, 1, "192.0.2.1");
                add(&sources, 1, "2001:db8::1"); /* by chance */
        }
        assert_int_equal(sources.n_connections, 2);
        assert_int_equal(sources.n_networks, 2);
}

static void test_overflow(void **state) {
        static Sources sources;

        for (uint32_t id = 0; id < SOURCES_MAX; id++)
                add(&sources, id, "192.0.2.1");
        add(&sources, SOURCES_MAX - 1, "192.0.2.1");
        assert_int_equal(sources.n_connections, SOURCES_MAX);
        assert_false(sources.overflowed);
        add(&sources, SOURCES_MAX, "198.51.100.1");
        assert_true(sources.overflowed);
        assert_int_equal(sources.n_connections, SOURCES_MAX);
        assert_int_equal(sources.n_networks, 1);
}

static void test_merge(void **state) {
        static Sources sources, more;

        for (uint32_t id = 0; id < 10; id++)
                add(&sources, id, "192.0.2.1");
        for (uint32_t id = 5; id < 15; id++)
                add(&more, id, "192.0.2.1");
        add(&more, 0, "2001:db8::1");
        sources_merge(&sources, &more);
        sources_merge(&sources, &more);
        assert_int_equal(sources.n_connections, 16);
        assert_int_equal(sources.n_ipv6, 1);
        assert_int_equal(sources.n_networks, 2);
        assert_false(sources.overflowed);

        more = (Sources){.overflowed = true};
        sources_merge(&sources, &more);
        assert_true(sources.overflowed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_networks),
                cmocka_unit_test(test_seen_again),
                cmocka_unit_test(test_overflow),
                cmocka_unit_test(test_merge),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
