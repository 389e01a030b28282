/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The value syntaxes, as tables: what each accepts, what it makes of it, and what it refuses. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-value.h>

#define SEC  ((uint64_t) 1000 * 1000)
#define MIN  (60 * SEC)
#define HOUR (60 * MIN)
#define DAY  (24 * HOUR)

static void assert_result(const char *text, int r, int expected) {
        if (r != expected)
                fail_msg("\"%s\": %d, not %d", text, r, expected);
}

static void timespans(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t usec;
        } table[] = {
                {"0", 0, 0},
                {"1", 0, SEC},
                {"90", 0, 90 * SEC},
                {" 90\t", 0, 90 * SEC},
                {"2min", 0, 2 * MIN},
                {"2 min", 0, 2 * MIN},
                {"2m", 0, 2 * MIN},
                {"2minutes", 0, 2 * MIN},
                {"1minute", 0, MIN},
                {"1h 30min", 0, HOUR + 30 * MIN},
                {"1h30min", 0, HOUR + 30 * MIN},
                {"30min 1h", 0, HOUR + 30 * MIN},
                {"1min 30", 0, 90 * SEC},
                {"1 2", 0, 3 * SEC},
                {"1.5s", 0, 1500000},
                {"1.5", 0, 1500000},
                {".5s", 0, 500000},
                {"0.000001s", 0, 1},
                {"0.0000019s", 0, 1},
                {"1.5 min", 0, 90 * SEC},
                {"0.25h 1.25min", 0, 15 * MIN + 75 * SEC},
                {"1us", 0, 1},
                {"1usec", 0, 1},
                {"1\xc2\xb5s", 0, 1},
                {"1\xce\xbcs", 0, 1},
                {"1ms", 0, 1000},
                {"1msec", 0, 1000},
                {"1sec", 0, SEC},
                {"1second", 0, SEC},
                {"2seconds", 0, 2 * SEC},
                {"1hr", 0, HOUR},
                {"1hour", 0, HOUR},
                {"2hours", 0, 2 * HOUR},
                {"1d", 0, DAY},
                {"1day", 0, DAY},
                {"2days", 0, 2 * DAY},
                {"1w", 0, 7 * DAY},
                {"1week", 0, 7 * DAY},
                {"2weeks", 0, 14 * DAY},
                {"1M", 0, 2629800 * SEC},
                {"1month", 0, 2629800 * SEC},
                {"2months", 0, 2 * 2629800 * SEC},
                {"1y", 0, 31557600 * SEC},
                {"1year", 0, 31557600 * SEC},
                {"2years", 0, 2 * 31557600 * SEC},
                {"18446744073709551615us", 0, UINT64_MAX},
                {"18446744073709551616us", -ERANGE},
                {"18446744073709551615us 1us", -ERANGE},
                {"18446744073709551615s", -ERANGE},
                {"99999999999999999999999999", -ERANGE},
                {"18446744073709551615us 0.9s", -ERANGE},
                {"-1", -ERANGE},
                {"-0", -ERANGE},
                {"1s -1s", -ERANGE},
                {"infinity", -ERANGE},
                {" infinity ", -ERANGE},
                {"infinity 1s", -EINVAL},
                {"infinityx", -EINVAL},
                {"", -EINVAL},
                {" ", -EINVAL},
                {"s", -EINVAL},
                {"min 5", -EINVAL},
                {"+1", -EINVAL},
                {"-", -EINVAL},
                {"--1", -EINVAL},
                {"0x10", -EINVAL},
                {"1,5s", -EINVAL},
                {"1.s", -EINVAL},
                {"1.", -EINVAL},
                {".", -EINVAL},
                {"1..5", -EINVAL},
                {"12.34.56", -EINVAL},
                {"1. 5", -EINVAL},
                {"1.-5", -EINVAL},
                {"5 fortnights", -EINVAL},
                {"5 Min", -EINVAL},
                {"1hmin", -EINVAL},
                {"1h;", -EINVAL},
                {"1\xc2s", -EINVAL},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                uint64_t usec = 4711;

                assert_result(table[i].text, value_parse_timespan(table[i].text, &usec),
                              table[i].r);
                assert_int_equal(usec, table[i].r == 0 ? table[i].usec : 4711);
        }
}

#define PORTS_16                                                                                   \
        "1/tcp 2/tcp 3/tcp 4/tcp 5/tcp 6/tcp 7/tcp 8/tcp 9/tcp 10/tcp 11/tcp 12/tcp 13/tcp "       \
        "14/tcp 15/tcp 16/tcp"

