/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Drawing the marks, and the note that outlives a broker that did not. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <postern/conntrack.h>
#include <postern/gate-nftables.h>
#include <postern/gate-rule.h>
#include <postern/guard.h>
#include <postern/marks.h>
#include <string.h>
#include <sys/stat.h>

#define NOTE     "label"
#define NOTE_NEW "label.new"

int marks_init(Marks *ret, const char *runtime_dir) {
        int fd;

        fd = open(runtime_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = (Marks){.runtime_fd = fd};
        return 0;
}

void marks_deinit(Marks *marks) {
        if (marks->runtime_fd >= 0)
                close(marks->runtime_fd);
        *marks = (Marks){.runtime_fd = -1};
}

/* The label is on disk before the first connection can carry it: even if the guard is wiped and the
 * broker killed, the next sweep knows what to end. */
static int note_write(const Marks *marks) {
        _cleanup_close_ int fd = -1;
        ssize_t n;

        fd = openat(marks->runtime_fd, NOTE_NEW,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        n = write(fd, marks->lease.gated.bytes, LABEL_SIZE);
        if (n != LABEL_SIZE)
                return n < 0 ? -errno : -EIO;
        if (renameat(marks->runtime_fd, NOTE_NEW, marks->runtime_fd, NOTE) < 0)
                return -errno;
        return 0;
}

static void note_read(const Marks *marks, Label *labels) {
        _cleanup_close_ int fd = -1;
        Label noted;

        fd = openat(marks->runtime_fd, NOTE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && read(fd, noted.bytes, LABEL_SIZE) == LABEL_SIZE)
                label_add(labels, &noted);
}

void marks_forget(Marks *marks) {
        marks->noted = false;
        (void) unlinkat(marks->runtime_fd, NOTE, 0);
        (void) unlinkat(marks->runtime_fd, NOTE_NEW, 0);
}

static bool rule_is_in_our_tables(const struct nftnl_rule *rule) {
        const char *table = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE);

        return nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY) == NFPROTO_INET &&
               (strcmp(table, LEASE_TABLE) == 0 || strcmp(table, GUARD_TABLE) == 0);
}

static Label labels_in_use(const Ruleset *ruleset) {
        Label used = {}, labels;

        for (size_t i = 0; i < ruleset->n_rules; i++) {
                if (rule_is_in_our_tables(ruleset->rules[i]) || gate_is_ours(ruleset->rules[i]))
                        continue;
                labels = rule_labels(ruleset->rules[i]);
                label_add(&used, &labels);
        }
        return used;
}

static bool marks_collide(const LeaseMarks *lease, const Label *used) {
        return label_intersects(&lease->wanted, used) || label_intersects(&lease->gated, used) ||
               label_intersects(&lease->cut, used);
}

/* From what neither a rule of the host's uses nor any connection carries: that would make it one of
 * ours. */
static int draw(Netlink *query, const Ruleset *ruleset, LeaseMarks *ret) {
        Label used = labels_in_use(ruleset), carried;
        int r;

        r = conntrack_labels(query, &carried);
        if (r < 0)
                return r;
        label_add(&used, &carried);
        return lease_draw_marks(&used, ret);
}

static int note(Marks *marks) {
        int r;

        if (marks->noted)
                return 0;
        r = note_write(marks);
        marks->noted = r == 0;
        return r;
}

int marks_choose(Marks *marks, Netlink *query, const Ruleset *ruleset, bool in_use) {
        Label used = labels_in_use(ruleset);
        int r;

        if (!marks->drawn || (!in_use && marks_collide(&marks->lease, &used))) {
                r = draw(query, ruleset, &marks->lease);
                if (r < 0)
                        return r;
                marks->drawn = true;
                marks->noted = false;
        }
        return note(marks);
}

int marks_take_over(Marks *marks, Netlink *query, const Ruleset *ruleset, const Label *gated) {
        int r;

        r = draw(query, ruleset, &marks->lease);
        if (r < 0)
                return r;
        marks->lease.gated = *gated;
        marks->drawn = true;
        marks->noted = false;
        return note(marks);
}

Label marks_find_old(const Marks *marks, const Ruleset *ruleset) {
        const struct nftnl_rule *late;
        Label labels = {}, found;
        size_t cursor = 0;

        note_read(marks, &labels);
        late = ruleset_next_rule(ruleset, NFPROTO_INET, GUARD_TABLE, "late", &cursor);
        if (late) {
                found = rule_labels(late);
                label_add(&labels, &found);
        }
        for (size_t i = 0; i < ruleset->n_rules; i++)
                if (gate_is_ours(ruleset->rules[i])) {
                        found = rule_labels_set(ruleset->rules[i]);
                        label_add(&labels, &found);
                }
        return labels;
}
