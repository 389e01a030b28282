/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Sockets, dumps and transactions on libmnl; see the header for what an answer proves. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/cleanup.h>
#include <postern/netlink.h>
#include <string.h>
#include <sys/socket.h>

enum {
        RECEIVE_QUEUE_SIZE = 4 * 1024 * 1024,
        RECEIVE_BUFFER_SIZE = 64 * 1024,
        BATCH_SIZE = 256 * 1024,
        BATCH_SLACK = 16 * 1024, /* no message of ours comes near this */
};

int netlink_open(Netlink *ret, int protocol) {
        struct mnl_socket *socket;
        int size = RECEIVE_QUEUE_SIZE, on = 1, r;

        socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
        if (!socket)
                return -errno;
        if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
                r = -errno;
                mnl_socket_close(socket);
                return r;
        }
        /* Forcing needs CAP_NET_ADMIN; without it the default has to do, and an overflow is seen.
         */
        if (setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) <
            0)
                (void) setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUF, &size,
                                  sizeof(size));
        (void) setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_SNDBUFFORCE, &size,
                          sizeof(size));
        /* An error answer need not carry the whole request: that is what fills queues. */
        (void) mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, sizeof(on));

        *ret = (Netlink){
                .socket = socket,
                .port_id = mnl_socket_get_portid(socket),
                .sequence = 1,
        };
        return 0;
}

void netlink_close(Netlink *netlink) {
        if (netlink->socket)
                mnl_socket_close(netlink->socket);
        *netlink = (Netlink){};
}

/* Answers to an earlier request that nobody read would be taken for answers to this one. */
static void netlink_drain(Netlink *netlink) {
        char buffer[4096];

        while (recv(mnl_socket_get_fd(netlink->socket), buffer, sizeof(buffer), MSG_DONTWAIT) >=
                       0 ||
               errno == ENOBUFS || errno == EINTR)
                ;
}

static ssize_t netlink_receive(Netlink *netlink, char *buffer, size_t size) {
        ssize_t n;

        do
                n = recv(mnl_socket_get_fd(netlink->socket), buffer, size,
                         MSG_DONTWAIT | MSG_TRUNC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if ((size_t) n > size)
                return -EMSGSIZE;
        return n;
}

static int netlink_send(Netlink *netlink, const void *data, size_t size) {
        struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
        ssize_t n;

        /* Not retried on EINTR: whether the kernel worked it off would not be known. The flag keeps
         * a signal from interrupting it in the first place. */
        n = sendto(mnl_socket_get_fd(netlink->socket), data, size, MSG_DONTWAIT,
                   (const struct sockaddr *) &kernel, sizeof(kernel));
        return n < 0 ? -errno : 0;
}

/* Is all of it there, and as much as everybody looks at? (To libmnl, 2 GiB and more are less than
 * nothing, and so not too long.) */
static bool message_is_whole(const struct nlmsghdr *message, int left) {
        size_t least = 0;

        if (!mnl_nlmsg_ok(message, left) || message->nlmsg_len > (uint32_t) left)
                return false;
        if (message->nlmsg_type == NLMSG_ERROR)
                least = sizeof(struct nlmsgerr);
        else if (message->nlmsg_type >= NLMSG_MIN_TYPE)
                least = sizeof(struct nfgenmsg);
        return mnl_nlmsg_get_payload_len(message) >= least;
}

/* 1 when the answer is over, 0 to go on. */
static int netlink_query_message(const struct nlmsghdr *message, uint32_t sequence,
                                 NetlinkCallback callback, void *userdata) {
        const struct nlmsgerr *error;

        if (message->nlmsg_seq != sequence)
                return 0;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR)
                return -EINTR;
        if (message->nlmsg_type == NLMSG_DONE)
                return 1;
        if (message->nlmsg_type == NLMSG_ERROR) {
                error = mnl_nlmsg_get_payload(message);
                return error->error ? error->error : 1;
        }
        if (message->nlmsg_type < NLMSG_MIN_TYPE)
                return 0;
        return callback(message, userdata);
}

int netlink_query(Netlink *netlink, struct nlmsghdr *request, uint16_t flags,
                  NetlinkCallback callback, void *userdata) {
        _cleanup_free_ char *buffer = NULL;
        const struct nlmsghdr *message;
        ssize_t n;
        int r, left;

        buffer = malloc(RECEIVE_BUFFER_SIZE);
        if (!buffer)
                return -ENOMEM;

        netlink_drain(netlink);
        request->nlmsg_flags = NLM_F_REQUEST | flags;
        request->nlmsg_seq = ++netlink->sequence;
        r = netlink_send(netlink, request, request->nlmsg_len);
        if (r < 0)
                return r;

        for (;;) {
                n = netlink_receive(netlink, buffer, RECEIVE_BUFFER_SIZE);
                if (n < 0)
                        return n; /* EAGAIN too: the kernel answers at once or not at all */
                left = n;
                for (message = (const void *) buffer; message_is_whole(message, left);
                     message = mnl_nlmsg_next(message, &left)) {
                        r = netlink_query_message(message, request->nlmsg_seq, callback, userdata);
                        if (r < 0) {
                                netlink_drain(netlink);
                                return r;
                        }
                        if (r > 0)
                                return 0;
                }
                if (left > 0) { /* what could not be read would be missing from the answer */
                        netlink_drain(netlink);
                        return -EBADMSG;
                }
        }
}

