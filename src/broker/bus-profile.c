/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * org.postern.Renewal1.Profile: one object per file, read afresh whenever it is asked about.
 *
 * A file with errors has an object as well, with what is known without it; ListProfiles says what
 * is wrong.
 */

#include <errno.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <string.h>

/* What is being read: sd-bus asks for a pointer, then for one property after the other. */
struct BusProfile {
        const Broker *broker;
        Profile *profile; /* NULL: the file has errors */
        char *name;
};

static BusProfile *bus_profile_free(BusProfile *found) {
        if (!found)
                return NULL;
        profile_free(found->profile);
        free(found->name);
        free(found);
        return NULL;
}

DEFINE_CLEANUP(BusProfile, bus_profile_free);

void bus_profile_forget(Bus *bus) {
        bus->profile = bus_profile_free(bus->profile);
}

int bus_profile_find(sd_bus *connection, const char *path, const char *interface, void *userdata,
                     void **ret_found, sd_bus_error *error) {
        _cleanup_(bus_profile_free_cleanup) BusProfile *found = NULL;
        _cleanup_free_ char *name = NULL, *problem = NULL;
        Bus *bus = userdata;
        int r;

        r = sd_bus_path_decode(path, BUS_PROFILE_PREFIX, &name);
        if (r < 0)
                return r;
        /* the prefix itself decodes to an empty name */
        if (r == 0 || !*name)
                return 0;

        found = calloc(1, sizeof(*found));
        if (!found)
                return -ENOMEM;
        r = broker_load_profile(bus->broker, name, &found->profile, &problem);
        if (r == PROFILE_MISSING)
                return sd_bus_error_set(error, ERROR_PREFIX "NoSuchProfile",
                                        "There is no such profile; ListProfiles says which there "
                                        "are.");
        if (r < 0)
                return r;
        found->broker = bus->broker;
        found->name = TAKE_POINTER(name);

        bus_profile_forget(bus);
        *ret_found = bus->profile = TAKE_POINTER(found);
        return 1;
}

#define BUS_PROFILE_GETTER(name)                                                                   \
        static int bus_profile_get_##name(                                                         \
                sd_bus *connection, const char *path, const char *interface, const char *property, \
                sd_bus_message *reply, void *userdata, sd_bus_error *error)

BUS_PROFILE_GETTER(name) {
        const BusProfile *found = userdata;

        return sd_bus_message_append(reply, "s", found->name);
}

BUS_PROFILE_GETTER(description) {
        const BusProfile *found = userdata;

        return sd_bus_message_append(reply, "s", found->profile ? found->profile->description : "");
}

BUS_PROFILE_GETTER(ports) {
        const BusProfile *found = userdata;

        return found->profile ? bus_append_ports(reply, found->profile)
                              : sd_bus_message_append(reply, "as", 0);
}

BUS_PROFILE_GETTER(max_duration) {
        const BusProfile *found = userdata;

        return sd_bus_message_append(reply, "t",
                                     found->profile ? found->profile->max_duration_usec : 0);
}

static const Record *bus_profile_get_record(const BusProfile *found) {
        return records_find(found->broker->records, found->name);
}

BUS_PROFILE_GETTER(last_result) {
        const Record *record = bus_profile_get_record(userdata);

        return sd_bus_message_append(reply, "s",
                                     record ? window_result_to_string(record->last_result) : "");
}

BUS_PROFILE_GETTER(last_closed_at) {
        const Record *record = bus_profile_get_record(userdata);

        return sd_bus_message_append(reply, "t", record ? record->last_closed_at : 0);
}

static const Certificate *bus_profile_get_certificate(const BusProfile *found) {
        static const Certificate unknown;
        const Record *record = bus_profile_get_record(found);

        return record ? &record->certificate : &unknown;
}

BUS_PROFILE_GETTER(not_after) {
        return sd_bus_message_append(reply, "t", bus_profile_get_certificate(userdata)->not_after);
}

BUS_PROFILE_GETTER(not_before) {
        return sd_bus_message_append(reply, "t", bus_profile_get_certificate(userdata)->not_before);
}

