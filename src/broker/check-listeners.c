/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Who listens on a port, from the kernel's list of sockets (sock_diag), which is asked for this
 * port alone.
 *
 * The name of the program is that of a process which has the socket open. Finding it takes a walk
 * through /proc, so there is an end to that; what may not be looked at stays without a name.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <postern/check.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/directory.h>
#include <postern/netlink.h>
#include <string.h>
#include <sys/socket.h>

enum {
        SOCKETS_MAX = 8,             /* of one port that are told apart */
        SEARCH_MAX_USEC = 20 * 1000, /* for one pre-flight */
        PROGRAM_MAX = 16 + 1,
        /* all of them, with the longest of names */
        WORDS_MAX = SOCKETS_MAX * (PROGRAM_MAX + 40) + 16,
};

typedef struct Socket {
        uint32_t inode;
        bool loopback; /* for this host alone */
        bool v4, v6;   /* what it answers */
        char program[PROGRAM_MAX];
} Socket;

typedef struct Sockets {
        Socket items[SOCKETS_MAX];
        size_t n;
        bool more;
} Sockets;

static bool is_loopback(const struct inet_diag_msg *found) {
        static const uint8_t v6[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
        const uint8_t *address = (const uint8_t *) found->id.idiag_src;

        if (found->idiag_family == AF_INET)
                return address[0] == 127;
        return memcmp(address, v6, sizeof(v6)) == 0 ||
               (memcmp(address, mapped, sizeof(mapped)) == 0 && address[12] == 127);
}

static bool is_any(const struct inet_diag_msg *found) {
        const uint32_t *address = found->id.idiag_src;

        return !address[0] &&
               (found->idiag_family == AF_INET || !(address[1] | address[2] | address[3]));
}

static int take_socket(const struct nlmsghdr *message, void *userdata) {
        const struct inet_diag_msg *found = mnl_nlmsg_get_payload(message);
        const struct nlattr *attribute;
        Sockets *sockets = userdata;
        bool only_v6 = false;
        Socket *socket;

        if (mnl_nlmsg_get_payload_len(message) < sizeof(*found))
                return -EBADMSG;
        mnl_attr_for_each(attribute, message, sizeof(*found)) {
                if (mnl_attr_get_type(attribute) == INET_DIAG_SKV6ONLY &&
                    mnl_attr_validate(attribute, MNL_TYPE_U8) >= 0)
                        only_v6 = mnl_attr_get_u8(attribute);
        }
        if (sockets->n == SOCKETS_MAX) {
                sockets->more = true;
                return 0;
        }
        socket = &sockets->items[sockets->n++];
        *socket = (Socket){
                .inode = found->idiag_inode,
                .loopback = is_loopback(found),
                .v4 = found->idiag_family == AF_INET || (is_any(found) && !only_v6),
                .v6 = found->idiag_family == AF_INET6,
        };
        return 0;
}

static int read_sockets(Netlink *netlink, int family, const Port *port, Sockets *sockets) {
        char buffer[256] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct inet_diag_req_v2 *diag;
        struct nlmsghdr *request;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        diag = mnl_nlmsg_put_extra_header(request, sizeof(*diag));
        diag->sdiag_family = family;
        diag->sdiag_protocol = port->protocol;
        /* a UDP socket that takes what comes is in the state "closed" */
        diag->idiag_states = 1 << (port->protocol == PROTOCOL_TCP ? TCP_LISTEN : TCP_CLOSE);
        diag->id.idiag_sport = htons(port->number);
        return netlink_query(netlink, request, NLM_F_DUMP, take_socket, sockets);
}

/* Does this process have one of the sockets open? Then that has a name. */
static void match_process(const char *pid, Sockets *sockets, uint64_t until) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
        directory = opendir(path);
        while (directory && clock_now(CLOCK_MONOTONIC) < until && (entry = readdir(directory))) {
                _cleanup_fclose_ FILE *file = NULL;
                char target[64] = "";
                unsigned inode;

                if (readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1) < 0 ||
                    sscanf(target, "socket:[%u]", &inode) != 1)
                        continue;
                for (size_t i = 0; i < sockets->n; i++) {
                        Socket *socket = &sockets->items[i];

                        if (socket->inode != inode || *socket->program)
                                continue;
                        (void) snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
                        file = fopen(path, "re");
                        if (!file || !fgets(socket->program, sizeof(socket->program), file))
                                *socket->program = 0;
                        socket->program[strcspn(socket->program, "\n")] = 0;
                        break;
                }
        }
}

static bool all_have_names(const Sockets *sockets) {
        for (size_t i = 0; i < sockets->n; i++)
                if (!*sockets->items[i].program)
                        return false;
        return true;
}

static void find_programs(Sockets *sockets, uint64_t until) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;

        directory = opendir("/proc");
        while (directory && !all_have_names(sockets) && clock_now(CLOCK_MONOTONIC) < until &&
               (entry = readdir(directory)))
                if (*entry->d_name >= '0' && *entry->d_name <= '9')
                        match_process(entry->d_name, sockets, until);
}

