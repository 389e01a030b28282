/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One table says which keys there are, where they stand and who reads their value.
 *
 * A key that this version knows but cannot obey is refused like a bad one: a profile that is half
 * obeyed opens something else than its admin meant.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-keys.h>
#include <postern/profile-problem.h>
#include <postern/profile-reader.h>
#include <postern/profile-value.h>
#include <string.h>

#define USEC_PER_SEC ((uint64_t) 1000 * 1000)

#define DURATION_MIN         (1 * USEC_PER_SEC)
#define DURATION_MAX         (3600 * USEC_PER_SEC)
#define DURATION_DEFAULT     (120 * USEC_PER_SEC)
#define DURATION_MAX_DEFAULT (600 * USEC_PER_SEC)

typedef enum Key {
        KEY_DESCRIPTION,
        KEY_CERTIFICATE,
        KEY_EXEC,
        KEY_UNIT,
        KEY_USER,
        KEY_ENVIRONMENT,
        KEY_NO_NEW_PRIVILEGES,
        KEY_PORTS,
        KEY_DEFAULT_DURATION,
        KEY_MAX_DURATION,
        KEY_RATE_LIMIT,
        KEY_REACH,
        KEY_OPEN_ON,
        KEY_CHALLENGE_DIRECTORY,
        KEY_TYPE,
        KEY_CHAIN,
        KEY_PRECEDENCE,
        KEY_ZONE,
        KEY_OPEN_COMMAND,
        KEY_CLOSE_COMMAND,
        KEY_COUNT,
} Key;

typedef struct Parse {
        Profile *profile;
        ProfileReader reader;
        unsigned lines[KEY_COUNT]; /* where each key was last given; 0: not at all */
        size_t n_environment;
        char **ret_problem;
} Parse;

typedef struct KeyInfo {
        const char *section;
        const char *name;
        int (*set)(Parse *parse, Key key, const char *value);
        bool may_be_empty; /* "Key=" is as good as no such line */
        bool repeatable;
} KeyInfo;

static const KeyInfo keys[KEY_COUNT];

static int bad(Parse *parse, Key key, const char *fault) {
        return profile_problem_set(PROFILE_BAD, parse->ret_problem, "%s:%u: %s= %s",
                                   parse->reader.file_name, parse->lines[key], keys[key].name,
                                   fault);
}

/* What a parser made of the value: fine, unexpected, or the admin's to mend. */
static int judge(Parse *parse, Key key, int r, const char *fault) {
        return r == 0 || r == -ENOMEM ? r : bad(parse, key, fault);
}

static int set_string(char **string, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        *string = copy;
        return 0;
}

static int set_description(Parse *parse, Key key, const char *value) {
        if (!value_is_plain_text(value))
                return bad(parse, key,
                           "holds control characters or one of < > &; write it in plain text");
        return set_string(&parse->profile->description, value);
}

static int set_certificate(Parse *parse, Key key, const char *value) {
        if (!value_is_path(value))
                return bad(parse, key,
                           "is no absolute path without \"..\"; write one such as "
                           "/etc/letsencrypt/live/example.com/fullchain.pem");
        return set_string(&parse->profile->certificate, value);
}

static int set_exec(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;
        int r;

        r = value_split_argv(value, &profile->exec);
        if (r == -ENOENT)
                return bad(parse, key,
                           "is empty; write a command such as Exec=/usr/bin/certbot renew");
        if (r != 0)
                return judge(parse, key, r,
                             "has an unfinished quote or an unknown escape; close the quote, and "
                             "write a backslash as \\\\");
        if (!value_is_path(profile->exec[0]))
                return bad(parse, key,
                           "does not begin with an absolute path without \"..\"; write the "
                           "program's full path, as in Exec=/usr/bin/certbot renew");
        return 0;
}

static int set_user(Parse *parse, Key key, const char *value) {
        if (!value_is_user(value))
                return bad(parse, key,
                           "is no user name or number; write one such as User=certbot or leave "
                           "it out for root");
        return set_string(&parse->profile->user, value);
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
                return bad(parse, key,
                           "is no KEY=value with a KEY of letters, digits and _; write one a "
                           "line, without quotes, as in Environment=LANG=C");
        if (!value_is_printable(value))
                return bad(parse, key, "holds control characters; write plain text");
        for (size_t i = 0; i < ELEMENTS(ours); i++)
                if (starts_with(value, ours[i]))
                        return bad(parse, key,
                                   "sets a variable that is not the profile's (POSTERN_*, LD_*, "
                                   "LISTEN_*, NOTIFY_SOCKET); leave it out, or set it in a script");
        for (size_t i = 0; i < parse->n_environment; i++)
                if (strncmp(environment[i], value, length + 1) == 0)
                        return bad(parse, key,
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
                return bad(parse, key, "is neither yes nor no; write one of them");
        return 0;
}

static int set_ports(Parse *parse, Key key, const char *value) {
        Profile *profile = parse->profile;
        int r;

        r = value_parse_ports(value, profile->ports, &profile->n_ports);
        if (r == -EEXIST)
                return bad(parse, key, "names a port twice; leave one of them out");
        if (r == -E2BIG)
                return bad(parse, key, "names more than 16 ports; write at most 16");
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
                return bad(parse, key, "is not within 1s and 1h; write a time such as 2min");
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
        bool later; /* part of the format, not of this version */
} Choice;

/* instead: what to write. */
static int choose(Parse *parse, Key key, const char *value, const Choice *choices, size_t n,
                  const char *instead, int *ret) {
        for (size_t i = 0; i < n; i++) {
                if (strcmp(value, choices[i].text) != 0)
                        continue;
                if (choices[i].later)
                        return profile_problem_set(
                                PROFILE_BAD, parse->ret_problem,
                                "%s:%u: %s=%s is not available in this version; leave it out or "
                                "write %s",
                                parse->reader.file_name, parse->lines[key], keys[key].name,
                                choices[i].text, instead);
                *ret = choices[i].value;
                return 0;
        }
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s:%u: %s= has a value that it cannot have; write %s",
                                   parse->reader.file_name, parse->lines[key], keys[key].name,
                                   instead);
}

