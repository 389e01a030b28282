/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One table says which keys there are, where they stand and who reads their value.
 *
 * A key that means nothing beside the others is refused like a bad one (profile-together.c): a
 * profile that is half obeyed opens something else than its admin meant.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-keys.h>
#include <postern/profile-problem.h>
#include <postern/profile-together.h>
#include <postern/profile-value.h>
#include <string.h>

#define USEC_PER_SEC ((uint64_t) 1000 * 1000)

#define DURATION_MIN         (1 * USEC_PER_SEC)
#define DURATION_MAX         (3600 * USEC_PER_SEC)
#define DURATION_DEFAULT     (120 * USEC_PER_SEC)
#define DURATION_MAX_DEFAULT (600 * USEC_PER_SEC)

typedef struct KeyInfo {
        const char *section;
        const char *name;
        int (*set)(Parse *parse, Key key, const char *value);
        bool may_be_empty; /* "Key=" is as good as no such line */
        bool repeatable;
} KeyInfo;

static const KeyInfo keys[KEY_COUNT];

int profile_keys_bad(Parse *parse, Key key, const char *fault) {
        return profile_problem_set(PROFILE_BAD, parse->ret_problem, "%s:%u: %s= %s",
                                   parse->reader.file_name, parse->lines[key], keys[key].name,
                                   fault);
}

int profile_keys_lacks(Parse *parse, Key key, const char *example) {
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s: [%s] lacks %s=; add it, as in %s=%s",
                                   parse->reader.file_name, keys[key].section, keys[key].name,
                                   keys[key].name, example);
}

/* What a parser made of the value: fine, unexpected, or the admin's to mend. */
static int judge(Parse *parse, Key key, int r, const char *fault) {
        return r == 0 || r == -ENOMEM ? r : profile_keys_bad(parse, key, fault);
}

static int set_string(char **string, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        *string = copy;
        return 0;
}

/* fault: of a value that is not good. */
static int set_good(Parse *parse, Key key, const char *value, bool (*is_good)(const char *),
                    char **string, const char *fault) {
        return is_good(value) ? set_string(string, value) : profile_keys_bad(parse, key, fault);
}

static int set_description(Parse *parse, Key key, const char *value) {
        return set_good(parse, key, value, value_is_plain_text, &parse->profile->description,
                        "holds control characters, angle brackets or an ampersand; write it in "
                        "plain text");
}

static int set_certificate(Parse *parse, Key key, const char *value) {
        return set_good(parse, key, value, value_is_path, &parse->profile->certificate,
                        "is no absolute path without \"..\"; write one such as "
                        "/etc/letsencrypt/live/example.com/fullchain.pem");
}

/* example: what a good line is. */
static int set_argv(Parse *parse, Key key, const char *value, const char *example, char ***argv) {
        char fault[PROFILE_PROBLEM_MAX];
        int r;

        r = value_split_argv(value, argv);
        if (r == -ENOENT) {
                (void) snprintf(fault, sizeof(fault), "is empty; write a command such as %s",
                                example);
                return profile_keys_bad(parse, key, fault);
        }
        if (r != 0)
                return judge(parse, key, r,
                             "has an unfinished quote or an unknown escape; close the quote, and "
                             "write a backslash as \\\\");
        if (value_is_path((*argv)[0]))
                return 0;
        (void) snprintf(fault, sizeof(fault),
                        "does not begin with an absolute path without \"..\"; write the program's "
                        "full path, as in %s",
                        example);
        return profile_keys_bad(parse, key, fault);
}

static int set_exec(Parse *parse, Key key, const char *value) {
        return set_argv(parse, key, value, "Exec=/usr/bin/certbot renew", &parse->profile->exec);
}

static int set_unit(Parse *parse, Key key, const char *value) {
        return set_good(parse, key, value, value_is_service, &parse->profile->unit,
                        "is no service's name; write the whole name, as in Unit=certbot.service, "
                        "of a template's with its instance");
}

static int set_gate_command(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;

        if (key == KEY_OPEN_COMMAND)
                return set_argv(parse, key, value, EXAMPLE_OPEN, &profile->open_command);
        return set_argv(parse, key, value, EXAMPLE_CLOSE, &profile->close_command);
}

static int set_user(Parse *parse, Key key, const char *value) {
        return set_good(parse, key, value, value_is_user, &parse->profile->user,
                        "is no user name or number; write one such as User=certbot or leave it "
                        "out for root");
}

