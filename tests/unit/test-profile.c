/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What a profile means, and what is said when it means nothing. */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-problem.h>
#include <postern/profile.h>

#define SEC  ((uint64_t) 1000 * 1000)
#define MIN  (60 * SEC)
#define HOUR (60 * MIN)

/* In values that are refused: no problem may repeat it. */
#define SECRET "hunter2"

DEFINE_CLEANUP(Profile, profile_free);

static int set_up(void **state) {
        make_config_dir("/tmp");
        return 0;
}

static int load(const char *name, Profile **ret, char **ret_problem) {
        return profile_load(config_dir, name, PROFILE_ALLOW_STICKY_PARENTS, ret, ret_problem);
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

static void assert_problem(const char *problem, const char *what) {
        assert_contains(problem, "a.conf:");
        assert_contains(problem, "; "); /* what to do */
        assert_contains(problem, what);
        assert_null(strstr(problem, SECRET));
        assert_true(strlen(problem) < PROFILE_PROBLEM_MAX);
        for (const char *p = problem; *p; p++)
                assert_in_range(*p, ' ', '~');
}

static void assert_bad_bytes(const void *data, size_t size, const char *what) {
        _cleanup_free_ char *problem = NULL;
        Profile *profile = NULL;
        int r;

        write_bytes(profile_path("a.conf"), data, size);
        r = load("a", &profile, &problem);
        if (r != PROFILE_BAD)
                fail_msg("\"%s\" is not refused, but %d", (const char *) data, r);
        assert_null(profile);
        assert_problem(problem, what);
}

static void assert_bad(const char *text, const char *what) {
        assert_bad_bytes(text, strlen(text), what);
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
                "Environment=KEYS=1\n"
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
        assert_string_equal(profile->environment[4], "KEYS=1");
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
        static const char *const types[] = {"auto", "nftables", "none"};
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
                const char *problem; /* instead */
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
                {"DefaultDuration=11min", 0, 0, "a.conf:5: DefaultDuration= is longer than"},
                {"DefaultDuration=2s\nMaxDuration=1s", 0, 0,
                 "a.conf:5: DefaultDuration= is longer than"},
                {"MaxDuration=1min\nDefaultDuration=2min", 0, 0,
                 "a.conf:6: DefaultDuration= is longer than"},
                {"MaxDuration=1h 1us", 0, 0, "a.conf:5: MaxDuration= is not within 1s and 1h"},
                {"MaxDuration=999999us", 0, 0, "a.conf:5: MaxDuration= is not within 1s"},
                {"MaxDuration=0", 0, 0, "a.conf:5: MaxDuration= is not within 1s"},
                {"MaxDuration=-1", 0, 0, "a.conf:5: MaxDuration= is not within 1s"},
                {"MaxDuration=infinity", 0, 0, "a.conf:5: MaxDuration= is not within 1s"},
                {"MaxDuration=99999999999999999999", 0, 0, "a.conf:5: MaxDuration= is not within"},
                {"MaxDuration=", 0, 0, "a.conf:5: MaxDuration= is no time span"},
                {"MaxDuration=" SECRET, 0, 0, "a.conf:5: MaxDuration= is no time span"},
                {"DefaultDuration=0", 0, 0, "a.conf:5: DefaultDuration= is not within 1s"},
                {"DefaultDuration=61min", 0, 0, "a.conf:5: DefaultDuration= is not within 1s"},
                {"DefaultDuration=soon", 0, 0, "a.conf:5: DefaultDuration= is no time span"},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(profile_free_cleanup) Profile *profile = NULL;
                char text[512];

                (void) snprintf(text, sizeof(text), GOOD "%s\n", table[i].lines);
                if (table[i].problem) {
                        assert_bad(text, table[i].problem);
                        continue;
                }
                profile = assert_good(text);
                assert_int_equal(profile->default_duration_usec, table[i].by_default);
                assert_int_equal(profile->max_duration_usec, table[i].max);
        }
}

