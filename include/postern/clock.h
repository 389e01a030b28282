/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Now, in microseconds. Read each time: the event loop's own idea of now is as old as its last
 * wakeup. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now(clockid_t clock) {
        struct timespec now;

        clock_gettime(clock, &now);
        return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}
