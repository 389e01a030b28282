/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Whose files are read: owner × mode × type, of the file and of every directory above it. */

#include "profile-fixture.h"

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-file.h>
#include <postern/profile-problem.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

/* A directory in which nobody but root may write, up to "/". */
static int set_up_strict(void **state) {
        make_config_dir("/run");
        return 0;
}

/* Below /tmp, which is sticky and everybody's. */
static int set_up_sticky(void **state) {
        make_config_dir("/tmp");
        return 0;
}

static int read_profile(const char *directory, unsigned flags, char **ret_problem) {
        _cleanup_(profile_file_deinit) ProfileFile file = {};
        int r;

        r = profile_file_read(directory, "a.conf", flags, &file, ret_problem);
        if (r == PROFILE_OK) {
                assert_non_null(file.text);
                assert_int_equal(file.text[file.size], 0);
                assert_true(strlen(file.version) > 10);
        } else {
                assert_null(file.text);
        }
        return r;
}

static void assert_read(unsigned flags) {
        _cleanup_free_ char *problem = NULL;

        if (read_profile(config_dir, flags, &problem) != PROFILE_OK)
                fail_msg("%s", problem ? problem : "no reason");
        assert_null(problem);
}

/* what: has to be in the reason, as has the file and a way out. */
static void assert_refused(unsigned flags, const char *what) {
        _cleanup_free_ char *problem = NULL;

        assert_int_equal(read_profile(config_dir, flags, &problem), PROFILE_BAD);
        assert_contains(problem, "a.conf: ");
        assert_contains(problem, what);
        assert_contains(problem, "; ");
        assert_true(strlen(problem) < PROFILE_PROBLEM_MAX);
}

static void good(void **state) {
        _cleanup_(profile_file_deinit) ProfileFile file = {}, again = {};
        _cleanup_free_ char *problem = NULL;
        char expected[PROFILE_VERSION_MAX];
        struct stat st;

        write_bytes(profile_path("a.conf"), "x\0y\n", 4);
        assert_int_equal(profile_file_read(config_dir, "a.conf", 0, &file, &problem), PROFILE_OK);
        assert_int_equal(file.size, 4);
        assert_memory_equal(file.text, "x\0y\n", 5);

        assert_int_equal(stat(profile_path("a.conf"), &st), 0);
        (void) snprintf(expected, sizeof(expected), "%lu:%lu:4:%ld%09ld:%ld%09ld",
                        (unsigned long) st.st_dev, (unsigned long) st.st_ino,
                        (long) st.st_mtim.tv_sec, (long) st.st_mtim.tv_nsec,
                        (long) st.st_ctim.tv_sec, (long) st.st_ctim.tv_nsec);
        assert_string_equal(file.version, expected);

        /* the same text again is another state of the file */
        assert_int_equal(unlink(profile_path("a.conf")), 0);
        write_bytes(profile_path("b.conf"), "", 0);
        write_bytes(profile_path("a.conf"), "x\0y\n", 4);
        assert_int_equal(profile_file_read(config_dir, "a.conf", 0, &again, &problem), PROFILE_OK);
        assert_string_not_equal(file.version, again.version);

        profile_file_deinit(&file);
        profile_file_deinit(&file);
}

static void spellings_of_the_directory(void **state) {
        static const char *const bad[] = {"", "run", "./run", "/run/../run", "/..", "/run\n"};
        static const struct {
                const char *before, *after;
        } same[] = {{"", "/"}, {"/", ""}, {"", "//."}, {"//.", ""}};
        char path[PATH_MAX];

        write_profile("a.conf", GOOD);
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                char *problem = NULL;

                assert_int_equal(read_profile(bad[i], 0, &problem), -EINVAL);
                assert_null(problem);
        }
        for (size_t i = 0; i < ELEMENTS(same); i++) {
                _cleanup_free_ char *problem = NULL;

                (void) snprintf(path, sizeof(path), "%s%s%s", same[i].before, config_dir,
                                same[i].after);
                assert_int_equal(read_profile(path, 0, &problem), PROFILE_OK);
        }
}

