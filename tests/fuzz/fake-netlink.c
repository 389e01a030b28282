/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "fake-netlink.h"

#include "fuzz.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>
#include <postern/cleanup.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum {
        DATAGRAM_MAX = 8192,
        QUEUE_MAX = 256, /* answers to one batch */
        FAKE_FD = 1 << 20,
};

static struct {
        uint8_t *messages;
        size_t size;
        FakeNetlinkCallback on_request;
        unsigned n_open;

        /* what is being answered */
        bool dumping;
        uint16_t answer_type;
        bool generation_told;
        uint32_t sequence;
        size_t position;
        uint16_t last_type; /* of the last proper message before position */

        uint32_t acks[QUEUE_MAX];
        size_t n_acks, next_ack;
} kernel;

/* What asks for such a message, or 0. */
static uint16_t answer_to(uint16_t request) {
        static const uint16_t gets[] = {
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN,
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE,
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSET,
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM,
                NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
                NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
        };

        for (size_t i = 0; i < ELEMENTS(gets); i++)
                if (gets[i] == request)
                        return request - 1; /* each NEW stands right before its GET */
        return request == SOCK_DIAG_BY_FAMILY ? request : 0;
}

struct mnl_socket *__wrap_mnl_socket_open2(int bus, int flags);
int __wrap_mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t pid);
int __wrap_mnl_socket_close(struct mnl_socket *socket);
int __wrap_mnl_socket_get_fd(const struct mnl_socket *socket);
unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *socket);
int __wrap_mnl_socket_setsockopt(const struct mnl_socket *socket, int type, void *value,
                                 socklen_t size);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
ssize_t __wrap_sendto(int fd, const void *data, size_t size, int flags,
                      const struct sockaddr *address, socklen_t address_size);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __wrap___recv_chk(int fd, void *buffer, size_t size, size_t buffer_size, int flags);

struct mnl_socket *__wrap_mnl_socket_open2(int bus, int flags) {
        static char socket;

        kernel.n_open++;
        return (struct mnl_socket *) &socket;
}

int __wrap_mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t pid) {
        return 0;
}

int __wrap_mnl_socket_close(struct mnl_socket *socket) {
        require(kernel.n_open > 0);
        kernel.n_open--;
        return 0;
}

int __wrap_mnl_socket_get_fd(const struct mnl_socket *socket) {
        return FAKE_FD;
}

unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *socket) {
        return 4711;
}

int __wrap_mnl_socket_setsockopt(const struct mnl_socket *socket, int type, void *value,
                                 socklen_t size) {
        return 0;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
        require(fd == FAKE_FD);
        return 0;
}

ssize_t __wrap_sendto(int fd, const void *data, size_t size, int flags,
                      const struct sockaddr *address, socklen_t address_size) {
        const struct nlmsghdr *request = data;
        int left = (int) size;

        require(fd == FAKE_FD);
        kernel.dumping = false;
        kernel.n_acks = kernel.next_ack = 0;
        require(mnl_nlmsg_ok(request, left));
        for (; mnl_nlmsg_ok(request, left); request = mnl_nlmsg_next(request, &left)) {
                require(request->nlmsg_flags & NLM_F_REQUEST);
                kernel.on_request(request);
                kernel.answer_type = answer_to(request->nlmsg_type);
                if (kernel.answer_type) {
                        kernel.dumping = true;
                        kernel.generation_told = false;
                        kernel.sequence = request->nlmsg_seq;
                        kernel.position = 0;
                        kernel.last_type = 0;
                } else if (request->nlmsg_flags & NLM_F_ACK && kernel.n_acks < QUEUE_MAX)
                        kernel.acks[kernel.n_acks++] = request->nlmsg_seq;
        }
        require(left == 0);
        return (ssize_t) size;
}

/* The message at the position, or the rest where none is. */
static uint32_t message_size(const uint8_t *messages, size_t left, uint16_t *ret_type) {
        struct nlmsghdr header;

        if (left < sizeof(header))
                return left;
        memcpy(&header, messages, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left)
                return left;
        if (header.nlmsg_type >= NLMSG_MIN_TYPE)
                *ret_type = header.nlmsg_type;
        return header.nlmsg_len;
}

