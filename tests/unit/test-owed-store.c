/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A record outlives whatever goes wrong while it is replaced or read. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <postern/owed-store.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW "w0123456789ab"
#define OTHER  "w0123456789ac"
#define BOOT   "0123456789abcdef0123456789abcdef"

static char state_dir[] = "/tmp/test-owed-store.XXXXXX";
static int store_fd;

/* The n-th call from now on fails; 0: none. */
static unsigned fsync_fails, read_fails;
static unsigned n_fsyncs;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size);

int __wrap_fsync(int fd) {
        n_fsyncs++;
        if (fsync_fails > 0 && --fsync_fails == 0) {
                errno = EIO;
                return -1;
        }
        return __real_fsync(fd);
}

ssize_t __wrap_read(int fd, void *buffer, size_t size) {
        if (read_fails > 0 && --read_fails == 0) {
                errno = EIO;
                return -1;
        }
        return __real_read(fd, buffer, size);
}

static OwedRecord record_of(uint16_t port) {
        OwedRecord record = {.boot_id = BOOT, .profile = "web", .gate = GATE_COMMAND};

        record.ports[record.n_ports++] = (Port){.protocol = PROTOCOL_TCP, .number = port};
        return record;
}

typedef struct Found {
        size_t n;
        uint16_t port; /* of the last */
} Found;

static int on_record(const char *window_id, const OwedRecord *record, void *userdata) {
        Found *found = userdata;

        found->n++;
        found->port = record->ports[0].number;
        return 0;
}

static void assert_only_record(uint16_t port) {
        Found found = {};

        assert_int_equal(owed_store_read(store_fd, on_record, &found), 0);
        assert_int_equal(found.n, 1);
        assert_int_equal(found.port, port);
        assert_int_equal(faccessat(store_fd, ".new", F_OK, 0), -1);
}

static void make_file(const char *name, const char *text) {
        int fd = openat(store_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

static int set_up(void **state) {
        OwedRecord record = record_of(80);

        store_fd = owed_store_open(state_dir);
        return store_fd < 0 ? -1 : owed_store_write(store_fd, WINDOW, &record);
}

static int tear_down(void **state) {
        static const char *const names[] = {WINDOW, OTHER, OTHER ".bad", ".new"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                (void) unlinkat(store_fd, names[i], 0);
        close(store_fd);
        return 0;
}

/* The directory's name is on the disk before anything in it. */
static void opening_syncs(void **state) {
        int fd;

        n_fsyncs = 0;
        fd = owed_store_open(state_dir);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(n_fsyncs, 1);
        fsync_fails = 1;
        assert_int_equal(owed_store_open(state_dir), -EIO);
}

static void replaced(void **state) {
        OwedRecord record = record_of(443);

        assert_int_equal(owed_store_write(store_fd, WINDOW, &record), 0);
        assert_only_record(443);
}

static void writing_fails(void **state) {
        OwedRecord record = record_of(443);

        fsync_fails = 1;
        assert_int_equal(owed_store_write(store_fd, WINDOW, &record), -EIO);
        assert_only_record(80);
}

/* Of the old one nothing is left then, so the new one has to stay. */
static void syncing_the_directory_fails(void **state) {
        OwedRecord record = record_of(443);

        fsync_fails = 2;
        assert_int_equal(owed_store_write(store_fd, WINDOW, &record), -EIO);
        assert_only_record(443);
}

static void no_record(void **state) {
        make_file(OTHER, "Version=2\n");
        assert_only_record(80);
        assert_int_equal(faccessat(store_fd, OTHER, F_OK, 0), -1);
        assert_int_equal(faccessat(store_fd, OTHER ".bad", F_OK, 0), 0);
}

/* What may be a good one stays what it is. */
static void unreadable(void **state) {
        Found found = {};

        read_fails = 1;
        assert_int_equal(owed_store_read(store_fd, on_record, &found), -EIO);
        assert_int_equal(found.n, 0);
        assert_only_record(80);
}

static void of_another_kind(void **state) {
        Found found = {};

        assert_int_equal(symlinkat(WINDOW, store_fd, OTHER), 0);
        assert_int_equal(owed_store_read(store_fd, on_record, &found), -ELOOP);
        assert_int_equal(unlinkat(store_fd, OTHER, 0), 0);
        assert_only_record(80);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(opening_syncs, set_up, tear_down),
                cmocka_unit_test_setup_teardown(replaced, set_up, tear_down),
                cmocka_unit_test_setup_teardown(writing_fails, set_up, tear_down),
                cmocka_unit_test_setup_teardown(syncing_the_directory_fails, set_up, tear_down),
                cmocka_unit_test_setup_teardown(no_record, set_up, tear_down),
                cmocka_unit_test_setup_teardown(unreadable, set_up, tear_down),
                cmocka_unit_test_setup_teardown(of_another_kind, set_up, tear_down),
        };
        char owed[sizeof(state_dir) + sizeof("/owed")];
        int r;

        if (!mkdtemp(state_dir))
                return EXIT_FAILURE;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        (void) snprintf(owed, sizeof(owed), "%s/owed", state_dir);
        if (rmdir(owed) < 0 || rmdir(state_dir) < 0)
                return EXIT_FAILURE;
        return r;
}
