/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A list of few, walked each time. */

#include <errno.h>
#include <postern/bans.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ssize_t bans_find(const Bans *bans, const char *window_id) {
        for (size_t i = 0; i < BANS_WINDOWS_MAX; i++)
                if (strcmp(bans->list[i].window, window_id) == 0)
                        return (ssize_t) i;
        return -1;
}

int bans_add(Bans *bans, const char *window_id, const Port *ports, size_t n_ports) {
        ssize_t i = bans_find(bans, window_id);
        int r;

        if (i < 0)
                i = bans_find(bans, "");
        if (i < 0)
                return -ENOSPC;
        r = ports_join(bans->list[i].ports, &bans->list[i].n_ports, ports, n_ports);
        if (r < 0)
                return r;
        (void) snprintf(bans->list[i].window, sizeof(bans->list[i].window), "%s", window_id);
        return 0;
}

bool bans_have(const Bans *bans, const char *window_id) {
        return *window_id && bans_find(bans, window_id) >= 0;
}

bool bans_end(Bans *bans, const char *window_id) {
        ssize_t i = *window_id ? bans_find(bans, window_id) : -1;

        if (i < 0)
                return false;
        bans->list[i].window[0] = 0;
        bans->list[i].n_ports = 0;
        return true;
}

bool bans_gather(const Bans *bans, Port ret[GUARD_BANS_MAX], size_t *ret_n) {
        Port all[BANS_WINDOWS_MAX * PROFILE_PORTS_MAX];
        size_t n = 0, n_kept = 0;

        for (size_t i = 0; i < BANS_WINDOWS_MAX; i++)
                for (size_t k = 0; k < bans->list[i].n_ports; k++)
                        all[n++] = bans->list[i].ports[k];
        if (n > 0)
                qsort(all, n, sizeof(all[0]), port_compare);
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && port_compare(&all[i - 1], &all[i]) == 0)
                        continue;
                if (n_kept < GUARD_BANS_MAX)
                        ret[n_kept] = all[i];
                n_kept++;
        }
        *ret_n = n_kept < GUARD_BANS_MAX ? n_kept : GUARD_BANS_MAX;
        return n_kept <= GUARD_BANS_MAX;
}