/* Those of one program are one thing to a person. */
static void merge(Sockets *sockets) {
        size_t n = 0;

        for (size_t i = 0; i < sockets->n; i++) {
                const Socket *socket = &sockets->items[i];
                size_t k = 0;

                while (k < n && (sockets->items[k].loopback != socket->loopback ||
                                 strcmp(sockets->items[k].program, socket->program) != 0))
                        k++;
                if (k == n)
                        sockets->items[n++] = *socket;
                sockets->items[k].v4 |= socket->v4;
                sockets->items[k].v6 |= socket->v6;
        }
        sockets->n = n;
}

static void describe(const Sockets *sockets, char *ret, size_t size) {
        size_t used = 0;

        *ret = 0;
        for (size_t i = 0; i < sockets->n && used < size; i++) {
                const Socket *socket = &sockets->items[i];

                used += (size_t) snprintf(ret + used, size - used, "%s%s (%s%s)", i > 0 ? ", " : "",
                                          *socket->program ? socket->program : "a program",
                                          socket->v4 && socket->v6 ? "IPv4 and IPv6"
                                          : socket->v4             ? "IPv4"
                                                                   : "IPv6",
                                          socket->loopback ? ", loopback alone" : "");
        }
        if (sockets->more && used < size)
                (void) snprintf(ret + used, size - used, ", and others");
}

static void report_nobody(const Profile *profile, const char *subject, Findings *findings) {
        if (profile->open_on_challenge)
                findings_add(findings, FINDING_NOTE, subject,
                             "nobody listens on it now: with OpenOn=challenge a web server is to, "
                             "which answers with the token. Start it, unless the renewal does");
        else if (profile->reach_renewal)
                findings_add(findings, FINDING_OK, subject,
                             "nobody listens on it now: right for Reach=renewal, where the renewal "
                             "listens itself");
        else
                findings_add(findings, FINDING_OK, subject,
                             "nobody listens on it now: right for a renewal that listens itself "
                             "(certbot --standalone), wrong for one that needs a web server "
                             "(certbot --webroot)");
}

static void report_listening(const Profile *profile, const char *subject, const char *words,
                             Findings *findings) {
        if (profile->reach_renewal)
                findings_add(findings, FINDING_NOTE, subject,
                             "listening now: %s. A window with Reach=renewal does not lead there, "
                             "and a renewal that is to listen on the port itself cannot: stop that "
                             "program meanwhile, or write OpenOn=challenge in its place where that "
                             "is a web server that answers for the renewal",
                             words);
        else
                findings_add(findings, FINDING_NOTE, subject,
                             "listening now: %s. During a window that is what everybody reaches; a "
                             "renewal that listens itself (certbot --standalone) cannot",
                             words);
}

static void check_port(Netlink *netlink, const Profile *profile, const Port *port, uint64_t until,
                       Findings *findings) {
        char subject[16], words[WORDS_MAX];
        Sockets sockets = {};
        bool reachable;
        int r;

        (void) snprintf(subject, sizeof(subject), "%u/%s", port->number,
                        protocol_to_string(port->protocol));
        r = read_sockets(netlink, AF_INET, port, &sockets);
        if (r == 0)
                r = read_sockets(netlink, AF_INET6, port, &sockets);
        if (r < 0) {
                findings_add(findings, FINDING_NOTE, subject,
                             "who listens on it cannot be seen: the kernel does not tell (%s)",
                             strerror(-r));
                return;
        }
        if (sockets.n == 0) {
                report_nobody(profile, subject, findings);
                return;
        }
        find_programs(&sockets, until);
        merge(&sockets);
        describe(&sockets, words, sizeof(words));
        reachable = sockets.more; /* not known of those */
        for (size_t i = 0; i < sockets.n; i++)
                reachable |= !sockets.items[i].loopback;
        if (reachable)
                report_listening(profile, subject, words, findings);
        else
                findings_add(findings, FINDING_NOTE, subject,
                             "listening now: %s. Nobody from outside can reach that, window or not",
                             words);
}

void check_listeners(const Profile *profile, Findings *findings) {
        uint64_t until = clock_now(CLOCK_MONOTONIC) + SEARCH_MAX_USEC;
        Netlink netlink = {};
        int r;

        if (profile->n_ports == 0)
                return;
        r = netlink_open(&netlink, NETLINK_SOCK_DIAG);
        if (r < 0) {
                findings_add(findings, FINDING_NOTE, "listeners",
                             "who listens on the ports cannot be seen: the kernel does not tell "
                             "(%s)",
                             strerror(-r));
                return;
        }
        for (size_t i = 0; i < profile->n_ports; i++)
                check_port(&netlink, profile, &profile->ports[i], until, findings);
        netlink_close(&netlink);
}
