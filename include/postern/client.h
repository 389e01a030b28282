/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * client: what the commands of `postern` share: options, the bus, exit statuses.
 *
 * A command writes what was asked for to standard output, and all else to standard error.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#define CLIENT_NAME            "org.postern.Renewal1"
#define CLIENT_ROOT            "/org/postern/Renewal1"
#define CLIENT_WINDOWS         CLIENT_ROOT "/window"
#define CLIENT_PROFILES        CLIENT_ROOT "/profile"
#define CLIENT_MANAGER         CLIENT_NAME ".Manager"
#define CLIENT_WINDOW          CLIENT_NAME ".Window"
#define CLIENT_PROFILE         CLIENT_NAME ".Profile"
#define CLIENT_ERROR           CLIENT_NAME ".Error."
#define CLIENT_NO_TIMEOUT_USEC UINT64_MAX /* for what waits for people or renewals */

typedef enum ClientStatus {
        CLIENT_OK = 0,
        CLIENT_FAILED = 1,      /* failed, gate-failed, run-failed, stopped; Check found an error */
        CLIENT_USAGE = 2,       /* also NoSuchProfile, BadProfile, BadDuration */
        CLIENT_REFUSED = 3,     /* by polkit */
        CLIENT_TOO_LATE = 4,    /* timeout or canceled */
        CLIENT_UNREACHABLE = 5, /* the service */
        CLIENT_LATER = 6,       /* RateLimited, TooManyWindows */
} ClientStatus;

typedef struct Client {
        sd_bus *bus;
        sd_event *event;

        const char *host; /* NULL: this one */
        char *command;    /* what to type to call it again for that host: "postern -H HOST" */
        bool json;
        bool wait;
        bool verbose;
        uint64_t duration_usec; /* 0: the profile's default */

        bool live;    /* one line on standard error that is written over */
        bool can_ask; /* somebody sits at a terminal of this host */
        bool asking;  /* polkit's text agent runs */
        pid_t agent;  /* 0: none */
        pid_t ssh;    /* likewise */
        char *owner;  /* the service's unique name, as it was last asked for */
} Client;

/* All commands: a ClientStatus, after having said what is wrong. */
int client_renew(Client *client, const char *profile);
int client_list(Client *client);
int client_status(Client *client, const char *profile);
int client_check(Client *client, const char *profile);
int client_close(Client *client, const char *profile);
int client_log(Client *client, const char *profile);
int client_monitor(Client *client);

/* Opens the bus. */
int client_connect(Client *client);
void client_disconnect(Client *client);

/* The bus of client->host, for the two above: starts ssh, without waiting for it. 0 or a negative
 * errno; to be ended in any case, after the bus. */
int client_open_remote(Client *client);
void client_end_remote(Client *client);

/* "postern: ..." on standard error, control characters replaced. */
void client_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For want of memory and the like. */
int client_fail(int error);
/* Standard output has all of it, or it is said why not: a ClientStatus. */
int client_finish_output(void);
/* Writes a JSON value and a line's end to standard output. */
int client_print_json(const json_t *value);

/* Says what the service or the bus answered, and what to do: a ClientStatus. */
int client_explain(const Client *client, const sd_bus_error *error, int r);

/* Is it one that the service sends, with a text of its own? */
bool client_knows_error(const sd_bus_error *error);
/* A signal by that name may be anybody's: the bus lets one through that is sent to us alone. */
bool client_is_from_service(Client *client, sd_bus_message *message);

/* polkit's own text agent: answers for its parent, which is us, at the terminal; when it is ready,
 * `asking` is set. 0 or a negative errno. */
int client_start_agent(Client *client);

/* Calls and waits; if polkit has to ask somebody, and somebody is there, starts its text agent and
 * calls again. types and the rest as in sd_bus_call_method(). 0 and *ret, or a ClientStatus. */
int client_call(Client *client, const char *path, const char *interface, const char *member,
                sd_bus_message **ret, const char *types, ...);

/* Window or profile: the properties of one interface of one object, as a JSON object with the
 * members of the bus. 0 and *ret (a new reference), or a ClientStatus. */
int client_properties(Client *client, const char *path, const char *interface, json_t **ret);

/* What comes next in a message: 0 and *ret (a new reference), or a negative errno.
 *
 * A dictionary of properties, into an object that there is. */
int client_read_properties(sd_bus_message *message, json_t *into);
/* An array of strings. */
int client_read_strings(sd_bus_message *message, json_t **ret);
/* An array of structures of basic types, as an array of objects with these members, one for each
 * type. */
int client_read_list(sd_bus_message *message, const char *types, const char *const *members,
                     json_t **ret);

/* The service's lists as JSON arrays of objects: {name, description, path, problem} and
 * {id, profile, uid, deadline, path}. */
int client_list_profiles(Client *client, json_t **ret);
int client_list_windows(Client *client, json_t **ret);
/* The object of a profile, or CLIENT_USAGE after having said that there is none. */
int client_find_profile(Client *client, const char *name, json_t **ret);

/* What the renewal of a window (its object) printed, as an array of lines: 0 and *ret (a new
 * reference), or a ClientStatus; and those lines for people. */
int client_read_log(Client *client, const char *window, json_t **ret);
void client_write_lines(FILE *stream, const json_t *lines);

const char *client_string(const json_t *object, const char *name); /* "" where there is none */
uint64_t client_number(const json_t *object, const char *name);    /* 0 likewise */
