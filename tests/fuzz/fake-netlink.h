/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * A kernel made of messages: each request is answered with those of its kind, in their order.
 *
 * Errors and the like (types below NLMSG_MIN_TYPE) and what is left when no further message can be
 * made out come after the message that they follow. Every answer ends as the kernel's do; without a
 * generation among the messages there is one. Changes are acknowledged, and change nothing.
 *
 * Takes the place of libmnl's sockets and libc's calls with -Wl,--wrap: see meson.build.
 */

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

/* on_request: sees each message that is sent. */
typedef void (*FakeNetlinkCallback)(const struct nlmsghdr *request);

void fake_netlink_begin(const uint8_t *messages, size_t size, FakeNetlinkCallback on_request);
/* No answer is being read, and every socket is closed. */
void fake_netlink_end(void);
