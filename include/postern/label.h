/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* label: bits of a connection's label (conntrack's), laid out as the kernel does it. */

#include <stdbool.h>
#include <stdint.h>

enum { LABEL_BITS = 128, LABEL_SIZE = LABEL_BITS / 8 };

typedef struct Label {
        uint8_t bytes[LABEL_SIZE];
} Label;

Label label_from_bit(unsigned bit);
unsigned label_to_bit(const Label *label); /* its lowest; LABEL_BITS for none */
bool label_intersects(const Label *a, const Label *b);
void label_add(Label *label, const Label *other);
bool label_is_empty(const Label *label);
