/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A set is asked for the one element that is of interest, however many it has: the kernel finds it
 * as it would for a packet. Two questions each, as the first says how long a key is.
 */

#include <errno.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/cleanup.h>
#include <postern/packet.h>
#include <string.h>

enum { REQUEST_SIZE = 1024 };

DEFINE_CLEANUP(struct nftnl_set, nftnl_set_free);

typedef struct Element {
        struct nftnl_set *set;
        SetAnswer *answer;
        bool found;
} Element;

static struct nlmsghdr *begin(char *buffer, uint16_t type, uint32_t family) {
        struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
        struct nfgenmsg *generic;

        request->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | type;
        generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
        generic->nfgen_family = (uint8_t) family;
        return request;
}

static int take_set(const struct nlmsghdr *message, void *userdata) {
        return nftnl_set_nlmsg_parse(message, userdata) < 0 ? -EBADMSG : 0;
}

static int ask_key_size(Packet *packet, uint32_t family, const char *table, const char *name,
                        size_t *ret) {
        _cleanup_(nftnl_set_free_cleanup) struct nftnl_set *set = nftnl_set_alloc();
        char buffer[REQUEST_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlmsghdr *request;
        int r;

        if (!set)
                return -ENOMEM;
        request = begin(buffer, NFT_MSG_GETSET, family);
        mnl_attr_put_strz(request, NFTA_SET_TABLE, table);
        mnl_attr_put_strz(request, NFTA_SET_NAME, name);
        r = netlink_query(packet->query, request, NLM_F_ACK, take_set, set);
        if (r < 0)
                return r;
        *ret = nftnl_set_get_u32(set, NFTNL_SET_KEY_LEN);
        return *ret > 0 ? 0 : -EBADMSG;
}

static Act act_of_verdict(int verdict) {
        switch (verdict) {
        case NF_ACCEPT:
                return ACT_ACCEPT;
        case NF_DROP:
                return ACT_DROP;
        case NFT_RETURN:
                return ACT_RETURN;
        case NFT_JUMP:
                return ACT_JUMP;
        case NFT_GOTO:
                return ACT_GOTO;
        default: /* continue */
                return ACT_NOTHING;
        }
}

static int take_element(struct nftnl_set_elem *elem, void *userdata) {
        Element *element = userdata;
        SetAnswer *answer = element->answer;
        const char *chain;
        const void *data;
        uint32_t size = 0;

        element->found = true;
        if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_VERDICT)) {
                answer->act =
                        act_of_verdict((int) nftnl_set_elem_get_u32(elem, NFTNL_SET_ELEM_VERDICT));
                chain = nftnl_set_elem_get_str(elem, NFTNL_SET_ELEM_CHAIN);
                if (chain && strlen(chain) < sizeof(answer->target))
                        memcpy(answer->target, chain, strlen(chain) + 1);
        }
        data = nftnl_set_elem_get(elem, NFTNL_SET_ELEM_DATA, &size);
        if (data && size <= sizeof(answer->data)) {
                memcpy(answer->data, data, size);
                answer->size = size;
        }
        return 0;
}

static int take_elements(const struct nlmsghdr *message, void *userdata) {
        Element *element = userdata;

        if (nftnl_set_elems_nlmsg_parse(message, element->set) < 0)
                return -EBADMSG;
        return nftnl_set_elem_foreach(element->set, take_element, element);
}

int packet_ask_set(Packet *packet, uint32_t family, const char *table, const char *set,
                   const uint8_t *key, size_t known, SetAnswer *ret) {
        _cleanup_(nftnl_set_free_cleanup) struct nftnl_set *elements = NULL;
        char buffer[REQUEST_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nlattr *list, *item, *value;
        Element element = {.answer = ret};
        struct nlmsghdr *request;
        size_t size;
        int r;

        if (!packet->query || packet->n_queries >= PACKET_SET_QUERIES_MAX)
                return -ENODATA;
        /* no set has a longer name, and the requests have room for no longer one */
        if (strlen(set) >= NFT_NAME_MAXLEN)
                return -ENODATA;
        packet->n_queries++;
        r = ask_key_size(packet, family, table, set, &size);
        if (r < 0)
                return r;
        if (size > known)
                return -ENODATA;
        element.set = elements = nftnl_set_alloc();
        if (!elements)
                return -ENOMEM;
        request = begin(buffer, NFT_MSG_GETSETELEM, family);
        mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_TABLE, table);
        mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_SET, set);
        list = mnl_attr_nest_start(request, NFTA_SET_ELEM_LIST_ELEMENTS);
        item = mnl_attr_nest_start(request, NFTA_LIST_ELEM);
        value = mnl_attr_nest_start(request, NFTA_SET_ELEM_KEY);
        mnl_attr_put(request, NFTA_DATA_VALUE, size, key);
        mnl_attr_nest_end(request, value);
        mnl_attr_nest_end(request, item);
        mnl_attr_nest_end(request, list);
        r = netlink_query(packet->query, request, NLM_F_ACK, take_elements, &element);
        ret->key_size = size;
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : element.found;
}