/* The next message that belongs to the answer, or the rest that is none. */
static const uint8_t *next_message(size_t *ret_size) {
        while (kernel.position < kernel.size) {
                const uint8_t *start = kernel.messages + kernel.position;

                *ret_size = message_size(start, kernel.size - kernel.position, &kernel.last_type);
                kernel.position += NLMSG_ALIGN(*ret_size);
                if (kernel.last_type == kernel.answer_type)
                        return start;
        }
        return NULL;
}

static void put(uint8_t *buffer, size_t *used, const void *message, size_t size) {
        struct nlmsghdr header;

        memset(buffer + *used, 0, NLMSG_ALIGN(size));
        memcpy(buffer + *used, message, size);
        if (size >= sizeof(header)) {
                memcpy(&header, message, sizeof(header));
                header.nlmsg_seq = kernel.sequence;
                memcpy(buffer + *used, &header, sizeof(header));
        }
        *used += NLMSG_ALIGN(size);
}

static void put_generation(uint8_t *buffer, size_t *used) {
        char message[64] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlmsghdr *header = mnl_nlmsg_put_header(message);

        header->nlmsg_type = kernel.answer_type;
        (void) mnl_nlmsg_put_extra_header(header, sizeof(struct nfgenmsg));
        mnl_attr_put_u32(header, NFTA_GEN_ID, htonl(1));
        put(buffer, used, header, header->nlmsg_len);
}

static void put_verdict(uint8_t *buffer, size_t *used, uint16_t type) {
        struct {
                struct nlmsghdr header;
                struct nlmsgerr error;
        } message = {.header = {.nlmsg_len = sizeof(message), .nlmsg_type = type}};

        put(buffer, used, &message, sizeof(message));
}

/* As many messages of an answer as go into one datagram. */
static size_t fill(uint8_t *buffer, size_t size) {
        size_t used = 0, n;
        const uint8_t *message;

        if (kernel.answer_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN) &&
            !kernel.generation_told) {
                kernel.generation_told = true;
                put_generation(buffer, &used);
        }
        while ((message = next_message(&n))) {
                if (n > size - used - 64)
                        continue;
                put(buffer, &used, message, n);
                /* what is too long must not be made whole by what follows */
                if (used > DATAGRAM_MAX || !mnl_nlmsg_ok((const void *) message, (int) n))
                        return used;
        }
        kernel.dumping = false;
        put_verdict(buffer, &used, NLMSG_DONE);
        return used;
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags) {
        size_t used = 0;

        require(fd == FAKE_FD);
        require(flags & MSG_DONTWAIT);
        if (!kernel.dumping && kernel.next_ack == kernel.n_acks) {
                errno = EAGAIN;
                return -1;
        }
        /* Nothing behind what was received means anything, but for one 0: libnftnl looks for the
         * end of strings beyond their attribute. (The large buffers are on the heap, so this needs
         * not be undone.) */
        if (size > DATAGRAM_MAX)
                ASAN_UNPOISON_MEMORY_REGION(buffer, size);
        if (kernel.dumping)
                used = fill(buffer, size);
        else {
                kernel.sequence = kernel.acks[kernel.next_ack++];
                put_verdict(buffer, &used, NLMSG_ERROR);
        }
        if (size > DATAGRAM_MAX) {
                ((char *) buffer)[used] = 0;
                ASAN_POISON_MEMORY_REGION((char *) buffer + used + 1, size - used - 1);
        }
        return (ssize_t) used;
}

ssize_t __wrap___recv_chk(int fd, void *buffer, size_t size, size_t buffer_size, int flags) {
        return __wrap_recv(fd, buffer, size, flags);
}

/*
 * libnftnl ends the program where an attribute of the kernel's has not the size that it has always
 * had, and crashes where one lacks. That is the end of the broker then, and shuts every door; here
 * such messages are found out first and left out.
 */
