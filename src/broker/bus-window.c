/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * org.postern.Renewal1.Window: one object per window, found by its id each time.
 *
 * Clients are told of changes by comparing with what they were told last, so that nothing is told
 * twice and nothing is left out, whichever module changed it.
 */

#include <errno.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <string.h>

struct BusShown {
        BusShown *next;
        char id[RENEWAL_ID_SIZE];
        WindowState state;
        WindowResult result;
        int exit_status;
        uint64_t opened_at;
        uint64_t deadline;
        uint64_t deadline_boottime;
        uint64_t closed_at;
        uint64_t admitted;
        unsigned n_sources;
        bool knows_sources;
        bool has_gate;
        bool has_hint;
        bool has_certificate;
        bool had_certificate;
};

void bus_window_format_path(const Renewal *renewal, char ret[BUS_WINDOW_PATH_MAX]) {
        (void) snprintf(ret, BUS_WINDOW_PATH_MAX, BUS_WINDOW_PREFIX "/%s", renewal->id);
}

/* The id in a path, or NULL. The path's, not a copy: an id needs no escaping. */
static const char *bus_window_get_id(const char *path) {
        const size_t prefix = sizeof(BUS_WINDOW_PREFIX "/") - 1;

        return path && strncmp(path, BUS_WINDOW_PREFIX "/", prefix) == 0 ? path + prefix : NULL;
}

int bus_window_find(sd_bus *connection, const char *path, const char *interface, void *userdata,
                    void **ret_found, sd_bus_error *error) {
        Bus *bus = userdata;
        const char *id = bus_window_get_id(path);
        Renewal *renewal;

        if (!id)
                return 0;
        renewal = broker_find(bus->broker, id);
        if (!renewal)
                return sd_bus_error_set(
                        error, ERROR_PREFIX "NoSuchWindow",
                        "There is no such window: it is readable for a minute after "
                        "it closed. ListWindows says which are open.");
        *ret_found = renewal;
        return 1;
}

static int bus_window_request(sd_bus_message *message, const Renewal *renewal, RequestKind kind,
                              uint32_t lines) {
        Caller caller;

        bus_fill_caller(message, &caller);
        request_about_window(renewal->broker, bus_call_new(message), &caller, kind, renewal->id,
                             lines);
        return 1;
}

static int bus_window_on_close(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_window_request(message, userdata, REQUEST_CLOSE, 0);
}

static int bus_window_on_wait(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_window_request(message, userdata, REQUEST_WAIT, 0);
}

static int bus_window_on_get_log(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        uint32_t lines;
        int r = sd_bus_message_read(message, "u", &lines);

        return r < 0 ? r : bus_window_request(message, userdata, REQUEST_LOG, lines);
}

#define BUS_WINDOW_GETTER(name)                                                                    \
        static int bus_window_get_##name(                                                          \
                sd_bus *connection, const char *path, const char *interface, const char *property, \
                sd_bus_message *reply, void *userdata, sd_bus_error *error)

BUS_WINDOW_GETTER(string) {
        const Renewal *renewal = userdata;
        const char *value = NULL;

        if (strcmp(property, "Id") == 0)
                value = renewal->id;
        else if (strcmp(property, "Profile") == 0)
                value = renewal->profile->name;
        else if (strcmp(property, "State") == 0)
                value = window_state_to_string(renewal->window.state);
        else if (strcmp(property, "Result") == 0)
                value = window_result_to_string(renewal->window.result);
        else if (strcmp(property, "Gate") == 0)
                value = renewal->gate ? renewal->gate : gate_type_to_string(renewal->profile->gate);
        else if (strcmp(property, "Hint") == 0)
                value = renewal->hint ? renewal->hint : "";
        else if (strcmp(property, "SerialNumberBefore") == 0)
                value = renewal->certificate_before.serial;
        else if (strcmp(property, "SerialNumber") == 0)
                value = renewal->certificate.serial;
        return value ? sd_bus_message_append(reply, "s", value) : -ENOENT;
}

