/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Bits, and what follows from them. See the header. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/firewalld-look.h>
#include <stdio.h>
#include <string.h>

void firewalld_names_add(FirewalldNames *names, const char *text, uint8_t zones) {
        size_t length = strlen(text), i = 0;

        if (zones == 0 || length >= sizeof(names->list[0].text))
                return;
        while (i < names->n && strcmp(names->list[i].text, text) != 0)
                i++;
        if (i == FIREWALLD_NAMES_MAX)
                return;
        if (i == names->n) {
                names->list[names->n++] = (FirewalldName){};
                memcpy(names->list[i].text, text, length + 1);
        }
        if (zones & ~names->list[i].zones)
                names->list[i].is_read = false;
        names->list[i].zones |= zones;
}

FirewalldName *firewalld_names_next(FirewalldNames *names) {
        for (size_t i = 0; i < names->n; i++)
                if (!names->list[i].is_read) {
                        names->list[i].is_read = true;
                        return &names->list[i];
                }
        return NULL;
}

int firewalld_look_add_zone(FirewalldLook *look, const char *name) {
        if (!firewalld_zone_is_valid(name))
                return -EBADMSG;
        for (size_t i = 0; i < look->n_zones; i++)
                if (strcmp(look->zones[i].name, name) == 0)
                        return 0;
        if (look->n_zones == FIREWALLD_ZONES_MAX)
                return -E2BIG;
        look->zones[look->n_zones] = (FirewalldZone){};
        memcpy(look->zones[look->n_zones++].name, name, strlen(name) + 1);
        return 0;
}

static int read_settings(const FirewalldLook *look, sd_bus_message *reply,
                         FirewalldSettings **ret) {
        _cleanup_free_ FirewalldSettings *settings = calloc(1, sizeof(*settings));
        int r;

        if (!settings)
                return -ENOMEM;
        settings->ports = look->ports;
        settings->n_ports = look->n_ports;
        r = firewalld_read_settings(reply, settings);
        if (r < 0)
                return r;
        *ret = TAKE_POINTER(settings);
        return 0;
}

static void add_services(FirewalldLook *look, uint8_t zones, const FirewalldSettings *settings) {
        for (size_t i = 0; i < settings->n_services; i++)
                firewalld_names_add(&look->services, settings->services[i], zones);
}

int firewalld_look_read_zone(FirewalldLook *look, size_t zone, sd_bus_message *reply) {
        _cleanup_free_ FirewalldSettings *settings = NULL;
        int r;

        r = read_settings(look, reply, &settings);
        if (r < 0)
                return r;
        look->zones[zone].by_port |= settings->by_port;
        look->zones[zone].by_other |= settings->by_other;
        add_services(look, 1u << zone, settings);
        return 0;
}

int firewalld_look_read_name(FirewalldLook *look, uint8_t zones, sd_bus_message *reply) {
        _cleanup_free_ FirewalldSettings *settings = NULL;
        int r;

        r = read_settings(look, reply, &settings);
        if (r < 0)
                return r;
        for (size_t i = 0; i < look->n_zones; i++)
                if (zones & 1u << i)
                        look->zones[i].by_other |= settings->by_port | settings->by_other;
        add_services(look, zones, settings);
        return 0;
}

int firewalld_look_read_permanent(FirewalldLook *look, size_t zone, sd_bus_message *reply) {
        _cleanup_free_ FirewalldSettings *settings = NULL;
        int r;

        r = read_settings(look, reply, &settings);
        if (r < 0)
                return r;
        look->zones[zone].ours &= ~settings->by_port;
        return 0;
}

/* The names of zones in a policy: the bits of those that matter; ANY is all of them. */
static int read_ingress(const FirewalldLook *look, sd_bus_message *reply, uint8_t *ret) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "s");
        while (r > 0 && (r = sd_bus_message_read(reply, "s", &name)) > 0)
                for (size_t i = 0; i < look->n_zones; i++)
                        if (strcmp(name, "ANY") == 0 || strcmp(name, look->zones[i].name) == 0)
                                *ret |= 1u << i;
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

static int read_egress(sd_bus_message *reply, bool *ret_host) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "s");
        while (r > 0 && (r = sd_bus_message_read(reply, "s", &name)) > 0)
                *ret_host |= strcmp(name, "HOST") == 0;
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

/* {sas}, in a dictionary of "ingress_zones" and "egress_zones". */
static int read_direction(const FirewalldLook *look, sd_bus_message *reply, uint8_t *ret_zones,
                          bool *ret_host) {
        const char *key;
        int r;

        r = sd_bus_message_read(reply, "s", &key);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (strcmp(key, "ingress_zones") == 0)
                return read_ingress(look, reply, ret_zones);
        if (strcmp(key, "egress_zones") == 0)
                return read_egress(reply, ret_host);
        return sd_bus_message_skip(reply, "as");
}

static int read_policy(FirewalldLook *look, sd_bus_message *reply) {
        const char *name;
        bool host = false;
        uint8_t zones = 0;
        int r;

        r = sd_bus_message_read(reply, "s", &name);
        if (r > 0)
                r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "{sas}");
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        while ((r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_DICT_ENTRY, "sas")) > 0) {
                r = read_direction(look, reply, &zones, &host);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (host)
                firewalld_names_add(&look->policies, name, zones);
        return sd_bus_message_exit_container(reply);
}

int firewalld_look_read_policies(FirewalldLook *look, sd_bus_message *reply) {
        int r;

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "{sa{sas}}");
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        while ((r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_DICT_ENTRY, "sa{sas}")) > 0) {
                r = read_policy(look, reply);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

bool firewalld_look_is_open(const FirewalldLook *look) {
        for (size_t i = 0; i < look->n_zones; i++)
                if (look->zones[i].by_other != (1u << look->n_ports) - 1)
                        return false;
        return true;
}

static void look_claim(const FirewalldLook *look, FirewalldClaims *claims) {
        for (size_t i = 0; i < look->n_zones; i++) {
                const FirewalldZone *zone = &look->zones[i];
                uint32_t open = zone->by_other | (zone->by_port & ~zone->ours);

                for (size_t k = 0; k < look->n_ports; k++) {
                        FirewalldClaim *claim = &claims->list[claims->n];

                        if (open & 1u << k)
                                continue;
                        memcpy(claim->zone, zone->name, sizeof(claim->zone));
                        claim->port = look->ports[k];
                        claims->n++;
                }
        }
}

static char *look_describe(const FirewalldLook *look, const FirewalldClaims *claims) {
        char names[FIREWALLD_ZONES_MAX * (FIREWALLD_ZONE_MAX + 2)] = "";
        size_t used = 0;
        char *text;
        int r;

        for (size_t i = 0; i < look->n_zones; i++)
                used += (size_t) snprintf(names + used, sizeof(names) - used, "%s%s",
                                          used ? ", " : "", look->zones[i].name);
        r = claims->n > 0 ? asprintf(&text, "firewalld: %s", names)
                          : asprintf(&text, "none: firewalld has it open already: %s", names);
        return r < 0 ? NULL : text;
}

int firewalld_look_conclude(const FirewalldLook *look, const char *instance, FirewalldClaims *ret,
                            char **ret_where) {
        char *where;

        *ret = (FirewalldClaims){};
        memcpy(ret->instance, instance, strlen(instance) + 1);
        look_claim(look, ret);
        where = look_describe(look, ret);
        if (!where)
                return -ENOMEM;
        *ret_where = where;
        return 0;
}