/* One line each, the sixth of a profile that is good without it. */
static void bad_values(void **state) {
        static const struct {
                const char *section, *line, *problem;
        } table[] = {
                {"Profile", "Description=a<b>" SECRET, "6: Description= holds control"},
                {"Profile", "Description=a\xe2\x80\xae" SECRET, "6: Description= holds control"},
                {"Profile", "Description=a\xc2\x9b" SECRET, "6: Description= holds control"},
                {"Profile", "Certificate=etc/" SECRET, "6: Certificate= is no absolute path"},
                {"Profile", "Certificate=/a/../" SECRET, "6: Certificate= is no absolute path"},
                {"Profile", "Certificate=\"/" SECRET "\"", "6: Certificate= is no absolute"},
                {"Profile", "Certificate=/a\xc2\x85" SECRET, "6: Certificate= is no absolute"},
                {"Renewal", "User=", "6: User= is no user name"},
                {"Renewal", "User=" SECRET " ;", "6: User= is no user name"},
                {"Renewal", "User=4294967295", "6: User= is no user name"},
                {"Renewal", "User=Root", "6: User= is no user name"},
                {"Renewal", "User=%i", "6: User= is no user name"},
                {"Renewal", "Environment=", "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment==" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=1A=" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=A-B=" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=A B=" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=A =" SECRET, "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=\"A=" SECRET "\"", "6: Environment= is no KEY=value"},
                {"Renewal", "Environment=A=\xc2\x9b" SECRET, "6: Environment= holds control"},
                {"Renewal", "Environment=POSTERN_WINDOW=" SECRET, "not the profile's"},
                {"Renewal", "Environment=POSTERN_=" SECRET, "not the profile's"},
                {"Renewal", "Environment=LD_PRELOAD=" SECRET, "not the profile's"},
                {"Renewal", "Environment=LISTEN_FDS=1", "not the profile's"},
                {"Renewal", "Environment=NOTIFY_SOCKET=" SECRET, "not the profile's"},
                {"Renewal", "Environment=A=\nEnvironment=A=b", "7: Environment= sets a variable"},
                {"Renewal", "NoNewPrivileges=", "6: NoNewPrivileges= is neither yes nor no"},
                {"Renewal", "NoNewPrivileges=true", "6: NoNewPrivileges= is neither yes nor no"},
                {"Renewal", "NoNewPrivileges=Yes", "6: NoNewPrivileges= is neither yes nor no"},
                {"Renewal", "Unit=certbot.service", "6: Unit= is not available in this version"},
                {"Window", "RateLimit=", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=5", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=0/1h", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=101/1h", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=5/2d", "6: RateLimit= is not a number"},
                {"Window", "Reach=", "6: Reach= has a value that it cannot have; write Reach=any"},
                {"Window", "Reach=" SECRET, "6: Reach= has a value that it cannot have"},
                {"Window", "Reach=renewal",
                 "6: Reach=renewal is not available in this version; leave it out or write "
                 "Reach=any"},
                {"Window", "OpenOn=", "6: OpenOn= has a value that it cannot have"},
                {"Window", "OpenOn=challenge",
                 "6: OpenOn=challenge is not available in this version; leave it out or write "
                 "OpenOn=start"},
                {"Window", "ChallengeDirectory=/" SECRET,
                 "6: ChallengeDirectory= is not available in this version"},
                {"Gate", "Type=", "6: Type= has a value that it cannot have; write Type=auto"},
                {"Gate", "Type=ufw", "6: Type= has a value that it cannot have"},
                {"Gate", "Type=Auto", "6: Type= has a value that it cannot have"},
                {"Gate", "Type=firewalld",
                 "6: Type=firewalld is not available in this version; leave it out or write "
                 "Type=auto, Type=nftables or Type=none"},
                {"Gate", "Type=command", "6: Type=command is not available in this version"},
                {"Gate", "Zone=public", "6: Zone= is not available in this version"},
                {"Gate", "OpenCommand=/" SECRET, "6: OpenCommand= is not available"},
                {"Gate", "CloseCommand=/" SECRET, "6: CloseCommand= is not available"},
                {"Gate", "Chain=" SECRET, "6: Chain= is not a family"},
                {"Gate", "Chain=inet filter", "6: Chain= is not a family"},
                {"Gate", "Precedence=", "6: Precedence= has a value that it cannot have"},
                {"Gate", "Precedence=second", "write Precedence=last or Precedence=first"},
                {"Gate", "Type=none\nChain=inet filter input", "7: Chain= means nothing"},
                {"Gate", "Chain=inet filter input\nType=none", "6: Chain= means nothing"},
                {"Gate", "Type=none\nPrecedence=last", "7: Precedence= means nothing"},
                {"Gate", "Type=none\nPrecedence=first", "7: Precedence= means nothing"},

                /* unknown and doubled keys */
                {"Profile", "Descripton=" SECRET, "has no key Descripton=; write Description="},
                {"Window", "ports=80/tcp", "[Window] has no key ports=; write Ports= in [Window]"},
                {"Window", "Type=none", "6: Type= belongs in [Gate]; move it there"},
                {"Gate", "Ports=80/tcp", "6: Ports= belongs in [Window]; move it there"},
                {"Gate", "Exec=/bin/" SECRET, "6: Exec= belongs in [Renewal]; move it there"},
                {"Gate", "maxduration=1h",
                 "[Gate] has no key maxduration=; write MaxDuration= in "
                 "[Window]"},
                {"Renewal", "ExecStartPre=/" SECRET,
                 "[Renewal] has no key ExecStartPre=; leave it "
                 "out; its keys are Exec=, Unit=, User="},
                {"Window", "Whatever=" SECRET, "its keys are Ports=, DefaultDuration="},
                {"Window", "Ports=443/tcp", "6: Ports= stands in line 4 already; leave one"},
                {"Renewal", "Exec=/bin/" SECRET, "6: Exec= stands in line 2 already; leave one"},
                {"Gate", "Chain=\nChain=", "7: Chain= stands in line 6 already; leave one"},
                {"Gate", "Type=auto\n[Gate]\nType=auto", "8: Type= stands in line 6 already"},

                /* unknown sections */
                {"Windows", "Ports=80/tcp", ":5: there is no section [Windows]; write [Window]"},
                {"gate", "Type=none", ":5: there is no section [gate]; write [Gate]"},
                {"Install", "WantedBy=" SECRET, ":5: there is no section [Install]; the sections"},

                /* lines */
                {"Profile", SECRET, ":6: this is neither [Section] nor Key=value"},
                {"Profile", "=" SECRET, ":6: this is neither [Section] nor Key=value"},
                {"Profile", SECRET " x=y", ":6: this is neither [Section] nor Key=value"},
                {"Profile", "A-B=" SECRET, ":6: this is neither [Section] nor Key=value"},
                {"Profile", "\xc3\xa9=" SECRET, ":6: this is neither [Section] nor Key=value"},
                {"Profile", "[Profile", ":6: this is no section; write [Profile]"},
                {"Profile", "[]", ":6: this is no section; write [Profile]"},
                {"Profile", "[", ":6: this is no section; write [Profile]"},
                {"Profile", "[" SECRET " x]", ":6: this is no section; write [Profile]"},
                {"Profile", "[Gate] # x", ":6: this is no section; write [Profile]"},
                {"Profile", "Description=a \\\nb", "6: Description= ends with a backslash"},
                {"Profile", "Description=a\x1b", ":6: the line holds a control character"},
                {"Profile", "# a\x7f", ":6: the line holds a control character"},
                {"Profile", "Description=\xff" SECRET, ":6: the line is not valid UTF-8"},
                {"Profile", "Description=a\r", ":6: the line holds a carriage return"},
                {"Profile", "#\r", ":6: the line holds a carriage return"},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char text[512];

                (void) snprintf(text, sizeof(text), GOOD "[%s]\n%s\n", table[i].section,
                                table[i].line);
                assert_bad(text, table[i].problem);
        }
}

