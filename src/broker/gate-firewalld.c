/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Holds by their ids, and the signs that one of them may not be what it was. A sign is only a
 * reason to look, and not even that where its sender is another one: any local user can send one
 * that looks like firewalld's.
 */

#include <errno.h>
#include <postern/firewalld-call.h>
#include <postern/firewalld-hold.h>
#include <postern/log.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER "org.freedesktop.DBus"

static FirewalldHold *gate_find(const GateFirewalld *gate, const char *id) {
        for (FirewalldHold *hold = gate->first; hold; hold = hold->next)
                if (strcmp(hold->id, id) == 0)
                        return hold;
        return NULL;
}

int gate_firewalld_plan(GateFirewalld *gate, const char *id, const Port *ports, size_t n_ports,
                        const char *zone) {
        FirewalldHold *hold;
        int r;

        if (n_ports > PROFILE_PORTS_MAX || (zone && !firewalld_zone_is_valid(zone)))
                return -EINVAL;
        r = firewalld_hold_new(&hold, gate, id);
        if (r < 0)
                return r;
        memcpy(hold->wish.ports, ports, n_ports * sizeof(*ports));
        hold->wish.n_ports = n_ports;
        if (zone)
                memcpy(hold->wish.zone, zone, strlen(zone) + 1);
        r = firewalld_hold_plan(hold);
        if (r < 0)
                firewalld_hold_forget(hold);
        return r;
}

bool gate_firewalld_is_planned(const GateFirewalld *gate, const char *id) {
        const FirewalldHold *hold = gate_find(gate, id);

        return hold &&
               (hold->state == FIREWALLD_HOLD_PLANNING || hold->state == FIREWALLD_HOLD_PLANNED);
}

int gate_firewalld_open(GateFirewalld *gate, const char *id) {
        FirewalldHold *hold = gate_find(gate, id);

        return hold ? firewalld_hold_open(hold) : -ENOENT;
}

int gate_firewalld_shut(GateFirewalld *gate, const char *id, const FirewalldClaims *claims) {
        FirewalldHold *hold = gate_find(gate, id);
        int r;

        if (!hold) {
                if (claims && claims->n > FIREWALLD_CLAIMS_MAX)
                        return -EINVAL;
                r = firewalld_hold_new(&hold, gate, id);
                if (r < 0)
                        return r;
                if (claims)
                        hold->claims = *claims;
        }
        return firewalld_hold_shut(hold);
}

void gate_firewalld_forget(GateFirewalld *gate, const char *id) {
        FirewalldHold *hold = gate_find(gate, id);

        if (hold)
                firewalld_hold_forget(hold);
}

static int gate_on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(message), *owner;
        GateFirewalld *gate = userdata;
        FirewalldHold *next;

        if (!sender || strcmp(sender, DRIVER) != 0 ||
            sd_bus_message_read(message, "sss", NULL, NULL, &owner) < 0)
                return 0;
        gate->may_run = *owner;
        for (FirewalldHold *hold = gate->first; hold; hold = next) {
                next = hold->next;
                firewalld_hold_doubt(hold, false);
        }
        return 0;
}

static int gate_on_reloaded(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(message);
        GateFirewalld *gate = userdata;
        FirewalldHold *next;

        for (FirewalldHold *hold = gate->first; hold; hold = next) {
                next = hold->next;
                if (sender && strcmp(sender, hold->claims.instance) == 0)
                        firewalld_hold_doubt(hold, true);
        }
        return 0;
}

static int gate_on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        GateFirewalld *gate = userdata;

        gate->owner_question = sd_bus_slot_unref(gate->owner_question);
        /* a change has been told already, in the order in which it came about */
        if (firewalld_read_reply(message).kind == FIREWALLD_REPLY_GONE)
                gate->may_run = false;
        return 0;
}

bool gate_firewalld_may_run(const GateFirewalld *gate) {
        return gate->may_run;
}

static int gate_on_match(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(reply, NULL))
                log_error("The bus does not tell of firewalld's reloads, so a window ends with "
                          "one: %s",
                          sd_bus_message_get_error(reply)->name);
        return 0;
}

int gate_firewalld_new(GateFirewalld **ret, sd_bus *bus, const FirewalldObserver *observer,
                       void *userdata) {
        GateFirewalld *gate = calloc(1, sizeof(*gate));
        int r;

        if (!gate)
                return -ENOMEM;
        gate->bus = sd_bus_ref(bus);
        gate->observer = observer;
        gate->userdata = userdata;
        gate->may_run = true;
        r = sd_bus_add_match_async(bus, &gate->owner_match,
                                   "type='signal',sender='" DRIVER
                                   "',path='/org/freedesktop/DBus',interface='" DRIVER
                                   "',member='NameOwnerChanged',arg0='" FIREWALLD_NAME "'",
                                   gate_on_owner_changed, gate_on_match, gate);
        if (r >= 0)
                r = sd_bus_add_match_async(
                        bus, &gate->reloaded_match,
                        "type='signal',sender='" FIREWALLD_NAME "',path='" FIREWALLD_PATH
                        "',interface='" FIREWALLD_INTERFACE "',member='Reloaded'",
                        gate_on_reloaded, gate_on_match, gate);
        /* after the match: what changes from then on is told */
        if (r >= 0)
                r = firewalld_ask_owner(bus, &gate->owner_question, gate_on_owner, gate);
        if (r < 0) {
                gate_firewalld_free(gate);
                return r;
        }
        *ret = gate;
        return 0;
}

GateFirewalld *gate_firewalld_free(GateFirewalld *gate) {
        if (!gate)
                return NULL;
        while (gate->first)
                firewalld_hold_forget(gate->first);
        sd_bus_slot_unref(gate->owner_question);
        sd_bus_slot_unref(gate->owner_match);
        sd_bus_slot_unref(gate->reloaded_match);
        sd_bus_unref(gate->bus);
        free(gate);
        return NULL;
}
