/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What a good profile means, and which there are. */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile.h>

#define SEC  ((uint64_t) 1000 * 1000)
#define MIN  (60 * SEC)
#define HOUR (60 * MIN)

DEFINE_CLEANUP(Profile, profile_free);

static int set_up(void **state) {
        make_config_dir("/tmp");
        return 0;
}

static Profile *assert_good(const char *text) {
        _cleanup_free_ char *problem = NULL;
        Profile *profile = NULL;

        write_profile("a.conf", text);
        if (load("a", &profile, &problem) != PROFILE_OK)
                fail_msg("\"%s\": %s", text, problem ? problem : "no reason");
        assert_null(problem);
        return profile;
}

static void names(void **state) {
        static const struct {
                const char *name;
                bool valid;
        } table[] = {
                {"a", true},
                {"0", true},
                {"example.com", true},
                {"A-b_c.9", true},
                {"a..b", true},
                {"0123456789012345678901234567890123456789012345678901234567890123", true},
                {"01234567890123456789012345678901234567890123456789012345678901234", false},
                {"", false},
                {".", false},
                {"..", false},
                {".a", false},
                {"-a", false},
                {"_a", false},
                {"a/b", false},
                {"../a", false},
                {"a b", false},
                {"a\n", false},
                {"\xc3\xa9", false},
                {"a*", false},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_free_ char *problem = NULL;
                Profile *profile = NULL;

                if (profile_name_is_valid(table[i].name) != table[i].valid)
                        fail_msg("\"%s\"", table[i].name);
                assert_int_equal(load(table[i].name, &profile, &problem), PROFILE_MISSING);
                assert_null(profile);
                assert_contains(problem, table[i].valid ? "create it" : "No profile can have");
        }
}

static void arguments(void **state) {
        Profile *profile = NULL;
        char *problem = NULL;

        assert_int_equal(profile_load("etc", "a", 0, &profile, &problem), -EINVAL);
        assert_int_equal(profile_load("", "a", 0, &profile, &problem), -EINVAL);
        assert_int_equal(profile_load("etc", "..", 0, &profile, &problem), -EINVAL);
        assert_int_equal(profile_load("/tmp/../etc", "a", 0, &profile, &problem), -EINVAL);
        assert_int_equal(profile_load(config_dir, "a", 2, &profile, &problem), -EINVAL);
        assert_null(profile);
        assert_null(problem);
        assert_null(profile_free(NULL));
}

static void defaults(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile = assert_good(GOOD);

        assert_string_equal(profile->name, "a");
        assert_string_equal(profile->description, "");
        assert_null(profile->certificate);
        assert_string_equal(profile->exec[0], "/bin/true");
        assert_null(profile->exec[1]);
        assert_string_equal(profile->user, "root");
        assert_non_null(profile->environment);
        assert_null(profile->environment[0]);
        assert_true(profile->no_new_privileges);
        assert_int_equal(profile->n_ports, 1);
        assert_int_equal(profile->ports[0].protocol, PROTOCOL_TCP);
        assert_int_equal(profile->ports[0].number, 80);
        assert_int_equal(profile->default_duration_usec, 2 * MIN);
        assert_int_equal(profile->max_duration_usec, 10 * MIN);
        assert_int_equal(profile->rate_limit_count, 5);
        assert_int_equal(profile->rate_limit_interval_usec, HOUR);
        assert_int_equal(profile->gate, GATE_AUTO);
        assert_int_equal(profile->precedence, PRECEDENCE_LAST);
        assert_null(profile->chain);
        assert_true(strlen(profile->version) > 10);
}

static void unit(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good("[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n");
        static const char *const names[] = {"certbot.service", "a@.b.service", "x@y@z.service",
                                            "a-b_c:d.e@f\\x2dg.service", "1.service"};

        assert_null(profile->unit);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_(profile_free_cleanup) Profile *with_unit = NULL;
                char text[256];

                (void) snprintf(text, sizeof(text), "[Renewal]\nUnit=%s\n[Window]\nPorts=none\n",
                                names[i]);
                with_unit = assert_good(text);
                assert_string_equal(with_unit->unit, names[i]);
                assert_null(with_unit->exec);
                assert_string_equal(with_unit->user, "root");
        }
}

