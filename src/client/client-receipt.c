/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What became of a window, for people and for programs. */

#include <errno.h>
#include <inttypes.h>
#include <postern/certificate.h>
#include <postern/cleanup.h>
#include <postern/client-receipt.h>
#include <postern/client-text.h>
#include <postern/clock.h>
#include <string.h>

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);
DEFINE_CLEANUP(json_t, json_decref);

void receipt_write_ports(FILE *stream, const json_t *properties) {
        const json_t *ports = json_object_get(properties, "Ports"), *port;
        size_t i;

        if (json_array_size(ports) == 0)
                fputs("no port", stream);
        json_array_foreach(ports, i, port) {
                fputs(i > 0 ? " " : "", stream);
                text_write(stream, json_string_value(port), 0);
        }
}

static int status_of(const char *result) {
        static const char *const good[] = {"renewed", "unchanged", "success"};

        for (size_t i = 0; i < ELEMENTS(good); i++)
                if (strcmp(result, good[i]) == 0)
                        return CLIENT_OK;
        if (strcmp(result, "timeout") == 0 || strcmp(result, "canceled") == 0)
                return CLIENT_TOO_LATE;
        return CLIENT_FAILED;
}

static void write_row(const char *name) {
        printf("  %-9s ", name);
}

static void write_networks(const json_t *window) {
        uint64_t networks = client_number(window, "SourceNetworks");
        bool complete = json_is_true(json_object_get(window, "SourceNetworksComplete"));

        if (networks > 0)
                printf(" from %s%" PRIu64 " network%s", complete ? "" : "at least ", networks,
                       networks == 1 ? "" : "s");
}

static void write_serial(const json_t *window) {
        const char *serial = client_string(window, "SerialNumber");
        const char *before = client_string(window, "SerialNumberBefore");
        bool is_new = *before && strcmp(before, serial) != 0;
        char text[2 * CERTIFICATE_SERIAL_MAX + 16];

        if (!*serial)
                return;
        write_row("serial");
        (void) snprintf(text, sizeof(text), "%s%s%s", serial, is_new ? ", before " : "",
                        is_new ? before : "");
        text_paragraph(stdout, text, 12, 12);
}

static void print_receipt(const Client *client, const char *name, const json_t *window,
                          const json_t *profile) {
        const char *result = client_string(window, "Result"), *hint = client_string(window, "Hint");
        int status = status_of(result);
        int64_t exit_status = (int64_t) client_number(window, "ExitStatus");
        uint64_t opened = client_number(window, "OpenedAt");
        uint64_t closed = client_number(window, "ClosedAt");
        uint64_t admitted = client_number(window, "AdmittedConnections");
        uint64_t not_after = client_number(profile, "NotAfter");
        char from[TEXT_TIME_MAX], to[TEXT_TIME_MAX];

        text_write(stdout, name, 0);
        printf(": %s", text_style(stdout, status == CLIENT_OK ? TEXT_GREEN : TEXT_RED));
        text_write(stdout, result, 0);
        fputs(text_reset(stdout), stdout);
        if (status != CLIENT_OK && exit_status >= 0)
                printf(", exit status %" PRIi64, exit_status);
        putchar('\n');

        if (opened > 0 && json_array_size(json_object_get(window, "Ports")) > 0) {
                write_row("open");
                receipt_write_ports(stdout, window);
                printf(", %s to %s\n", text_clock(opened, from), text_clock(closed, to));
                write_row("gate");
                text_paragraph(stdout, client_string(window, "Gate"), 12, 12);
                write_row("let in");
                printf("%" PRIu64 " connection%s", admitted, admitted == 1 ? "" : "s");
                write_networks(window);
                putchar('\n');
        }
        if (not_after > 0) {
                write_row("expires");
                printf("%s, %s\n", text_time(not_after, from),
                       text_relative(not_after, clock_now(CLOCK_REALTIME), to));
        }
        write_serial(window);
        if (*hint) {
                write_row("hint");
                text_paragraph(stdout, hint, 12, 12);
        }
        if (status != CLIENT_OK && !client->verbose) {
                write_row("output");
                printf("%s log %s\n", client->command, name);
        }
}

/* What it printed, as far as it is kept. */
static int print_output(Client *client, const char *path) {
        _cleanup_(json_decref_cleanup) json_t *lines = NULL;
        int r = client_read_log(client, path, &lines);

        if (r == 0)
                client_write_lines(stderr, lines);
        return r;
}

static int print_json_receipt(const char *name, const json_t *window, const json_t *profile) {
        _cleanup_(json_decref_cleanup) json_t *receipt = json_pack(
                "{sssIsssssIsIsIsIsOsssssOsIs{sssIsIsssI}}", "result",
                client_string(window, "Result"), "exit_status",
                (json_int_t) client_number(window, "ExitStatus"), "profile", name, "window",
                client_string(window, "Id"), "opened_at",
                (json_int_t) client_number(window, "OpenedAt"), "closed_at",
                (json_int_t) client_number(window, "ClosedAt"), "admitted_connections",
                (json_int_t) client_number(window, "AdmittedConnections"), "source_networks",
                (json_int_t) client_number(window, "SourceNetworks"), "source_networks_complete",
                json_object_get(window, "SourceNetworksComplete"), "hint",
                client_string(window, "Hint"), "gate", client_string(window, "Gate"), "ports",
                json_object_get(window, "Ports"), "not_after",
                (json_int_t) client_number(profile, "NotAfter"), "certificate", "serial_number",
                client_string(window, "SerialNumber"), "not_before",
                (json_int_t) client_number(window, "NotBefore"), "not_after",
                (json_int_t) client_number(window, "NotAfter"), "serial_number_before",
                client_string(window, "SerialNumberBefore"), "not_after_before",
                (json_int_t) client_number(window, "NotAfterBefore"));

        return receipt ? client_print_json(receipt) : client_fail(ENOMEM);
}

/* Until when the certificate is valid is a nicety: what cannot be read now is left out. */
static json_t *read_profile(Client *client, const char *name) {
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *reply = NULL;
        _cleanup_free_ char *path = NULL;
        json_t *facts = json_object();

        if (facts && sd_bus_path_encode(CLIENT_PROFILES, name, &path) >= 0 &&
            sd_bus_call_method(client->bus, CLIENT_NAME, path, "org.freedesktop.DBus.Properties",
                               "GetAll", NULL, &reply, "s", CLIENT_PROFILE) >= 0)
                (void) client_read_properties(reply, facts);
        return facts;
}

int receipt_print(Client *client, const char *name, const char *path) {
        _cleanup_(json_decref_cleanup) json_t *window = NULL, *profile = NULL;
        int r;

        r = client_properties(client, path, CLIENT_WINDOW, &window);
        if (r != 0)
                return r;
        profile = read_profile(client, name);
        if (client->verbose)
                (void) print_output(client, path);
        if (client->json)
                r = print_json_receipt(name, window, profile);
        else
                print_receipt(client, name, window, profile);
        return r == 0 ? status_of(client_string(window, "Result")) : r;
}
