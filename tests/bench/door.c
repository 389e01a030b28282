/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * door: opens and shuts a window's door N times in the network namespace it runs in, and prints the
 * microseconds of each opening and each shutting, to the last acknowledgement and read back.
 *
 *     bench-door N RUNTIME_DIR
 */

#include <inttypes.h>
#include <postern/door.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_usec(clockid_t clock) {
        struct timespec now;

        clock_gettime(clock, &now);
        return (uint64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void on_news(const char *window_id, DoorNews news, const char *why, void *userdata) {
        fprintf(stderr, "%s: %s\n", window_id, why);
}

int main(int argc, char **argv) {
        Profile profile = {
                .n_ports = 1,
                .ports = { { .protocol = PROTOCOL_TCP, .number = 80 } },
        };
        sd_event *event = NULL;
        Door *door = NULL;
        int r;

        if (argc != 3) {
                fprintf(stderr, "usage: %s N RUNTIME_DIR\n", argv[0]);
                return 2;
        }
        r = sd_event_default(&event);
        if (r >= 0)
                r = door_new(&door, event, argv[2], on_news, NULL);
        for (long i = 0; r >= 0 && i < atol(argv[1]); i++) {
                char *gate = NULL, *problem = NULL;
                uint64_t begun, open, shut;

                begun = now_usec(CLOCK_MONOTONIC);
                r = door_open(door, "w000000000000", &profile,
                              now_usec(CLOCK_BOOTTIME) + 120 * 1000000, "", &gate, &problem);
                open = now_usec(CLOCK_MONOTONIC);
                if (r == DOOR_REFUSED) {
                        fprintf(stderr, "%s\n", problem);
                        r = -1;
                } else if (r == DOOR_OK)
                        r = door_shut(door, "w000000000000");
                shut = now_usec(CLOCK_MONOTONIC);
                if (r == 0)
                        printf("%" PRIu64 " %" PRIu64 "\n", open - begun, shut - open);
                free(gate);
                free(problem);
        }
        door_free(door);
        sd_event_unref(event);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
