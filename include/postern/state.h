/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * state: what outlives the daemon about one profile, and its form as a file.
 *
 * When windows were opened is in CLOCK_BOOTTIME and counts only within the boot that it names, so
 * neither a restart nor a step of the wall clock resets a rate limit. How the last window ended is
 * for people, and holds over boots.
 */

#include <postern/certificate.h>
#include <postern/quota.h>
#include <postern/window.h>
#include <stddef.h>
#include <stdint.h>

enum {
        STATE_BOOT_ID_SIZE = sizeof("0123456789abcdef0123456789abcdef"),
        STATE_FILE_MAX = 5120, /* the longest state fits with room to spare */
};

typedef struct State {
        char boot_id[STATE_BOOT_ID_SIZE]; /* 32 hex digits */
        QuotaHistory history;

        WindowResult last_result; /* RESULT_NONE: no window has closed yet */
        /* CLOCK_REALTIME, microseconds; 0: unknown */
        uint64_t last_closed_at;
        Certificate certificate; /* as far as the last window told */
} State;

/* Returns the length; ret is not terminated. */
size_t state_format(const State *state, char ret[STATE_FILE_MAX]);

/* Takes exactly what state_format() makes: 0 or -EBADMSG. *ret is left alone on failure. */
int state_parse(const char *text, size_t size, State *ret);
