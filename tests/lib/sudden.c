/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Preloaded into posternd: kills or stops it at a chosen moment of a chosen netlink exchange, and
 * keeps in a file that outlives it where it was when it died. sudden.py has the other end of the
 * file.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PUT_UP = 1, SILENCE = 2, TAKE_DOWN = 4, READ = 8, CUT = 16, SOCKETS = 32 };
enum { BATCHES = PUT_UP | SILENCE | TAKE_DOWN };
enum { BEFORE, WITHIN, AFTER, ANSWER };

typedef struct Page {
        uint32_t kinds;     /* which calls count */
        uint32_t countdown; /* the one that ends it; 0: none */
        uint32_t moment;
        uint32_t signal;     /* SIGKILL or SIGSTOP */
        uint32_t delay_nsec; /* WITHIN */
        uint32_t life_usec;  /* from the start of the program on; 0: no such end */
        uint32_t where;      /* the kind of the exchange that it is in the middle of, or 0 */
        uint32_t in_kernel;  /* in a call that sends */
        uint32_t batch_nsec; /* how long the last batch took in the kernel */
} Page;

static Page *page;

static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_recv)(int, void *, size_t, int);
static int exchange_fd = -1;
static bool answer_armed;

static void die(void) {
        (void) kill(getpid(), page->signal);
        while (page->signal == SIGKILL)
                pause();
}

static void die_after(uint64_t nsec) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        struct itimerspec when = {
                .it_value = {.tv_sec = nsec / 1000000000, .tv_nsec = nsec % 1000000000 + 1},
        };
        timer_t timer;

        if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
            timer_settime(timer, 0, &when, NULL) < 0)
                abort();
}

__attribute__((constructor)) static void set_up(void) {
        const char *path = getenv("POSTERN_TEST_SUDDEN");
        int fd;

        real_sendto = dlsym(RTLD_NEXT, "sendto");
        real_recv = dlsym(RTLD_NEXT, "recv");
        (void) unsetenv("LD_PRELOAD");
        fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        if (fd < 0)
                abort();
        page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED)
                abort();
        close(fd);
        if (page->life_usec)
                die_after((uint64_t) page->life_usec * 1000);
}

/* What a batch does is told by its messages: only one that puts up a door makes a table. */
static uint32_t kind_of_batch(const char *data, size_t size) {
        uint32_t kind = TAKE_DOWN;

        for (size_t at = 0; at + sizeof(struct nlmsghdr) <= size;) {
                const struct nlmsghdr *message = (const void *) (data + at);
                uint16_t type = message->nlmsg_type;

                if (type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE))
                        return PUT_UP;
                if (type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM))
                        kind = SILENCE;
                at += NLMSG_ALIGN(message->nlmsg_len);
        }
        return kind;
}

static uint32_t kind_of(int fd, const void *data, size_t size) {
        const struct nlmsghdr *message = data;
        int protocol = -1;
        socklen_t length = sizeof(protocol);

        if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) < 0)
                abort();
        if (protocol == NETLINK_SOCK_DIAG)
                return SOCKETS;
        if (message->nlmsg_type == NFNL_MSG_BATCH_BEGIN)
                return kind_of_batch(data, size);
        if (message->nlmsg_type >> 8 == NFNL_SUBSYS_CTNETLINK &&
            (message->nlmsg_type & 0xff) != IPCTNL_MSG_CT_GET)
                return CUT;
        return READ;
}

static bool is_netlink(int fd) {
        int domain = 0, saved = errno;
        socklen_t length = sizeof(domain);

        (void) getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
        errno = saved;
        return domain == AF_NETLINK;
}

static uint64_t now_nsec(void) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void arm(uint32_t kind) {
        answer_armed = false;
        if (page->countdown == 0 || !(page->kinds & kind) || --page->countdown > 0)
                return;
        if (page->moment == BEFORE)
                die();
        if (page->moment == WITHIN)
                die_after(page->delay_nsec);
        answer_armed = page->moment == ANSWER;
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t length) {
        uint64_t begun;
        uint32_t kind;
        bool ends_here;
        ssize_t n;

        if (!is_netlink(fd))
                return real_sendto(fd, data, size, flags, address, length);
        kind = kind_of(fd, data, size);
        page->where = kind;
        exchange_fd = fd;
        ends_here = page->countdown == 1 && page->kinds & kind;
        arm(kind);
        begun = now_nsec();
        page->in_kernel = true;
        n = real_sendto(fd, data, size, flags, address, length);
        page->in_kernel = false;
        if (kind & BATCHES)
                page->batch_nsec = now_nsec() - begun;
        /* the timer of WITHIN may still be running: it is for this call alone */
        if (ends_here && (page->moment == WITHIN || page->moment == AFTER))
                die();
        return n;
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
        ssize_t n;

        if (fd != exchange_fd)
                return real_recv(fd, data, size, flags);
        n = real_recv(fd, data, size, flags);
        if (n >= 0 && answer_armed)
                die();
        if (n < 0) {
                page->where = 0; /* all of the answers have been read */
                answer_armed = false;
        }
        return n;
}
