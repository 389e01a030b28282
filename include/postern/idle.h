/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * idle: ends a daemon that the bus started, when it has been without work for a while.
 *
 * The name goes first, and only when the bus has confirmed that, the daemon: what the bus handed
 * over till then has been seen by that time, and what comes later starts a new one. Whoever called
 * in between keeps this one, which then takes its name back.
 *
 * A service manager takes the loss of the name for the end (Type=dbus), which is right: the next
 * call then starts a new one once this one is gone, instead of being told that it runs. But the
 * manager also sends SIGTERM and sets a time limit, for the one that stays because of a call at the
 * last moment as well. That SIGTERM is no order to close the windows of that call; the manager is
 * asked to wait, and takes the next idle exit for the end. Until then it says "deactivating", and
 * sends no second SIGTERM when somebody orders a stop: it is asked for that each second, and the
 * order is passed on to this process as a SIGTERM of its own.
 */

#include <postern/broker.h>
#include <postern/bus.h>
#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct Idle Idle;

/* The daemon can end: nobody would notice. Called once. */
typedef void (*IdleCallback)(void *userdata);

/* connection: the one that bus is on. All of them stay the caller's, and longer than this. */
int idle_new(Idle **ret, sd_event *event, sd_bus *connection, Bus *bus, const Broker *broker,
             uint64_t timeout_usec, IdleCallback callback, void *userdata);
Idle *idle_free(Idle *idle);

/* After each turn of the event loop: has there been work? */
void idle_on_turn(Idle *idle);
/* What the bus says of the name. True: it was an answer to this module. */
bool idle_on_bus(Idle *idle, BusNews news);
/* SIGTERM came. True: it is the service manager's answer to the release of the name, and no reason
 * to end. */
bool idle_on_term(Idle *idle);