/* The example that the documentation gives, with everything that may be empty left empty. */
static void everything(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile = assert_good(
                "# a comment; with [Window] and Ports=1/tcp in it\n"
                "; another\n"
                "  # and one that is indented\n"
                "\n"
                "[Profile]\n"
                "Description=example.com by HTTP-01\n"
                "Certificate=/etc/letsencrypt/live/example.com/fullchain.pem\n"
                " \t\n"
                "  [Renewal]  \n"
                "Unit=\n"
                "Exec=/usr/bin/certbot renew --cert-name 'example com' ; --no-random-sleep\n"
                "\tUser = _certbot \n"
                "Environment=KEY=value\n"
                "Environment=PATH=/usr/bin:/bin\n"
                "Environment=_a1= two  words; \"and\" a = & <b>\n"
                "Environment=EMPTY=\n"
                "Environment=EMPT=1\n"
                "NoNewPrivileges=no\n"
                "[Window]\n"
                "Ports=443/tcp 80/tcp, 80/udp\n"
                "DefaultDuration=1min 30s\n"
                "MaxDuration=1h\n"
                "RateLimit=100/1d\n"
                "Reach=any\n"
                "OpenOn=start\n"
                "ChallengeDirectory=\n"
                "[Gate]\n"
                "Type=nftables\n"
                "Chain=inet   filter\tinput\n"
                "Precedence=first\n"
                "Zone=\n"
                "OpenCommand=\n"
                "CloseCommand="); /* and no newline */
        char ports[PROFILE_PORTS_TEXT_MAX];

        assert_string_equal(profile->description, "example.com by HTTP-01");
        assert_string_equal(profile->certificate,
                            "/etc/letsencrypt/live/example.com/fullchain.pem");
        assert_string_equal(profile->exec[0], "/usr/bin/certbot");
        assert_string_equal(profile->exec[3], "example com");
        assert_string_equal(profile->exec[4], ";");
        assert_string_equal(profile->exec[5], "--no-random-sleep");
        assert_null(profile->exec[6]);
        assert_string_equal(profile->user, "_certbot");
        assert_string_equal(profile->environment[0], "KEY=value");
        assert_string_equal(profile->environment[1], "PATH=/usr/bin:/bin");
        assert_string_equal(profile->environment[2], "_a1= two  words; \"and\" a = & <b>");
        assert_string_equal(profile->environment[3], "EMPTY=");
        assert_string_equal(profile->environment[4], "EMPT=1"); /* not EMPTY again */
        assert_null(profile->environment[5]);
        assert_false(profile->no_new_privileges);
        profile_format_ports(profile, ports, sizeof(ports));
        assert_string_equal(ports, "80/tcp 80/udp 443/tcp");
        assert_int_equal(profile->default_duration_usec, 90 * SEC);
        assert_int_equal(profile->max_duration_usec, HOUR);
        assert_int_equal(profile->rate_limit_count, 100);
        assert_int_equal(profile->rate_limit_interval_usec, 24 * HOUR);
        assert_int_equal(profile->gate, GATE_NFTABLES);
        assert_int_equal(profile->precedence, PRECEDENCE_FIRST);
        assert_string_equal(profile->chain, "inet filter input");
        assert_false(profile->reach_renewal);
        assert_false(profile->open_on_challenge);
        assert_null(profile->challenge_directory);
}

static void reach_renewal(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good(GOOD "[Window]\nReach=renewal\n");

        assert_true(profile->reach_renewal);
}

static void open_on_challenge(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good(GOOD "[Window]\nOpenOn=challenge\n"
                                 "ChallengeDirectory=/var/www/.well-known/acme-challenge\n");

        assert_true(profile->open_on_challenge);
        assert_string_equal(profile->challenge_directory, "/var/www/.well-known/acme-challenge");
}

