/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One walk over the conntrack table; each entry of ours is ended as it comes by, over sockets of
 * their own, so that nothing has to be remembered and memory cannot run out.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <postern/conntrack.h>
#include <string.h>

typedef struct Endpoint {
        uint8_t address[16];
        uint16_t port; /* network byte order */
} Endpoint;

typedef struct Tuple {
        uint8_t protocol;
        Endpoint source, destination;
} Tuple;

typedef struct Entry {
        uint8_t family;
        Label labels;
        Tuple original, reply;
        /* The attributes that name it, as the kernel gave them. */
        const struct nlattr *original_attribute, *zone, *id;
} Entry;

typedef struct Walk {
        Netlink *cut;
        Netlink *sockets; /* not open when the kernel has no sock_diag for TCP */
        const Label *labels;
        const Label *silenced;
        const Port *keep;
        size_t n_keep;
        ConntrackVisit visit;
        void *userdata;
        ConntrackCut done;
        int error;
} Walk;

enum {
        /* A connection that is silenced, and that nobody uses any more, is forgotten after this. */
        LINGER_SECONDS = 60,

        REQUEST_SIZE = 1024,
        NAMING_MAX = 256, /* of what names an entry; the kernel's are half as long */
};

static void take_address(const struct nlattr *attribute, Endpoint *endpoint) {
        size_t size = mnl_attr_get_payload_len(attribute);

        if (size <= sizeof(endpoint->address))
                memcpy(endpoint->address, mnl_attr_get_payload(attribute), size);
}

static void read_tuple(const struct nlattr *nest, Tuple *ret) {
        const struct nlattr *part, *attribute;

        mnl_attr_for_each_nested(part, nest) {
                mnl_attr_for_each_nested(attribute, part) {
                        uint16_t type = mnl_attr_get_type(attribute);
                        size_t size = mnl_attr_get_payload_len(attribute);

                        if (mnl_attr_get_type(part) == CTA_TUPLE_IP) {
                                if (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC)
                                        take_address(attribute, &ret->source);
                                else if (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST)
                                        take_address(attribute, &ret->destination);
                        } else if (mnl_attr_get_type(part) == CTA_TUPLE_PROTO) {
                                if (type == CTA_PROTO_NUM && size >= 1)
                                        ret->protocol = mnl_attr_get_u8(attribute);
                                else if (type == CTA_PROTO_SRC_PORT && size >= 2)
                                        ret->source.port = mnl_attr_get_u16(attribute);
                                else if (type == CTA_PROTO_DST_PORT && size >= 2)
                                        ret->destination.port = mnl_attr_get_u16(attribute);
                        }
                }
        }
}

static void read_entry(const struct nlmsghdr *message, Entry *ret) {
        const struct nfgenmsg *generic = mnl_nlmsg_get_payload(message);
        const struct nlattr *attribute;

        *ret = (Entry){.family = generic->nfgen_family};
        mnl_attr_for_each(attribute, message, sizeof(*generic)) {
                if (mnl_attr_get_payload_len(attribute) > NAMING_MAX)
                        continue;
                switch (mnl_attr_get_type(attribute)) {
                case CTA_LABELS:
                        if (mnl_attr_get_payload_len(attribute) == LABEL_SIZE)
                                memcpy(ret->labels.bytes, mnl_attr_get_payload(attribute),
                                       LABEL_SIZE);
                        break;
                case CTA_TUPLE_ORIG:
                        ret->original_attribute = attribute;
                        read_tuple(attribute, &ret->original);
                        break;
                case CTA_TUPLE_REPLY:
                        read_tuple(attribute, &ret->reply);
                        break;
                case CTA_ZONE:
                        ret->zone = attribute;
                        break;
                case CTA_ID:
                        ret->id = attribute;
                        break;
                default:
                        break;
                }
        }
}

static void put_copy(struct nlmsghdr *message, const struct nlattr *attribute) {
        if (attribute)
                mnl_attr_put(message, attribute->nla_type, mnl_attr_get_payload_len(attribute),
                             mnl_attr_get_payload(attribute));
}

static struct nlmsghdr *entry_request(char *buffer, uint16_t type, const Entry *entry) {
        struct nfgenmsg *generic;
        struct nlmsghdr *request;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | type;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = entry->family;
        put_copy(request, entry->original_attribute);
        put_copy(request, entry->zone);
        return request;
}

