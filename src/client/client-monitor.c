/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What happens to windows, a line each, until somebody ends it. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/client-text.h>
#include <postern/client.h>
#include <postern/clock.h>
#include <string.h>

DEFINE_CLEANUP(sd_bus_slot, sd_bus_slot_unref);
DEFINE_CLEANUP(json_t, json_decref);

/* For a handler: goes on as long as what it has written arrives. */
static int go_on(Client *client, int status) {
        return status == CLIENT_OK ? 0 : sd_event_exit(client->event, status);
}

static int on_window(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Client *client = userdata;
        bool closed = strcmp(sd_bus_message_get_member(message), "WindowClosed") == 0;
        const char *id, *path, *profile, *result = "";
        uint64_t now = clock_now(CLOCK_REALTIME);
        char time[TEXT_TIME_MAX];
        int r;

        if (!client_is_from_service(client, message))
                return 0;
        r = sd_bus_message_read(message, "sos", &id, &path, &profile);
        if (r >= 0 && closed)
                r = sd_bus_message_read(message, "s", &result);
        if (r < 0)
                return 0;
        if (client->json) {
                _cleanup_(json_decref_cleanup) json_t *event =
                        json_pack("{sIssssssss}", "time", (json_int_t) now, "event",
                                  closed ? "closed" : "opened", "window", id, "profile", profile,
                                  "result", result);

                return go_on(client, event ? client_print_json(event) : client_fail(ENOMEM));
        }
        printf("%s  ", text_clock(now, time));
        text_write(stdout, id, 0);
        fputs(closed ? "  closed    " : "  opened    ", stdout);
        text_write(stdout, profile, 0);
        fputs("  ", stdout);
        text_write(stdout, result, 0);
        putchar('\n');
        return go_on(client, client_finish_output());
}

static int on_properties(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Client *client = userdata;
        _cleanup_(json_decref_cleanup) json_t *changed = json_object();
        const char *path = sd_bus_message_get_path(message), *id = strrchr(path, '/') + 1;
        uint64_t now = clock_now(CLOCK_REALTIME);
        const char *interface, *key;
        char time[TEXT_TIME_MAX];
        json_t *value;

        if (!client_is_from_service(client, message) ||
            sd_bus_message_read(message, "s", &interface) < 0 ||
            strcmp(interface, CLIENT_WINDOW) != 0 || client_read_properties(message, changed) < 0)
                return 0;
        if (client->json) {
                _cleanup_(json_decref_cleanup) json_t *event =
                        json_pack("{sIsssssO}", "time", (json_int_t) now, "event", "changed",
                                  "window", id, "properties", changed);

                return go_on(client, event ? client_print_json(event) : client_fail(ENOMEM));
        }
        printf("%s  %s  changed ", text_clock(now, time), id);
        json_object_foreach(changed, key, value) {
                _cleanup_free_ char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

                fputc(' ', stdout);
                text_write(stdout, key, 0);
                fputc('=', stdout);
                text_write(stdout, text ? text : "?", 0);
        }
        putchar('\n');
        return go_on(client, client_finish_output());
}

static int on_disconnect(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Client *client = userdata;

        return sd_event_exit(client->event, client_explain(client, NULL, -ECONNRESET));
}

int client_monitor(Client *client) {
        _cleanup_(sd_bus_slot_unref_cleanup) sd_bus_slot *opened = NULL, *closed = NULL;
        _cleanup_(sd_bus_slot_unref_cleanup) sd_bus_slot *changes = NULL, *gone = NULL;
        int r;

        r = sd_bus_match_signal(client->bus, &opened, CLIENT_NAME, CLIENT_ROOT, CLIENT_MANAGER,
                                "WindowOpened", on_window, client);
        if (r >= 0)
                r = sd_bus_match_signal(client->bus, &closed, CLIENT_NAME, CLIENT_ROOT,
                                        CLIENT_MANAGER, "WindowClosed", on_window, client);
        if (r >= 0)
                r = sd_bus_add_match(client->bus, &changes,
                                     "type='signal',sender='" CLIENT_NAME "',"
                                     "interface='org.freedesktop.DBus.Properties',"
                                     "member='PropertiesChanged',"
                                     "path_namespace='" CLIENT_WINDOWS "'",
                                     on_properties, client);
        if (r >= 0)
                r = sd_bus_match_signal(client->bus, &gone, "org.freedesktop.DBus.Local", NULL,
                                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnect,
                                        client);
        if (r < 0)
                return client_explain(client, NULL, r);
        client_say("Waiting for windows; Ctrl-C ends this");
        r = sd_event_loop(client->event);
        return r < 0 ? client_fail(r) : r;
}