static void missing(void **state) {
        static const char *const directories[] = {"/run/postern-test-no-such-directory",
                                                  "/run/postern-test-no-such-directory/a/b"};

        for (size_t i = 0; i < ELEMENTS(directories); i++) {
                _cleanup_free_ char *problem = NULL;

                assert_int_equal(read_profile(directories[i], 0, &problem), PROFILE_MISSING);
                assert_contains(problem, "a.conf; create it");
        }
        for (int i = 0; i < 2; i++) {
                _cleanup_free_ char *problem = NULL;

                assert_int_equal(read_profile(config_dir, 0, &problem), PROFILE_MISSING);
                assert_contains(problem, "a.conf; create it");
                if (i == 0)
                        assert_int_equal(rmdir(profile_path("")), 0);
        }
}

static void file_mode_and_owner(void **state) {
        write_profile("a.conf", GOOD);
        for (mode_t mode = 0; mode <= 07777; mode++) {
                assert_int_equal(chmod(profile_path("a.conf"), mode), 0);
                if (mode & 022)
                        assert_refused(0, "written by others than root");
                else
                        assert_read(0);
        }

        assert_int_equal(chmod(profile_path("a.conf"), 0600), 0);
        assert_int_equal(chown(profile_path("a.conf"), 0, 4711), 0);
        assert_read(0);
        assert_int_equal(chown(profile_path("a.conf"), 4711, 0), 0);
        assert_refused(0, "does not belong to root");
        assert_refused(PROFILE_ALLOW_STICKY_PARENTS, "does not belong to root");
}

static void make_regular(const char *path) {
        write_bytes(path, GOOD, strlen(GOOD));
}

static void make_symlink(const char *path) {
        write_bytes(profile_path("target"), GOOD, strlen(GOOD));
        assert_int_equal(symlink("target", path), 0);
}

static void make_dangling(const char *path) {
        assert_int_equal(symlink("nowhere", path), 0);
}

static void make_hard_link(const char *path) {
        write_bytes(profile_path("target"), GOOD, strlen(GOOD));
        assert_int_equal(link(profile_path("target"), path), 0);
}

static void make_fifo(const char *path) {
        assert_int_equal(mkfifo(path, 0644), 0);
}

static void make_directory(const char *path) {
        assert_int_equal(mkdir(path, 0755), 0);
}

static void make_socket(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(strlen(path) < sizeof(address.sun_path));
        strcpy(address.sun_path, path);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
}

static void make_device(const char *path) {
        /* some containers allow none at all; then the other types have to do */
        if (mknod(path, S_IFCHR | 0644, makedev(1, 3)) < 0) {
                print_message("no device can be made here: errno %d\n", errno);
                make_fifo(path);
        }
}

static void file_type(void **state) {
        static const struct {
                void (*make)(const char *path);
                const char *refused;
        } table[] = {
                {make_regular, NULL},
                {make_symlink, "is a symlink"},
                {make_dangling, "is a symlink"},
                {make_hard_link, "hard link"},
                {make_fifo, "is not a regular file"},
                {make_directory, "is not a regular file"},
                {make_socket, "is not a regular file"},
                {make_device, "is not a regular file"},
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char path[PATH_MAX];

                strcpy(path, profile_path("a.conf"));
                table[i].make(path);
                if (table[i].refused)
                        assert_refused(0, table[i].refused);
                else
                        assert_read(0);
                assert_int_equal(remove(path), 0);
                (void) unlink(profile_path("target"));
        }
}

static void file_size(void **state) {
        static char text[PROFILE_FILE_MAX + 1];

        memset(text, '\n', sizeof(text));
        write_bytes(profile_path("a.conf"), text, 0);
        assert_read(0);
        write_bytes(profile_path("a.conf"), text, PROFILE_FILE_MAX);
        assert_read(0);
        write_bytes(profile_path("a.conf"), text, PROFILE_FILE_MAX + 1);
        assert_refused(0, "larger than 64 KiB");
        assert_int_equal(truncate(profile_path("a.conf"), (off_t) 1 << 40), 0);
        assert_refused(0, "larger than 64 KiB");
}