int netlink_request(Netlink *netlink, struct nlmsghdr *request) {
        char buffer[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
        const struct nlmsghdr *message = (const void *) buffer;
        const struct nlmsgerr *error;
        ssize_t n;
        int r;

        netlink_drain(netlink);
        request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        request->nlmsg_seq = ++netlink->sequence;
        r = netlink_send(netlink, request, request->nlmsg_len);
        if (r < 0)
                return r;
        n = netlink_receive(netlink, buffer, sizeof(buffer));
        if (n < 0)
                return n;
        if (!message_is_whole(message, n) || message->nlmsg_seq != request->nlmsg_seq ||
            message->nlmsg_type != NLMSG_ERROR)
                return -EBADMSG;
        error = mnl_nlmsg_get_payload(message);
        return error->error;
}

int batch_init(Batch *batch) {
        char *buffer;

        buffer = malloc(BATCH_SIZE);
        if (!buffer)
                return -ENOMEM;
        *batch = (Batch){.buffer = buffer, .size = BATCH_SIZE};
        return 0;
}

void batch_deinit(Batch *batch) {
        free(batch->buffer);
        *batch = (Batch){};
}

static struct nlmsghdr *batch_header(Batch *batch, Netlink *netlink, uint16_t type, uint16_t flags,
                                     uint8_t family, uint16_t resource) {
        struct nlmsghdr *message;
        struct nfgenmsg *generic;

        if (batch->used + BATCH_SLACK > batch->size) {
                batch->overflow = true;
                batch->used = 0; /* it will not be sent */
        }
        message = mnl_nlmsg_put_header(batch->buffer + batch->used);
        message->nlmsg_type = type;
        message->nlmsg_flags = NLM_F_REQUEST | flags;
        message->nlmsg_seq = ++netlink->sequence;
        generic = mnl_nlmsg_put_extra_header(message, sizeof(*generic));
        generic->nfgen_family = family;
        generic->version = NFNETLINK_V0;
        generic->res_id = htons(resource);
        return message;
}

void batch_begin(Batch *batch, Netlink *netlink, uint32_t genid) {
        struct nlmsghdr *message;

        batch->used = 0;
        batch->n_messages = 0;
        batch->overflow = false;
        message = batch_header(batch, netlink, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC,
                               NFNL_SUBSYS_NFTABLES);
        batch->first_sequence = message->nlmsg_seq;
        mnl_attr_put_u32(message, NFNL_BATCH_GENID, htonl(genid));
        batch->used += NLMSG_ALIGN(message->nlmsg_len);
}

struct nlmsghdr *batch_message(Batch *batch, Netlink *netlink, uint16_t type, uint16_t flags,
                               uint8_t family) {
        return batch_header(batch, netlink, (NFNL_SUBSYS_NFTABLES << 8) | type, flags | NLM_F_ACK,
                            family, 0);
}

void batch_push(Batch *batch, struct nlmsghdr *message) {
        batch->used += NLMSG_ALIGN(message->nlmsg_len);
        batch->n_messages++;
}

/* Takes one answer into account: acknowledgements are counted, the first error is kept. */
static void batch_account(const Batch *batch, const struct nlmsghdr *message, uint32_t *acks,
                          BatchFailure *failure) {
        const struct nlmsgerr *error;
        uint32_t index = message->nlmsg_seq - batch->first_sequence;

        if (message->nlmsg_type != NLMSG_ERROR || index > batch->n_messages + 1)
                return;
        error = mnl_nlmsg_get_payload(message);
        if (error->error == 0)
                (*acks)++;
        else if (failure->error == 0)
                *failure = (BatchFailure){
                        .message = index == 0 || index > batch->n_messages ? UINT32_MAX : index - 1,
                        .error = error->error,
                };
}

int batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure) {
        char buffer[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
        const struct nlmsghdr *message;
        BatchFailure failure = {};
        struct nlmsghdr *end;
        uint32_t acks = 0;
        ssize_t n;
        int left, r;

        end = batch_header(batch, netlink, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
        batch->used += NLMSG_ALIGN(end->nlmsg_len);
        if (batch->overflow)
                return -E2BIG;

        netlink_drain(netlink);
        r = netlink_send(netlink, batch->buffer, batch->used);
        if (r == -EINTR)
                return BATCH_UNKNOWN;
        if (r < 0)
                return r;

        while ((n = netlink_receive(netlink, buffer, sizeof(buffer))) >= 0) {
                left = n;
                for (message = (const void *) buffer; message_is_whole(message, left);
                     message = mnl_nlmsg_next(message, &left))
                        batch_account(batch, message, &acks, &failure);
        }
        *ret_failure = failure;
        if (n != -EAGAIN)
                return BATCH_UNKNOWN;
        if (failure.error == -ERESTART)
                return BATCH_STALE;
        if (failure.error)
                return BATCH_REJECTED;
        return acks == batch->n_messages ? BATCH_COMMITTED : BATCH_UNKNOWN;
}