static void optional_and_empty(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good(GOOD "[Profile]\nDescription=\nCertificate=\n[Gate]\nChain=\n"
                                 "Type=none\n");

        assert_string_equal(profile->description, "");
        assert_null(profile->certificate);
        assert_null(profile->chain);
        assert_int_equal(profile->gate, GATE_NONE);
}

/* A section may come back: it is the key that may not. */
static void sections_in_any_order(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good("[Window]\nPorts=none\n[Renewal]\nExec=/a\n[Gate]\n[Window]\n"
                            "RateLimit=1/1s\n[Profile]\n");
        char ports[PROFILE_PORTS_TEXT_MAX];

        assert_int_equal(profile->n_ports, 0);
        assert_int_equal(profile->rate_limit_count, 1);
        profile_format_ports(profile, ports, sizeof(ports));
        assert_string_equal(ports, "none");
}

static void ports_none_with_any_gate(void **state) {
        static const char *const types[] = {"auto", "nftables", "firewalld", "none"};
        char text[512];

        for (size_t i = 0; i < ELEMENTS(types); i++) {
                _cleanup_(profile_free_cleanup) Profile *profile = NULL;

                (void) snprintf(text, sizeof(text),
                                "[Renewal]\nExec=/a\n[Window]\nPorts=none\n[Gate]\nType=%s\n",
                                types[i]);
                profile = assert_good(text);
                assert_int_equal(profile->n_ports, 0);
                assert_string_equal(gate_type_to_string(profile->gate), types[i]);
        }
}

static void durations(void **state) {
        static const struct {
                const char *lines;
                uint64_t by_default, max;
        } table[] = {
                {"DefaultDuration=1s", SEC, 10 * MIN},
                {"DefaultDuration=10min", 10 * MIN, 10 * MIN},
                {"MaxDuration=1h", 2 * MIN, HOUR},
                {"MaxDuration=3600", 2 * MIN, HOUR},
                {"MaxDuration=2min", 2 * MIN, 2 * MIN},
                {"MaxDuration=119s", 119 * SEC, 119 * SEC},
                {"MaxDuration=1s", SEC, SEC},
                {"MaxDuration=1s\nDefaultDuration=1s", SEC, SEC},
                {"DefaultDuration=1h\nMaxDuration=1h", HOUR, HOUR},
                {"MaxDuration=1h\nDefaultDuration=1h", HOUR, HOUR},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(profile_free_cleanup) Profile *profile = NULL;
                char text[512];

                (void) snprintf(text, sizeof(text), GOOD "%s\n", table[i].lines);
                profile = assert_good(text);
                assert_int_equal(profile->default_duration_usec, table[i].by_default);
                assert_int_equal(profile->max_duration_usec, table[i].max);
        }
}

/* Two backslashes at the end are one that is meant. */
static void backslash_at_the_end(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good("[Renewal]\nExec=/a b\\\\\n[Window]\nPorts=80/tcp\n# end \\\n");

        assert_string_equal(profile->exec[1], "b\\");
}

static void gate_firewalld(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good(GOOD "[Gate]\nType=firewalld\nZone=public\n");
        _cleanup_(profile_free_cleanup) Profile *no_zone = NULL;

        assert_int_equal(profile->gate, GATE_FIREWALLD);
        assert_string_equal(profile->zone, "public");
        assert_null(profile->chain);
        assert_null(profile->open_command);
        assert_null(profile->close_command);

        no_zone = assert_good(GOOD "[Gate]\nType=firewalld\nZone=\n");
        assert_int_equal(no_zone->gate, GATE_FIREWALLD);
        assert_null(no_zone->zone);
}

static void gate_command(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good(GOOD "[Gate]\nType=command\nOpenCommand=/sbin/cloud open 'a b' $x\n"
                                 "CloseCommand=/sbin/cloud close\nChain=inet filter input\n"
                                 "Precedence=first");

        assert_int_equal(profile->gate, GATE_COMMAND);
        assert_string_equal(profile->open_command[0], "/sbin/cloud");
        assert_string_equal(profile->open_command[1], "open");
        assert_string_equal(profile->open_command[2], "a b");
        assert_string_equal(profile->open_command[3], "$x");
        assert_null(profile->open_command[4]);
        assert_string_equal(profile->close_command[1], "close");
        assert_null(profile->close_command[2]);
        assert_string_equal(profile->chain, "inet filter input");
        assert_null(profile->zone);
}

