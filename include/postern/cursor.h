/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * cursor: reads a text that has one form alone, as files of ours have.
 *
 * Each takes what it names and goes on behind it, or is false; then the cursor is of no use any
 * more.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Far beyond any time that is meant, and sums of two do not overflow. */
#define CURSOR_NUMBER_MAX ((uint64_t) INT64_MAX / 2)

typedef struct Cursor {
        const char *at;
        const char *end;
} Cursor;

bool cursor_take(Cursor *cursor, const char *text);
/* Decimal, without leading zeros, up to CURSOR_NUMBER_MAX. */
bool cursor_take_number(Cursor *cursor, uint64_t *ret);
/* All up to one of `ends`, which is not taken; at least one byte, and less than size; printable
 * ASCII without blanks. */
bool cursor_take_word(Cursor *cursor, const char *ends, char *ret, size_t size);
/* 32 hex digits, and a 0 to end them. */
bool cursor_take_boot_id(Cursor *cursor, char ret[33]);