static int delete_entry(Netlink *netlink, const Entry *entry) {
        char buffer[REQUEST_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlmsghdr *request = entry_request(buffer, IPCTNL_MSG_CT_DELETE, entry);

        put_copy(request, entry->id); /* not another one that took its place */
        return netlink_request(netlink, request);
}

static int silence_entry(Netlink *netlink, const Entry *entry, const Label *silenced) {
        char buffer[REQUEST_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlmsghdr *request = entry_request(buffer, IPCTNL_MSG_CT_NEW, entry);

        mnl_attr_put(request, CTA_LABELS, LABEL_SIZE, silenced->bytes);
        mnl_attr_put(request, CTA_LABELS_MASK, LABEL_SIZE, silenced->bytes);
        mnl_attr_put_u32(request, CTA_TIMEOUT, htonl(LINGER_SECONDS));
        return netlink_request(netlink, request);
}

/* Names the server's end: in the reply's tuple it is the source, whatever was rewritten on the way.
 */
static struct nlmsghdr *socket_request(char *buffer, uint16_t type, const Entry *entry,
                                       const uint32_t cookie[2]) {
        struct inet_diag_req_v2 *wanted;
        struct nlmsghdr *request;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = type;
        wanted = mnl_nlmsg_put_extra_header(request, sizeof(*wanted));
        wanted->sdiag_family = entry->family;
        wanted->sdiag_protocol = IPPROTO_TCP;
        wanted->idiag_states = UINT32_MAX;
        wanted->id.idiag_sport = entry->reply.source.port;
        wanted->id.idiag_dport = entry->reply.destination.port;
        memcpy(wanted->id.idiag_src, entry->reply.source.address, 16);
        memcpy(wanted->id.idiag_dst, entry->reply.destination.address, 16);
        memcpy(wanted->id.idiag_cookie, cookie, sizeof(wanted->id.idiag_cookie));
        return request;
}

static int take_socket(const struct nlmsghdr *message, void *userdata) {
        if (mnl_nlmsg_get_payload_len(message) < sizeof(struct inet_diag_msg))
                return -EBADMSG;
        memcpy(userdata, mnl_nlmsg_get_payload(message), sizeof(struct inet_diag_msg));
        return 0;
}

/* Without the module for TCP a socket that is not found and a question that is not understood get
 * the same answer, so this asks for none of them all. */
static bool socket_diag_works(Netlink *netlink) {
        char buffer[256] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct inet_diag_req_v2 *wanted;
        struct inet_diag_msg found;
        struct nlmsghdr *request;

        if (!netlink->socket)
                return false;
        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        wanted = mnl_nlmsg_put_extra_header(request, sizeof(*wanted));
        wanted->sdiag_family = AF_INET;
        wanted->sdiag_protocol = IPPROTO_TCP;
        return netlink_query(netlink, request, NLM_F_DUMP, take_socket, &found) == 0;
}

/*
 * 1: destroyed; 0: there is none (any more); or a negative errno.
 *
 * It is looked up first and destroyed by its cookie, since for a connection that is gone the kernel
 * would find the listening socket instead, and that one is the host's.
 */
static int destroy_socket(Netlink *netlink, const Entry *entry) {
        static const uint32_t any[2] = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE};
        char buffer[REQUEST_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct inet_diag_msg found = {};
        int r;

        if (!netlink->socket)
                return -EOPNOTSUPP;
        r = netlink_query(netlink, socket_request(buffer, SOCK_DIAG_BY_FAMILY, entry, any),
                          NLM_F_ACK, take_socket, &found);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        /* One in TIME_WAIT has nothing to say. */
        if (found.idiag_state == TCP_LISTEN || found.idiag_state == TCP_TIME_WAIT ||
            found.id.idiag_dport != entry->reply.destination.port)
                return 0;
        r = netlink_request(netlink,
                            socket_request(buffer, SOCK_DESTROY, entry, found.id.idiag_cookie));
        return r == -ENOENT || r == -ESTALE ? 0 : r < 0 ? r : 1;
}

static void walk_fail(Walk *walk, int error) {
        if (error < 0 && error != -ENOENT && walk->error == 0)
                walk->error = error;
}

static bool port_is_kept(const Walk *walk, const Port *port) {
        for (size_t i = 0; i < walk->n_keep; i++)
                if (walk->keep[i].protocol == port->protocol &&
                    walk->keep[i].number == port->number)
                        return true;
        return false;
}

/* The reply's source is the port that the input hook saw: a redirect is already in it. */
static Port entry_port(const Entry *entry) {
        return (Port){(Protocol) entry->reply.protocol, ntohs(entry->reply.source.port)};
}

static void tell_visit(const Walk *walk, const Entry *entry, const Port *port) {
        if (walk->visit && entry->original_attribute && entry->id &&
            mnl_attr_get_payload_len(entry->id) == sizeof(uint32_t) &&
            (entry->family == AF_INET || entry->family == AF_INET6))
                walk->visit(mnl_attr_get_u32(entry->id), entry->family == AF_INET6,
                            entry->original.source.address, port, walk->userdata);
}

static int cut_entry(const struct nlmsghdr *message, void *userdata) {
        Walk *walk = userdata;
        Entry entry;
        Port port;
        int r;

        read_entry(message, &entry);
        if (!label_intersects(&entry.labels, walk->labels))
                return 0;
        port = entry_port(&entry);
        tell_visit(walk, &entry, &port);
        if (port_is_kept(walk, &port))
                return 0;
        /* Without it, to delete would mean every connection of the host. */
        if (!entry.original_attribute) {
                walk_fail(walk, -EBADMSG);
                return 0;
        }

        /* The socket first: its reset still goes out over the entry. */
        r = entry.original.protocol == IPPROTO_TCP ? destroy_socket(walk->sockets, &entry)
                                                   : -EOPNOTSUPP;
        if (r < 0) {
                walk->done.lingering++;
                if (walk->silenced && !label_intersects(&entry.labels, walk->silenced))
                        walk_fail(walk, silence_entry(walk->cut, &entry, walk->silenced));
                return 0;
        }
        walk->done.sockets += r;
        r = delete_entry(walk->cut, &entry);
        if (r == 0)
                walk->done.entries++;
        walk_fail(walk, r);
        return 0;
}

static int walk_conntrack(Netlink *dump, NetlinkCallback callback, void *userdata) {
        char buffer[256] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nfgenmsg *generic;
        struct nlmsghdr *request;

        request = mnl_nlmsg_put_header(buffer);
        request->nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = AF_UNSPEC;
        return netlink_query(dump, request, NLM_F_DUMP, callback, userdata);
}

int conntrack_cut(Netlink *dump, Netlink *cut, const Label *labels, const Label *silenced,
                  const Port *keep, size_t n_keep, ConntrackVisit visit, void *userdata,
                  ConntrackCut *ret) {
        Netlink sockets = {};
        Walk walk = {
                .cut = cut,
                .sockets = &sockets,
                .labels = labels,
                .silenced = silenced,
                .keep = keep,
                .n_keep = n_keep,
                .visit = visit,
                .userdata = userdata,
        };
        int r;

        (void) netlink_open(&sockets, NETLINK_SOCK_DIAG);
        if (!socket_diag_works(&sockets))
                netlink_close(&sockets);
        r = walk_conntrack(dump, cut_entry, &walk);
        netlink_close(&sockets);
        ret->entries += walk.done.entries;
        ret->sockets += walk.done.sockets;
        ret->lingering = walk.done.lingering;
        return r < 0 ? r : walk.error;
}

static int visit_entry(const struct nlmsghdr *message, void *userdata) {
        const Walk *walk = userdata;
        Entry entry;
        Port port;

        read_entry(message, &entry);
        port = entry_port(&entry);
        if (label_intersects(&entry.labels, walk->labels))
                tell_visit(walk, &entry, &port);
        return 0;
}

int conntrack_visit(Netlink *dump, const Label *labels, ConntrackVisit visit, void *userdata) {
        Walk walk = {.labels = labels, .visit = visit, .userdata = userdata};

        return walk_conntrack(dump, visit_entry, &walk);
}

static int take_labels(const struct nlmsghdr *message, void *userdata) {
        Entry entry;

        read_entry(message, &entry);
        label_add(userdata, &entry.labels);
        return 0;
}

int conntrack_labels(Netlink *dump, Label *ret) {
        Label labels = {};
        int r;

        r = walk_conntrack(dump, take_labels, &labels);
        if (r < 0)
                return r;
        *ret = labels;
        return 0;
}