static void gate_command_without_ports(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;

        write_profile("a.conf", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n[Gate]\n"
                                "Type=command\nOpenCommand=/a\nCloseCommand=/a\n");
        assert_int_equal(load("a", &profile, &problem), PROFILE_BAD);
        assert_contains(problem, "6: Type= is command, which has nothing to open");
}

/* One bad profile disables no other. */
static void neighbours(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;

        write_profile("b.conf", "rubbish");
        write_profile("c.conf", GOOD);
        assert_int_equal(load("b", &profile, &problem), PROFILE_BAD);
        assert_int_equal(load("c", &profile, &problem), PROFILE_OK);
        assert_string_equal(profile->name, "c");
}

static void frozen_and_afresh(void **state) {
        _cleanup_(profile_free_cleanup) Profile *before = assert_good(GOOD);
        _cleanup_(profile_free_cleanup) Profile *same = NULL, *after = NULL;
        _cleanup_free_ char *problem = NULL;

        assert_int_equal(load("a", &same, &problem), PROFILE_OK);
        assert_string_equal(before->version, same->version);

        after = assert_good(GOOD "RateLimit=1/1s\n");
        assert_int_equal(before->rate_limit_count, 5);
        assert_int_equal(after->rate_limit_count, 1);
        assert_string_not_equal(before->version, after->version);
}

static void lists(void **state) {
        static const char *const files[] = {"b.conf",   "a.conf",  "a.b.conf", "x.conf.conf",
                                            "a.conf~",  ".a.conf", ".conf",    "conf",
                                            "a b.conf", "-x.conf", "README",   "a.CONF"};
        static const char *const expected[] = {"a", "a.b", "b", "directory", "link", "x.conf"};
        char **names = NULL;

        for (size_t i = 0; i < ELEMENTS(files); i++)
                write_profile(files[i], i % 2 ? GOOD : "rubbish");
        assert_int_equal(symlink("nowhere", profile_path("link.conf")), 0);
        assert_int_equal(mkdir(profile_path("directory.conf"), 0755), 0);

        assert_int_equal(profile_list(config_dir, &names), 0);
        for (size_t i = 0; i < ELEMENTS(expected); i++) {
                assert_non_null(names[i]);
                assert_string_equal(names[i], expected[i]);
        }
        assert_null(names[ELEMENTS(expected)]);
        assert_null(profile_names_free(names));
        assert_null(profile_names_free(NULL));
}

static void lists_of_nothing(void **state) {
        char **names = NULL, **untouched = NULL;
        char path[PATH_MAX];

        for (int i = 0; i < 2; i++) {
                assert_int_equal(profile_list(config_dir, &names), 0);
                assert_non_null(names);
                assert_null(names[0]);
                names = profile_names_free(names);
                if (i == 0)
                        assert_int_equal(rmdir(profile_path("")), 0);
        }
        assert_int_equal(profile_list("/run/postern-test-no-such-directory", &names), 0);
        assert_null(names[0]);
        names = profile_names_free(names);

        assert_int_equal(profile_list("run", &untouched), -EINVAL);
        (void) snprintf(path, sizeof(path), "%s/profiles", config_dir);
        write_bytes(path, "", 0);
        assert_int_equal(profile_list(config_dir, &untouched), -ENOTDIR);
        assert_null(untouched);
}

