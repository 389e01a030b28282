/* SPDX-License-Identifier: GPL-2.0-or-later */

/* One name a line in two files of /proc; a file that does not exist means that nothing is loaded.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/legacy-iptables.h>
#include <stdio.h>
#include <string.h>

static int append(const char *path, const char *family, char *text, size_t size) {
        _cleanup_fclose_ FILE *file = NULL;
        char line[64];
        size_t used = strlen(text);
        int n;

        /* through self: as /proc/net, but visible with ProcSubset=pid, too */
        file = fopen(path, "re");
        if (!file)
                return errno == ENOENT ? 0 : -errno;
        while (fgets(line, sizeof(line), file)) {
                line[strcspn(line, "\n")] = 0;
                n = snprintf(text + used, size - used, "%s%s/%s", used ? " " : "", family, line);
                if (n < 0 || (size_t) n >= size - used) {
                        text[used] = 0; /* one is enough to refuse */
                        return 0;
                }
                used += n;
        }
        return 0;
}

int legacy_iptables_read(char *ret, size_t size) {
        int r;

        ret[0] = 0;
        r = append("/proc/self/net/ip_tables_names", "ip", ret, size);
        if (r < 0)
                return r;
        return append("/proc/self/net/ip6_tables_names", "ip6", ret, size);
}