BUS_WINDOW_GETTER(number) {
        const Renewal *renewal = userdata;
        uint64_t value;

        if (strcmp(property, "OpenedAt") == 0)
                value = renewal->opened_at;
        else if (strcmp(property, "Deadline") == 0)
                value = renewal->deadline;
        else if (strcmp(property, "DeadlineBoottime") == 0)
                value = renewal->window.deadline;
        else if (strcmp(property, "ClosedAt") == 0)
                value = renewal->closed_at;
        else if (strcmp(property, "AdmittedConnections") == 0)
                value = renewal->admitted;
        else if (strcmp(property, "NotAfterBefore") == 0)
                value = renewal->certificate_before.not_after;
        else if (strcmp(property, "NotAfter") == 0)
                value = renewal->certificate.not_after;
        else if (strcmp(property, "NotBefore") == 0)
                value = renewal->certificate.not_before;
        else
                return -ENOENT;
        return sd_bus_message_append(reply, "t", value);
}

BUS_WINDOW_GETTER(exit_status) {
        const Renewal *renewal = userdata;

        return sd_bus_message_append(reply, "i", renewal->window.exit_status);
}

BUS_WINDOW_GETTER(opened_by) {
        const Renewal *renewal = userdata;

        return sd_bus_message_append(reply, "u", (uint32_t) renewal->opened_by);
}

BUS_WINDOW_GETTER(source_networks) {
        const Renewal *renewal = userdata;

        return sd_bus_message_append(reply, "u", renewal->sources.n_networks);
}

BUS_WINDOW_GETTER(source_networks_complete) {
        return sd_bus_message_append(reply, "b", (int) renewal_knows_sources(userdata));
}

BUS_WINDOW_GETTER(ports) {
        const Renewal *renewal = userdata;

        return bus_append_ports(reply, renewal->profile);
}

#define CONSTANT SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGING SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

/* UNPRIVILEGED: sd-bus's own idea of privilege lets anybody with our uid in, and asks the bus
 * synchronously. The table in bus.c and polkit decide. */