static bool starts_with(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int set_environment(Parse *parse, Key key, const char *value) {
        static const char *const ours[] = {"POSTERN_", "LD_", "LISTEN_", "NOTIFY_SOCKET="};
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
        char **environment = parse->profile->environment;
        _cleanup_free_ char *item = NULL;
        size_t length = strcspn(value, "=");
        int r;

        if (!value[length] || strspn(value, letters) == 0 ||
            length != strspn(value,
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"))
                return profile_keys_bad(
                        parse, key,
                        "is no KEY=value with a KEY of letters, digits and _; write one a "
                        "line, without quotes, as in Environment=LANG=C");
        if (!value_is_printable(value))
                return profile_keys_bad(parse, key, "holds control characters; write plain text");
        for (size_t i = 0; i < ELEMENTS(ours); i++)
                if (starts_with(value, ours[i]))
                        return profile_keys_bad(
                                parse, key,
                                "sets a variable that is not the profile's (POSTERN_*, LD_*, "
                                "LISTEN_*, NOTIFY_SOCKET); leave it out, or set it in a script");
        for (size_t i = 0; i < parse->n_environment; i++)
                if (strncmp(environment[i], value, length + 1) == 0)
                        return profile_keys_bad(
                                parse, key,
                                "sets a variable for the second time; leave one of them out");

        item = strdup(value);
        if (!item)
                return -ENOMEM;
        r = value_argv_append(&parse->profile->environment, &parse->n_environment, item);
        if (r < 0)
                return r;
        item = NULL;
        return 0;
}

static int set_no_new_privileges(Parse *parse, Key key, const char *value) {
        parse->profile->no_new_privileges = strcmp(value, "yes") == 0;
        if (!parse->profile->no_new_privileges && strcmp(value, "no") != 0)
                return profile_keys_bad(parse, key, "is neither yes nor no; write one of them");
        return 0;
}

static int set_ports(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;
        int r;

        r = value_parse_ports(value, profile->ports, &profile->n_ports);
        if (r == -EEXIST)
                return profile_keys_bad(parse, key, "names a port twice; leave one of them out");
        if (r == -E2BIG)
                return profile_keys_bad(parse, key, "names more than 16 ports; write at most 16");
        return judge(parse, key, r,
                     "is no list of ports from 1 to 65535 with their protocol; write it as in "
                     "Ports=80/tcp or Ports=80/tcp 443/udp, or Ports=none");
}

static int set_duration(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;
        uint64_t usec;
        int r;

        r = value_parse_timespan(value, &usec);
        if (r == 0 && (usec < DURATION_MIN || usec > DURATION_MAX))
                r = -ERANGE;
        if (r == -ERANGE)
                return profile_keys_bad(parse, key,
                                        "is not within 1s and 1h; write a time such as 2min");
        if (r != 0)
                return judge(parse, key, r, "is no time span; write one such as 90s or 2min");

        if (key == KEY_DEFAULT_DURATION)
                profile->default_duration_usec = usec;
        else
                profile->max_duration_usec = usec;
        return 0;
}

static int set_rate_limit(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;
        int r;

        r = value_parse_rate_limit(value, &profile->rate_limit_count,
                                   &profile->rate_limit_interval_usec);
        return judge(parse, key, r,
                     "is not a number from 1 to 100, a slash and a time from 1s to 1d; write it as "
                     "in RateLimit=5/1h");
}

typedef struct Choice {
        const char *text;
        int value;
} Choice;

/* instead: what to write. */
static int choose(Parse *parse, Key key, const char *value, const Choice *choices, size_t n,
                  const char *instead, int *ret) {
        for (size_t i = 0; i < n; i++) {
                if (strcmp(value, choices[i].text) != 0)
                        continue;
                *ret = choices[i].value;
                return 0;
        }
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s:%u: %s= has a value that it cannot have; write %s",
                                   parse->reader.file_name, parse->lines[key], keys[key].name,
                                   instead);
}

static int set_reach(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {{"any", false}, {"renewal", true}};
        int chosen = 0, r;

        r = choose(parse, key, value, choices, ELEMENTS(choices), "Reach=any or Reach=renewal",
                   &chosen);
        if (r == 0)
                parse->profile->reach_renewal = chosen;
        return r;
}

static int set_open_on(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {{"start", false}, {"challenge", true}};
        int chosen = 0, r;

        r = choose(parse, key, value, choices, ELEMENTS(choices),
                   "OpenOn=start or OpenOn=challenge", &chosen);
        if (r == 0)
                parse->profile->open_on_challenge = chosen;
        return r;
}

static int set_challenge_directory(Parse *parse, Key key, const char *value) {
        return set_good(parse, key, value, value_is_path, &parse->profile->challenge_directory,
                        "is no absolute path without \"..\"; write one such as "
                        "/var/www/html/.well-known/acme-challenge");
}

static int set_type(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {
                {"auto", GATE_AUTO},           {"nftables", GATE_NFTABLES},
                {"firewalld", GATE_FIREWALLD}, {"command", GATE_COMMAND},
                {"none", GATE_NONE},
        };
        int chosen = 0, r;

        r = choose(parse, key, value, choices, ELEMENTS(choices),
                   "Type=auto, Type=nftables, Type=firewalld, Type=command or Type=none", &chosen);
        if (r == 0)
                parse->profile->gate = (GateType) chosen;
        return r;
}

static int set_precedence(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {
                {"last", PRECEDENCE_LAST},
                {"first", PRECEDENCE_FIRST},
        };
        int chosen = 0, r;

        r = choose(parse, key, value, choices, ELEMENTS(choices),
                   "Precedence=last or Precedence=first", &chosen);
        if (r == 0)
                parse->profile->precedence = (GatePrecedence) chosen;
        return r;
}

static int set_chain(Parse *parse, Key key, const char *value) {
        return judge(parse, key, value_parse_chain(value, &parse->profile->chain),
                     "is not a family (inet, ip or ip6), a table and a chain; write them as in "
                     "Chain=inet filter input");
}

/* As firewalld names them; it has none longer than 17. */
static int set_zone(Parse *parse, Key key, const char *value) {
        size_t length = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789_/-");

        if (value[length] || length > PROFILE_ZONE_MAX)
                return profile_keys_bad(
                        parse, key,
                        "is no zone's name, of up to 17 letters, digits, _, / and -; write one "
                        "that `firewall-cmd --get-zones` lists");
        return set_string(&parse->profile->zone, value);
}

static const KeyInfo keys[KEY_COUNT] = {
        [KEY_DESCRIPTION] = {"Profile", "Description", set_description, .may_be_empty = true},
        [KEY_CERTIFICATE] = {"Profile", "Certificate", set_certificate, .may_be_empty = true},
        [KEY_EXEC] = {"Renewal", "Exec", set_exec},
        [KEY_UNIT] = {"Renewal", "Unit", set_unit, .may_be_empty = true},
        [KEY_USER] = {"Renewal", "User", set_user},
        [KEY_ENVIRONMENT] = {"Renewal", "Environment", set_environment, .repeatable = true},
        [KEY_NO_NEW_PRIVILEGES] = {"Renewal", "NoNewPrivileges", set_no_new_privileges},
        [KEY_PORTS] = {"Window", "Ports", set_ports},
        [KEY_DEFAULT_DURATION] = {"Window", "DefaultDuration", set_duration},
        [KEY_MAX_DURATION] = {"Window", "MaxDuration", set_duration},
        [KEY_RATE_LIMIT] = {"Window", "RateLimit", set_rate_limit},
        [KEY_REACH] = {"Window", "Reach", set_reach},
        [KEY_OPEN_ON] = {"Window", "OpenOn", set_open_on},
        [KEY_CHALLENGE_DIRECTORY] = {"Window", "ChallengeDirectory", set_challenge_directory,
                                     .may_be_empty = true},
        [KEY_TYPE] = {"Gate", "Type", set_type},
        [KEY_CHAIN] = {"Gate", "Chain", set_chain, .may_be_empty = true},
        [KEY_PRECEDENCE] = {"Gate", "Precedence", set_precedence},
        [KEY_ZONE] = {"Gate", "Zone", set_zone, .may_be_empty = true},
        [KEY_OPEN_COMMAND] = {"Gate", "OpenCommand", set_gate_command, .may_be_empty = true},
        [KEY_CLOSE_COMMAND] = {"Gate", "CloseCommand", set_gate_command, .may_be_empty = true},
};

static bool is_near(size_t distance, const char *name) {
        return distance <= 2 || (distance <= 3 && strlen(name) > 8);
}

static bool is_section(const char *name) {
        for (Key key = 0; key < KEY_COUNT; key++)
                if (strcmp(keys[key].section, name) == 0)
                        return true;
        return false;
}

static int check_section(Parse *parse) {
        const ProfileReader *reader = &parse->reader;
        const char *nearest = NULL;
        size_t least = SIZE_MAX;

        if (is_section(reader->section))
                return 0;

        for (Key key = 0; key < KEY_COUNT; key++) {
                size_t distance = profile_problem_distance(reader->section, keys[key].section);

                if (distance < least) {
                        least = distance;
                        nearest = keys[key].section;
                }
        }
        if (is_near(least, reader->section))
                return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                           "%s:%u: there is no section [%s]; write [%s]",
                                           reader->file_name, reader->line, reader->section,
                                           nearest);
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s:%u: there is no section [%s]; the sections are [Profile], "
                                   "[Renewal], [Window] and [Gate]",
                                   reader->file_name, reader->line, reader->section);
}