BUS_PROFILE_GETTER(serial_number) {
        return sd_bus_message_append(reply, "s", bus_profile_get_certificate(userdata)->serial);
}

BUS_PROFILE_GETTER(names) {
        const char *names = bus_profile_get_certificate(userdata)->names;
        int r = sd_bus_message_open_container(reply, 'a', "s");

        while (r >= 0 && *names) {
                char name[CERTIFICATE_NAMES_MAX];
                size_t length = strcspn(names, " ");

                memcpy(name, names, length);
                name[length] = 0;
                names += length + strspn(names + length, " ");
                r = sd_bus_message_append(reply, "s", name);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

BUS_PROFILE_GETTER(names_left_out) {
        return sd_bus_message_append(reply, "u",
                                     bus_profile_get_certificate(userdata)->names_left_out);
}

BUS_PROFILE_GETTER(close_owed) {
        const BusProfile *found = userdata;

        return sd_bus_message_append(reply, "b", (int) owed_has(found->broker->owed, found->name));
}

static const sd_bus_vtable bus_profile_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", bus_profile_get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        /* from the file, which may be another one by the next call; nothing watches it */
        SD_BUS_PROPERTY("Description", "s", bus_profile_get_description, 0, 0),
        SD_BUS_PROPERTY("Ports", "as", bus_profile_get_ports, 0, 0),
        SD_BUS_PROPERTY("MaxDuration", "t", bus_profile_get_max_duration, 0, 0),
        SD_BUS_PROPERTY("LastResult", "s", bus_profile_get_last_result, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LastClosedAt", "t", bus_profile_get_last_closed_at, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NotAfter", "t", bus_profile_get_not_after, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NotBefore", "t", bus_profile_get_not_before, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SerialNumber", "s", bus_profile_get_serial_number, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Names", "as", bus_profile_get_names, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NamesLeftOut", "u", bus_profile_get_names_left_out, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("CloseOwed", "b", bus_profile_get_close_owed, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static int bus_profile_enumerate(sd_bus *connection, const char *prefix, void *userdata,
                                 char ***ret_nodes, sd_bus_error *error) {
        Bus *bus = userdata;
        char **names = NULL;
        int r = profile_list(bus->broker->options.config_dir, &names);

        if (r < 0)
                return r;

        /* each name is exchanged for its path, in the same array */
        for (char **name = names; *name; name++) {
                char *path;

                r = sd_bus_path_encode(BUS_PROFILE_PREFIX, *name, &path);
                if (r < 0) {
                        profile_names_free(names);
                        return r;
                }
                free(*name);
                *name = path;
        }

        *ret_nodes = names;
        return 0;
}

int bus_profile_add(Bus *bus) {
        int r = sd_bus_add_fallback_vtable(bus->connection, NULL, BUS_PROFILE_PREFIX,
                                           BUS_PROFILE_INTERFACE, bus_profile_vtable,
                                           bus_profile_find, bus);

        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(bus->connection, NULL, BUS_PROFILE_PREFIX,
                                          bus_profile_enumerate, bus);
}

void bus_profile_emit_closed(Bus *bus, const char *name) {
        _cleanup_free_ char *path = NULL;

        if (sd_bus_path_encode(BUS_PROFILE_PREFIX, name, &path) < 0)
                return;
        (void) sd_bus_emit_properties_changed(bus->connection, path, BUS_PROFILE_INTERFACE,
                                              "LastResult", "LastClosedAt", "NotAfter", "NotBefore",
                                              "SerialNumber", "Names", "NamesLeftOut", NULL);
}

void bus_profile_emit_owed(Bus *bus, const char *name) {
        _cleanup_free_ char *path = NULL;

        if (sd_bus_path_encode(BUS_PROFILE_PREFIX, name, &path) < 0)
                return;
        (void) sd_bus_emit_properties_changed(bus->connection, path, BUS_PROFILE_INTERFACE,
                                              "CloseOwed", NULL);
}
