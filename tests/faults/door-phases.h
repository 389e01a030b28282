/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* door-phases: what a door does in its life, each with a look at what the firewall does then. */

#include <stdbool.h>

typedef enum Outcome {
        SUCCEEDED, /* the fault was noticed by nobody, or made up for at once */
        REFUSED,   /* not opened, and said so */
        LOST,      /* opened or mended in vain, shut again, and said so */
        RETRIED,   /* came right at the second try */
        OUTCOMES,
} Outcome;

typedef struct Phase {
        const char *name;
        Outcome (*run)(void);
        bool keeps; /* one door for all faults */
} Phase;

/* Reads the ruleset as it is to be afterwards. */
void phases_init(const char *directory);
void phases_deinit(void);

const Phase *phase_find(const char *name);

/* With the fault that is set and not yet armed. */
Outcome phase_run(const Phase *phase);
