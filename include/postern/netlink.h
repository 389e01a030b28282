/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * netlink: sockets, dumps and nftables transactions, with every answer accounted for.
 *
 * The kernel works a request off before sendmsg() returns and leaves its answers in the receive
 * queue, so all of this is synchronous and nothing waits. What an answer proves is less than it
 * seems: a transaction that was rolled back still acknowledges its other messages, and one whose
 * answers did not fit the queue was committed. So only a full set of acknowledgements counts as
 * committed; anything else is read back before anybody decides.
 */

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Netlink {
        struct mnl_socket *socket; /* NULL: not open */
        uint32_t port_id;
        uint32_t sequence;
} Netlink;

/* protocol: NETLINK_NETFILTER or NETLINK_SOCK_DIAG. Close-on-exec, 4 MiB receive queue. */
int netlink_open(Netlink *ret, int protocol);
/* Needs no memory. The kernel deletes the tables that this socket owns before it returns. */
void netlink_close(Netlink *netlink);

/*
 * Sends a request (header and payload filled in, sequence set here) and calls back once per message
 * of the answer. flags: NLM_F_DUMP for all objects, NLM_F_ACK for a single one. 0; -EINTR: the
 * ruleset changed while it was dumped, ask again; a negative errno from the kernel or from the
 * callback (which ends it).
 */
typedef int (*NetlinkCallback)(const struct nlmsghdr *message, void *userdata);
int netlink_query(Netlink *netlink, struct nlmsghdr *request, uint16_t flags,
                  NetlinkCallback callback, void *userdata);

/* Sends one request and returns the kernel's verdict: 0 or a negative errno. */
int netlink_request(Netlink *netlink, struct nlmsghdr *request);

/* One nftables transaction. The buffer is allocated once, so that shutting a door needs none. */
typedef struct Batch {
        char *buffer;
        size_t size;
        size_t used;
        uint32_t first_sequence; /* of the batch's begin */
        uint32_t n_messages;     /* between begin and end */
        bool overflow;
} Batch;

int batch_init(Batch *batch);
void batch_deinit(Batch *batch);

/* genid: the generation of the ruleset that the batch was made for, never 0 (0 is not checked). */
void batch_begin(Batch *batch, Netlink *netlink, uint32_t genid);
/* The next message, to be filled by nftnl_*_nlmsg_build_payload() or mnl_attr_put_*(), then
 * batch_push(). type: NFT_MSG_*. Always returns a header; an overflow shows at the commit. */
struct nlmsghdr *batch_message(Batch *batch, Netlink *netlink, uint16_t type, uint16_t flags,
                               uint8_t family);
void batch_push(Batch *batch, struct nlmsghdr *message);

typedef enum BatchOutcome {
        BATCH_COMMITTED = 0,
        BATCH_STALE,    /* the ruleset is of another generation; nothing happened */
        BATCH_REJECTED, /* rolled back; *ret_failure says which message and why */
        BATCH_UNKNOWN,  /* answers are missing: read back, then decide */
} BatchOutcome;

typedef struct BatchFailure {
        uint32_t message; /* index from 0; UINT32_MAX: the batch as such */
        int error;        /* negative errno */
} BatchFailure;

/* A BatchOutcome, or a negative errno when nothing was sent. */
int batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure);
