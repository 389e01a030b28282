/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Names in a call that name nothing: answered here, before sd-bus sees them. It says back what the
 * caller said, whatever bytes and however many that are, and for an object that is not there it
 * tells some callers of an input/output error.
 */

#include <postern/bus.h>
#include <postern/cleanup.h>
#include <string.h>

static bool bus_is_parent(const char *path) {
        static const char *const parents[] = {
                "/", "/org", "/org/postern", BUS_PATH, BUS_WINDOW_PREFIX, BUS_PROFILE_PREFIX,
        };

        for (size_t i = 0; i < ELEMENTS(parents); i++)
                if (strcmp(path, parents[i]) == 0)
                        return true;
        return false;
}

static int bus_check_path(Bus *bus, const char *path, sd_bus_error *error) {
        void *found;
        int r;

        if (bus_is_parent(path))
                return 0;

        r = bus_window_find(bus->connection, path, BUS_WINDOW_INTERFACE, bus, &found, error);
        if (r == 0)
                r = bus_profile_find(bus->connection, path, BUS_PROFILE_INTERFACE, bus, &found,
                                     error);
        if (r == 0)
                r = sd_bus_error_set(error, SD_BUS_ERROR_UNKNOWN_OBJECT,
                                     "There is no such object; ListWindows and ListProfiles say "
                                     "which there are.");
        return r;
}

/* What is no name can be nobody's. */
static int bus_check_property(sd_bus_message *message, sd_bus_error *error) {
        const bool all = strcmp(sd_bus_message_get_member(message), "GetAll") == 0;
        const char *interface, *property = NULL;
        int r;

        if (!sd_bus_message_has_signature(message, all ? "s" : "ss"))
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "Get takes the names of an interface and a property, and "
                                        "GetAll the name of an interface.");
        r = all ? sd_bus_message_read(message, "s", &interface)
                : sd_bus_message_read(message, "ss", &interface, &property);
        if (r >= 0)
                r = sd_bus_message_rewind(message, true);
        if (r < 0)
                return r;

        if (*interface && sd_bus_interface_name_is_valid(interface) <= 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_UNKNOWN_INTERFACE,
                                        "That cannot be an interface's name; see Introspect.");
        if (property && sd_bus_member_name_is_valid(property) <= 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_UNKNOWN_PROPERTY,
                                        "That cannot be a property's name; see Introspect.");
        return 0;
}

int bus_check_names(Bus *bus, sd_bus_message *message, sd_bus_error *error) {
        const char *interface = sd_bus_message_get_interface(message);
        int r;

        if (strcmp(interface, "org.freedesktop.DBus.Peer") == 0) /* has no object */
                return 0;

        r = bus_check_path(bus, sd_bus_message_get_path(message), error);
        if (r >= 0 && strcmp(interface, "org.freedesktop.DBus.Properties") == 0)
                r = bus_check_property(message, error);
        return r < 0 ? r : 0;
}