static int set_reach(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {{"any"}, {"renewal", .later = true}};
        int chosen;

        return choose(parse, key, value, choices, ELEMENTS(choices), "Reach=any", &chosen);
}

static int set_open_on(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {{"start"}, {"challenge", .later = true}};
        int chosen;

        return choose(parse, key, value, choices, ELEMENTS(choices), "OpenOn=start", &chosen);
}

static int set_type(Parse *parse, Key key, const char *value) {
        static const Choice choices[] = {
                {"auto", GATE_AUTO},
                {"nftables", GATE_NFTABLES},
                {"firewalld", GATE_FIREWALLD, .later = true},
                {"command", GATE_COMMAND, .later = true},
                {"none", GATE_NONE},
        };
        int chosen = 0, r;

        r = choose(parse, key, value, choices, ELEMENTS(choices),
                   "Type=auto, Type=nftables or Type=none", &chosen);
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

static int set_later(Parse *parse, Key key, const char *value) {
        return bad(parse, key, "is not available in this version; leave it out");
}

static const KeyInfo keys[KEY_COUNT] = {
        [KEY_DESCRIPTION] = {"Profile", "Description", set_description, .may_be_empty = true},
        [KEY_CERTIFICATE] = {"Profile", "Certificate", set_certificate, .may_be_empty = true},
        [KEY_EXEC] = {"Renewal", "Exec", set_exec},
        [KEY_UNIT] = {"Renewal", "Unit", set_later, .may_be_empty = true},
        [KEY_USER] = {"Renewal", "User", set_user},
        [KEY_ENVIRONMENT] = {"Renewal", "Environment", set_environment, .repeatable = true},
        [KEY_NO_NEW_PRIVILEGES] = {"Renewal", "NoNewPrivileges", set_no_new_privileges},
        [KEY_PORTS] = {"Window", "Ports", set_ports},
        [KEY_DEFAULT_DURATION] = {"Window", "DefaultDuration", set_duration},
        [KEY_MAX_DURATION] = {"Window", "MaxDuration", set_duration},
        [KEY_RATE_LIMIT] = {"Window", "RateLimit", set_rate_limit},
        [KEY_REACH] = {"Window", "Reach", set_reach},
        [KEY_OPEN_ON] = {"Window", "OpenOn", set_open_on},
        [KEY_CHALLENGE_DIRECTORY] = {"Window", "ChallengeDirectory", set_later,
                                     .may_be_empty = true},
        [KEY_TYPE] = {"Gate", "Type", set_type},
        [KEY_CHAIN] = {"Gate", "Chain", set_chain, .may_be_empty = true},
        [KEY_PRECEDENCE] = {"Gate", "Precedence", set_precedence},
        [KEY_ZONE] = {"Gate", "Zone", set_later, .may_be_empty = true},
        [KEY_OPEN_COMMAND] = {"Gate", "OpenCommand", set_later, .may_be_empty = true},
        [KEY_CLOSE_COMMAND] = {"Gate", "CloseCommand", set_later, .may_be_empty = true},
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

static int check_required(Parse *parse, Key key, const char *example) {
        if (parse->lines[key] != 0)
                return 0;
        return profile_problem_set(PROFILE_BAD, parse->ret_problem,
                                   "%s: [%s] lacks %s=; add it, as in %s=%s",
                                   parse->reader.file_name, keys[key].section, keys[key].name,
                                   keys[key].name, example);
}

/* What only the whole file shows. */
static int check_together(Parse *parse) {
        Profile *profile = parse->profile;
        int r;

        r = check_required(parse, KEY_EXEC, "/usr/bin/certbot renew");
        if (r == 0)
                r = check_required(parse, KEY_PORTS, "80/tcp");
        if (r != 0)
                return r;

        /* who gives only a short maximum means that as the default too */
        if (!parse->lines[KEY_DEFAULT_DURATION] &&
            profile->max_duration_usec < profile->default_duration_usec)
                profile->default_duration_usec = profile->max_duration_usec;
        if (profile->default_duration_usec > profile->max_duration_usec)
                return bad(parse, KEY_DEFAULT_DURATION,
                           "is longer than MaxDuration= (10min where it is not given); write a "
                           "shorter time, or a longer MaxDuration=");

        if (profile->gate == GATE_NONE && profile->chain)
                return bad(parse, KEY_CHAIN,
                           "means nothing with Type=none; leave it out or write Type=nftables");
        if (profile->gate == GATE_NONE && parse->lines[KEY_PRECEDENCE])
                return bad(parse, KEY_PRECEDENCE,
                           "means nothing with Type=none; leave it out or write Type=nftables");
        return 0;
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
                r = check_together(&parse);
        if (r == 0)
                r = fill_strings(profile);
        return r;
}