static void ports(void **state) {
        static const struct {
                const char *text;
                int r;
                size_t n;
                Port ports[3];
        } table[] = {
                {"80/tcp", 0, 1, {{PROTOCOL_TCP, 80}}},
                {" 80/tcp ", 0, 1, {{PROTOCOL_TCP, 80}}},
                {"1/udp", 0, 1, {{PROTOCOL_UDP, 1}}},
                {"65535/tcp", 0, 1, {{PROTOCOL_TCP, 65535}}},
                {"443/tcp 80/tcp", 0, 2, {{PROTOCOL_TCP, 80}, {PROTOCOL_TCP, 443}}},
                {"443/tcp,80/tcp", 0, 2, {{PROTOCOL_TCP, 80}, {PROTOCOL_TCP, 443}}},
                {"443/tcp, \t80/tcp", 0, 2, {{PROTOCOL_TCP, 80}, {PROTOCOL_TCP, 443}}},
                {"80/udp 80/tcp", 0, 2, {{PROTOCOL_TCP, 80}, {PROTOCOL_UDP, 80}}},
                {"3/tcp 1/tcp 2/tcp",
                 0,
                 3,
                 {{PROTOCOL_TCP, 1}, {PROTOCOL_TCP, 2}, {PROTOCOL_TCP, 3}}},
                {"none", 0, 0},
                {" none ", 0, 0},
                {PORTS_16, 0, 16, {{PROTOCOL_TCP, 1}, {PROTOCOL_TCP, 2}}},
                {PORTS_16 " 17/tcp", -E2BIG},
                {PORTS_16 " 16/tcp", -EEXIST},
                {"80/tcp 80/tcp", -EEXIST},
                {"80/tcp 443/tcp 80/tcp", -EEXIST},
                {"0/tcp", -ERANGE},
                {"65536/tcp", -ERANGE},
                {"4294967376/tcp", -ERANGE},
                {"18446744073709551696/tcp", -ERANGE},
                {"", -EINVAL},
                {",", -EINVAL},
                {",80/tcp", -EINVAL},
                {"80", -EINVAL},
                {"80/", -EINVAL},
                {"/tcp", -EINVAL},
                {"tcp/80", -EINVAL},
                {"80/TCP", -EINVAL},
                {"80/sctp", -EINVAL},
                {"80/tcpx", -EINVAL},
                {"80 /tcp", -EINVAL},
                {"080/tcp", -EINVAL},
                {"00/tcp", -EINVAL},
                {"-80/tcp", -EINVAL},
                {"+80/tcp", -EINVAL},
                {"0x50/tcp", -EINVAL},
                {"80-90/tcp", -EINVAL},
                {"80/tcp;443/tcp", -EINVAL},
                {"http/tcp", -EINVAL},
                {"None", -EINVAL},
                {"none 80/tcp", -EINVAL},
                {"80/tcp none", -EINVAL},
                {"80/tcp # web", -EINVAL},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                Port ret[PROFILE_PORTS_MAX] = {{PROTOCOL_UDP, 4711}};
                size_t n = 99;

                assert_result(table[i].text, value_parse_ports(table[i].text, ret, &n), table[i].r);
                assert_int_equal(n, table[i].r == 0 ? table[i].n : 99);
                for (size_t j = 0; table[i].r == 0 && j < n && j < 3; j++) {
                        if (table[i].ports[j].number == 0)
                                break;
                        assert_int_equal(ret[j].protocol, table[i].ports[j].protocol);
                        assert_int_equal(ret[j].number, table[i].ports[j].number);
                }
                if (table[i].r != 0 || n == 0)
                        assert_int_equal(ret[0].number, 4711);
        }
}

