/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "loopback.h"

#include "faults.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned n_wrong;
static int barrier, listeners[2];

void die(const char *what) {
        fprintf(stderr, "door-faults: %s: %s\n", what, strerror(errno));
        exit(2);
}

void wrong(const char *what) {
        printf("WRONG at call %" PRIu64 " (%s): %s\n", faults->wanted, faults->site, what);
        n_wrong++;
}

static struct sockaddr_in loopback(uint16_t port) {
        return (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons(port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int make_socket(int type, uint16_t port) {
        struct sockaddr_in address = loopback(port);
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                die("bind");
        return fd;
}

/* Twice: what the first packet before it has caused is through by then too. */
static void wait_for_packets(void) {
        struct sockaddr_in address = loopback(BARRIER_PORT);
        char byte = 0;

        for (unsigned i = 0; i < 3; i++)
                if (sendto(barrier, &byte, 1, 0, (struct sockaddr *) &address, sizeof(address)) !=
                            1 ||
                    recv(barrier, &byte, 1, 0) != 1)
                        die("barrier");
}

/* A connection to the port, or -1 when it does not come about. Each from a port of its own: on the
 * loopback device what was refused before stays known, and may be from before labels were in use,
 * which it can then never carry. */
static int knock(uint16_t port) {
        static uint16_t own_port = 1024;
        struct sockaddr_in address = loopback(port);
        int fd = make_socket(SOCK_STREAM | SOCK_NONBLOCK, own_port++);
        struct pollfd wanted = {.fd = fd, .events = POLLOUT};

        if (own_port == 0)
                own_port = 1024;
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0 && errno != EINPROGRESS)
                die("connect");
        wait_for_packets();
        if (poll(&wanted, 1, 0) == 1 && wanted.revents == POLLOUT)
                return fd;
        close(fd);
        return -1;
}

bool is_open(uint16_t port) {
        int fd = knock(port), accepted;

        if (fd < 0)
                return false;
        accepted = accept4(listeners[port == OTHER_PORT], NULL, NULL, SOCK_CLOEXEC);
        if (accepted >= 0)
                close(accepted);
        close(fd);
        return true;
}

void run_command(const char *command, char *ret, size_t size) {
        FILE *stream = popen(command, "re");
        size_t n;

        if (!stream)
                die(command);
        n = fread(ret, 1, size - 1, stream);
        ret[n] = '\0';
        if (pclose(stream) != 0)
                die(command);
}

Held hold(void) {
        Held held = {.client = knock(PORT)};

        if (held.client < 0)
                wrong("the port is shut where the window is open");
        held.server = accept4(listeners[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        return held;
}

bool held_speaks(const Held *held) {
        char byte = 'x';

        if (held->client < 0 || send(held->client, &byte, 1, MSG_NOSIGNAL) < 0)
                return false;
        wait_for_packets();
        return recv(held->server, &byte, 1, 0) == 1;
}

void release(Held *held) {
        if (held->client >= 0)
                close(held->client);
        if (held->server >= 0)
                close(held->server);
        *held = (Held){-1, -1};
}

void loopback_init(int cpu) {
        cpu_set_t cpus;

        CPU_ZERO(&cpus);
        CPU_SET(cpu, &cpus);
        if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
                die("sched_setaffinity");
        barrier = make_socket(SOCK_DGRAM, BARRIER_PORT);
        for (unsigned i = 0; i < 2; i++) {
                listeners[i] = make_socket(SOCK_STREAM | SOCK_NONBLOCK, i ? OTHER_PORT : PORT);
                if (listen(listeners[i], 64) < 0)
                        die("listen");
        }
}