static const sd_bus_vtable bus_window_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Close", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, bus_window_on_close,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("s", result, "i", exit_status), bus_window_on_wait,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetLog", SD_BUS_ARGS("u", lines), SD_BUS_RESULT("as", log),
                                bus_window_on_get_log, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Id", "s", bus_window_get_string, 0, CONSTANT),
        SD_BUS_PROPERTY("Profile", "s", bus_window_get_string, 0, CONSTANT),
        SD_BUS_PROPERTY("State", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("Result", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("ExitStatus", "i", bus_window_get_exit_status, 0, CHANGING),
        SD_BUS_PROPERTY("OpenedBy", "u", bus_window_get_opened_by, 0, CONSTANT),
        SD_BUS_PROPERTY("Ports", "as", bus_window_get_ports, 0, CONSTANT),
        SD_BUS_PROPERTY("Gate", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("OpenedAt", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("Deadline", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("DeadlineBoottime", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("ClosedAt", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("AdmittedConnections", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("SourceNetworks", "u", bus_window_get_source_networks, 0, CHANGING),
        SD_BUS_PROPERTY("SourceNetworksComplete", "b", bus_window_get_source_networks_complete, 0,
                        CHANGING),
        SD_BUS_PROPERTY("Hint", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("SerialNumberBefore", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("NotAfterBefore", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("SerialNumber", "s", bus_window_get_string, 0, CHANGING),
        SD_BUS_PROPERTY("NotBefore", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_PROPERTY("NotAfter", "t", bus_window_get_number, 0, CHANGING),
        SD_BUS_VTABLE_END,
};

static char **bus_window_free_paths(char **paths) {
        for (char **path = paths; path && *path; path++)
                free(*path);
        free(paths);
        return NULL;
}

static int bus_window_enumerate(sd_bus *connection, const char *prefix, void *userdata,
                                char ***ret_nodes, sd_bus_error *error) {
        Bus *bus = userdata;
        size_t n = 0;
        char **paths;

        for (Renewal *renewal = bus->broker->renewals; renewal; renewal = renewal->next)
                n++;
        paths = calloc(n + 1, sizeof(*paths));
        if (!paths)
                return -ENOMEM;

        n = 0;
        for (Renewal *renewal = bus->broker->renewals; renewal; renewal = renewal->next) {
                char path[BUS_WINDOW_PATH_MAX];

                bus_window_format_path(renewal, path);
                paths[n] = strdup(path);
                if (!paths[n++]) {
                        bus_window_free_paths(paths);
                        return -ENOMEM;
                }
        }

        *ret_nodes = paths;
        return 0;
}

int bus_window_add(Bus *bus) {
        int r = sd_bus_add_fallback_vtable(bus->connection, NULL, BUS_WINDOW_PREFIX,
                                           BUS_WINDOW_INTERFACE, bus_window_vtable, bus_window_find,
                                           bus);

        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(bus->connection, NULL, BUS_WINDOW_PREFIX,
                                          bus_window_enumerate, bus);
}

static void bus_window_fill(BusShown *shown, const Renewal *renewal) {
        shown->state = renewal->window.state;
        shown->result = renewal->window.result;
        shown->exit_status = renewal->window.exit_status;
        shown->opened_at = renewal->opened_at;
        shown->deadline = renewal->deadline;
        shown->deadline_boottime = renewal->window.deadline;
        shown->closed_at = renewal->closed_at;
        shown->admitted = renewal->admitted;
        shown->n_sources = renewal->sources.n_networks;
        shown->knows_sources = renewal_knows_sources(renewal);
        shown->has_gate = renewal->gate;
        shown->has_hint = renewal->hint && *renewal->hint;
        shown->had_certificate = *renewal->certificate_before.serial;
        shown->has_certificate = *renewal->certificate.serial;
}

static BusShown *bus_window_find_shown(Bus *bus, const char *id) {
        for (BusShown *shown = bus->shown; shown; shown = shown->next)
                if (strcmp(shown->id, id) == 0)
                        return shown;
        return NULL;
}

void bus_window_emit_added(Bus *bus, const Renewal *renewal) {
        char path[BUS_WINDOW_PATH_MAX];
        BusShown *shown = calloc(1, sizeof(*shown));

        bus_window_format_path(renewal, path);
        (void) sd_bus_emit_object_added(bus->connection, path);

        /* without memory clients are told nothing later on; they can still ask */
        if (!shown)
                return;
        memcpy(shown->id, renewal->id, sizeof(shown->id));
        bus_window_fill(shown, renewal);
        shown->next = bus->shown;
        bus->shown = shown;
}

void bus_window_emit_changed(Bus *bus, const Renewal *renewal) {
        BusShown now = {0}, *shown = bus_window_find_shown(bus, renewal->id);
        const char *names[24];
        char path[BUS_WINDOW_PATH_MAX];
        size_t n = 0;

        if (!shown)
                return;
        bus_window_fill(&now, renewal);

        if (shown->state != now.state)
                names[n++] = "State";
        if (shown->result != now.result)
                names[n++] = "Result";
        if (shown->exit_status != now.exit_status)
                names[n++] = "ExitStatus";
        if (shown->has_gate != now.has_gate)
                names[n++] = "Gate";
        if (shown->opened_at != now.opened_at)
                names[n++] = "OpenedAt";
        if (shown->deadline != now.deadline)
                names[n++] = "Deadline";
        if (shown->deadline_boottime != now.deadline_boottime)
                names[n++] = "DeadlineBoottime";
        if (shown->closed_at != now.closed_at)
                names[n++] = "ClosedAt";
        if (shown->admitted != now.admitted)
                names[n++] = "AdmittedConnections";
        if (shown->n_sources != now.n_sources)
                names[n++] = "SourceNetworks";
        if (shown->knows_sources != now.knows_sources)
                names[n++] = "SourceNetworksComplete";
        if (shown->has_hint != now.has_hint)
                names[n++] = "Hint";
        if (shown->had_certificate != now.had_certificate) {
                names[n++] = "SerialNumberBefore";
                names[n++] = "NotAfterBefore";
        }
        if (shown->has_certificate != now.has_certificate) {
                names[n++] = "SerialNumber";
                names[n++] = "NotBefore";
                names[n++] = "NotAfter";
        }
        names[n] = NULL;
        if (n == 0)
                return;

        bus_window_fill(shown, renewal);
        bus_window_format_path(renewal, path);
        (void) sd_bus_emit_properties_changed_strv(bus->connection, path, BUS_WINDOW_INTERFACE,
                                                   (char **) names);
}

void bus_window_emit_removed(Bus *bus, const Renewal *renewal) {
        char path[BUS_WINDOW_PATH_MAX];

        bus_window_format_path(renewal, path);
        (void) sd_bus_emit_object_removed(bus->connection, path);

        for (BusShown **link = &bus->shown; *link; link = &(*link)->next) {
                BusShown *shown = *link;

                if (strcmp(shown->id, renewal->id) != 0)
                        continue;
                *link = shown->next;
                free(shown);
                return;
        }
}

void bus_window_forget_all(Bus *bus) {
        while (bus->shown) {
                BusShown *shown = bus->shown;

                bus->shown = shown->next;
                free(shown);
        }
}
