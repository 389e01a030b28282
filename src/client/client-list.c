/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What profiles and windows there are, for people in tables. */

#include <errno.h>
#include <inttypes.h>
#include <postern/certificate.h>
#include <postern/cleanup.h>
#include <postern/client-text.h>
#include <postern/client.h>
#include <postern/clock.h>
#include <string.h>

DEFINE_CLEANUP(json_t, json_decref);

static const char how_to_start[] =
        "There is no profile yet. Write one, for example /etc/postern/profiles/example.com.conf:\n"
        "\n"
        "    [Renewal]\n"
        "    Exec=/usr/bin/certbot renew --no-random-sleep-on-renew\n"
        "    [Window]\n"
        "    Ports=80/tcp\n"
        "\n"
        "then see what it would do: postern check example.com\n";

/* Each profile with what its object says, in the names that --json has. */
static int gather(Client *client, json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *profiles = NULL, *list = json_array();
        json_t *profile;
        size_t i;
        int r;

        r = client_list_profiles(client, &profiles);
        if (r != 0)
                return r;
        json_array_foreach(profiles, i, profile) {
                _cleanup_(json_decref_cleanup) json_t *facts = NULL;

                r = client_properties(client, client_string(profile, "path"), CLIENT_PROFILE,
                                      &facts);
                if (r != 0)
                        return r;
                if (json_array_append_new(
                            list,
                            json_pack("{sOsOsIsIsssssIsO}", "name",
                                      json_object_get(profile, "name"), "description",
                                      json_object_get(profile, "description"), "not_after",
                                      (json_int_t) client_number(facts, "NotAfter"), "not_before",
                                      (json_int_t) client_number(facts, "NotBefore"),
                                      "serial_number", client_string(facts, "SerialNumber"),
                                      "last_result", client_string(facts, "LastResult"),
                                      "last_closed_at",
                                      (json_int_t) client_number(facts, "LastClosedAt"), "problem",
                                      json_object_get(profile, "problem"))) < 0)
                        return client_fail(ENOMEM);
        }
        *ret = TAKE_POINTER(list);
        return 0;
}

/* Yellow when the log warns of it, red when it is too late. */
static TextStyle expiry_style(uint64_t not_before, uint64_t not_after, uint64_t now) {
        const Certificate certificate = {.not_before = not_before, .not_after = not_after};

        if (not_after > 0 && not_after <= now)
                return TEXT_RED;
        return certificate_is_near_end(&certificate, now) ? TEXT_YELLOW : TEXT_PLAIN;
}

/* A cell and the space after it. */
static void write_cell(const char *text, size_t width) {
        size_t written = text_write(stdout, text, width);

        printf("%*s", (int) (width - written + 1), "");
}

static size_t longest(const json_t *list, const char *name, size_t least, size_t most) {
        const json_t *item;
        size_t i, width = least;

        json_array_foreach(list, i, item) {
                size_t length = strlen(client_string(item, name));

                if (length > width)
                        width = length;
        }
        return width < most ? width : most;
}

int client_list(Client *client) {
        enum { NAME = 20, EXPIRES = 16, LAST = 22 };
        _cleanup_(json_decref_cleanup) json_t *list = NULL;
        uint64_t now = clock_now(CLOCK_REALTIME);
        size_t i, name, rest;
        json_t *profile;
        int r;

        r = gather(client, &list);
        if (r != 0)
                return r;
        if (client->json)
                return client_print_json(list);
        if (json_array_size(list) == 0) {
                fputs(how_to_start, stdout);
                return CLIENT_OK;
        }

        name = longest(list, "name", strlen("PROFILE"), NAME);
        rest = text_width(stdout) - name - EXPIRES - LAST - 3;
        write_cell("PROFILE", name);
        write_cell("EXPIRES", EXPIRES);
        write_cell("LAST", LAST);
        puts("DESCRIPTION");
        json_array_foreach(list, i, profile) {
                const char *problem = client_string(profile, "problem");
                const char *result = client_string(profile, "last_result");
                uint64_t closed = client_number(profile, "last_closed_at");
                char last[2 * TEXT_TIME_MAX] = "never", time[TEXT_TIME_MAX];

                if (*result)
                        (void) snprintf(last, sizeof(last), "%s %s", result,
                                        text_relative(closed, now, time));
                write_cell(client_string(profile, "name"), name);
                if (*problem) {
                        printf("%sbad: ", text_style(stdout, TEXT_RED));
                        text_paragraph(stdout, problem, name + 6, name + 6);
                        fputs(text_reset(stdout), stdout);
                        continue;
                }
                fputs(text_style(stdout, expiry_style(client_number(profile, "not_before"),
                                                      client_number(profile, "not_after"), now)),
                      stdout);
                write_cell(text_time(client_number(profile, "not_after"), time), EXPIRES);
                fputs(text_reset(stdout), stdout);
                write_cell(last, LAST);
                text_write(stdout, client_string(profile, "description"), rest);
                putchar('\n');
        }
        return CLIENT_OK;
}

/* Windows of one profile, or of all. */
static int open_windows(Client *client, const char *profile, json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *windows = NULL, *list = json_array();
        json_t *window;
        size_t i;
        int r;

        r = client_list_windows(client, &windows);
        if (r != 0)
                return r;
        json_array_foreach(windows, i, window) {
                _cleanup_(json_decref_cleanup) json_t *facts = NULL;

                if (profile && strcmp(client_string(window, "profile"), profile) != 0)
                        continue;
                r = client_properties(client, client_string(window, "path"), CLIENT_WINDOW, &facts);
                if (r != 0)
                        return r;
                if (json_array_append_new(
                            list,
                            json_pack("{sOsOsOsOsIsIsO}", "id", json_object_get(window, "id"),
                                      "profile", json_object_get(window, "profile"), "uid",
                                      json_object_get(window, "uid"), "state",
                                      json_object_get(facts, "State"), "deadline",
                                      (json_int_t) client_number(facts, "Deadline"),
                                      "admitted_connections",
                                      (json_int_t) client_number(facts, "AdmittedConnections"),
                                      "ports", json_object_get(facts, "Ports"))) < 0)
                        return client_fail(ENOMEM);
        }
        *ret = TAKE_POINTER(list);
        return 0;
}

