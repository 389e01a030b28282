/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * door-faults: opens, shuts, mends, ends and sweeps a door with each allocation and each system
 * call failed in turn, and looks each time at what the firewall does, by a connection, against what
 * the door said.
 *
 *     door-faults RUNTIME_DIR CPU PHASE WAY [EVERY/OFFSET | all | N]
 *
 * Of the calls from the same place in the program, between the same two transactions (a loop over
 * rules, say), the first fails, and the last; EVERY/OFFSET: every so many places, from that one on;
 * all: each call, and then each with all that follow. N: that one alone.
 *
 * In a network namespace of its own, whose loopback device is up and whose ruleset denies all but
 * what is established and UDP to port 9. Prints how each ended.
 */

#include "door-phases.h"
#include "faults.h"
#include "loopback.h"
#include "sites.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const outcome_names[] = {"succeeded", "refused", "lost", "retried"};
static const char *const way_names[] = {"allocation", "refused", "interrupted", "afterwards",
                                        "short",      "empty",   "late"};

static unsigned count_fds(void) {
        DIR *directory = opendir("/proc/self/fd");
        unsigned n = 0;

        if (!directory)
                die("/proc/self/fd");
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

/* True while there was an n-th call to fail. */
static bool run_one(const Phase *phase, FaultWay way, uint64_t n, bool lasting,
                    unsigned outcomes[OUTCOMES]) {
        unsigned fds;
        Outcome outcome;

        faults_arm(way, n, lasting);
        faults_disarm();
        fds = count_fds();
        outcome = phase_run(phase);
        if (faults->failed == 0)
                return false;
        if (count_fds() != fds)
                wrong("descriptors are left");
        if (way == FAULT_LATE && outcome != SUCCEEDED)
                wrong("a busy host has no door");
        outcomes[outcome]++;
        return true;
}

static size_t find(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(names[i], name) == 0)
                        return i;
        errno = EINVAL;
        die(name);
        return 0;
}

int main(int argc, char **argv) {
        static Faults own;
        unsigned outcomes[OUTCOMES] = {};
        uint64_t n = 0, calls;
        const Phase *phase;
        size_t way, every = 1, offset = 0;

        if (argc < 5 || argc > 6)
                die("usage: door-faults RUNTIME_DIR CPU PHASE WAY [EVERY/OFFSET | all | N]");
        faults = &own;
        loopback_init(atoi(argv[2]));
        phase = phase_find(argv[3]);
        way = find(way_names, FAULT_WAYS, argv[4]);

        phases_init(argv[1]);
        /* What an event loop and libc allocate once and keep; then what there is to fail. */
        (void) run_one(phase, way, UINT64_MAX, false, outcomes);
        faults_on_call = sites_note_call;
        (void) run_one(phase, way, UINT64_MAX, false, outcomes);
        faults_on_call = NULL;
        calls = faults->seen;

        if (argc == 6 && strcmp(argv[5], "all") == 0)
                for (unsigned lasting = 0; lasting < 2; lasting++)
                        for (uint64_t k = 1; run_one(phase, way, k, lasting, outcomes); k++)
                                n++;
        else if (argc == 6 && sscanf(argv[5], "%zu/%zu", &every, &offset) == 1)
                n += run_one(phase, way, every, false, outcomes);
        else
                for (size_t i = offset; i < n_sites; i += every) {
                        n += run_one(phase, way, sites[i].first, false, outcomes);
                        if (sites[i].last != sites[i].first)
                                n += run_one(phase, way, sites[i].last, false, outcomes);
                }
        /* and once in a while nothing works from there on: this alone reaches the last resorts */
        if (n > 1 && (way == FAULT_ALLOCATION || way == FAULT_REFUSED || way == FAULT_LATE))
                for (size_t i = offset; i < n_sites; i += 2 * every)
                        n += run_one(phase, way, sites[i].first, true, outcomes);

        printf("%s %s: %" PRIu64 " calls from %zu places, %" PRIu64 " faults", argv[3], argv[4],
               calls, n_sites, n);
        for (unsigned i = 0; i < OUTCOMES; i++)
                if (outcomes[i])
                        printf(", %u %s", outcomes[i], outcome_names[i]);
        printf(", %u wrong\n", n_wrong);
        phases_deinit();
        return n_wrong > 0;
}
