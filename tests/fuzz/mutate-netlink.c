/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Changes netlink messages so that most of them stay some: a flipped length loses all that follows,
 * and hardly anything would come further than to the first check.
 *
 * Besides what libFuzzer does with any bytes, values change in place or become those of others, and
 * whole attributes and messages come, go and are repeated, with the lengths around them put right.
 */

#include "fuzz.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/cleanup.h>
#include <stdbool.h>
#include <string.h>

enum { PARTS_MAX = 2048, DEPTH_MAX = 8, NO_PART = -1 };

/* A message, or an attribute in one. */
typedef struct Part {
        size_t offset;
        size_t size; /* without padding */
        int parent;
        uint16_t type;
        int depth;
} Part;

static Part parts[PARTS_MAX];
static int n_parts;

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static unsigned draw(unsigned *seed, size_t below) {
        *seed = *seed * 1664525 + 1013904223;
        return below ? (*seed >> 8) % below : 0;
}

static bool are_attributes(const uint8_t *data, size_t size) {
        struct nlattr attribute;

        if (size < sizeof(attribute))
                return false;
        while (size >= sizeof(attribute)) {
                memcpy(&attribute, data, sizeof(attribute));
                if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > size ||
                    (attribute.nla_type & NLA_TYPE_MASK) > 64)
                        return false;
                if (MNL_ALIGN(attribute.nla_len) >= size)
                        return true;
                data += MNL_ALIGN(attribute.nla_len);
                size -= MNL_ALIGN(attribute.nla_len);
        }
        return false;
}

static void find_attributes(const uint8_t *data, size_t offset, size_t size, int parent) {
        size_t end = offset + size;

        if (!are_attributes(data + offset, size) || parts[parent].depth == DEPTH_MAX)
                return;
        while (offset < end && n_parts < PARTS_MAX) {
                struct nlattr attribute;
                int part = n_parts++;

                memcpy(&attribute, data + offset, sizeof(attribute));
                parts[part] = (Part){offset, attribute.nla_len, parent, attribute.nla_type,
                                     parts[parent].depth + 1};
                find_attributes(data, offset + sizeof(attribute),
                                attribute.nla_len - sizeof(attribute), part);
                offset += MNL_ALIGN(attribute.nla_len);
        }
}

static void find_parts(const uint8_t *data, size_t size) {
        struct nlmsghdr header;
        size_t offset = 0;

        n_parts = 0;
        while (offset < size && size - offset >= sizeof(header) + sizeof(struct nfgenmsg) &&
               n_parts < PARTS_MAX) {
                int part = n_parts++;

                memcpy(&header, data + offset, sizeof(header));
                if (header.nlmsg_len < sizeof(header) + sizeof(struct nfgenmsg) ||
                    header.nlmsg_len > size - offset) {
                        n_parts--;
                        return;
                }
                parts[part] = (Part){offset, header.nlmsg_len, NO_PART, header.nlmsg_type, 0};
                find_attributes(data, offset + sizeof(header) + sizeof(struct nfgenmsg),
                                header.nlmsg_len - sizeof(header) - sizeof(struct nfgenmsg), part);
                offset += MNL_ALIGN(header.nlmsg_len);
        }
}

static void grow(uint8_t *data, int part, int by) {
        for (; part != NO_PART; part = parts[part].parent) {
                uint8_t *start = data + parts[part].offset;

                if (parts[part].parent == NO_PART) {
                        struct nlmsghdr header;

                        memcpy(&header, start, sizeof(header));
                        header.nlmsg_len += by;
                        memcpy(start, &header, sizeof(header));
                } else {
                        struct nlattr attribute;

                        memcpy(&attribute, start, sizeof(attribute));
                        attribute.nla_len += by;
                        memcpy(start, &attribute, sizeof(attribute));
                }
        }
}

static size_t take_out(uint8_t *data, size_t size, int part) {
        size_t length = MNL_ALIGN(parts[part].size), offset = parts[part].offset;

        if (length > size - offset)
                return size;
        grow(data, parts[part].parent, -(int) length);
        memmove(data + offset, data + offset + length, size - offset - length);
        return size - length;
}

/* Puts a copy of one part before another. */
static size_t put_in(uint8_t *data, size_t size, size_t max_size, int part, int before) {
        size_t length = MNL_ALIGN(parts[part].size), offset = parts[before].offset;
        _cleanup_free_ uint8_t *copy = NULL;

        if (length > max_size - size || parts[part].offset + length > size ||
            length > UINT16_MAX / 2)
                return size;
        copy = malloc(length);
        require(copy);
        memcpy(copy, data + parts[part].offset, length);
        grow(data, parts[before].parent, (int) length);
        memmove(data + offset + length, data + offset, size - offset);
        memcpy(data + offset, copy, length);
        return size + length;
}

/* Another part that could stand in its place, or the same. */
static int find_like(unsigned *seed, int part) {
        int start = (int) draw(seed, n_parts);

        for (int i = 0; i < n_parts; i++) {
                int other = (start + i) % n_parts;

                if (parts[other].depth == parts[part].depth &&
                    (parts[part].depth == 0 || parts[other].type == parts[part].type))
                        return other;
        }
        return part;
}

static void change_value(uint8_t *data, unsigned *seed, int part) {
        size_t skip = parts[part].depth ? sizeof(struct nlattr) : sizeof(struct nlmsghdr);
        uint8_t *value = data + parts[part].offset + skip;
        size_t length = parts[part].size - skip;
        int other = find_like(seed, part);
        _cleanup_free_ uint8_t *copy = NULL;

        if (length == 0)
                return;
        if (other != part && parts[other].size == parts[part].size && draw(seed, 2)) {
                memmove(value, data + parts[other].offset + skip, length);
                return;
        }
        copy = malloc(length);
        require(copy);
        memcpy(copy, value, length);
        (void) LLVMFuzzerMutate(copy, length, length);
        memcpy(value, copy, length);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
        int part;

        find_parts(data, size);
        if (n_parts == 0 || draw(&seed, 16) == 0)
                return LLVMFuzzerMutate(data, size, max_size);
        part = (int) draw(&seed, n_parts);
        switch (draw(&seed, 6)) {
        case 0:
                return take_out(data, size, part);
        case 1:
        case 2:
                return put_in(data, size, max_size, find_like(&seed, part), part);
        default:
                /* a leaf: the others are changed through these */
                while (part + 1 < n_parts && parts[part + 1].parent == part)
                        part++;
                change_value(data, &seed, part);
                return size;
        }
}
