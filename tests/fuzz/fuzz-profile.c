/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A file's bytes to a profile. What is accepted is within the limits that the rest relies on, and
 * means the same when it is written out in the plainest form and read again; what is refused is
 * refused with a sentence that can be shown to anybody.
 */

#include "fuzz.h"

#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/profile-keys.h>
#include <postern/profile-problem.h>
#include <postern/profile-value.h>
#include <string.h>

#define SECOND ((uint64_t) 1000 * 1000)

DEFINE_CLEANUP(Profile, profile_free);

static Profile *parse(const void *data, size_t size, char **ret_problem, int *ret_outcome) {
        _cleanup_(profile_free_cleanup) Profile *profile = calloc(1, sizeof(*profile));
        _cleanup_free_ char *text = malloc(size + 1);

        require(profile && text);
        if (size > 0)
                memcpy(text, data, size);
        *ret_outcome = profile_keys_parse(profile, "name.conf", text, size, ret_problem);
        require(*ret_outcome == PROFILE_OK || *ret_outcome == PROFILE_BAD);
        return *ret_outcome == PROFILE_OK ? TAKE_POINTER(profile) : NULL;
}

static void check_problem(const char *problem) {
        require(problem);
        require(strlen(problem) < PROFILE_PROBLEM_MAX);
        require(strncmp(problem, "name.conf:", strlen("name.conf:")) == 0);
        for (const char *p = problem; *p; p++)
                require(*p >= ' ' && *p <= '~');
}

static bool is_plain(const char *text) {
        for (const char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f || strchr("<>&", *p))
                        return false;
        return true;
}

static void check_ports(const Profile *profile) {
        require(profile->n_ports <= PROFILE_PORTS_MAX);
        for (size_t i = 0; i < profile->n_ports; i++) {
                const Port *port = &profile->ports[i], *last = i > 0 ? port - 1 : NULL;

                require(port->number >= 1);
                require(port->protocol == PROTOCOL_TCP || port->protocol == PROTOCOL_UDP);
                require(!last || last->number < port->number ||
                        (last->number == port->number && last->protocol < port->protocol));
        }
}

static void check_environment(char **environment) {
        static const char *const ours[] = {"POSTERN_", "LD_", "LISTEN_", "NOTIFY_SOCKET="};

        require(environment);
        for (char **item = environment; *item; item++) {
                size_t length = strcspn(*item, "=") + 1;

                require(length > 1 && (*item)[length - 1] == '=' && (**item < '0' || **item > '9'));
                for (size_t i = 0; i < ELEMENTS(ours); i++)
                        require(strncmp(*item, ours[i], strlen(ours[i])) != 0);
                for (char **other = environment; other < item; other++)
                        require(strncmp(*item, *other, length) != 0);
                require(value_is_printable(*item));
        }
}

static void check_argv(char **argv) {
        require(argv && argv[0] && argv[0][0] == '/');
}

/* Each key stands beside those alone that it means something with. */
static void check_gate(const Profile *profile) {
        bool opens = profile->n_ports > 0 && profile->gate != GATE_NONE;

        require(profile->gate >= GATE_AUTO && profile->gate <= GATE_NONE);
        require(profile->precedence == PRECEDENCE_LAST || profile->precedence == PRECEDENCE_FIRST);
        require(!profile->chain || profile->gate != GATE_NONE);
        require(!profile->zone || profile->gate == GATE_FIREWALLD);
        require(!profile->zone || (*profile->zone && strlen(profile->zone) <= PROFILE_ZONE_MAX));
        if (profile->gate == GATE_COMMAND) {
                require(opens);
                check_argv(profile->open_command);
                check_argv(profile->close_command);
        } else
                require(!profile->open_command && !profile->close_command);
        require(!profile->reach_renewal || (opens && !profile->unit));
        require(!profile->open_on_challenge || opens);
        require(profile->open_on_challenge == !!profile->challenge_directory);
        require(!profile->challenge_directory || value_is_path(profile->challenge_directory));
}

static void check_accepted(const Profile *profile) {
        require(is_plain(profile->description));
        require(!profile->certificate || *profile->certificate == '/');
        require(!profile->exec != !profile->unit);
        if (profile->unit)
                require(value_is_service(profile->unit));
        else
                check_argv(profile->exec);
        require(*profile->user);
        require(strcmp(profile->user, "4294967295") != 0);
        check_environment(profile->environment);
        check_ports(profile);
        require(profile->default_duration_usec >= SECOND);
        require(profile->default_duration_usec <= profile->max_duration_usec);
        require(profile->max_duration_usec <= 3600 * SECOND);
        require(profile->rate_limit_count >= 1 && profile->rate_limit_count <= 100);
        require(profile->rate_limit_interval_usec >= SECOND);
        require(profile->rate_limit_interval_usec <= 24 * 3600 * SECOND);
        check_gate(profile);
}

