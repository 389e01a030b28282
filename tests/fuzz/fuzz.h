/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * What the fuzzers share. Each one is a LLVMFuzzerTestOneInput(): linked with libFuzzer it is fed
 * with what that makes up; linked with replay.c, with the files of its corpus.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold, whatever the input is. */
#define require(condition)                                                                         \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)
