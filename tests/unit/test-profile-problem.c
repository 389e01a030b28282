/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What is said of a bad profile: where it is wrong, what is wrong, what to write, and no value. */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-problem.h>

/* In values that are refused: no problem may repeat it. */
#define SECRET "hunter2"

#define UNIT  "[Renewal]\nUnit=a.service\n"
#define PORTS "[Window]\nPorts=80/tcp\n"

DEFINE_CLEANUP(Profile, profile_free);

static int set_up(void **state) {
        make_config_dir("/tmp");
        return 0;
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
                {"Renewal", "Unit=certbot.service", "6: Unit= stands beside Exec=; leave one"},
                {"Renewal", "Unit=" SECRET, "6: Unit= is no service's name"},
                {"Window", "DefaultDuration=11min", ":6: DefaultDuration= is longer than"},
                {"Window", "DefaultDuration=2s\nMaxDuration=1s",
                 ":6: DefaultDuration= is longer than"},
                {"Window", "MaxDuration=1min\nDefaultDuration=2min",
                 ":7: DefaultDuration= is longer than"},
                {"Window", "MaxDuration=1h 1us", ":6: MaxDuration= is not within 1s and 1h"},
                {"Window", "MaxDuration=999999us", ":6: MaxDuration= is not within 1s"},
                {"Window", "MaxDuration=0", ":6: MaxDuration= is not within 1s"},
                {"Window", "MaxDuration=-1", ":6: MaxDuration= is not within 1s"},
                {"Window", "MaxDuration=infinity", ":6: MaxDuration= is not within 1s"},
                {"Window", "MaxDuration=99999999999999999999", ":6: MaxDuration= is not within"},
                {"Window", "MaxDuration=", ":6: MaxDuration= is no time span"},
                {"Window", "MaxDuration=" SECRET, ":6: MaxDuration= is no time span"},
                {"Window", "DefaultDuration=0", ":6: DefaultDuration= is not within 1s"},
                {"Window", "DefaultDuration=61min", ":6: DefaultDuration= is not within 1s"},
                {"Window", "DefaultDuration=soon", ":6: DefaultDuration= is no time span"},
                {"Window", "RateLimit=", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=5", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=0/1h", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=101/1h", "6: RateLimit= is not a number"},
                {"Window", "RateLimit=5/2d", "6: RateLimit= is not a number"},
                {"Window", "Reach=", "6: Reach= has a value that it cannot have; write Reach=any"},
                {"Window", "Reach=" SECRET, "6: Reach= has a value that it cannot have"},
                {"Window", "Reach=renewal\n[Gate]\nType=none",
                 "6: Reach= opens nothing with Ports=none or Type=none"},
                {"Window", "OpenOn=", "6: OpenOn= has a value that it cannot have"},
                {"Window", "OpenOn=" SECRET, "6: OpenOn= has a value that it cannot have"},
                {"Window", "OpenOn=challenge", "6: OpenOn= needs ChallengeDirectory="},
                {"Window", "ChallengeDirectory=" SECRET,
                 "6: ChallengeDirectory= is no absolute path"},
                {"Window", "ChallengeDirectory=/" SECRET,
                 "6: ChallengeDirectory= means nothing with OpenOn=start"},
                {"Window", "OpenOn=challenge\nChallengeDirectory=/a\n[Gate]\nType=none",
                 "6: OpenOn= opens nothing with Ports=none or Type=none"},
                {"Gate", "Type=", "6: Type= has a value that it cannot have; write Type=auto"},
                {"Gate", "Type=ufw", "6: Type= has a value that it cannot have"},
                {"Gate", "Type=Auto", "6: Type= has a value that it cannot have"},
                {"Gate", "Type=command", "6: Type= is command, which needs OpenCommand=; add it"},
                {"Gate", "Type=command\nOpenCommand=/" SECRET,
                 "6: Type= is command, which needs CloseCommand=; add it"},
                {"Gate", "Type=command\nCloseCommand=/" SECRET, "6: Type= is command, which needs"},
                {"Gate", "Type=command\nOpenCommand=\nCloseCommand=/" SECRET, "needs OpenCommand="},
                {"Gate", "OpenCommand=/" SECRET,
                 "6: OpenCommand= means nothing without Type=command; leave it out, or write"},
                {"Gate", "Type=nftables\nCloseCommand=/" SECRET,
                 "7: CloseCommand= means nothing without Type=command"},
                {"Gate", "Type=command\nOpenCommand=" SECRET,
                 "7: OpenCommand= does not begin with an absolute path"},
                {"Gate", "Type=command\nCloseCommand=\"" SECRET,
                 "7: CloseCommand= has an unfinished quote"},
                {"Gate", "Zone=public", "6: Zone= means nothing without Type=firewalld"},
                {"Gate", "Type=none\nZone=public", "7: Zone= means nothing without"},
                {"Gate", "Zone=a " SECRET, "6: Zone= is no zone's name"},
                {"Gate", "Zone=012345678901234567", "6: Zone= is no zone's name"},
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
                {"[Renewal]\nUnit=.service\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=a.socket\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=a\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=a.service b.service\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=../a.service\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=*.service\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=a@.service\n", "a.conf:2: Unit= is no service's name"},
                {"[Renewal]\nUnit=@a.service\n", "a.conf:2: Unit= is no service's name"},
                {UNIT "User=" SECRET "\n" PORTS, "a.conf:3: User= is the unit's own to say"},
                {UNIT "Environment=A=" SECRET "\n" PORTS, "a.conf:3: Environment= is the unit's"},
                {UNIT "NoNewPrivileges=yes\n" PORTS, "a.conf:3: NoNewPrivileges= is the unit's"},
                {UNIT PORTS "Reach=renewal\n", "a.conf:5: Reach= is renewal, which does not go"},
                {UNIT, "a.conf: [Window] lacks Ports=; add it"},
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

static void long_lines(void **state) {
        for (size_t length = PROFILE_LINE_MAX - 1; length <= PROFILE_LINE_MAX + 1; length++) {
                static const char *const starts[] = {"Environment=A=", "# ", "  "};

                for (size_t i = 0; i < ELEMENTS(starts); i++) {
                        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
                        _cleanup_free_ char *problem = NULL;
                        char text[PROFILE_LINE_MAX + 512], line[PROFILE_LINE_MAX + 2];

                        memset(line, i == 2 ? ' ' : 'x', length);
                        memcpy(line, starts[i], strlen(starts[i]));
                        line[length] = 0;
                        (void) snprintf(text, sizeof(text), GOOD "[Renewal]\n%s\n", line);

                        if (length > PROFILE_LINE_MAX) {
                                assert_bad(text, "a.conf:6: the line is longer than 4096 bytes; ");
                                continue;
                        }
                        write_profile("a.conf", text);
                        assert_int_equal(load("a", &profile, &problem), PROFILE_OK);
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
}

/* The directory's name is the admin's, but goes to terminals and over the bus too. */
static void printable_problems(void **state) {
        _cleanup_free_ char *problem = NULL;
        Profile *profile = NULL;

        strcat(config_dir, "/\xc3\xbc"
                           "x");
        assert_int_equal(load("a", &profile, &problem), PROFILE_MISSING);
        assert_contains(problem, "/??x/profiles/a.conf");
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
                TEST(bad_values),    TEST(bad_files),          TEST(long_lines),
                TEST(long_problems), TEST(printable_problems), cmocka_unit_test(distances),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
