/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * firewalld-look: what a survey has learnt so far: the zones that matter, what admits strangers
 * there, and so what there is to claim. Reads firewalld's answers; asks nothing.
 */

#include <postern/firewalld-settings.h>
#include <postern/gate-firewalld.h>

enum { FIREWALLD_NAMES_MAX = 128 };

/* A policy or a service that admits something, and in which zones: bits, the first's the lowest. */
typedef struct FirewalldName {
        char text[FIREWALLD_SERVICE_NAME_MAX];
        uint8_t zones;
        bool is_read;
} FirewalldName;

typedef struct FirewalldNames {
        FirewalldName list[FIREWALLD_NAMES_MAX];
        size_t n;
} FirewalldNames;

/* One that is named again for more zones is to be read again. One too many is left out. */
void firewalld_names_add(FirewalldNames *names, const char *text, uint8_t zones);
/* The next that is not read yet, and is taken for read from now on; or NULL. */
FirewalldName *firewalld_names_next(FirewalldNames *names);

/* Bits, one for each port, the first's the lowest. */
typedef struct FirewalldZone {
        char name[FIREWALLD_ZONE_MAX];
        uint32_t by_port;  /* by a port of the zone's own, which may be one of ours */
        uint32_t by_other; /* by anything else */
        uint32_t ours;     /* claimed by somebody here */
} FirewalldZone;

typedef struct FirewalldLook {
        Port ports[PROFILE_PORTS_MAX];
        size_t n_ports;
        FirewalldZone zones[FIREWALLD_ZONES_MAX];
        size_t n_zones;
        FirewalldNames policies;
        FirewalldNames services;
} FirewalldLook;

/* 0; -E2BIG: too many; -EBADMSG: no name of a zone. One that is there already is fine. */
int firewalld_look_add_zone(FirewalldLook *look, const char *name);

/* The answers about a zone, and about a policy or a service that counts in those zones. 0 or a
 * negative errno. */
int firewalld_look_read_zone(FirewalldLook *look, size_t zone, sd_bus_message *reply);
int firewalld_look_read_name(FirewalldLook *look, uint8_t zones, sd_bus_message *reply);
/* That about all policies: those from one of the zones to the host are noted. */
int firewalld_look_read_policies(FirewalldLook *look, sd_bus_message *reply);
/* That about a zone's permanent configuration: what it opens by port is not ours. */
int firewalld_look_read_permanent(FirewalldLook *look, size_t zone, sd_bus_message *reply);

/* Nothing that could still be learnt would leave less to claim. */
bool firewalld_look_is_open(const FirewalldLook *look);

/* Ours are claimed again. instance: of the claims. *ret_where: "firewalld: public, dmz" or "none:
 * ...", the caller's to free. -ENOMEM. */
int firewalld_look_conclude(const FirewalldLook *look, const char *instance, FirewalldClaims *ret,
                            char **ret_where);
