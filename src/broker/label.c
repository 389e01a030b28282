/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See the header. */

#include <postern/label.h>
#include <string.h>

Label label_from_bit(unsigned bit) {
        unsigned long words[LABEL_SIZE / sizeof(unsigned long)] = {};
        Label label;

        /* The kernel keeps labels as a bitmap of longs, and compares them as bytes. */
        words[bit / (8 * sizeof(long))] = 1UL << (bit % (8 * sizeof(long)));
        memcpy(label.bytes, words, sizeof(label.bytes));
        return label;
}

unsigned label_to_bit(const Label *label) {
        Label one;
        unsigned bit;

        for (bit = 0; bit < LABEL_BITS; bit++) {
                one = label_from_bit(bit);
                if (label_intersects(&one, label))
                        break;
        }
        return bit;
}

bool label_intersects(const Label *a, const Label *b) {
        for (size_t i = 0; i < LABEL_SIZE; i++)
                if (a->bytes[i] & b->bytes[i])
                        return true;
        return false;
}

void label_add(Label *label, const Label *other) {
        for (size_t i = 0; i < LABEL_SIZE; i++)
                label->bytes[i] |= other->bytes[i];
}

bool label_is_empty(const Label *label) {
        Label none = {};

        return memcmp(label, &none, sizeof(none)) == 0;
}
