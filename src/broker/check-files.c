/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Files that a window depends on: are they there, and who could have changed them?
 *
 * A program that somebody else may replace is that somebody's, with the rights of the user it runs
 * as. Replacing takes the file, a directory on the way to it, or a symlink on that way, so each
 * step of it is looked at. These are advice, not a defence: postern-run resolves the path anew.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <postern/check-way.h>
#include <postern/check.h>
#include <postern/cleanup.h>
#include <postern/directory.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX ".conf"
#define PASSWD "/etc/passwd"

enum {
        DIRECTORY_LOOKED = 512, /* entries of the profiles' directory */
        DIRECTORY_TOLD = 8,
        USERS_LOOKED = 65536,
};

/* What stands in /snap/bin is a link to this; so is what certbot's instructions put into /usr/bin.
 */
static bool is_of_snap(const char *path) {
        return strcmp(path, "/usr/bin/snap") == 0 || strcmp(path, "/bin/snap") == 0;
}

/* What `subject` names is to be run, as `owner`. */
static void check_program(const char *subject, const char *path, uid_t owner, const char *missing,
                          bool by_name, Findings *findings) {
        const char *fault = NULL, *shown = by_name ? path : "the program", *where;
        struct stat st;
        Way way;

        switch (way_walk(&way, path, owner, &st, &fault)) {
        case WAY_GOOD:
                break;
        case WAY_MISSING:
                findings_add(findings, FINDING_ERROR, subject, "%s does not exist: %s", shown,
                             missing);
                return;
        case WAY_HIDDEN:
                findings_add(findings, FINDING_NOTE, subject,
                             "whether %s exists cannot be seen from here; postern-run, which is "
                             "root, looks when it is run",
                             shown);
                return;
        case WAY_FAR:
                findings_add(findings, FINDING_NOTE, subject,
                             "%s lies on a file system of another host or of a program, which is "
                             "not looked at from here: see that it is there, and that nobody else "
                             "can change it",
                             shown);
                return;
        case WAY_BAD:
                where = *way.here ? way.here : "/";
                findings_add(
                        findings, FINDING_ERROR, subject,
                        "%s is run, but %s %s. Till then whoever can replace it decides what is "
                        "run",
                        shown, by_name ? where : "it, or what leads to it,", fault);
                return;
        }
        if (!S_ISREG(st.st_mode))
                findings_add(findings, FINDING_ERROR, subject, "%s is not a file: name the program",
                             shown);
        else if (is_of_snap(way.here))
                findings_add(findings, FINDING_ERROR, subject,
                             "%s is of a snap, and snap starts nothing with the few capabilities "
                             "that a renewal has here: have a service of yours run it, and write "
                             "Unit= with its name in place of Exec=",
                             shown);
        else if (!(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
                findings_add(findings, FINDING_ERROR, subject,
                             "%s is not executable: make it so with chmod +x", shown);
        else
                findings_add(findings, FINDING_OK, subject,
                             "%s is there, and nobody else can change it", shown);
}

/* Of /etc/passwd alone: what asks a directory service may wait, and nothing here may. */
static bool find_user(const char *name, uid_t *ret) {
        _cleanup_fclose_ FILE *file = NULL;
        const struct passwd *entry;
        char *end;
        unsigned long number = strtoul(name, &end, 10);

        file = fopen(PASSWD, "re");
        for (unsigned n = 0; file && n < USERS_LOOKED && (entry = fgetpwent(file)); n++)
                if (*end ? strcmp(entry->pw_name, name) == 0 : entry->pw_uid == number) {
                        *ret = entry->pw_uid;
                        return true;
                }
        return false;
}

static void check_certificate(const char *path, bool by_name, Findings *findings) {
        const char *shown = by_name ? path : "the certificate", *fault = NULL;
        _cleanup_free_ char *directory = strdup(path);
        struct stat st;
        char *slash;
        Way way;

        if (!directory) {
                findings->lacking = true;
                return;
        }
        slash = strrchr(directory, '/');
        slash[slash == directory] = 0;
        switch (way_walk(&way, path, WAY_ANYBODY, &st, &fault)) {
        case WAY_GOOD:
                findings_add(findings, FINDING_OK, "Certificate", "%s is there", shown);
                return;
        case WAY_HIDDEN:
        case WAY_FAR:
                findings_add(findings, FINDING_NOTE, "Certificate",
                             "whether %s exists cannot be seen from here; postern-run, which is "
                             "root, reads it",
                             shown);
                return;
        case WAY_MISSING:
        case WAY_BAD:
                break;
        }
        if (way_walk(&way, directory, WAY_ANYBODY, &st, &fault) != WAY_GOOD)
                findings_add(
                        findings, FINDING_NOTE, "Certificate",
                        "the directory %s does not exist: right if the first renewal makes it, "
                        "otherwise see the path in Certificate=",
                        by_name ? directory : "of the certificate");
        else
                findings_add(findings, FINDING_NOTE, "Certificate",
                             "%s does not exist yet, though its directory does: right if the first "
                             "renewal makes it",
                             shown);
}

/* Where an admin's and a package's units lie; a generator's is seen by systemd alone. */
static void check_unit(const char *unit, bool by_name, Findings *findings) {
        static const char *const directories[] = {"/etc/systemd/system", "/run/systemd/system",
                                                  "/usr/local/lib/systemd/system",
                                                  "/usr/lib/systemd/system", "/lib/systemd/system"};
        const char *shown = by_name ? unit : "the unit", *at = strchr(unit, '@');
        char path[PATH_MAX];

        if (access("/run/systemd/system", F_OK) < 0) {
                findings_add(findings, FINDING_ERROR, "Unit",
                             "systemd does not run here, which is to start %s: write Exec= instead",
                             shown);
                return;
        }
        for (size_t i = 0; i < ELEMENTS(directories); i++) {
                bool found;

                (void) snprintf(path, sizeof(path), "%s/%s", directories[i], unit);
                found = access(path, F_OK) == 0;
                if (!found && at) {
                        (void) snprintf(path, sizeof(path), "%s/%.*s@.service", directories[i],
                                        (int) (at - unit), unit);
                        found = access(path, F_OK) == 0;
                }
                if (found) {
                        findings_add(findings, FINDING_OK, "Unit",
                                     "%s is there; what it runs, as whom, is its own to say",
                                     shown);
                        return;
                }
        }
        findings_add(findings, FINDING_NOTE, "Unit",
                     "no file of %s is seen here: see whether systemctl cat finds it", shown);
}

static void check_user(const char *user, bool by_name, Findings *findings, uid_t *ret) {
        const char *shown = by_name ? user : "the profile's user";

        if (find_user(user, ret))
                findings_add(findings, FINDING_OK, "User", "%s is a user of this host", shown);
        else
                findings_add(findings, FINDING_NOTE, "User",
                             "%s is not in " PASSWD ": where a directory service knows it, "
                             "postern-run finds it; otherwise a renewal cannot start",
                             shown);
}

void check_profile_files(const Profile *profile, bool by_name, Findings *findings) {
        static const char missing[] = "install it, or write the path that `command -v` says";
        uid_t user = 0;

        if (profile->unit)
                check_unit(profile->unit, by_name, findings);
        else {
                check_user(profile->user, by_name, findings, &user);
                check_program("Exec", profile->exec[0], user, missing, by_name, findings);
        }
        if (profile->open_command)
                check_program("OpenCommand", profile->open_command[0], user, missing, by_name,
                              findings);
        if (profile->close_command)
                check_program("CloseCommand", profile->close_command[0], user, missing, by_name,
                              findings);
        if (profile->certificate)
                check_certificate(profile->certificate, by_name, findings);
        if (profile->open_on_challenge)
                check_challenge(profile->challenge_directory, by_name, findings);
}

/* Whoever listens there is root's, or the socket leads nowhere: that is looked at when it is used.
 */
static void check_socket(const char *path, Findings *findings) {
        struct stat st;

        if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
                findings_add(findings, FINDING_OK, "postern-run", "is started by who listens at %s",
                             path);
        else
                findings_add(findings, FINDING_ERROR, "postern-run",
                             "nobody listens at %s, who would start it: see systemctl status "
                             "postern-run.socket",
                             path);
}

void check_helper(const char *run_path, const char *run_socket, Findings *findings) {
        if (run_socket) {
                check_socket(run_socket, findings);
                return;
        }
        check_program("postern-run", run_path, 0, "install Postern whole, or see --run-path", true,
                      findings);
}

static bool name_is_profile(const char *file_name) {
        size_t length = strlen(file_name), suffix = strlen(SUFFIX);
        char name[PROFILE_NAME_MAX + 1];

        if (length <= suffix || length - suffix > PROFILE_NAME_MAX ||
            strcmp(file_name + length - suffix, SUFFIX) != 0)
                return false;
        memcpy(name, file_name, length - suffix);
        name[length - suffix] = 0;
        return profile_name_is_valid(name);
}

/* NULL: it is a profile that may be used, as far as can be seen without reading it. */
static const char *fault_of_entry(int directory, const char *file_name) {
        struct stat st;

        if (!name_is_profile(file_name))
                return "is no profile, by its name, and not read: move it away, or name it as in "
                       "example.com.conf";
        if (fstatat(directory, file_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return NULL; /* gone since */
        if (!S_ISREG(st.st_mode))
                return "is not a file, so it is no profile: put the file itself there";
        return way_fault_of_owner(&st, 0);
}

/* Whoever named the file may have meant it for a terminal. */
static void show_name(const char *file_name, char *ret, size_t size) {
        (void) snprintf(ret, size, "%s", file_name);
        for (char *c = ret; *c; c++)
                if (*c < ' ' || *c > '~' || strchr("<>&", *c))
                        *c = '?';
}

void check_directory(const char *config_dir, const char *name, Findings *findings) {
        _cleanup_closedir_ DIR *directory = NULL;
        const struct dirent *entry;
        unsigned n_looked = 0, n_told = 0;
        char path[PATH_MAX];

        if ((size_t) snprintf(path, sizeof(path), "%s/profiles", config_dir) >= sizeof(path))
                return;
        directory = opendir(path);
        while (directory && n_told < DIRECTORY_TOLD && n_looked++ < DIRECTORY_LOOKED &&
               (entry = readdir(directory))) {
                const char *fault;
                char own[PROFILE_NAME_MAX + sizeof(SUFFIX)], shown[sizeof(own)];

                /* what is wrong with this one has been said */
                (void) snprintf(own, sizeof(own), "%s" SUFFIX, name);
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    strcmp(entry->d_name, own) == 0)
                        continue;
                fault = fault_of_entry(dirfd(directory), entry->d_name);
                if (!fault)
                        continue;
                show_name(entry->d_name, shown, sizeof(shown));
                findings_add(findings, FINDING_NOTE, shown, "%s", fault);
                n_told++;
        }
}