/* Every byte that could mean something else is written as an escape. */
static void write_argv(FILE *stream, const char *key, char **argv) {
        fprintf(stream, "%s=", key);
        for (char **argument = argv; *argument; argument++) {
                fputs(argument == argv ? "\"" : " \"", stream);
                for (const char *p = *argument; *p; p++)
                        if (*p > ' ' && *p <= '~' && *p != '"' && *p != '\\')
                                fputc(*p, stream);
                        else
                                fprintf(stream, "\\x%02x", (unsigned char) *p);
                fputc('"', stream);
        }
        fputc('\n', stream);
}

static void write_profile(FILE *stream, const Profile *profile) {
        char ports[PROFILE_PORTS_TEXT_MAX];

        profile_format_ports(profile, ports, sizeof(ports));
        fprintf(stream, "[Profile]\nDescription=%s\nCertificate=%s\n[Renewal]\n",
                profile->description, profile->certificate ? profile->certificate : "");
        if (profile->unit)
                fprintf(stream, "Unit=%s\n", profile->unit);
        else {
                write_argv(stream, "Exec", profile->exec);
                fprintf(stream, "User=%s\nNoNewPrivileges=%s\n", profile->user,
                        profile->no_new_privileges ? "yes" : "no");
        }
        for (char **item = profile->environment; *item; item++)
                fprintf(stream, "Environment=%s\n", *item);
        fprintf(stream,
                "[Window]\nPorts=%s\nDefaultDuration=%" PRIu64 "us\nMaxDuration=%" PRIu64
                "us\nRateLimit=%u/%" PRIu64 "us\nReach=%s\nOpenOn=%s\nChallengeDirectory=%s\n",
                ports, profile->default_duration_usec, profile->max_duration_usec,
                profile->rate_limit_count, profile->rate_limit_interval_usec,
                profile->reach_renewal ? "renewal" : "any",
                profile->open_on_challenge ? "challenge" : "start",
                profile->challenge_directory ? profile->challenge_directory : "");
        fprintf(stream, "[Gate]\nType=%s\nZone=%s\n", gate_type_to_string(profile->gate),
                profile->zone ? profile->zone : "");
        if (profile->gate == GATE_NONE)
                return;
        if (profile->gate == GATE_COMMAND) {
                write_argv(stream, "OpenCommand", profile->open_command);
                write_argv(stream, "CloseCommand", profile->close_command);
        }
        fprintf(stream, "Chain=%s\nPrecedence=%s\n", profile->chain ? profile->chain : "",
                profile->precedence == PRECEDENCE_FIRST ? "first" : "last");
}

static bool same_strings(char **a, char **b) {
        if (!a || !b)
                return a == b;
        for (; *a && *b; a++, b++)
                if (strcmp(*a, *b) != 0)
                        return false;
        return !*a && !*b;
}

static bool same_string(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_same(const Profile *a, const Profile *b) {
        require(same_string(a->description, b->description));
        require(same_string(a->certificate, b->certificate));
        require(same_strings(a->exec, b->exec));
        require(same_string(a->unit, b->unit));
        require(same_string(a->user, b->user));
        require(same_strings(a->environment, b->environment));
        require(a->no_new_privileges == b->no_new_privileges);
        require(a->n_ports == b->n_ports);
        for (size_t i = 0; i < a->n_ports; i++)
                require(a->ports[i].number == b->ports[i].number &&
                        a->ports[i].protocol == b->ports[i].protocol);
        require(a->default_duration_usec == b->default_duration_usec);
        require(a->max_duration_usec == b->max_duration_usec);
        require(a->rate_limit_count == b->rate_limit_count);
        require(a->rate_limit_interval_usec == b->rate_limit_interval_usec);
        require(a->gate == b->gate && a->precedence == b->precedence);
        require(same_string(a->chain, b->chain));
        require(same_string(a->zone, b->zone));
        require(same_strings(a->open_command, b->open_command));
        require(same_strings(a->close_command, b->close_command));
        require(a->reach_renewal == b->reach_renewal);
        require(a->open_on_challenge == b->open_on_challenge);
        require(same_string(a->challenge_directory, b->challenge_directory));
}

static void check_written(const Profile *profile) {
        _cleanup_(profile_free_cleanup) Profile *again = NULL;
        _cleanup_free_ char *text = NULL, *problem = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        int outcome;

        require(stream);
        write_profile(stream, profile);
        require(fclose(stream) == 0);
        again = parse(text, size, &problem, &outcome);
        /* escaped it may be longer than a line may be */
        if (!again && strstr(problem, "the line is longer"))
                return;
        require(again);
        check_same(profile, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;
        int outcome;

        if (size > PROFILE_FILE_MAX) /* profile-file.c reads no more */
                return -1;
        profile = parse(data, size, &problem, &outcome);
        if (profile) {
                require(!problem);
                check_accepted(profile);
                check_written(profile);
        } else
                check_problem(problem);
        return 0;
}
