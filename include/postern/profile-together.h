/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* profile-together: of a profile that is being read, what only the whole file shows. */

#include <postern/profile-reader.h>
#include <postern/profile.h>

#define EXAMPLE_OPEN  "OpenCommand=/usr/local/sbin/cloud-firewall open"
#define EXAMPLE_CLOSE "CloseCommand=/usr/local/sbin/cloud-firewall close"

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

/* Looks at a profile all of whose lines were read, and shortens a default that was not given to the
 * maximum that was. PROFILE_OK, PROFILE_BAD with *ret_problem, or -ENOMEM. */
int profile_together_check(Parse *parse);

/* PROFILE_BAD, or -ENOMEM; of profile-keys.c, which has the keys' names. fault: what is wrong with
 * the value, and what to write instead. example: a value of the key that is lacking. */
int profile_keys_bad(Parse *parse, Key key, const char *fault);
int profile_keys_lacks(Parse *parse, Key key, const char *example);
