/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * sites: the places in the program from which calls that may fail come. Calls between different
 * transactions are of different places, for what is left to do differs.
 */

#include <stddef.h>
#include <stdint.h>

enum { SITES_MAX = 4096 };

typedef struct Site {
        uint64_t stack; /* a hash of it */
        uint64_t first, last;
} Site;

extern Site sites[SITES_MAX];
extern size_t n_sites;
extern unsigned n_transactions;

/* For faults_on_call. */
void sites_note_call(uint64_t n);