static void strings(void **state) {
        Profile profile = {.n_ports = PROFILE_PORTS_MAX};
        char text[PROFILE_PORTS_TEXT_MAX], small[8];

        for (size_t i = 0; i < PROFILE_PORTS_MAX; i++)
                profile.ports[i] = (Port){i % 2 ? PROTOCOL_UDP : PROTOCOL_TCP, 65535};
        profile_format_ports(&profile, text, sizeof(text));
        assert_int_equal(strlen(text), PROFILE_PORTS_MAX * 10 - 1);
        assert_contains(text, "65535/tcp 65535/udp 65535/tcp");
        profile_format_ports(&profile, small, sizeof(small));
        assert_string_equal(small, "65535/t");

        assert_string_equal(protocol_to_string(PROTOCOL_TCP), "tcp");
        assert_string_equal(protocol_to_string(PROTOCOL_UDP), "udp");
        assert_string_equal(gate_type_to_string(GATE_AUTO), "auto");
        assert_string_equal(gate_type_to_string(GATE_NFTABLES), "nftables");
        assert_string_equal(gate_type_to_string(GATE_FIREWALLD), "firewalld");
        assert_string_equal(gate_type_to_string(GATE_COMMAND), "command");
        assert_string_equal(gate_type_to_string(GATE_NONE), "none");
}

/* Of what decides where the commands open, and of nothing else. */
static void gate_digest(void **state) {
        static char root[] = "root", web[] = "web", opens[] = "/bin/open", a[] = "a",
                    both[] = "/bin/opena", closes[] = "/bin/close", variable[] = "K=a";
        static char *words[] = {opens, a, NULL}, *joined[] = {both, NULL}, *none[] = {NULL},
                    *close[] = {closes, NULL}, *variables[] = {variable, NULL};
        const Profile profiles[] = {
                {.user = root, .open_command = words, .environment = none},
                {.user = web, .open_command = words, .environment = none},
                {.user = root, .open_command = joined, .environment = none},
                {.user = root, .open_command = words, .environment = variables},
                {.user = root, .open_command = words, .environment = words},
                {.user = root, .open_command = none, .environment = words},
                {.user = root, .open_command = NULL, .environment = none},
        };
        Profile same = profiles[0];

        same.close_command = close;
        same.n_ports = 1;
        assert_true(profile_gate_digest(&same) == profile_gate_digest(&profiles[0]));
        for (size_t i = 0; i < ELEMENTS(profiles); i++) {
                assert_true(profile_gate_digest(&profiles[i]) <= INT64_MAX / 2);
                for (size_t k = 0; k < i; k++)
                        assert_true(profile_gate_digest(&profiles[i]) !=
                                    profile_gate_digest(&profiles[k]));
        }
}

/* Whatever lies between a port's members. */
static void same_ports(void **state) {
        Port a[2], b[2];

        memset(a, 0, sizeof(a));
        memset(b, 0xff, sizeof(b));
        for (uint16_t i = 0; i < 2; i++) {
                a[i].protocol = b[i].protocol = PROTOCOL_TCP;
                a[i].number = b[i].number = (uint16_t) (80 + i);
        }
        assert_true(ports_are_same(a, 2, b, 2));
        assert_true(ports_are_same(a, 0, b, 0));
        assert_false(ports_are_same(a, 2, b, 1));
        b[1].protocol = PROTOCOL_UDP;
        assert_false(ports_are_same(a, 2, b, 2));
        assert_true(ports_are_same(a, 1, b, 1));
        b[0].number = 8080;
        assert_false(ports_are_same(a, 1, b, 1));
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, remove_config_dir)
        const struct CMUnitTest tests[] = {
                TEST(names),
                TEST(arguments),
                TEST(defaults),
                TEST(unit),
                TEST(everything),
                TEST(reach_renewal),
                TEST(open_on_challenge),
                TEST(optional_and_empty),
                TEST(sections_in_any_order),
                TEST(ports_none_with_any_gate),
                TEST(durations),
                TEST(backslash_at_the_end),
                TEST(gate_firewalld),
                TEST(gate_command),
                TEST(gate_command_without_ports),
                TEST(neighbours),
                TEST(frozen_and_afresh),
                TEST(lists),
                TEST(lists_of_nothing),
                cmocka_unit_test(strings),
                cmocka_unit_test(gate_digest),
                cmocka_unit_test(same_ports),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
