/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * profile: an admin's file, read and checked.
 *
 * Ports, commands and ceilings come only from here. A Profile is read afresh for each request and
 * never changes afterwards; the broker and the root helper each read the file for themselves, and
 * `version` lets them see whether they read the same one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        PROFILE_NAME_MAX = 64,
        PROFILE_PORTS_MAX = 16,
        PROFILE_LINE_MAX = 4096,
        PROFILE_FILE_MAX = 64 * 1024,
        PROFILE_VERSION_MAX = 128,
        PROFILE_ZONE_MAX = 17,
        PROFILE_UNIT_MAX = 255, /* as systemd has it */
};

typedef enum Protocol {
        PROTOCOL_TCP = 6,
        PROTOCOL_UDP = 17,
} Protocol;

typedef struct Port {
        Protocol protocol;
        uint16_t number; /* host byte order, 1..65535 */
} Port;

typedef enum GateType {
        GATE_AUTO,
        GATE_NFTABLES,
        GATE_FIREWALLD,
        GATE_COMMAND,
        GATE_NONE,
} GateType;

typedef enum GatePrecedence {
        PRECEDENCE_LAST,
        PRECEDENCE_FIRST,
} GatePrecedence;

/* All strings are owned by the Profile; optional ones are NULL when the file does not set them. */
typedef struct Profile {
        char *name;
        char *description; /* never NULL; "" when unset; printable UTF-8 without control or bidi */
        char *certificate; /* absolute path or NULL */

        char **exec; /* argv, NULL-terminated; exec[0] is an absolute path; NULL with a unit */
        char *unit;  /* "NAME.service", which is started in place of exec; otherwise NULL */
        char *user;  /* "root" when unset */
        char **environment; /* "KEY=value", NULL-terminated, never NULL */
        bool no_new_privileges;

        Port ports[PROFILE_PORTS_MAX]; /* sorted by number, then protocol; no doubles */
        size_t n_ports;                /* 0: Ports=none */
        uint64_t default_duration_usec;
        uint64_t max_duration_usec;
        bool reach_renewal;        /* lead to the renewal's own sockets alone */
        bool open_on_challenge;    /* open while a token is there, not from the start */
        char *challenge_directory; /* absolute path; NULL unless open_on_challenge */
        unsigned rate_limit_count;
        uint64_t rate_limit_interval_usec;

        GateType gate;
        GatePrecedence precedence;
        char *chain; /* "FAMILY TABLE CHAIN" with single spaces, or NULL */
        char *zone;  /* GATE_FIREWALLD: a zone's name, or NULL */
        /* GATE_COMMAND: argv, as in exec; otherwise NULL */
        char **open_command;
        char **close_command;

        char version[PROFILE_VERSION_MAX]; /* tells one state of the file from another */
} Profile;

typedef enum ProfileOutcome {
        PROFILE_OK = 0,
        PROFILE_MISSING, /* no such file, or a name that no profile can have */
        PROFILE_BAD,     /* *ret_problem says where, what and what to write instead */
} ProfileOutcome;

typedef enum ProfileCheck {
        /* Accept sticky, world-writable directories (such as /tmp) above the profile directory.
         * For tests alone. */
        PROFILE_ALLOW_STICKY_PARENTS = 1 << 0,
} ProfileCheck;

/*
 * Reads CONFIG_DIR/profiles/NAME.conf.
 *
 * config_dir: absolute. flags: ProfileCheck bits.
 * Returns PROFILE_OK and sets *ret; or a ProfileOutcome > 0 and sets *ret_problem (a sentence for a
 * person: file, line where there is one, what is wrong, what to write; holds no content of the
 * file other than the key's name; printable, at most 512 bytes); or -ENOMEM or another negative
 * errno. The outputs that do not apply are left alone.
 */
int profile_load(const char *config_dir, const char *name, unsigned flags, Profile **ret,
                 char **ret_problem);

/*
 * Lists the names of the files in CONFIG_DIR/profiles whose name ends in ".conf" and could be a
 * profile's, sorted, NULL-terminated; good and bad ones alike. A directory that does not exist is
 * an empty list. The caller frees with profile_names_free().
 */
int profile_list(const char *config_dir, char ***ret);
char **profile_names_free(char **names);

Profile *profile_free(Profile *profile);

/* [A-Za-z0-9][A-Za-z0-9._-]{0,63} */
bool profile_name_is_valid(const char *name);

/* "80/tcp 443/tcp", or "none". At most PROFILE_PORTS_TEXT_MAX bytes with the terminating 0. */
enum { PROFILE_PORTS_TEXT_MAX = PROFILE_PORTS_MAX * 10 + 1 };
void profile_format_ports(const Profile *profile, char *ret, size_t size);
void ports_format(const Port *ports, size_t n_ports, char *ret, size_t size);
/* By number, then by protocol; for qsort(). */
int port_compare(const void *a, const void *b);
bool ports_are_same(const Port *a, size_t n_a, const Port *b, size_t n_b);
/* Adds to ports (PROFILE_PORTS_MAX of them fit) what of others is not among them, and sorts them.
 * -ENOSPC: it does not fit, and nothing was changed. */
int ports_join(Port *ports, size_t *n_ports, const Port *others, size_t n_others);

/* Of OpenCommand=, User= and Environment=: another one means that what was opened before was
 * perhaps opened somewhere else. Tells apart what an admin writes, not what an attacker makes. */
uint64_t profile_gate_digest(const Profile *profile);

const char *protocol_to_string(Protocol protocol);
const char *gate_type_to_string(GateType type);
