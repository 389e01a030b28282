/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* firewalld-claims: what a window opens in firewalld, and has to shut there: a list that goes to
 * disk before anything is opened. */

#include <postern/profile.h>

enum {
        FIREWALLD_ZONE_MAX = 32,     /* bytes with the terminating 0; firewalld itself takes 17 */
        FIREWALLD_INSTANCE_MAX = 32, /* likewise; a bus's unique name */
        FIREWALLD_ZONES_MAX = 8,     /* that one window opens ports in */
        FIREWALLD_CLAIMS_MAX = FIREWALLD_ZONES_MAX * PROFILE_PORTS_MAX,
};

typedef struct FirewalldClaim {
        char zone[FIREWALLD_ZONE_MAX];
        Port port;
} FirewalldClaim;

/* What is ours. Of one instance of firewalld: another one has forgotten it. */
typedef struct FirewalldClaims {
        char instance[FIREWALLD_INSTANCE_MAX];
        FirewalldClaim list[FIREWALLD_CLAIMS_MAX];
        size_t n;
} FirewalldClaims;

/* [A-Za-z0-9_/-], not empty, not too long; what Zone= may hold. And what a unique name looks like.
 */
bool firewalld_zone_is_valid(const char *zone);
bool firewalld_instance_is_valid(const char *instance);
bool firewalld_claims_have(const FirewalldClaims *claims, const char *zone, Port port);

/* The ports among the claims, each once, in the order of a profile's. */
void firewalld_claims_list_ports(const FirewalldClaims *claims, Port ret[PROFILE_PORTS_MAX],
                                 size_t *ret_n);