/* Exec= and Ports=, which the profile above has, and which may not be missing. */
static void bad_files(void **state) {
        static const struct {
                const char *text, *problem;
        } table[] = {
                {"", "a.conf: [Renewal] lacks Exec=; add it"},
                {"# nothing\n\n", "a.conf: [Renewal] lacks Exec=; add it"},
                {"[Window]\nPorts=80/tcp\n", "a.conf: [Renewal] lacks Exec=; add it"},
                {"[Renewal]\nUnit=\n[Window]\nPorts=80/tcp\n", "[Renewal] lacks Exec=; add it"},
                {"[Renewal]\nExec=/a\n", "a.conf: [Window] lacks Ports=; add it"},
                {"Exec=/" SECRET "\n", "a.conf:1: Exec= stands above the first section; write"},
                {"\xef\xbb\xbf" GOOD, "a.conf:1: the line begins with a byte order mark"},
                {"[Renewal]\r\nExec=/a\r\n", "a.conf:1: the line holds a carriage return"},
                {"[Renewal]\nExec=\n", "a.conf:2: Exec= is empty"},
                {"[Renewal]\nExec= \t\n", "a.conf:2: Exec= is empty"},
                {"[Renewal]\nExec=" SECRET "\n", "a.conf:2: Exec= does not begin with"},
                {"[Renewal]\nExec=-/bin/" SECRET "\n", "a.conf:2: Exec= does not begin with"},
                {"[Renewal]\nExec=/../bin/" SECRET "\n", "a.conf:2: Exec= does not begin with"},
                {"[Renewal]\nExec=/bin/\\n" SECRET "\n", "a.conf:2: Exec= does not begin with"},
                {"[Renewal]\nExec='' " SECRET "\n", "a.conf:2: Exec= does not begin with"},
                {"[Renewal]\nExec=/a '" SECRET "\n", "a.conf:2: Exec= has an unfinished quote"},
                {"[Renewal]\nExec=/a \\q" SECRET "\n", "a.conf:2: Exec= has an unfinished quote"},
                {"[Renewal]\nExec=/a \\\n  b\n", "a.conf:2: Exec= ends with a backslash"},
                {"[Renewal]\nExec=/a \\\\\\\n  b\n", "a.conf:2: Exec= ends with a backslash"},
                {"[Window]\nPorts=\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=80\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=0/tcp\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=65536/tcp\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=80/tcp # web\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=none 80/tcp\n", "a.conf:2: Ports= is no list of ports"},
                {"[Window]\nPorts=80/tcp 80/tcp\n", "a.conf:2: Ports= names a port twice"},
                {"[Window]\nPorts=1/tcp 2/tcp 3/tcp 4/tcp 5/tcp 6/tcp 7/tcp 8/tcp 9/tcp 10/tcp "
                 "11/tcp 12/tcp 13/tcp 14/tcp 15/tcp 16/tcp 17/tcp\n",
                 "a.conf:2: Ports= names more than 16"},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                assert_bad(table[i].text, table[i].problem);

        assert_bad_bytes(GOOD "\n# a\0b\n", strlen(GOOD) + 7,
                         "a.conf:6: the line holds a NUL byte; ");
        assert_bad_bytes("\0", 1, "a.conf:1: the line holds a NUL byte; ");
}

/* Two backslashes at the end are one that is meant. */
static void backslash_at_the_end(void **state) {
        _cleanup_(profile_free_cleanup) Profile *profile =
                assert_good("[Renewal]\nExec=/a b\\\\\n[Window]\nPorts=80/tcp\n# end \\\n");

        assert_string_equal(profile->exec[1], "b\\");
}

static void long_lines(void **state) {
        for (size_t length = PROFILE_LINE_MAX - 1; length <= PROFILE_LINE_MAX + 1; length++) {
                static const char *const starts[] = {"Environment=A=", "# ", "  "};

                for (size_t i = 0; i < ELEMENTS(starts); i++) {
                        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
                        char text[PROFILE_LINE_MAX + 512], line[PROFILE_LINE_MAX + 2];

                        memset(line, i == 2 ? ' ' : 'x', length);
                        memcpy(line, starts[i], strlen(starts[i]));
                        line[length] = 0;
                        (void) snprintf(text, sizeof(text), GOOD "[Renewal]\n%s\n", line);

                        if (length > PROFILE_LINE_MAX) {
                                assert_bad(text, "a.conf:6: the line is longer than 4096 bytes; ");
                                continue;
                        }
                        profile = assert_good(text);
                        if (i == 0)
                                assert_string_equal(profile->environment[0],
                                                    line + strlen("Environment="));
                }
        }
}

/* Key and section names of any length, and a directory that would fill the text by itself. */
static void long_problems(void **state) {
        char name[PROFILE_NAME_MAX + 2] = "", text[512];
        _cleanup_free_ char *problem = NULL;
        Profile *profile = NULL;

        memset(name, 'x', PROFILE_NAME_MAX);
        (void) snprintf(text, sizeof(text), "[Renewal]\n%s=1\n", name);
        assert_bad(text, "its keys are Exec=, Unit=");
        (void) snprintf(text, sizeof(text), "[%s]\n", name);
        assert_bad(text, "the sections are");
        strcat(name, "x");
        (void) snprintf(text, sizeof(text), "[Renewal]\n%s=1\n", name);
        assert_bad(text, "neither [Section] nor Key=value");

        name[PROFILE_NAME_MAX] = 0;
        for (size_t i = 0; i < 12; i++) {
                strcat(strcat(config_dir, "/"), name);
                assert_int_equal(mkdir(config_dir, 0755), 0);
        }
        assert_int_equal(mkdir(profile_path(""), 0777), 0);
        assert_int_equal(chmod(profile_path(""), 0777), 0);
        assert_int_equal(load(name, &profile, &problem), PROFILE_BAD);
        assert_contains(problem, "chmod go-w");
        assert_true(strlen(problem) < PROFILE_PROBLEM_MAX);
        for (size_t i = 0; i < 12; i++)
                *strrchr(config_dir, '/') = 0;
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

static void distances(void **state) {
        assert_int_equal(profile_problem_distance("", ""), 0);
        assert_int_equal(profile_problem_distance("Ports", "pORTS"), 0);
        assert_int_equal(profile_problem_distance("Port", "Ports"), 1);
        assert_int_equal(profile_problem_distance("kitten", "sitting"), 3);
        assert_int_equal(profile_problem_distance("", "abc"), 3);
        assert_int_equal(profile_problem_distance("abc", ""), 3);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, remove_config_dir)
        const struct CMUnitTest tests[] = {
                TEST(names),
                TEST(arguments),
                TEST(defaults),
                TEST(everything),
                TEST(optional_and_empty),
                TEST(sections_in_any_order),
                TEST(ports_none_with_any_gate),
                TEST(durations),
                TEST(bad_values),
                TEST(bad_files),
                TEST(backslash_at_the_end),
                TEST(long_lines),
                TEST(long_problems),
                TEST(neighbours),
                TEST(frozen_and_afresh),
                TEST(lists),
                TEST(lists_of_nothing),
                cmocka_unit_test(strings),
                cmocka_unit_test(distances),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
