/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * loopback: tells open from shut on the loopback device, without waiting.
 *
 * A packet that is dropped says nothing. What came after it through the same queue does: UDP to
 * BARRIER_PORT is let in, all of this is bound to one CPU, and the device keeps the order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PORT = 80, OTHER_PORT = 81, BARRIER_PORT = 9, TEXT_MAX = 64 * 1024 };

typedef struct Held {
        int client, server;
} Held;

void die(const char *what);
/* The fault that is set has shown a fault of the door's. */
void wrong(const char *what);
extern unsigned n_wrong;

void run_command(const char *command, char *ret, size_t size);

/* Listens on both ports, on this CPU. */
void loopback_init(int cpu);
bool is_open(uint16_t port);

/* A connection to PORT, which the door is to let in. */
Held hold(void);
/* Does what the client says still arrive? */
bool held_speaks(const Held *held);
void release(Held *held);
