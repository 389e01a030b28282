/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Counts, and says which call fails. inject.c makes it so. */

#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Faults *faults;
void (*faults_on_call)(uint64_t n);

void faults_arm(FaultWay way, uint64_t wanted, uint32_t lasting) {
        faults->way = way;
        faults->wanted = wanted;
        faults->lasting = lasting;
        faults->seen = faults->failed = 0;
        faults->site[0] = '\0';
        atomic_store(&faults->armed, 1);
}

void faults_disarm(void) {
        atomic_store(&faults->armed, 0);
}

/* Is this the call that fails, and in this way? */
bool faults_next(FaultWay way, const char *site) {
        if (!faults || !atomic_load(&faults->armed) || faults->way != way)
                return false;
        faults->seen++;
        if (faults_on_call)
                faults_on_call(faults->seen);
        if (faults->seen != faults->wanted && !(faults->lasting && faults->seen > faults->wanted))
                return false;
        if (faults->failed++ == 0)
                strncpy(faults->site, site, FAULT_SITE_MAX - 1);
        return true;
}

/* Where it is loaded before a program. */
__attribute__((constructor)) static void faults_load(void) {
        static const char *const programs[FAULTS_PROGRAMS] = {"posternd", "postern-run"};
        const char *path = getenv("POSTERN_FAULTS");
        void *shared;
        int fd;

        if (!path)
                return;
        for (unsigned i = 0; i < FAULTS_PROGRAMS; i++) {
                if (strcmp(program_invocation_short_name, programs[i]) != 0)
                        continue;
                fd = open(path, O_RDWR | O_CLOEXEC);
                shared = mmap(NULL, FAULTS_PROGRAMS * sizeof(Faults), PROT_READ | PROT_WRITE,
                              MAP_SHARED, fd, 0);
                if (fd < 0 || shared == MAP_FAILED)
                        abort();
                close(fd);
                faults = (Faults *) shared + i;
                faults->pid = getpid();
        }
}
