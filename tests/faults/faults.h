/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * faults: lets exactly the n-th allocation or system call fail that is made while it is armed.
 *
 * Linked into a test's own program, or loaded before a program (LD_PRELOAD) with the environment
 * variable POSTERN_FAULTS naming a file of FAULTS_PROGRAMS of these, which test and program share.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum FaultWay {
        FAULT_ALLOCATION,  /* no memory */
        FAULT_REFUSED,     /* a system call that is not done: no descriptor, no room, ... */
        FAULT_INTERRUPTED, /* likewise: EINTR */
        FAULT_AFTERWARDS,  /* it is done and reported as failed; what was received is lost */
        FAULT_SHORT,       /* of what netlink sent a header arrives; half of a file is written */
        FAULT_EMPTY,       /* what netlink sent is lost without a word: EAGAIN */
        FAULT_LATE,        /* what is sent to netlink is sent a while later */
        FAULT_WAYS,
} FaultWay;

enum {
        FAULTS_PROGRAMS = 2, /* posternd, postern-run */
        FAULT_SITE_MAX = 48,
};

typedef struct Faults {
        atomic_uint armed;
        uint32_t way;
        uint32_t lasting; /* from the n-th on, all */
        uint32_t pid;     /* of the program that counts here */
        uint64_t wanted;  /* n, from 1 */
        uint64_t seen;    /* since it was armed */
        uint64_t failed;
        char site[FAULT_SITE_MAX]; /* the first that failed */
} Faults;

/* NULL: nothing fails. */
extern Faults *faults;

/* Called, if not NULL, for each call that could fail. */
extern void (*faults_on_call)(uint64_t n);

void faults_arm(FaultWay way, uint64_t wanted, uint32_t lasting);
void faults_disarm(void);

/* Is this the call that fails, and in this way? */
bool faults_next(FaultWay way, const char *site);
