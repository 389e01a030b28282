/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Lines of Key=value in a fixed order, as in state.c: one text for each record, and a file that was
 * cut off anywhere is none.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <postern/cursor.h>
#include <postern/owed-record.h>
#include <stdio.h>

/* "Instance=:1.5\nClaims=public:80/tcp dmz:80/tcp\n" */
static size_t format_claims(const FirewalldClaims *claims, char *ret, size_t size) {
        size_t used = (size_t) snprintf(ret, size, "Instance=%s\nClaims=", claims->instance);

        for (size_t i = 0; i < claims->n && used < size; i++) {
                const FirewalldClaim *claim = &claims->list[i];

                used += (size_t) snprintf(ret + used, size - used, "%s%s:%u/%s", i ? " " : "",
                                          claim->zone, claim->port.number,
                                          protocol_to_string(claim->port.protocol));
        }
        if (used < size)
                used += (size_t) snprintf(ret + used, size - used, "\n");
        return used;
}

size_t owed_record_format(const OwedRecord *record, char ret[OWED_RECORD_MAX]) {
        char ports[PROFILE_PORTS_TEXT_MAX];
        size_t length;

        ports_format(record->ports, record->n_ports, ports, sizeof(ports));
        length = (size_t) snprintf(ret, OWED_RECORD_MAX,
                                   "Version=1\nProfile=%s\nGate=%s\nBootId=%s\nDeadline=%" PRIu64
                                   "\nPorts=%s\n",
                                   record->profile, gate_type_to_string(record->gate),
                                   record->boot_id, record->deadline, ports);
        assert(length < OWED_RECORD_MAX);
        if (record->gate == GATE_FIREWALLD)
                length += format_claims(&record->claims, ret + length, OWED_RECORD_MAX - length);
        else
                length += (size_t) snprintf(ret + length, OWED_RECORD_MAX - length,
                                            "Settled=%s\nOpenedBy=%" PRIu64 "\n",
                                            record->unsettled ? "no" : "yes", record->opened_by);
        assert(length < OWED_RECORD_MAX);
        return length;
}

static bool take_port(Cursor *cursor, Port *ret) {
        uint64_t number;

        if (!cursor_take_number(cursor, &number) || number < 1 || number > UINT16_MAX)
                return false;
        ret->number = (uint16_t) number;
        if (cursor_take(cursor, "/tcp"))
                ret->protocol = PROTOCOL_TCP;
        else if (cursor_take(cursor, "/udp"))
                ret->protocol = PROTOCOL_UDP;
        else
                return false;
        return true;
}

static bool take_ports(Cursor *cursor, OwedRecord *record) {
        do {
                Port *port = &record->ports[record->n_ports];

                if (record->n_ports == PROFILE_PORTS_MAX || !take_port(cursor, port))
                        return false;
                if (record->n_ports > 0 && port_compare(port - 1, port) >= 0)
                        return false;
                record->n_ports++;
        } while (cursor_take(cursor, " "));
        return true;
}

static bool take_claims(Cursor *cursor, FirewalldClaims *claims) {
        if (!cursor_take(cursor, "Instance=") ||
            !cursor_take_word(cursor, "\n", claims->instance, sizeof(claims->instance)) ||
            !firewalld_instance_is_valid(claims->instance) || !cursor_take(cursor, "\nClaims="))
                return false;
        if (cursor_take(cursor, "\n"))
                return true;
        do {
                FirewalldClaim *claim = &claims->list[claims->n];

                if (claims->n == FIREWALLD_CLAIMS_MAX ||
                    !cursor_take_word(cursor, ":", claim->zone, sizeof(claim->zone)) ||
                    !firewalld_zone_is_valid(claim->zone) || !cursor_take(cursor, ":") ||
                    !take_port(cursor, &claim->port))
                        return false;
                claims->n++;
        } while (cursor_take(cursor, " "));
        return cursor_take(cursor, "\n");
}

/* "Settled=no\nOpenedBy=1234\n" */
static bool take_opening(Cursor *cursor, OwedRecord *record) {
        if (!cursor_take(cursor, "Settled="))
                return false;
        record->unsettled = cursor_take(cursor, "no");
        return (record->unsettled || cursor_take(cursor, "yes")) &&
               cursor_take(cursor, "\nOpenedBy=") &&
               cursor_take_number(cursor, &record->opened_by) && cursor_take(cursor, "\n");
}

static bool take_gate(Cursor *cursor, GateType *ret) {
        if (cursor_take(cursor, "command"))
                *ret = GATE_COMMAND;
        else if (cursor_take(cursor, "firewalld"))
                *ret = GATE_FIREWALLD;
        else
                return false;
        return true;
}

int owed_record_parse(const char *text, size_t size, OwedRecord *ret) {
        Cursor cursor = {text, text + size};
        OwedRecord record = {};
        bool good;

        good = cursor_take(&cursor, "Version=1\nProfile=") &&
               cursor_take_word(&cursor, "\n", record.profile, sizeof(record.profile)) &&
               profile_name_is_valid(record.profile) && cursor_take(&cursor, "\nGate=") &&
               take_gate(&cursor, &record.gate) && cursor_take(&cursor, "\nBootId=") &&
               cursor_take_boot_id(&cursor, record.boot_id) &&
               cursor_take(&cursor, "\nDeadline=") &&
               cursor_take_number(&cursor, &record.deadline) && cursor_take(&cursor, "\nPorts=") &&
               take_ports(&cursor, &record) && cursor_take(&cursor, "\n") &&
               (record.gate == GATE_FIREWALLD ? take_claims(&cursor, &record.claims)
                                              : take_opening(&cursor, &record)) &&
               cursor.at == cursor.end;
        if (!good)
                return -EBADMSG;

        *ret = record;
        return 0;
}