static void argvs(void **state) {
        static const struct {
                const char *text;
                int r;
                const char *argv[5];
        } table[] = {
                {"/bin/true", 0, {"/bin/true"}},
                {" /bin/true\t", 0, {"/bin/true"}},
                {"/bin/a b\tc  d", 0, {"/bin/a", "b", "c", "d"}},
                {"a 'b c' d", 0, {"a", "b c", "d"}},
                {"a \"b c\" d", 0, {"a", "b c", "d"}},
                {"a '' \"\"", 0, {"a", "", ""}},
                {"a --x='b c'd", 0, {"a", "--x=b cd"}},
                {"a \"it's\" 'say \"x\"'", 0, {"a", "it's", "say \"x\""}},
                {"a \"\\\"\" '\\''", 0, {"a", "\"", "'"}},
                {"a \\'b\\'", 0, {"a", "'b'"}},
                {"a b\\sc", 0, {"a", "b c"}},
                {"a b\\\\c", 0, {"a", "b\\c"}},
                {"a \\a\\b\\f\\n\\r\\t\\v", 0, {"a", "\a\b\f\n\r\t\v"}},
                {"a \\x41\\x7a\\x7A", 0, {"a", "Azz"}},
                {"a \\101\\377", 0, {"a", "A\377"}},
                {"a '\\x41 \\s'", 0, {"a", "A  "}},
                {"a $HOME ${X} %n %% $$", 0, {"a", "$HOME", "${X}", "%n", "%%"}},
                {"a ; b", 0, {"a", ";", "b"}},
                {"a # b", 0, {"a", "#", "b"}},
                {"a b;c 'd;e'", 0, {"a", "b;c", "d;e"}},
                {"a *.pem ~ >x", 0, {"a", "*.pem", "~", ">x"}},
                {"a \xc3\xa9", 0, {"a", "\xc3\xa9"}},
                {"", -ENOENT},
                {" \t", -ENOENT},
                {"a 'b", -EINVAL},
                {"a \"b", -EINVAL},
                {"a \"b'", -EINVAL},
                {"'", -EINVAL},
                {"a \\", -EINVAL},
                {"a 'b\\", -EINVAL},
                {"a \\'b c'", -EINVAL},
                {"a \\q", -EINVAL},
                {"a \\ b", -EINVAL},
                {"a \\;", -EINVAL},
                {"a \\x4", -EINVAL},
                {"a \\xg1", -EINVAL},
                {"a \\x00", -EINVAL},
                {"a \\000", -EINVAL},
                {"a \\0", -EINVAL},
                {"a \\18", -EINVAL},
                {"a \\181", -EINVAL},
                {"a \\400", -EINVAL},
                {"a \\777", -EINVAL},
                {"a \\u0041", -EINVAL},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char *untouched = NULL;
                char **argv = &untouched;

                assert_result(table[i].text, value_split_argv(table[i].text, &argv), table[i].r);
                if (table[i].r != 0) {
                        assert_ptr_equal(argv, &untouched);
                        continue;
                }
                for (size_t j = 0; j < ELEMENTS(table[i].argv) && table[i].argv[j]; j++) {
                        assert_non_null(argv[j]);
                        assert_string_equal(argv[j], table[i].argv[j]);
                        if (j + 1 < ELEMENTS(table[i].argv) && !table[i].argv[j + 1])
                                assert_null(argv[j + 1]);
                }
                assert_null(value_argv_free(argv));
        }
        assert_null(value_argv_free(NULL));
}

static void rate_limits(void **state) {
        static const struct {
                const char *text;
                int r;
                unsigned count;
                uint64_t usec;
        } table[] = {
                {"5/1h", 0, 5, HOUR},
                {"1/1s", 0, 1, SEC},
                {"100/1d", 0, 100, DAY},
                {"5/ 1h 30min", 0, 5, HOUR + 30 * MIN},
                {"5/60", 0, 5, MIN},
                {"0/1h", -ERANGE},
                {"101/1h", -ERANGE},
                {"4294967301/1h", -ERANGE},
                {"18446744073709551621/1h", -ERANGE},
                {"5/999ms", -ERANGE},
                {"5/0", -ERANGE},
                {"5/86401", -ERANGE},
                {"5/infinity", -ERANGE},
                {"5/-1h", -ERANGE},
                {"", -EINVAL},
                {"5", -EINVAL},
                {"5/", -EINVAL},
                {"/1h", -EINVAL},
                {"-5/1h", -EINVAL},
                {"5/h", -EINVAL},
                {"5 per hour", -EINVAL},
                {"5/1h/1h", -EINVAL},
                {"1h/5", -EINVAL},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                unsigned count = 47;
                uint64_t usec = 11;

                assert_result(table[i].text, value_parse_rate_limit(table[i].text, &count, &usec),
                              table[i].r);
                assert_int_equal(count, table[i].r == 0 ? table[i].count : 47);
                assert_int_equal(usec, table[i].r == 0 ? table[i].usec : 11);
        }
}

