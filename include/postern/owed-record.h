/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * owed-record: what has to be closed in a firewall elsewhere, and its form as a file.
 *
 * It is written before anything is opened there. Whoever finds it afterwards, posternd or the next
 * one, closes; so it holds all that takes, but for the command, which only the profile names.
 */

#include <postern/firewalld-claims.h>
#include <postern/profile.h>
#include <postern/state.h>

enum { OWED_RECORD_MAX = 8192 }; /* the longest fits with room to spare */

typedef struct OwedRecord {
        char boot_id[STATE_BOOT_ID_SIZE]; /* when it was opened */
        char profile[PROFILE_NAME_MAX + 1];
        GateType gate;                 /* GATE_COMMAND or GATE_FIREWALLD */
        uint64_t deadline;             /* of its window; CLOCK_REALTIME, microseconds */
        Port ports[PROFILE_PORTS_MAX]; /* as in a Profile */
        size_t n_ports;                /* at least one */
        FirewalldClaims claims;        /* GATE_FIREWALLD; none once all of it is the admin's */
        bool unsettled;                /* GATE_COMMAND: may still take effect; see owed.h */
        uint64_t opened_by;            /* GATE_COMMAND: profile_gate_digest() */
} OwedRecord;

/* Returns the length; ret is not terminated. */
size_t owed_record_format(const OwedRecord *record, char ret[OWED_RECORD_MAX]);

/* Takes exactly what owed_record_format() makes: 0 or -EBADMSG. *ret is left alone on failure. */
int owed_record_parse(const char *text, size_t size, OwedRecord *ret);
