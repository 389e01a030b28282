/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A file is replaced, never written into, so that a reader finds the old or the new one. It is not
 * synced: what a power cut takes away, a reboot may. The rename comes after the data all the same
 * on file systems that people use, and half a file is refused like any other damage.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/directory.h>
#include <postern/log.h>
#include <postern/profile.h>
#include <postern/records.h>
#include <postern/state.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#define RECORDS_DIRECTORY "profiles"
/* never the name of a profile */
#define RECORDS_TEMPORARY ".new"

struct Records {
        Quota *quota;
        Record *first;
        int fd;
        char boot_id[STATE_BOOT_ID_SIZE];
};

static int records_read(int directory_fd, const char *name, char ret[STATE_FILE_MAX],
                        size_t *ret_size) {
        _cleanup_close_ int fd = -1;
        struct stat st;
        ssize_t n;

        fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
                return -EPERM;
        if (st.st_size > STATE_FILE_MAX)
                return -EFBIG;

        n = read(fd, ret, STATE_FILE_MAX);
        if (n < 0)
                return -errno;
        *ret_size = (size_t) n;
        return 0;
}

static int records_write(int directory_fd, const char *name, const char *text, size_t size) {
        _cleanup_close_ int fd = -1;
        ssize_t n;
        int r;

        fd = openat(directory_fd, RECORDS_TEMPORARY,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        n = write(fd, text, size);
        if (n == (ssize_t) size &&
            renameat(directory_fd, RECORDS_TEMPORARY, directory_fd, name) >= 0)
                return 0;

        r = n >= 0 && n < (ssize_t) size ? -ENOSPC : -errno;
        (void) unlinkat(directory_fd, RECORDS_TEMPORARY, 0);
        return r;
}

static Record *records_get(Records *records, const char *profile) {
        size_t size = strlen(profile) + 1;
        Record *record = (Record *) records_find(records, profile);

        if (record)
                return record;
        record = calloc(1, sizeof(*record) + size);
        if (!record)
                return NULL;
        memcpy(record->profile, profile, size);
        record->next = records->first;
        records->first = record;
        return record;
}

const Record *records_first(const Records *records) {
        return records->first;
}

const Record *records_find(const Records *records, const char *profile) {
        for (const Record *record = records->first; record; record = record->next)
                if (strcmp(record->profile, profile) == 0)
                        return record;
        return NULL;
}

static void records_save(Records *records, Record *record) {
        const char *profile = record->profile;
        State state = {0};
        char text[STATE_FILE_MAX];
        int r;

        memcpy(state.boot_id, records->boot_id, sizeof(state.boot_id));
        quota_get_history(records->quota, profile, &state.history);
        state.last_result = record->last_result;
        state.last_closed_at = record->last_closed_at;
        state.certificate = record->certificate;

        r = records_write(records->fd, profile, text, state_format(&state, text));
        record->unsaved = r < 0;
        if (r < 0)
                log_warning("Cannot keep the state of profile %s (%s): a restart forgets its rate "
                            "limit and its last result. Make room in the state directory.",
                            profile, strerror(-r));
}

bool records_are_saved(const Records *records) {
        for (const Record *record = records->first; record; record = record->next)
                if (record->unsaved)
                        return false;
        return true;
}

void records_save_all(Records *records) {
        for (Record *record = records->first; record; record = record->next)
                if (record->unsaved)
                        records_save(records, record);
}

void records_note_begun(Records *records, const char *profile) {
        Record *record = records_get(records, profile);

        if (record)
                records_save(records, record);
        else
                log_warning("Memory ran out: a restart forgets that profile %s had a window.",
                            profile);
}

void records_note_closed(Records *records, const char *profile, WindowResult result,
                         uint64_t closed_at, const Certificate *certificate) {
        Record *record = records_get(records, profile);

        if (!record)
                return; /* it only informs */
        record->last_result = result;
        record->last_closed_at = closed_at;
        if (*certificate->serial)
                record->certificate = *certificate;
        records_save(records, record);
}

static int records_load_one(Records *records, const char *profile) {
        char text[STATE_FILE_MAX];
        Record *record;
        State state;
        size_t size = 0; /* gcc 14 does not see that it is set */
        int r;

        r = records_read(records->fd, profile, text, &size);
        if (r >= 0)
                r = state_parse(text, size, &state);
        if (r < 0)
                return r;

        record = records_get(records, profile);
        if (!record)
                return -ENOMEM;
        record->last_result = state.last_result;
        record->last_closed_at = state.last_closed_at;
        record->certificate = state.certificate;

        /* the times of another boot say nothing about this one */
        if (strcmp(state.boot_id, records->boot_id) != 0)
                return 0;
        return quota_set_history(records->quota, profile, &state.history,
                                 clock_now(CLOCK_BOOTTIME));
}

static int records_load(Records *records) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;
        int r;

        directory = directory_open(records->fd, ".");
        if (!directory)
                return -errno;
        while ((errno = 0, entry = readdir(directory))) {
                if (!profile_name_is_valid(entry->d_name))
                        continue;
                r = records_load_one(records, entry->d_name);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        log_warning("What was kept of profile %s cannot be read (%s): its rate "
                                    "limit and its last result begin anew.",
                                    entry->d_name, strerror(-r));
        }
        return -errno;
}

static int records_open(Records *records, const char *state_dir) {
        _cleanup_close_ int fd = -1;

        fd = open(state_dir, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (mkdirat(fd, RECORDS_DIRECTORY, 0700) < 0 && errno != EEXIST)
                return -errno;
        records->fd = openat(fd, RECORDS_DIRECTORY, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return records->fd < 0 ? -errno : 0;
}

int records_new(Records **ret, const char *state_dir, Quota *quota) {
        Records *records = calloc(1, sizeof(*records));
        sd_id128_t boot_id;
        int r;

        if (!records)
                return -ENOMEM;
        records->quota = quota;
        records->fd = -1;

        r = sd_id128_get_boot(&boot_id);
        if (r >= 0) {
                (void) sd_id128_to_string(boot_id, records->boot_id);
                r = records_open(records, state_dir);
        }
        if (r >= 0)
                r = records_load(records);
        if (r < 0) {
                records_free(records);
                return r;
        }

        *ret = records;
        return 0;
}

Records *records_free(Records *records) {
        if (!records)
                return NULL;
        while (records->first) {
                Record *record = records->first;

                records->first = record->next;
                free(record);
        }
        if (records->fd >= 0)
                close(records->fd);
        free(records);
        return NULL;
}
