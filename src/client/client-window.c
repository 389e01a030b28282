/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The window of a profile: closing it, and what its renewal printed. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/client-text.h>
#include <postern/client.h>
#include <string.h>

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);
DEFINE_CLEANUP(json_t, json_decref);

int client_close(Client *client, const char *profile) {
        _cleanup_(json_decref_cleanup) json_t *found = NULL, *windows = NULL;
        json_t *window;
        size_t i;
        int r;

        r = client_list_windows(client, &windows);
        if (r != 0)
                return r;
        json_array_foreach(windows, i, window) {
                if (strcmp(client_string(window, "profile"), profile) != 0)
                        continue;
                r = client_call(client, client_string(window, "path"), CLIENT_WINDOW, "Close", NULL,
                                NULL);
                if (r == 0)
                        client_say("The window of %s is closed", profile);
                return r;
        }
        r = client_find_profile(client, profile, &found);
        if (r == 0)
                client_say("No window of %s is open", profile);
        return r;
}

/* The profile's youngest window that can still be read: *ret is its object, or NULL. */
static int find_window(sd_bus_message *message, const char *profile, char **ret) {
        _cleanup_free_ char *best = NULL;
        uint64_t best_at = 0;
        const char *path, *interface;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{oa{sa{sv}}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "oa{sa{sv}}")) > 0) {
                _cleanup_(json_decref_cleanup) json_t *facts = json_object();
                uint64_t closed;

                r = sd_bus_message_read(message, "o", &path);
                if (r >= 0)
                        r = sd_bus_message_enter_container(message, 'a', "{sa{sv}}");
                while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sa{sv}")) > 0) {
                        r = sd_bus_message_read(message, "s", &interface);
                        if (r >= 0 && strcmp(interface, CLIENT_WINDOW) == 0)
                                r = client_read_properties(message, facts);
                        else if (r >= 0)
                                r = sd_bus_message_skip(message, "a{sv}");
                        if (r >= 0)
                                r = sd_bus_message_exit_container(message);
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
                if (strcmp(client_string(facts, "Profile"), profile) != 0 ||
                    json_object_size(facts) == 0)
                        continue;
                /* one that is not closed is younger than all that are */
                closed = client_number(facts, "ClosedAt");
                if (closed == 0)
                        closed = UINT64_MAX;
                if (closed <= best_at)
                        continue;
                best_at = closed;
                free(best);
                best = strdup(path);
                if (!best)
                        return -ENOMEM;
        }
        if (r >= 0)
                *ret = TAKE_POINTER(best);
        return r;
}

int client_read_log(Client *client, const char *window, json_t **ret) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *reply = NULL;
        int r;

        r = client_call(client, window, CLIENT_WINDOW, "GetLog", &reply, "u", 0);
        if (r != 0)
                return r;
        r = client_read_strings(reply, ret);
        return r < 0 ? client_fail(r) : 0;
}

void client_write_lines(FILE *stream, const json_t *lines) {
        const json_t *line;
        size_t i;

        json_array_foreach(lines, i, line) {
                text_write(stream, json_string_value(line), 0);
                fputc('\n', stream);
        }
}

int client_log(Client *client, const char *profile) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *objects = NULL;
        _cleanup_(json_decref_cleanup) json_t *found = NULL, *lines = NULL;
        _cleanup_free_ char *window = NULL;
        int r;

        r = client_call(client, CLIENT_ROOT, "org.freedesktop.DBus.ObjectManager",
                        "GetManagedObjects", &objects, NULL);
        if (r != 0)
                return r;
        r = find_window(objects, profile, &window);
        if (r < 0)
                return client_fail(r);
        if (!window) {
                r = client_find_profile(client, profile, &found);
                if (r != 0)
                        return r;
                client_say("The last window of %s is forgotten, which is a minute after its end. "
                           "The journal has it: journalctl -t posternd POSTERN_PROFILE=%s",
                           profile, profile);
                return CLIENT_FAILED;
        }
        r = client_read_log(client, window, &lines);
        if (r != 0)
                return r;
        if (client->json)
                return client_print_json(lines);
        client_write_lines(stdout, lines);
        return CLIENT_OK;
}
