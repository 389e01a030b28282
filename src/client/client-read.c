/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What comes in a message, as JSON. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/client.h>
#include <string.h>

DEFINE_CLEANUP(json_t, json_decref);

static int read_basic(sd_bus_message *message, char type, json_t **ret) {
        union {
                const char *text;
                uint64_t large;
                uint32_t small;
                int32_t whole;
                int yes;
        } value;
        int r;

        r = sd_bus_message_read_basic(message, type, &value);
        if (r < 0)
                return r;
        switch (type) {
        case 's':
        case 'o':
                *ret = json_string(value.text);
                break;
        case 't':
                *ret = json_integer((json_int_t) value.large);
                break;
        case 'u':
                *ret = json_integer(value.small);
                break;
        case 'i':
                *ret = json_integer(value.whole);
                break;
        case 'b':
                *ret = json_boolean(value.yes);
                break;
        default: /* none of the service's */
                return -EBADMSG;
        }
        return *ret ? 0 : -ENOMEM;
}

int client_read_strings(sd_bus_message *message, json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *list = json_array();
        const char *text;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(message, "s", &text)) > 0)
                if (json_array_append_new(list, json_string(text)) < 0)
                        r = -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(list);
        return 0;
}

/* types: as many as there are members. */
static int read_structure(sd_bus_message *message, const char *types, const char *const *members,
                          json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *object = json_object();
        int r;

        r = sd_bus_message_enter_container(message, 'r', types);
        if (r <= 0)
                return r;
        for (size_t i = 0; types[i]; i++) {
                json_t *value;

                r = read_basic(message, types[i], &value);
                if (r >= 0 && json_object_set_new(object, members[i], value) < 0)
                        r = -ENOMEM;
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_exit_container(message);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(object);
        return 1;
}

int client_read_list(sd_bus_message *message, const char *types, const char *const *members,
                     json_t **ret) {
        _cleanup_(json_decref_cleanup) json_t *list = json_array();
        char type[16];
        json_t *object;
        int r;

        (void) snprintf(type, sizeof(type), "(%s)", types);
        r = sd_bus_message_enter_container(message, 'a', type);
        while (r >= 0 && (r = read_structure(message, types, members, &object)) > 0)
                if (json_array_append_new(list, object) < 0)
                        r = -ENOMEM;
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(list);
        return 0;
}

/* One value; what the service has no property of is NULL. */
static int read_variant(sd_bus_message *message, json_t **ret) {
        const char *contents;
        char type;
        int r;

        r = sd_bus_message_peek_type(message, &type, &contents);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(message, 'v', contents);
        if (r < 0)
                return r;
        if (strlen(contents) == 1 && strchr("stuib", *contents))
                r = read_basic(message, *contents, ret);
        else if (strcmp(contents, "as") == 0)
                r = client_read_strings(message, ret);
        else
                r = sd_bus_message_skip(message, contents);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

int client_read_properties(sd_bus_message *message, json_t *into) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                json_t *value = NULL;

                r = sd_bus_message_read(message, "s", &name);
                if (r >= 0)
                        r = read_variant(message, &value);
                if (value && json_object_set_new(into, name, value) < 0)
                        r = -ENOMEM;
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}