/* The configuration directory itself and profiles in it: never another's, sticky or not. */
static void own_directories(void **state) {
        char directories[2][PATH_MAX];

        write_profile("a.conf", GOOD);
        strcpy(directories[0], config_dir);
        (void) snprintf(directories[1], sizeof(directories[1]), "%s/profiles", config_dir);

        for (size_t i = 0; i < 2; i++) {
                static const mode_t bad[] = {0775, 0757, 0777, 01777, 02775, 0722};
                static const mode_t fine[] = {0755, 0700, 0711, 01755, 02755, 0500};

                for (unsigned flags = 0; flags <= PROFILE_ALLOW_STICKY_PARENTS; flags++) {
                        for (size_t j = 0; j < ELEMENTS(bad); j++) {
                                assert_int_equal(chmod(directories[i], bad[j]), 0);
                                assert_refused(flags, "written by others than root");
                                assert_refused(flags, directories[i]);
                        }
                        for (size_t j = 0; j < ELEMENTS(fine); j++) {
                                assert_int_equal(chmod(directories[i], fine[j]), 0);
                                assert_read(flags);
                        }
                        assert_int_equal(chmod(directories[i], 0755), 0);
                        assert_int_equal(chown(directories[i], 4711, 0), 0);
                        assert_refused(flags, "does not belong to root");
                        assert_int_equal(chown(directories[i], 0, 4711), 0);
                        assert_read(flags);
                }
        }
}

static void directory_types(void **state) {
        char elsewhere[PATH_MAX];

        (void) snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", config_dir);
        write_profile("a.conf", GOOD);

        assert_int_equal(rename(profile_path(""), elsewhere), 0);
        (void) snprintf(elsewhere, sizeof(elsewhere), "%s/profiles", config_dir);
        assert_int_equal(symlink("elsewhere", elsewhere), 0);
        assert_refused(0, "is a symlink");
        assert_int_equal(unlink(elsewhere), 0);
        assert_int_equal(mkfifo(elsewhere, 0755), 0);
        assert_refused(0, "is not a directory");
        assert_int_equal(unlink(elsewhere), 0);
        write_bytes(elsewhere, "", 0);
        assert_refused(0, "is not a directory");
}

/* Makes CONFIG_DIR/a/b/profiles/a.conf the profile. */
static void go_deeper(void) {
        for (int i = 0; i < 2; i++) {
                strcat(config_dir, i == 0 ? "/a" : "/b");
                assert_int_equal(mkdir(config_dir, 0755), 0);
        }
        assert_int_equal(mkdir(profile_path(""), 0755), 0);
        write_profile("a.conf", GOOD);
}

static void parents(void **state) {
        size_t length = strlen(config_dir);
        char parent[PATH_MAX], moved[PATH_MAX];

        go_deeper();
        (void) snprintf(parent, sizeof(parent), "%.*s/a", (int) length, config_dir);
        (void) snprintf(moved, sizeof(moved), "%.*s/c", (int) length, config_dir);
        assert_read(0);

        assert_int_equal(chmod(parent, 0775), 0);
        assert_refused(0, "written by others than root");
        assert_refused(PROFILE_ALLOW_STICKY_PARENTS, parent);
        assert_int_equal(chmod(parent, 01777), 0);
        assert_refused(0, "written by others than root");
        assert_read(PROFILE_ALLOW_STICKY_PARENTS);
        assert_int_equal(chown(parent, 4711, 0), 0);
        assert_refused(PROFILE_ALLOW_STICKY_PARENTS, "does not belong to root");
        assert_int_equal(chown(parent, 0, 0), 0);
        assert_int_equal(chmod(parent, 0755), 0);
        assert_read(0);

        assert_int_equal(rename(parent, moved), 0);
        assert_int_equal(symlink("c", parent), 0);
        assert_refused(0, "is a symlink");
        assert_refused(PROFILE_ALLOW_STICKY_PARENTS, "is a symlink");
}