/* Where the key belongs, or which one may have been meant. */
static int unknown_key(Parse *parse) {
        const ProfileReader *reader = &parse->reader;
        char list[PROFILE_PROBLEM_MAX] = "";
        size_t least = SIZE_MAX, used = 0;
        Key nearest = 0;

        for (Key key = 0; key < KEY_COUNT; key++) {
                bool here = strcmp(keys[key].section, reader->section) == 0;
                size_t distance = profile_problem_distance(reader->key, keys[key].name);

                if (strcmp(keys[key].name, reader->key) == 0)
                        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                                   "%s:%u: %s= belongs in [%s]; move it there",
                                                   reader->file_name, reader->line, reader->key,
                                                   keys[key].section);
                if (distance < least || (distance == least && here)) {
                        least = distance;
                        nearest = key;
                }
                if (here && used < sizeof(list))
                        used += (size_t) snprintf(list + used, sizeof(list) - used,
                                                  "%s%s=", used > 0 ? ", " : "", keys[key].name);
        }
        if (is_near(least, reader->key))
                return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                           "%s:%u: [%s] has no key %s=; write %s= in [%s]",
                                           reader->file_name, reader->line, reader->section,
                                           reader->key, keys[nearest].name, keys[nearest].section);
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s:%u: [%s] has no key %s=; leave it out; its keys are %s",
                                   reader->file_name, reader->line, reader->section, reader->key,
                                   list);
}

