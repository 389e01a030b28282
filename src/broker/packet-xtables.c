/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Matches of xtables, which nft_compat hands through as the structures of their own headers. */

#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_state.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <netinet/tcp.h>
#include <postern/cleanup.h>
#include <postern/packet.h>
#include <string.h>

typedef struct Match {
        bool matches, sure;
} Match;

static const Match match_nobody = {.matches = false, .sure = true};
static const Match match_everybody = {.matches = true, .sure = true};
static const Match match_some = {.matches = false, .sure = false};

static bool within(uint16_t port, const uint16_t range[2], bool inverted) {
        return (port >= range[0] && port <= range[1]) != inverted;
}

static Match of_ports(uint16_t port, const uint16_t from[2], const uint16_t to[2], bool any_source,
                      bool inverted) {
        if (!within(port, to, inverted))
                return match_nobody;
        /* a stranger's own port may be any */
        return any_source && from[0] == 0 && from[1] == UINT16_MAX ? match_everybody : match_some;
}

static Match meet_tcp(const Packet *packet, const struct xt_tcp *tcp) {
        bool flags = (TH_SYN & tcp->flg_mask) == tcp->flg_cmp;

        if (packet->port.protocol != PROTOCOL_TCP)
                return match_nobody;
        if (flags == !!(tcp->invflags & XT_TCP_INV_FLAGS))
                return match_nobody;
        if (tcp->option)
                return match_some;
        return of_ports(packet->port.number, tcp->spts, tcp->dpts,
                        !(tcp->invflags & XT_TCP_INV_SRCPT), tcp->invflags & XT_TCP_INV_DSTPT);
}

static Match meet_udp(const Packet *packet, const struct xt_udp *udp) {
        if (packet->port.protocol != PROTOCOL_UDP)
                return match_nobody;
        return of_ports(packet->port.number, udp->spts, udp->dpts,
                        !(udp->invflags & XT_UDP_INV_SRCPT), udp->invflags & XT_UDP_INV_DSTPT);
}

static Match meet_multiport(const Packet *packet, const struct xt_multiport_v1 *multiport) {
        bool found = false;

        if (multiport->flags == XT_MULTIPORT_SOURCE)
                return match_some;
        for (unsigned i = 0; i < multiport->count && i < XT_MULTI_PORTS; i++) {
                uint16_t range[2] = {multiport->ports[i], multiport->ports[i]};

                if (multiport->pflags[i] && i + 1 < XT_MULTI_PORTS)
                        range[1] = multiport->ports[++i];
                found |= within(packet->port.number, range, false);
        }
        if (multiport->flags == XT_MULTIPORT_EITHER && !found)
                return match_some;
        return found != !!multiport->invert ? match_everybody : match_nobody;
}

static Match meet_state(const Packet *packet, unsigned mask, unsigned untracked, bool inverted) {
        unsigned state = packet->untracked ? untracked : (unsigned) XT_STATE_BIT(IP_CT_NEW);

        return !(mask & state) == inverted ? match_everybody : match_nobody;
}

/* Revisions 2 and 3, which begin alike. */
static Match meet_conntrack(const Packet *packet, const struct xt_conntrack_mtinfo2 *conntrack) {
        /* how it was asked for does not matter */
        unsigned about = conntrack->match_flags & ~(unsigned) XT_CONNTRACK_STATE_ALIAS;
        Match state = match_everybody;

        if (about & XT_CONNTRACK_STATE)
                state = meet_state(packet, conntrack->state_mask, XT_CONNTRACK_STATE_UNTRACKED,
                                   conntrack->invert_flags & XT_CONNTRACK_STATE);
        if (!state.matches || about == XT_CONNTRACK_STATE)
                return state;
        return match_some;
}

static Match meet_addrtype(const struct xt_addrtype_info_v1 *type) {
        if (type->source || type->flags & ~(uint32_t) XT_ADDRTYPE_INVERT_DEST)
                return match_some;
        return !(type->dest & XT_ADDRTYPE_LOCAL) == !!(type->flags & XT_ADDRTYPE_INVERT_DEST)
                       ? match_everybody
                       : match_nobody;
}

/* What is at the beginning of all revisions of an ipset match. */
typedef struct IpSetMatch {
        uint16_t index;
        uint8_t dim;
        uint8_t flags;
} IpSetMatch;

enum { IPSET_INVERTED = 1 << 0 };

static Match meet(const Packet *packet, const char *name, uint32_t revision, const void *info,
                  size_t size) {
        if (strcmp(name, "comment") == 0)
                return match_everybody;
        if (strcmp(name, "tcp") == 0 && size >= sizeof(struct xt_tcp))
                return meet_tcp(packet, info);
        if (strcmp(name, "udp") == 0 && size >= sizeof(struct xt_udp))
                return meet_udp(packet, info);
        if (strcmp(name, "multiport") == 0 && revision == 1 &&
            size >= sizeof(struct xt_multiport_v1))
                return meet_multiport(packet, info);
        if (strcmp(name, "conntrack") == 0 && revision >= 2 &&
            size >= sizeof(struct xt_conntrack_mtinfo2))
                return meet_conntrack(packet, info);
        if (strcmp(name, "state") == 0 && size >= sizeof(struct xt_state_info))
                return meet_state(packet, ((const struct xt_state_info *) info)->statemask,
                                  XT_STATE_UNTRACKED, false);
        if (strcmp(name, "addrtype") == 0 && revision == 1 &&
            size >= sizeof(struct xt_addrtype_info_v1))
                return meet_addrtype(info);
        /* a stranger is in no list */
        if (strcmp(name, "set") == 0 && revision >= 1 && size >= sizeof(IpSetMatch))
                return (Match){.matches = ((const IpSetMatch *) info)->flags & IPSET_INVERTED};
        if (strcmp(name, "limit") == 0)
                return (Match){.matches = true};
        return match_some;
}

void packet_meet_match(const Packet *packet, const struct nftnl_expr *expr, bool *ret_matches,
                       bool *ret_sure) {
        const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_MT_NAME);
        Match match = match_some;
        uint32_t size = 0;
        const void *info = nftnl_expr_get(expr, NFTNL_EXPR_MT_INFO, &size);

        if (name && info)
                match = meet(packet, name, nftnl_expr_get_u32(expr, NFTNL_EXPR_MT_REV), info, size);
        *ret_matches = match.matches;
        *ret_sure = match.sure;
}
