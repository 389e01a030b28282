/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "sites.h"

#include <execinfo.h>
#include <postern/cleanup.h>
#include <postern/netlink.h>
#include <stdbool.h>
#include <stdlib.h>

enum { FRAMES = 10 };

Site sites[SITES_MAX];
size_t n_sites;
unsigned n_transactions;

int __wrap_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure);
int __real_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure);
int __wrap_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure) {
        n_transactions++;
        return __real_batch_commit(batch, netlink, ret_failure);
}

void sites_note_call(uint64_t n) {
        static bool inside;
        void *frames[FRAMES];
        uint64_t hash = 14695981039346656037u ^ n_transactions;
        int n_frames;

        if (inside)
                return;
        inside = true;
        n_frames = backtrace(frames, ELEMENTS(frames));
        inside = false;
        for (int i = 0; i < n_frames; i++)
                hash = (hash ^ (uintptr_t) frames[i]) * 1099511628211u;
        for (size_t i = 0; i < n_sites; i++)
                if (sites[i].stack == hash) {
                        sites[i].last = n;
                        return;
                }
        if (n_sites == SITES_MAX)
                abort();
        sites[n_sites].stack = hash;
        sites[n_sites].first = sites[n_sites].last = n;
        n_sites++;
}