static void texts(void **state) {
        static const struct {
                const char *text;
                bool utf8, printable, plain;
        } table[] = {
                {"", true, true, true},
                {"example.com by HTTP-01", true, true, true},
                {"Z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x94\x92", true, true, true},
                {"a<b", true, true, false},
                {"a>b", true, true, false},
                {"a&b", true, true, false},
                {"a\xe2\x80\xae"
                 "b",
                 true, true, false},                 /* U+202E */
                {"\xe2\x80\x8e", true, true, false}, /* U+200E */
                {"\xe2\x80\x8f", true, true, false}, /* U+200F */
                {"\xe2\x81\xa6", true, true, false}, /* U+2066 */
                {"\xe2\x81\xa9", true, true, false}, /* U+2069 */
                {"\xd8\x9c", true, true, false},     /* U+061C */
                {"\xe2\x81\xaa", true, true, true},  /* U+206A: next to them, harmless */
                {"a\tb", true, false, false},
                {"a\nb", true, false, false},
                {"a\x1b[0m", true, false, false},
                {"a\x7f", true, false, false},
                {"a\xc2\x9b", true, false, false},    /* U+009B: the one-byte escape sequence */
                {"a\xc2\xa0", true, true, true},      /* U+00A0 */
                {"\xe2\x80\xa8", true, false, false}, /* U+2028 */
                {"\xe2\x80\xa9", true, false, false}, /* U+2029 */
                {"\x80", false, false, false},
                {"\xff", false, false, false},
                {"\xc3", false, false, false},
                {"\xc3(", false, false, false},
                {"\xe2\x82", false, false, false},
                {"\xf0\x9f\x94", false, false, false},
                {"\xc0\xaf", false, false, false},         /* overlong '/' */
                {"\xe0\x80\xaf", false, false, false},     /* the same */
                {"\xf0\x80\x80\xaf", false, false, false}, /* the same */
                {"\xed\xa0\x80", false, false, false},     /* a surrogate */
                {"\xf4\x8f\xbf\xbf", true, true, true},    /* U+10FFFF */
                {"\xf4\x90\x80\x80", false, false, false}, /* one more */
                {"\xf8\x88\x80\x80\x80", false, false, false},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                assert_result(table[i].text, value_is_utf8(table[i].text), table[i].utf8);
                assert_result(table[i].text, value_is_printable(table[i].text), table[i].printable);
                assert_result(table[i].text, value_is_plain_text(table[i].text), table[i].plain);
        }
}

static void paths(void **state) {
        static const struct {
                const char *text;
                bool good;
        } table[] = {
                {"/", true},      {"/a", true},       {"/a/b.pem", true}, {"/a/..b", true},
                {"/a/b..", true}, {"/a/...", true},   {"/a b", true},     {"", false},
                {"a", false},     {"./a", false},     {" /a", false},     {"/..", false},
                {"/../a", false}, {"/a/../b", false}, {"/a/..", false},   {"/a//..//b", false},
                {"/a\nb", false}, {"/a\x1b", false},  {"/a\xff", false},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                assert_result(table[i].text, value_is_path(table[i].text), table[i].good);
}

static void users(void **state) {
        static const struct {
                const char *text;
                bool good;
        } table[] = {
                {"root", true},
                {"_certbot", true},
                {"www-data", true},
                {"a1_", true},
                {"abcdefghijklmnopqrstuvwxyz_-0123", true},
                {"abcdefghijklmnopqrstuvwxyz_-01234", false},
                {"0", true},
                {"1000", true},
                {"4294967294", true},
                {"4294967295", false},
                {"4294967296", false},
                {"18446744073709551616", false},
                {"00", false},
                {"01000", false},
                {"1000a", false},
                {"-1", false},
                {"+1", false},
                {"", false},
                {"-a", false},
                {"Root", false},
                {"rooT", false},
                {"a b", false},
                {"a.b", false},
                {"a:b", false},
                {"a/b", false},
                {"root$", false},
                {"\xc3\xa9", false},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                assert_result(table[i].text, value_is_user(table[i].text), table[i].good);
}

static void chains(void **state) {
        static const struct {
                const char *text;
                const char *chain;
        } table[] = {
                {"inet filter input", "inet filter input"},
                {"  ip6\tfilter   INPUT ", "ip6 filter INPUT"},
                {"ip .a _b", "ip .a _b"},
                {"ip a-b/c.d_e ufw-user-input", "ip a-b/c.d_e ufw-user-input"},
                {"", NULL},
                {"inet filter", NULL},
                {"inet", NULL},
                {"filter input", NULL},
                {"inet filter input drop", NULL},
                {"bridge filter input", NULL},
                {"arp filter input", NULL},
                {"INET filter input", NULL},
                {"ine filter input", NULL},
                {"inet 1filter input", NULL},
                {"inet -filter input", NULL},
                {"inet fil\"ter input", NULL},
                {"inet fil;ter input", NULL},
                {"inet filter inp\xc3\xbct", NULL},
        };
        char name[257], text[600];

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_free_ char *chain = NULL;

                assert_result(table[i].text, value_parse_chain(table[i].text, &chain),
                              table[i].chain ? 0 : -EINVAL);
                if (table[i].chain)
                        assert_string_equal(chain, table[i].chain);
                else
                        assert_null(chain);
        }

        for (size_t length = 255; length <= 256; length++) {
                _cleanup_free_ char *chain = NULL;

                memset(name, 'a', length);
                name[length] = 0;
                (void) snprintf(text, sizeof(text), "inet %s %s", name, name);
                assert_int_equal(value_parse_chain(text, &chain), length == 255 ? 0 : -EINVAL);
                if (length == 255)
                        assert_string_equal(chain, text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(timespans),   cmocka_unit_test(ports),  cmocka_unit_test(argvs),
                cmocka_unit_test(rate_limits), cmocka_unit_test(texts),  cmocka_unit_test(paths),
                cmocka_unit_test(users),       cmocka_unit_test(chains),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
