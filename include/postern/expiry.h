/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * expiry: says in the log which certificates end soon, now that authorities send no mails about
 * that any more.
 *
 * Soon is when less than a third of a certificate's lifetime is left: ACME clients renew before.
 * It is said at the end of each window that leaves such a certificate behind, which with a timer is
 * twice a day. And at start, for those whose profile nothing has used for two days, or whose last
 * window ended like that: but not where a renewal may just be about to begin, in time, and once a
 * day, however often a posternd is started that leaves when it is idle.
 */

#include <postern/broker.h>

/* This window is closed, and the records have it. */
void expiry_on_closed(const Renewal *renewal);
void expiry_on_start(const Broker *broker, const char *runtime_dir);
