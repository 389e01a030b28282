/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * sleep-guard: has windows shut before the host goes to sleep.
 *
 * The kernel does not count the time asleep in a set's timeouts, so a window that slept would be
 * open for longer than it says. While one is open a lock of logind delays sleep
 * (InhibitDelayMaxSec=, five seconds by default) for as long as shutting takes. Where there is no
 * logind, there is nothing to do. Who says that the host goes to sleep is not believed: logind
 * itself is asked.
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>

typedef struct SleepGuard SleepGuard;

/* The host is going to sleep: shut, then let go with sleep_guard_hold(guard, false). */
typedef void (*SleepGuardCallback)(void *userdata);

/* 0 or a negative errno. */
int sleep_guard_new(SleepGuard **ret, sd_bus *bus, SleepGuardCallback callback, void *userdata);
/* NULL is taken. */
SleepGuard *sleep_guard_free(SleepGuard *guard);

/* hold: from now on something is open. Asks logind and does not wait for its answer. */
void sleep_guard_hold(SleepGuard *guard, bool hold);
