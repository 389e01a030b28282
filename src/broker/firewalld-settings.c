/* SPDX-License-Identifier: GPL-2.0-or-later */

/* One pass over the dictionary; each key has a reader of its own. See the header. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/firewalld-settings.h>
#include <stdio.h>
#include <string.h>

/* "80" or "80-90", and "tcp": which of the ports are these? */
static uint32_t match_ports(const FirewalldSettings *settings, const char *range,
                            const char *protocol) {
        unsigned first, last;
        uint32_t found = 0;
        int end = 0;

        if (sscanf(range, "%5u%n", &first, &end) != 1)
                return 0;
        last = first;
        if (range[end] == '-') {
                range += end + 1;
                if (sscanf(range, "%5u%n", &last, &end) != 1)
                        return 0;
        }
        if (range[end])
                return 0;
        for (size_t i = 0; i < settings->n_ports; i++)
                if (settings->ports[i].number >= first && settings->ports[i].number <= last &&
                    strcmp(protocol_to_string(settings->ports[i].protocol), protocol) == 0)
                        found |= 1u << i;
        return found;
}

static uint32_t match_protocol(const FirewalldSettings *settings, const char *protocol) {
        return match_ports(settings, "1-65535", protocol);
}

static void add_service(FirewalldSettings *settings, const char *name) {
        size_t length = strlen(name);

        if (length == 0 || length >= FIREWALLD_SERVICE_NAME_MAX ||
            settings->n_services == FIREWALLD_SERVICES_MAX)
                return;
        for (size_t i = 0; i < settings->n_services; i++)
                if (strcmp(settings->services[i], name) == 0)
                        return;
        memcpy(settings->services[settings->n_services++], name, length + 1);
}

/*
 * A rich rule, as firewalld itself writes it down. Only one that admits everybody, whatever the
 * family, source and destination, leaves nothing to open:
 *
 *     rule priority="-1" port port="80-90" protocol="tcp" accept
 *     rule service name="http" accept
 */
static void read_rule(FirewalldSettings *settings, const char *rule) {
        char first[FIREWALLD_SERVICE_NAME_MAX], second[8];
        int priority, end = 0;

        if (sscanf(rule, "rule priority=\"%d\" %n", &priority, &end) != 1 || end == 0)
                (void) sscanf(rule, "rule %n", &end);
        rule += end;

        end = 0;
        if (sscanf(rule, "port port=\"%63[0-9-]\" protocol=\"%7[a-z]\" accept%n", first, second,
                   &end) == 2 &&
            end > 0 && !rule[end]) {
                settings->by_other |= match_ports(settings, first, second);
                return;
        }
        end = 0;
        if (sscanf(rule, "service name=\"%63[^\"]\" accept%n", first, &end) == 1 && end > 0 &&
            !rule[end])
                add_service(settings, first);
        end = 0;
        if (sscanf(rule, "protocol value=\"%7[a-z]\" accept%n", second, &end) == 1 && end > 0 &&
            !rule[end])
                settings->by_other |= match_protocol(settings, second);
}

static void read_text(FirewalldSettings *settings, const char *key, const char *text) {
        if (strcmp(key, "services") == 0 || strcmp(key, "includes") == 0)
                add_service(settings, text);
        else if (strcmp(key, "protocols") == 0)
                settings->by_other |= match_protocol(settings, text);
        else if (strcmp(key, "rules_str") == 0 || strcmp(key, "rich_rules") == 0)
                read_rule(settings, text);
}

/* services, includes, protocols, rules_str, rich_rules */
static int read_texts(sd_bus_message *message, FirewalldSettings *settings, const char *key) {
        const char *text;
        int r;

        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "s");
        while (r > 0 && (r = sd_bus_message_read(message, "s", &text)) > 0)
                read_text(settings, key, text);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_ports(sd_bus_message *message, FirewalldSettings *settings) {
        const char *range, *protocol;
        int r;

        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "(ss)");
        while (r > 0 && (r = sd_bus_message_read(message, "(ss)", &range, &protocol)) > 0)
                settings->by_port |= match_ports(settings, range, protocol);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

/* What comes to such a port goes elsewhere, before any rule about ports could see it. */
static int read_forward_ports(sd_bus_message *message, FirewalldSettings *settings) {
        const char *range, *protocol;
        int r;

        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "(ssss)");
        while (r > 0 &&
               (r = sd_bus_message_read(message, "(ssss)", &range, &protocol, NULL, NULL)) > 0)
                settings->by_other |= match_ports(settings, range, protocol);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_target(sd_bus_message *message, FirewalldSettings *settings) {
        const char *target;
        int r;

        r = sd_bus_message_read(message, "s", &target);
        if (r > 0 && strcmp(target, "ACCEPT") == 0)
                settings->by_other |=
                        match_protocol(settings, "tcp") | match_protocol(settings, "udp");
        return r;
}

static int read_value(sd_bus_message *message, FirewalldSettings *settings, const char *key) {
        const char *contents;
        int r;

        r = sd_bus_message_peek_type(message, NULL, &contents);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_VARIANT, contents);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (strcmp(contents, "as") == 0)
                r = read_texts(message, settings, key);
        else if (strcmp(contents, "a(ss)") == 0 && strcmp(key, "ports") == 0)
                r = read_ports(message, settings);
        else if (strcmp(contents, "a(ssss)") == 0 && strcmp(key, "forward_ports") == 0)
                r = read_forward_ports(message, settings);
        else if (strcmp(contents, "s") == 0 && strcmp(key, "target") == 0)
                r = read_target(message, settings);
        else
                r = sd_bus_message_skip(message, contents);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

int firewalld_read_settings(sd_bus_message *message, FirewalldSettings *settings) {
        const char *key;
        int r;

        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        while ((r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r > 0)
                        r = read_value(message, settings, key);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}
