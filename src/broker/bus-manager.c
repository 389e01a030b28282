/* SPDX-License-Identifier: GPL-2.0-or-later */

/* org.postern.Renewal1.Manager: asking for windows, and what anybody may see. */

#include <errno.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <string.h>

static void message_unref_cleanup(sd_bus_message **message) {
        sd_bus_message_unref(*message);
}

DEFINE_CLEANUP(Profile, profile_free);
DEFINE_CLEANUP(char *, profile_names_free);

static int bus_manager_request(sd_bus_message *message, Bus *bus, RequestKind kind) {
        const char *profile;
        uint64_t duration_usec, flags;
        Caller caller;
        int r = sd_bus_message_read(message, "stt", &profile, &duration_usec, &flags);

        if (r < 0)
                return r;
        bus_fill_caller(message, &caller);
        request_window(bus->broker, bus_call_new(message), &caller, kind, profile, duration_usec,
                       flags);
        return 1;
}

static int bus_manager_on_renew(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_manager_request(message, userdata, REQUEST_RENEW);
}

static int bus_manager_on_request_window(sd_bus_message *message, void *userdata,
                                         sd_bus_error *error) {
        return bus_manager_request(message, userdata, REQUEST_WINDOW);
}

static int bus_manager_append_profile(sd_bus_message *reply, const Broker *broker,
                                      const char *name) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL, *path = NULL;
        int r = broker_load_profile(broker, name, &profile, &problem);

        if (r == PROFILE_MISSING) /* removed since it was listed */
                return 0;
        if (r == PROFILE_BAD && !problem)
                return -ENOMEM;
        if (r < 0)
                return r;

        r = sd_bus_path_encode(BUS_PROFILE_PREFIX, name, &path);
        if (r < 0)
                return r;
        return sd_bus_message_append(reply, "(ssos)", name, profile ? profile->description : "",
                                     path, profile ? "" : problem);
}

static int bus_manager_on_list_profiles(sd_bus_message *message, void *userdata,
                                        sd_bus_error *error) {
        _cleanup_(message_unref_cleanup) sd_bus_message *reply = NULL;
        _cleanup_(profile_names_free_cleanup) char **names = NULL;
        Bus *bus = userdata;
        int r;

        r = profile_list(bus->broker->options.config_dir, &names);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ssos)");
        for (char **name = names; r >= 0 && *name; name++)
                r = bus_manager_append_profile(reply, bus->broker, *name);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r < 0 ? r : 1;
}

static int bus_manager_on_list_windows(sd_bus_message *message, void *userdata,
                                       sd_bus_error *error) {
        _cleanup_(message_unref_cleanup) sd_bus_message *reply = NULL;
        Bus *bus = userdata;
        int r;

        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ssuto)");
        for (Renewal *renewal = bus->broker->renewals; r >= 0 && renewal; renewal = renewal->next) {
                char path[BUS_WINDOW_PATH_MAX];

                if (renewal->window.state == WINDOW_CLOSED)
                        continue;
                bus_window_format_path(renewal, path);
                r = sd_bus_message_append(reply, "(ssuto)", renewal->id, renewal->profile->name,
                                          (uint32_t) renewal->opened_by, renewal->deadline, path);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r < 0 ? r : 1;
}

static int bus_manager_on_check(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;
        const char *profile;
        Caller caller;
        int r = sd_bus_message_read(message, "s", &profile);

        if (r < 0)
                return r;
        bus_fill_caller(message, &caller);
        request_check(bus->broker, bus_call_new(message), &caller, profile);
        return 1;
}

int bus_manager_reply_check(sd_bus_message *call, const Answer *answer) {
        _cleanup_(message_unref_cleanup) sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(call, &reply);

        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sss)");
        for (size_t i = 0; r >= 0 && i < answer->findings->n; i++) {
                const Finding *finding = &answer->findings->items[i];

                r = sd_bus_message_append(reply, "(sss)", finding_level_to_string(finding->level),
                                          finding->subject, finding->message);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r;
}

static int bus_manager_get_version(sd_bus *connection, const char *path, const char *interface,
                                   const char *property, sd_bus_message *reply, void *userdata,
                                   sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", POSTERN_VERSION);
}

static int bus_manager_get_open_windows(sd_bus *connection, const char *path, const char *interface,
                                        const char *property, sd_bus_message *reply, void *userdata,
                                        sd_bus_error *error) {
        Bus *bus = userdata;

        return sd_bus_message_append(reply, "u", broker_count_live(bus->broker));
}

static int bus_manager_get_owed_closes(sd_bus *connection, const char *path, const char *interface,
                                       const char *property, sd_bus_message *reply, void *userdata,
                                       sd_bus_error *error) {
        Bus *bus = userdata;

        return sd_bus_message_append(reply, "u", owed_count(bus->broker->owed));
}

/* UNPRIVILEGED: see bus-window.c. */
static const sd_bus_vtable bus_manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Renew", SD_BUS_ARGS("s", profile, "t", duration_usec, "t", flags),
                                SD_BUS_RESULT("s", result, "i", exit_status, "o", window),
                                bus_manager_on_renew, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RequestWindow",
                                SD_BUS_ARGS("s", profile, "t", duration_usec, "t", flags),
                                SD_BUS_RESULT("o", window), bus_manager_on_request_window,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListProfiles", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssos)", profiles),
                                bus_manager_on_list_profiles, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListWindows", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssuto)", windows),
                                bus_manager_on_list_windows, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_ARGS("s", profile),
                                SD_BUS_RESULT("a(sss)", findings), bus_manager_on_check,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("WindowOpened", SD_BUS_ARGS("s", id, "o", window, "s", profile), 0),
        SD_BUS_SIGNAL_WITH_ARGS("WindowClosed",
                                SD_BUS_ARGS("s", id, "o", window, "s", profile, "s", result), 0),
        SD_BUS_PROPERTY("Version", "s", bus_manager_get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("OpenWindows", "u", bus_manager_get_open_windows, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("OwedCloses", "u", bus_manager_get_owed_closes, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

int bus_manager_add(Bus *bus) {
        return sd_bus_add_object_vtable(bus->connection, NULL, BUS_PATH, BUS_MANAGER_INTERFACE,
                                        bus_manager_vtable, bus);
}

void bus_manager_emit(Bus *bus, const char *property) {
        (void) sd_bus_emit_properties_changed(bus->connection, BUS_PATH, BUS_MANAGER_INTERFACE,
                                              property, NULL);
}

void bus_manager_emit_opened(Bus *bus, const Renewal *renewal) {
        char path[BUS_WINDOW_PATH_MAX];

        bus_window_format_path(renewal, path);
        (void) sd_bus_emit_signal(bus->connection, BUS_PATH, BUS_MANAGER_INTERFACE, "WindowOpened",
                                  "sos", renewal->id, path, renewal->profile->name);
}

void bus_manager_emit_closed(Bus *bus, const Renewal *renewal) {
        char path[BUS_WINDOW_PATH_MAX];

        bus_window_format_path(renewal, path);
        (void) sd_bus_emit_signal(bus->connection, BUS_PATH, BUS_MANAGER_INTERFACE, "WindowClosed",
                                  "soss", renewal->id, path, renewal->profile->name,
                                  window_result_to_string(renewal->window.result));
}
