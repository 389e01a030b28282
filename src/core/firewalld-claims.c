/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Claims as such, and what may stand in them. */

#include <postern/firewalld-claims.h>
#include <string.h>

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

bool firewalld_zone_is_valid(const char *zone) {
        size_t length = strlen(zone);

        return length > 0 && length < FIREWALLD_ZONE_MAX &&
               strspn(zone, LETTERS DIGITS "_/-") == length;
}

bool firewalld_instance_is_valid(const char *instance) {
        size_t length = strlen(instance);

        return length > 1 && length < FIREWALLD_INSTANCE_MAX && instance[0] == ':' &&
               strspn(instance + 1, LETTERS DIGITS "._-") == length - 1;
}

bool firewalld_claims_have(const FirewalldClaims *claims, const char *zone, Port port) {
        for (size_t i = 0; i < claims->n; i++)
                if (strcmp(claims->list[i].zone, zone) == 0 &&
                    port_compare(&claims->list[i].port, &port) == 0)
                        return true;
        return false;
}

void firewalld_claims_list_ports(const FirewalldClaims *claims, Port ret[PROFILE_PORTS_MAX],
                                 size_t *ret_n) {
        *ret_n = 0;
        for (size_t i = 0; i < claims->n; i++) /* of one window: they fit */
                (void) ports_join(ret, ret_n, &claims->list[i].port, 1);
}
