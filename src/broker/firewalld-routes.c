/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A dump of the routes, of which the default ones count. See the header. */

#include <errno.h>
#include <linux/rtnetlink.h>
#include <postern/firewalld-routes.h>
#include <postern/netlink.h>
#include <string.h>

enum { DUMPS_MAX = 5 }; /* routes that change under every one of them settle sooner or later */

typedef struct Interfaces {
        unsigned indexes[FIREWALLD_INTERFACES_MAX];
        size_t n;
} Interfaces;

static int add_index(Interfaces *interfaces, unsigned index) {
        for (size_t i = 0; i < interfaces->n; i++)
                if (interfaces->indexes[i] == index)
                        return 0;
        if (interfaces->n == FIREWALLD_INTERFACES_MAX)
                return -E2BIG;
        interfaces->indexes[interfaces->n++] = index;
        return 0;
}

static int add_hops(Interfaces *interfaces, const struct nlattr *attribute) {
        const struct rtnexthop *hop = mnl_attr_get_payload(attribute);
        int left = mnl_attr_get_payload_len(attribute), r = 0;

        while (r == 0 && RTNH_OK(hop, left)) {
                left -= NLMSG_ALIGN(hop->rtnh_len);
                r = add_index(interfaces, (unsigned) hop->rtnh_ifindex);
                hop = RTNH_NEXT(hop);
        }
        return r;
}

static int on_route(const struct nlmsghdr *message, void *userdata) {
        const struct rtmsg *route = mnl_nlmsg_get_payload(message);
        Interfaces *interfaces = userdata;
        const struct nlattr *attribute;
        int r = 0;

        if (message->nlmsg_type != RTM_NEWROUTE ||
            mnl_nlmsg_get_payload_len(message) < sizeof(*route) || route->rtm_dst_len != 0 ||
            route->rtm_type != RTN_UNICAST || route->rtm_table != RT_TABLE_MAIN)
                return 0;
        mnl_attr_for_each(attribute, message, sizeof(*route)) {
                if (mnl_attr_get_type(attribute) == RTA_OIF &&
                    mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
                        r = add_index(interfaces, mnl_attr_get_u32(attribute));
                else if (mnl_attr_get_type(attribute) == RTA_MULTIPATH)
                        r = add_hops(interfaces, attribute);
                if (r < 0)
                        break;
        }
        return r;
}

static int dump_routes(Netlink *netlink, uint8_t family, Interfaces *interfaces) {
        char buffer[MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(struct rtmsg))] = {};
        int r = -EINTR;

        for (unsigned i = 0; r == -EINTR && i < DUMPS_MAX; i++) {
                struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
                struct rtmsg *route;

                request->nlmsg_type = RTM_GETROUTE;
                route = mnl_nlmsg_put_extra_header(request, sizeof(*route));
                route->rtm_family = family;
                r = netlink_query(netlink, request, NLM_F_DUMP, on_route, interfaces);
        }
        return r;
}

int firewalld_read_interfaces(InterfaceName ret[FIREWALLD_INTERFACES_MAX], size_t *ret_n) {
        Interfaces interfaces = {};
        Netlink netlink = {};
        size_t n = 0;
        int r;

        r = netlink_open(&netlink, NETLINK_ROUTE);
        if (r < 0)
                return r;
        r = dump_routes(&netlink, AF_INET, &interfaces);
        if (r == 0)
                r = dump_routes(&netlink, AF_INET6, &interfaces);
        netlink_close(&netlink);
        if (r < 0)
                return r;

        for (size_t i = 0; i < interfaces.n; i++)
                if (if_indextoname(interfaces.indexes[i], ret[n].text)) /* else it has gone */
                        n++;
        *ret_n = n;
        return 0;
}