static jmp_buf *way_out;

/* NULL without the sanitizers */
extern void __lsan_disable(void) __attribute__((weak));
extern void __lsan_enable(void) __attribute__((weak));

void exit(int status) {
        void (*libc_exit)(int);

        if (way_out)
                longjmp(*way_out, 1);
        libc_exit = (void (*)(int)) dlsym(RTLD_NEXT, "exit");
        libc_exit(status);
        abort();
}

static struct sigaction crash;

static void end_with_crash(int number, siginfo_t *info, void *context) {
        signal(number, SIG_DFL); /* the instruction is tried again */
}

static void on_crash(int number, siginfo_t *info, void *context) {
        if (way_out)
                longjmp(*way_out, 1);
        crash.sa_sigaction(number, info, context);
}

static void expect_crashes(void) {
        const struct sigaction action = {
                .sa_sigaction = on_crash,
                .sa_flags = SA_SIGINFO | SA_NODEFER,
        };

        if (crash.sa_sigaction)
                return;
        require(sigaction(SIGSEGV, &action, &crash) == 0);
        /* what is called where there was no handler */
        if (!(crash.sa_flags & SA_SIGINFO))
                crash.sa_sigaction = end_with_crash;
}

/* What was being built when it ended the program is lost. */
#define DEFINE_FIT(kind, type, parse)                                                              \
        static bool kind##_is_fit(const struct nlmsghdr *message) {                                \
                struct type *object = type##_alloc();                                              \
                jmp_buf here;                                                                      \
                bool fit = false;                                                                  \
                                                                                                   \
                require(object);                                                                   \
                way_out = &here;                                                                   \
                if (__lsan_disable)                                                                \
                        __lsan_disable();                                                          \
                if (setjmp(here) == 0) {                                                           \
                        (void) parse(message, object);                                             \
                        fit = true;                                                                \
                }                                                                                  \
                if (__lsan_enable)                                                                 \
                        __lsan_enable();                                                           \
                way_out = NULL;                                                                    \
                type##_free(object);                                                               \
                return fit;                                                                        \
        }

DEFINE_FIT(table, nftnl_table, nftnl_table_nlmsg_parse)
DEFINE_FIT(chain, nftnl_chain, nftnl_chain_nlmsg_parse)
DEFINE_FIT(rule, nftnl_rule, nftnl_rule_nlmsg_parse)
DEFINE_FIT(set, nftnl_set, nftnl_set_nlmsg_parse)
DEFINE_FIT(elements, nftnl_set, nftnl_set_elems_nlmsg_parse)

static bool is_fit(const struct nlmsghdr *message) {
        switch (message->nlmsg_type) {
        case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE:
                return table_is_fit(message);
        case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN:
                return chain_is_fit(message);
        case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE:
                return rule_is_fit(message);
        case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSET:
                return set_is_fit(message);
        case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM:
                return elements_is_fit(message);
        default:
                return true;
        }
}

void fake_netlink_begin(const uint8_t *messages, size_t size, FakeNetlinkCallback on_request) {
        size_t whole = NLMSG_ALIGN(size), n;
        uint16_t type = 0;

        expect_crashes();
        memset(&kernel, 0, sizeof(kernel));
        kernel.messages = calloc(1, whole + 1);
        require(kernel.messages);
        if (size > 0)
                memcpy(kernel.messages, messages, size);
        kernel.on_request = on_request;
        for (size_t position = 0; position < whole; position += NLMSG_ALIGN(n)) {
                uint8_t *place = kernel.messages + kernel.size;

                memmove(place, kernel.messages + position, whole - position);
                n = message_size(place, whole - position, &type);
                if (!mnl_nlmsg_ok((const void *) place, (int) n) || is_fit((const void *) place))
                        kernel.size += NLMSG_ALIGN(n);
        }
}

void fake_netlink_end(void) {
        require(kernel.n_open == 0);
        free(kernel.messages);
}
