/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A packet from the other end of the helper's connection, with descriptors. The first byte says how
 * many come along, and whether they are wanted. None is left over, and what is understood is
 * understood again when it is said again.
 */

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/run-protocol.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum { DESCRIPTORS_MAX = 12 };

static int sockets[2] = {-1, -1};

static void send_packet(const uint8_t *data, size_t size, size_t n_fds) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
        } control = {};
        struct iovec iov = {.iov_base = (void *) data, .iov_len = size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        int fds[DESCRIPTORS_MAX];

        if (n_fds > 0) {
                for (size_t i = 0; i < n_fds; i++)
                        fds[i] = sockets[1];
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        require(sendmsg(sockets[0], &message, 0) == (ssize_t) size);
}

static bool is_plain(const char *text) {
        for (const char *p = text; *p; p++)
                if (*p < ' ' || *p > '~')
                        return false;
        return true;
}

static void check_packet(const RunPacket *packet) {
        require(packet->word && *packet->word && is_plain(packet->word));
        require(packet->n_fields <= RUN_FIELDS_MAX);
        for (size_t i = 0; i < packet->n_fields; i++) {
                require(*packet->fields[i].key && is_plain(packet->fields[i].key));
                require(is_plain(packet->fields[i].value));
                /* it is found, so no other has its name */
                require(run_packet_get(packet, packet->fields[i].key) == packet->fields[i].value);
        }
}

/* A name that is made of it is a cgroup's. */
static void check_run(const RunPacket *packet) {
        const char *window = run_packet_get(packet, "window");
        char name[RUN_NAME_MAX];
        RunVerb verb;

        if (run_verb_from_string(packet->word, &verb) < 0)
                return;
        require(strcmp(run_verb_to_string(verb), packet->word) == 0);
        if (!window || run_name(verb, window, name) < 0)
                return;
        require(strlen(name) >= strlen(window) && strncmp(name, window, strlen(window)) == 0);
        require(!name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789")]);
}

static void check_said_again(const RunPacket *packet) {
        RunPacket said, heard;

        run_packet_begin(&said, packet->word);
        for (size_t i = 0; i < packet->n_fields; i++)
                run_packet_add(&said, packet->fields[i].key, "%s", packet->fields[i].value);
        if (packet->size == RUN_PACKET_MAX) { /* writing needs a byte more than reading */
                require(run_packet_send(&said, sockets[0], -1) == -ENOBUFS);
                return;
        }
        require(said.size == packet->size);
        require(run_packet_send(&said, sockets[0], -1) == 0);
        require(run_packet_receive(&heard, sockets[1], NULL) == 1);
        require(strcmp(heard.word, packet->word) == 0 && heard.n_fields == packet->n_fields);
        for (size_t i = 0; i < packet->n_fields; i++)
                require(strcmp(heard.fields[i].key, packet->fields[i].key) == 0 &&
                        strcmp(heard.fields[i].value, packet->fields[i].value) == 0);
}

/* What is taken of the certificates is as everybody is told that it is, and comes across again. */
static void check_certificates(const RunPacket *packet) {
        Certificate before, after, before_again, after_again;
        RunPacket said;

        run_packet_get_certificates(packet, &before, &after);
        require(certificate_serial_is_valid(before.serial));
        require(certificate_serial_is_valid(after.serial));
        require(certificate_names_are_valid(after.names));
        require(!*before.names && before.not_before == 0 && before.names_left_out == 0);
        run_packet_begin(&said, "ended");
        run_packet_add_certificates(&said, &before, &after);
        require(run_packet_send(&said, sockets[0], -1) == 0);
        require(run_packet_receive(&said, sockets[1], NULL) == 1);
        run_packet_get_certificates(&said, &before_again, &after_again);
        require(memcmp(&before, &before_again, sizeof(before)) == 0);
        require(memcmp(&after, &after_again, sizeof(after)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        RunPacket packet;
        bool wants_fd;
        size_t n_fds;
        int fd = -1, next, r;

        /* an empty packet is what hanging up looks like */
        if (size < 2 || size > 2 * RUN_PACKET_MAX)
                return -1;
        if (sockets[0] < 0)
                require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                                   sockets) == 0);
        next = fcntl(sockets[0], F_DUPFD_CLOEXEC, 0);
        close(next);

        wants_fd = data[0] & 0x80;
        n_fds = (data[0] & 0x7f) % (DESCRIPTORS_MAX + 1);
        send_packet(data + 1, size - 1, n_fds);
        r = run_packet_receive(&packet, sockets[1], wants_fd ? &fd : NULL);
        require(r == 1 || r == -EBADMSG);
        require(fd < 0 || (r == 1 && n_fds == 1));
        require(r != 1 || n_fds == 0 || (wants_fd && fd >= 0));
        if (fd >= 0) {
                require(fcntl(fd, F_GETFD) & FD_CLOEXEC);
                close(fd);
        }
        if (r == 1) {
                check_packet(&packet);
                check_run(&packet);
                check_certificates(&packet);
                check_said_again(&packet);
        }

        fd = fcntl(sockets[0], F_DUPFD_CLOEXEC, 0);
        require(fd == next);
        close(fd);
        return 0;
}
