/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * conntrack: ends the connections that came in through a window.
 *
 * The tables cut a connection at its next packet, but only while they stand. Before they go,
 * whatever a window let in is ended for good: the local socket is destroyed, so that it cannot
 * speak first and come back as a connection of the host's own, and the conntrack entry is deleted,
 * so that the host's `ct state established accept` no longer knows it.
 */

#include <postern/netlink.h>
#include <postern/profile.h>
#include <postern/rule.h>

/* One that came in: who it is from, and the port of this host that it led to. id: the kernel's, of
 * as long as it remembers it. address: 4 or 16 bytes, network byte order. */
typedef void (*ConntrackVisit)(uint32_t id, bool is_ipv6, const uint8_t *address, const Port *port,
                               void *userdata);

typedef struct ConntrackCut {
        unsigned entries;   /* deleted */
        unsigned sockets;   /* destroyed */
        unsigned lingering; /* of these the local end may still speak: the guard has to stay */
} ConntrackCut;

/*
 * Ends every connection that carries one of the labels, except those to one of `keep` (ports that
 * another window has open).
 *
 * An entry is deleted only once its local end is gone. Where that cannot be (UDP has no connection
 * to end; a kernel without SOCK_DESTROY), it stays, gets the label `silenced` (unless that is
 * NULL), by which the guard lets no answer out, and is counted as lingering until it times out.
 *
 * visit: told of each of them, those that stay included; or NULL.
 * dump and cut: two netfilter sockets. Entries that go by themselves meanwhile are no error. 0, or
 * the first negative errno after having gone through all of them.
 */
int conntrack_cut(Netlink *dump, Netlink *cut, const Label *labels, const Label *silenced,
                  const Port *keep, size_t n_keep, ConntrackVisit visit, void *userdata,
                  ConntrackCut *ret);

/* Only tells of those that carry one of the labels. */
int conntrack_visit(Netlink *dump, const Label *labels, ConntrackVisit visit, void *userdata);

/* Every label bit that any connection carries. */
int conntrack_labels(Netlink *dump, Label *ret);
