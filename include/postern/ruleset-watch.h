/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * ruleset-watch: notices when another program has changed the host's ruleset, and says which.
 *
 * Once begun it goes on for good, since leaving the kernel's group would wait for a grace period.
 */

#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct RulesetWatch RulesetWatch;

/* culprit: "NAME (pid N)", bounded and harmless; valid for the call. Many changes may be one call.
 */
typedef void (*RulesetWatchCallback)(const char *culprit, void *userdata);

/* own_port: of the netlink socket whose changes are our own; it is read anew each time.
 * 0 or a negative errno, from the kernel without CAP_NET_ADMIN -EPERM. */
int ruleset_watch_new(RulesetWatch **ret, sd_event *event, const uint32_t *own_port,
                      RulesetWatchCallback callback, void *userdata);
RulesetWatch *ruleset_watch_free(RulesetWatch *watch);