static void below_tmp(void **state) {
        write_profile("a.conf", GOOD);
        assert_refused(0, "/tmp can be written by others than root");
        assert_read(PROFILE_ALLOW_STICKY_PARENTS);
}

/* A reader without root's power: what it may not read is said, not an unexpected error. */
static void without_permission(void **state) {
        static const struct {
                mode_t file, directory, config_dir;
                const char *problem;
        } table[] = {
                {0644, 0755, 0755, NULL},
                {0600, 0755, 0755, "may not be read by this service; make it readable with chmod"},
                {0644, 0700, 0755, "may not be read by this service; make it readable with chmod"},
                {0644, 0755, 0700, "cannot be reached by this service; make the directories above"},
        };
        pid_t pid;
        int status;

        write_profile("a.conf", GOOD);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                const char *expected = table[i].problem;

                assert_int_equal(chmod(profile_path("a.conf"), table[i].file), 0);
                assert_int_equal(chmod(profile_path(""), table[i].directory), 0);
                assert_int_equal(chmod(config_dir, table[i].config_dir), 0);

                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        _cleanup_free_ char *problem = NULL;
                        int r;

                        if (setgid(4711) < 0 || setuid(4711) < 0)
                                _exit(1);
                        r = read_profile(config_dir, 0, &problem);
                        _exit(expected ? r != PROFILE_BAD || !strstr(problem, expected)
                                       : r != PROFILE_OK);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
        }
}

/* Puts a good file, a symlink and a fifo there in turn. */
static _Noreturn void swap_for_ever(const char *target) {
        char other[PATH_MAX];

        strcpy(other, profile_path("other"));
        for (unsigned i = 0;; i++) {
                int fd;

                if (i % 3 == 0) {
                        fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
                        if (write(fd, GOOD, strlen(GOOD)) < 0 || close(fd) < 0)
                                _exit(1);
                } else if (i % 3 == 1) {
                        if (symlink("secret", other) < 0)
                                _exit(1);
                } else if (mkfifo(other, 0666) < 0) {
                        _exit(1);
                }
                if (rename(other, target) < 0)
                        _exit(1);
        }
}

/* However it is swapped meanwhile, what is read is a file that passes, whole, or nothing. */
static void races(void **state) {
        static const char secret[] = "secret, and longer than what is allowed to be read";
        char target[PATH_MAX];
        unsigned seen[3] = {0};
        pid_t pid;

        strcpy(target, profile_path("a.conf"));
        write_bytes(profile_path("secret"), secret, strlen(secret));
        write_bytes(target, GOOD, strlen(GOOD));

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                /* not for longer than the test, even if that fails */
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                swap_for_ever(target);
        }

        for (unsigned i = 0; i < 20000; i++) {
                _cleanup_(profile_file_deinit) ProfileFile file = {};
                _cleanup_free_ char *problem = NULL;
                int r;

                r = profile_file_read(config_dir, "a.conf", 0, &file, &problem);
                /* -ENXIO and the like would be unexpected: nobody makes a socket here */
                assert_in_range(r, PROFILE_OK, PROFILE_BAD);
                seen[r]++;
                if (r == PROFILE_OK) {
                        assert_int_equal(file.size, strlen(GOOD));
                        assert_string_equal(file.text, GOOD);
                }
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        /* or it raced with nobody */
        assert_true(seen[PROFILE_OK] > 0);
        assert_true(seen[PROFILE_BAD] > 0);
}

int main(void) {
#define STRICT(function) cmocka_unit_test_setup_teardown(function, set_up_strict, remove_config_dir)
        const struct CMUnitTest tests[] = {
                STRICT(good),
                STRICT(spellings_of_the_directory),
                STRICT(missing),
                STRICT(file_mode_and_owner),
                STRICT(file_type),
                STRICT(file_size),
                STRICT(own_directories),
                STRICT(directory_types),
                STRICT(parents),
                STRICT(without_permission),
                STRICT(races),
                cmocka_unit_test_setup_teardown(below_tmp, set_up_sticky, remove_config_dir),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
