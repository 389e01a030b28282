/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What happens when memory runs out, and when somebody changes the file between two looks at it.
 * The linker puts the functions below in place of libc's (--wrap), so that both happen on time.
 */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
int __real_fstat64(int fd, struct stat *st);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
int __wrap_fstat64(int fd, struct stat *st);

static unsigned allocations_left = UINT_MAX;

static bool memory_lacks(void) {
        if (allocations_left == UINT_MAX)
                return false;
        if (allocations_left > 0) {
                allocations_left--;
                return false;
        }
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t size) {
        return memory_lacks() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return memory_lacks() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size) {
        return memory_lacks() ? NULL : __real_reallocarray(old, n, size);
}

char *__wrap_strdup(const char *text) {
        return memory_lacks() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size) {
        return memory_lacks() ? NULL : __real_strndup(text, size);
}

/* Called after the file has been looked at for the `mischief_at`th time. */
static void (*mischief)(const char *path);
static unsigned mischief_at;

int __wrap_fstat64(int fd, struct stat *st) {
        int r = __real_fstat64(fd, st);

        if (r == 0 && S_ISREG(st->st_mode) && mischief_at > 0 && --mischief_at == 0)
                mischief(profile_path("a.conf"));
        return r;
}

static int set_up(void **state) {
        make_config_dir("/tmp");
        return 0;
}

/* With memory for 0, 1, 2... allocations: -ENOMEM and nothing else, until it is enough. A leak is
 * seen by valgrind and AddressSanitizer. */
static void assert_survives(const char *text, int expected, unsigned at_least) {
        int r = -ENOMEM;

        write_profile("a.conf", text);
        for (unsigned n = 0; r == -ENOMEM; n++) {
                Profile *profile = NULL;
                char *problem = NULL;

                allocations_left = n;
                r = load("a", &profile, &problem);
                allocations_left = UINT_MAX;

                assert_true((r == PROFILE_OK) == !!profile);
                assert_true((r == PROFILE_BAD) == !!problem);
                if (r != -ENOMEM)
                        assert_true(n >= at_least);
                profile_free(profile);
                free(problem);
        }
        assert_int_equal(r, expected);
}

static void no_memory_for_a_profile(void **state) {
        assert_survives(GOOD, PROFILE_OK, 8);
        assert_survives("[Profile]\nDescription=x\nCertificate=/x\n[Renewal]\nExec=/a b c d\n"
                        "User=x\nEnvironment=A=1\nEnvironment=B=2\n[Window]\nPorts=80/tcp\n"
                        "[Gate]\nChain=inet filter input\n",
                        PROFILE_OK, 20);
        assert_survives("[Renewal]\nUnit=certbot.service\n[Window]\nPorts=80/tcp\n"
                        "OpenOn=challenge\nChallengeDirectory=/var/www\n"
                        "[Gate]\nType=firewalld\nZone=public\n",
                        PROFILE_OK, 9);
        assert_survives(GOOD "[Gate]\nType=command\nOpenCommand=/a open 'b c'\n"
                             "CloseCommand=/a close\n",
                        PROFILE_OK, 21);
}

static void no_memory_for_a_problem(void **state) {
        assert_survives("x", PROFILE_BAD, 4);
        assert_survives(GOOD "Ports=1/tcp\n", PROFILE_BAD, 4);
        assert_survives("[Renewal]\nExec=/a 'b\n", PROFILE_BAD, 4);
        assert_survives("[Renewal]\nExec=/a b\nEnvironment=A=1\nEnvironment=A=2\n", PROFILE_BAD, 8);
}

static void no_memory_for_a_list(void **state) {
        int r = -ENOMEM;
        unsigned n = 0;

        write_profile("a.conf", "");
        write_profile("b.conf", "");
        write_profile("-.conf", "");
        for (; r == -ENOMEM; n++) {
                char **names = NULL;

                allocations_left = n;
                r = profile_list(config_dir, &names);
                allocations_left = UINT_MAX;
                assert_true((r == 0) == !!names);
                profile_names_free(names);
        }
        assert_int_equal(r, 0);
        assert_true(n > 5);
}

static void append(const char *path) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

        assert_int_equal(write(fd, "#", 1), 1);
        assert_int_equal(close(fd), 0);
}

static void cut_short(const char *path) {
        assert_int_equal(truncate(path, 3), 0);
}

static void rewrite(const char *path) {
        static const struct timespec times[2] = {{4711, 0}, {4711, 0}};

        write_profile("a.conf", GOOD);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void replace(const char *path) {
        char other[PATH_MAX];

        (void) snprintf(other, sizeof(other), "%s.new", path);
        write_bytes(other, GOOD, strlen(GOOD));
        assert_int_equal(rename(other, path), 0);
}

static void make_symlink(const char *path) {
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink("/etc/shadow", path), 0);
}

static void make_fifo(const char *path) {
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0644), 0);
}

static void give_away(const char *path) {
        assert_int_equal(chown(path, 4711, 0), 0);
}

static void take_away(const char *path) {
        assert_int_equal(unlink(path), 0);
}

static void changes_meanwhile(void **state) {
        static const struct {
                void (*mischief)(const char *path);
                unsigned
                        at; /* 1: before it is opened for reading, 2: before it is read, 3: after */
                int r;
                const char *problem;
        } table[] = {
                {append, 2, PROFILE_BAD, "is being changed; try again"},
                {cut_short, 2, PROFILE_BAD, "is being changed; try again"},
                {rewrite, 2, PROFILE_BAD, "is being changed; try again"},
                {give_away, 2, PROFILE_BAD, "is being changed; try again"},
                {replace, 2, PROFILE_BAD, "is being changed; try again"},
                {take_away, 2, PROFILE_BAD, "is being changed; try again"},
                {replace, 1, PROFILE_OK, NULL},
                {rewrite, 1, PROFILE_OK, NULL},
                {make_symlink, 1, PROFILE_BAD, "was replaced by a symlink; put the file"},
                {make_fifo, 1, PROFILE_BAD, "is not a regular file; put one there"},
                {give_away, 1, PROFILE_BAD, "does not belong to root; make it"},
                {take_away, 1, PROFILE_MISSING, "create it as"},
                {append, 3, PROFILE_OK, NULL},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_free_ char *problem = NULL;
                Profile *profile = NULL;

                (void) unlink(profile_path("a.conf"));
                write_profile("a.conf", GOOD);
                mischief = table[i].mischief;
                mischief_at = table[i].at;
                assert_int_equal(load("a", &profile, &problem), table[i].r);
                assert_int_equal(mischief_at, 0);
                if (table[i].problem)
                        assert_contains(problem, table[i].problem);
                profile_free(profile);
        }
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, remove_config_dir)
        const struct CMUnitTest tests[] = {
                TEST(no_memory_for_a_profile),
                TEST(no_memory_for_a_problem),
                TEST(no_memory_for_a_list),
                TEST(changes_meanwhile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
