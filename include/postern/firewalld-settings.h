/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * firewalld-settings: reads what firewalld says that a zone, a policy or a service admits, all of
 * which it describes in the same words (a{sv}). Takes whatever comes: what is not understood admits
 * nothing, and what is too long is left out, for a port that looks shut is at worst opened twice.
 */

#include <postern/profile.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

enum {
        FIREWALLD_SERVICE_NAME_MAX = 64, /* bytes with the terminating 0 */
        FIREWALLD_SERVICES_MAX = 64,     /* of one zone, policy or service */
};

typedef struct FirewalldSettings {
        const Port *ports; /* in: what it is about, at most PROFILE_PORTS_MAX */
        size_t n_ports;

        /* Bits, the first port's the lowest. */
        uint32_t by_port;  /* admitted by a port or a range of them */
        uint32_t by_other; /* by its target, a protocol, a forwarded port, a rule for everybody */
        char services[FIREWALLD_SERVICES_MAX][FIREWALLD_SERVICE_NAME_MAX];
        size_t n_services; /* whose ports are admitted as well */
} FirewalldSettings;

/* Adds to *settings. 0, or a negative errno: -EBADMSG (or -ENXIO) for another form. */
int firewalld_read_settings(sd_bus_message *message, FirewalldSettings *settings);