static int parse_key(Parse *parse) {
        const ProfileReader *reader = &parse->reader;
        unsigned before;
        Key key = 0;

        while (key < KEY_COUNT && (strcmp(keys[key].section, reader->section) != 0 ||
                                   strcmp(keys[key].name, reader->key) != 0))
                key++;
        if (key == KEY_COUNT)
                return unknown_key(parse);

        before = parse->lines[key];
        parse->lines[key] = reader->line;
        if (before != 0 && !keys[key].repeatable)
                return profile_problem_set(
                        PROFILE_BAD, parse->ret_problem,
                        "%s:%u: %s= stands in line %u already; leave one of them "
                        "out",
                        reader->file_name, reader->line, reader->key, before);
        if (!*reader->value && keys[key].may_be_empty)
                return 0;
        return keys[key].set(parse, key, reader->value);
}

static void set_defaults(Profile *profile) {
        profile->no_new_privileges = true;
        profile->default_duration_usec = DURATION_DEFAULT;
        profile->max_duration_usec = DURATION_MAX_DEFAULT;
        profile->rate_limit_count = 5;
        profile->rate_limit_interval_usec = 3600 * USEC_PER_SEC;
        profile->gate = GATE_AUTO;
        profile->precedence = PRECEDENCE_LAST;
}

/* Strings that are never NULL, where the file did not set them. */
static int fill_strings(Profile *profile) {
        int r = 0;

        if (!profile->description)
                r = set_string(&profile->description, "");
        if (r == 0 && !profile->user)
                r = set_string(&profile->user, "root");
        if (r == 0 && !profile->environment) {
                profile->environment = calloc(1, sizeof(char *));
                r = profile->environment ? 0 : -ENOMEM;
        }
        return r;
}

int profile_keys_parse(Profile *profile, const char *file_name, char *text, size_t size,
                       char **ret_problem) {
        Parse parse = {.profile = profile, .ret_problem = ret_problem};
        int r;

        set_defaults(profile);
        profile_reader_init(&parse.reader, file_name, text, size);
        do {
                r = profile_reader_next(&parse.reader, ret_problem);
                if (r == 0 && parse.reader.item == READER_SECTION)
                        r = check_section(&parse);
                else if (r == 0 && parse.reader.item == READER_KEY)
                        r = parse_key(&parse);
        } while (r == 0 && parse.reader.item != READER_END);

        if (r == 0)
                r = profile_together_check(&parse);
        if (r == 0)
                r = fill_strings(profile);
        return r;
}
