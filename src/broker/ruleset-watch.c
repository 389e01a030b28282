/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Each transaction makes a generation, and the kernel tells everybody who listens whose it was.
 * What cannot be read or did not fit in the queue is taken for somebody else's.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/cleanup.h>
#include <postern/ruleset-watch.h>
#include <stdio.h>
#include <string.h>

enum {
        BUFFER_SIZE = 64 * 1024,
        QUEUE_SIZE = 4 * 1024 * 1024,
        CULPRIT_MAX = 64,
};

struct RulesetWatch {
        struct mnl_socket *socket;
        sd_event_source *source;
        const uint32_t *own_port;
        RulesetWatchCallback callback;
        void *userdata;
};

/* The name of the program behind a generation, bounded and harmless. */
static void read_culprit(const struct nlmsghdr *message, char *ret, size_t size) {
        const struct nlattr *attribute;
        const char *name = NULL;
        uint32_t pid = 0;

        mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg)) {
                if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_NAME &&
                    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
                        name = mnl_attr_get_str(attribute);
                else if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_PID &&
                         mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
                        pid = ntohl(mnl_attr_get_u32(attribute));
        }
        snprintf(ret, size, "%.16s (pid %u)", name ? name : "a program", pid);
}

/* The messages of one datagram. True: something in it is not ours. */
static bool read_datagram(const RulesetWatch *watch, const void *data, int size,
                          char culprit[CULPRIT_MAX]) {
        bool foreign = false;

        for (const struct nlmsghdr *message = data; mnl_nlmsg_ok(message, size);
             message = mnl_nlmsg_next(message, &size)) {
                if (message->nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN) ||
                    message->nlmsg_pid == *watch->own_port)
                        continue;
                foreign = true;
                read_culprit(message, culprit, CULPRIT_MAX);
        }
        return foreign || size > 0; /* there was more than can be read of it */
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        char culprit[CULPRIT_MAX] = "a program", scrap[1];
        const RulesetWatch *watch = userdata;
        bool foreign = false;

        for (;;) {
                ssize_t n = recv(fd, buffer ? buffer : scrap, buffer ? BUFFER_SIZE : sizeof(scrap),
                                 MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != ENOBUFS)
                        break;
                foreign |= n < 0 || !buffer || read_datagram(watch, buffer, (int) n, culprit);
        }
        if (foreign)
                watch->callback(culprit, watch->userdata);
        return 0;
}

int ruleset_watch_new(RulesetWatch **ret, sd_event *event, const uint32_t *own_port,
                      RulesetWatchCallback callback, void *userdata) {
        int group = NFNLGRP_NFTABLES, size = QUEUE_SIZE, r;
        RulesetWatch *watch;

        watch = calloc(1, sizeof(*watch));
        if (!watch)
                return -ENOMEM;
        watch->own_port = own_port;
        watch->callback = callback;
        watch->userdata = userdata;
        watch->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
        r = watch->socket ? 0 : -errno;
        if (r == 0)
                (void) setsockopt(mnl_socket_get_fd(watch->socket), SOL_SOCKET, SO_RCVBUFFORCE,
                                  &size, sizeof(size));
        if (r == 0 && (mnl_socket_bind(watch->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
                       mnl_socket_setsockopt(watch->socket, NETLINK_ADD_MEMBERSHIP, &group,
                                             sizeof(group)) < 0))
                r = -errno;
        if (r == 0)
                r = sd_event_add_io(event, &watch->source, mnl_socket_get_fd(watch->socket),
                                    EPOLLIN, on_readable, watch);
        if (r < 0) {
                ruleset_watch_free(watch);
                return r;
        }
        *ret = watch;
        return 0;
}

RulesetWatch *ruleset_watch_free(RulesetWatch *watch) {
        if (!watch)
                return NULL;
        sd_event_source_disable_unref(watch->source);
        if (watch->socket)
                mnl_socket_close(watch->socket);
        free(watch);
        return NULL;
}