static void print_windows(const json_t *list) {
        size_t name = longest(list, "profile", strlen("PROFILE"), 32), i;
        uint64_t now = clock_now(CLOCK_REALTIME);
        const json_t *window;

        write_cell("PROFILE", name);
        write_cell("STATE", 8);
        write_cell("LEFT", 8);
        write_cell("LET IN", 8);
        puts("WINDOW");
        json_array_foreach(list, i, window) {
                uint64_t deadline = client_number(window, "deadline");
                char text[TEXT_TIME_MAX];

                write_cell(client_string(window, "profile"), name);
                write_cell(client_string(window, "state"), 8);
                write_cell(deadline > now ? text_left(deadline - now, text) : "-", 8);
                (void) snprintf(text, sizeof(text), "%" PRIu64,
                                client_number(window, "admitted_connections"));
                write_cell(text, 8);
                text_write(stdout, client_string(window, "id"), 0);
                putchar('\n');
        }
}

static void print_certificate(const json_t *facts, uint64_t now) {
        uint64_t not_after = client_number(facts, "NotAfter"), more;
        char time[TEXT_TIME_MAX], relative[TEXT_TIME_MAX];
        const json_t *name;
        size_t i;

        if (not_after == 0) {
                fputs("  expires   ", stdout);
                text_paragraph(stdout,
                               "not known yet: a renewal tells, where the profile names a "
                               "Certificate=",
                               12, 12);
                return;
        }
        printf("  expires   %s%s, %s%s\n",
               text_style(stdout, expiry_style(client_number(facts, "NotBefore"), not_after, now)),
               text_time(not_after, time), text_relative(not_after, now, relative),
               text_reset(stdout));
        if (*client_string(facts, "SerialNumber")) {
                fputs("  serial    ", stdout);
                text_write(stdout, client_string(facts, "SerialNumber"), 0);
                putchar('\n');
        }
        json_array_foreach(json_object_get(facts, "Names"), i, name) {
                fputs(i == 0 ? "  names     " : "            ", stdout);
                text_write(stdout, json_string_value(name), 0);
                putchar('\n');
        }
        more = client_number(facts, "NamesLeftOut");
        if (more > 0)
                printf("            and %" PRIu64 " more\n", more);
}

static void print_profile(const char *name, const json_t *profile, const json_t *facts) {
        const char *description = client_string(profile, "description");
        const char *result = client_string(facts, "LastResult");
        uint64_t now = clock_now(CLOCK_REALTIME);
        char relative[TEXT_TIME_MAX];

        printf("%s%s%s\n", text_style(stdout, TEXT_BOLD), name, text_reset(stdout));
        if (*description) {
                fputs("  ", stdout);
                text_paragraph(stdout, description, 2, 2);
        }
        if (*result)
                printf("  last      %s, %s\n", result,
                       text_relative(client_number(facts, "LastClosedAt"), now, relative));
        else
                puts("  last      never since the service knows of it");
        print_certificate(facts, now);
        if (json_is_true(json_object_get(facts, "CloseOwed")))
                printf("  owed      not closed yet in a firewall elsewhere, and tried again: "
                       "journalctl -t\n            posternd POSTERN_PROFILE=%s says why\n",
                       name);
}

int client_status(Client *client, const char *name) {
        _cleanup_(json_decref_cleanup) json_t *profile = NULL, *facts = NULL, *windows = NULL;
        int r = 0;

        if (name) {
                r = client_find_profile(client, name, &profile);
                if (r == 0 && *client_string(profile, "problem")) {
                        client_say("%s", client_string(profile, "problem"));
                        return CLIENT_USAGE;
                }
                if (r == 0)
                        r = client_properties(client, client_string(profile, "path"),
                                              CLIENT_PROFILE, &facts);
        }
        if (r == 0)
                r = open_windows(client, name, &windows);
        if (r != 0)
                return r;

        if (client->json && !name)
                return client_print_json(windows);
        if (client->json) {
                _cleanup_(json_decref_cleanup) json_t *object = json_pack(
                        "{sssOsIsIsssOsIsssIsbsO}", "name", name, "description",
                        json_object_get(profile, "description"), "not_after",
                        (json_int_t) client_number(facts, "NotAfter"), "not_before",
                        (json_int_t) client_number(facts, "NotBefore"), "serial_number",
                        client_string(facts, "SerialNumber"), "names",
                        json_object_get(facts, "Names"), "names_left_out",
                        (json_int_t) client_number(facts, "NamesLeftOut"), "last_result",
                        client_string(facts, "LastResult"), "last_closed_at",
                        (json_int_t) client_number(facts, "LastClosedAt"), "close_owed",
                        json_is_true(json_object_get(facts, "CloseOwed")), "windows", windows);

                return object ? client_print_json(object) : client_fail(ENOMEM);
        }
        if (name)
                print_profile(name, profile, facts);
        if (json_array_size(windows) > 0)
                print_windows(windows);
        else if (name)
                printf("  window    none is open; to renew: %s renew %s\n", client->command, name);
        else
                printf("No window is open. To renew: %s renew PROFILE (%s list shows the "
                       "profiles)\n",
                       client->command, client->command);
        return CLIENT_OK;
}
