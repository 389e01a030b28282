/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * From a name to a checked profile. Nothing is cached: what a request gets is what the file says
 * now, and nothing of a file that has anything wrong with it.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/directory.h>
#include <postern/profile-file.h>
#include <postern/profile-keys.h>
#include <postern/profile-problem.h>
#include <postern/profile-value.h>
#include <postern/profile.h>
#include <string.h>

#define SUFFIX ".conf"

DEFINE_CLEANUP(Profile, profile_free);
DEFINE_CLEANUP(char *, profile_names_free);

bool profile_name_is_valid(const char *name) {
        static const char letters[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
        size_t length = strspn(name, letters);

        return length > 0 && length <= PROFILE_NAME_MAX && !name[length] && !strchr("._-", *name);
}

Profile *profile_free(Profile *profile) {
        if (!profile)
                return NULL;

        free(profile->name);
        free(profile->description);
        free(profile->certificate);
        free(profile->challenge_directory);
        value_argv_free(profile->exec);
        free(profile->unit);
        free(profile->user);
        value_argv_free(profile->environment);
        free(profile->chain);
        free(profile->zone);
        value_argv_free(profile->open_command);
        value_argv_free(profile->close_command);
        free(profile);
        return NULL;
}

/* FNV-1a, with the final 0 of each string. */
static uint64_t digest_string(uint64_t digest, const char *string) {
        do
                digest = (digest ^ (uint8_t) *string) * UINT64_C(0x100000001b3);
        while (*string++);
        return digest;
}

uint64_t profile_gate_digest(const Profile *profile) {
        uint64_t digest = digest_string(UINT64_C(0xcbf29ce484222325), profile->user);

        for (char **word = profile->open_command; word && *word; word++)
                digest = digest_string(digest, *word);
        digest = digest_string(digest, ""); /* so that no argument can be taken for a variable */
        for (char **variable = profile->environment; *variable; variable++)
                digest = digest_string(digest, *variable);
        return digest >> 2; /* as large as the numbers of a file may be, see cursor.h */
}

int profile_load(const char *config_dir, const char *name, unsigned flags, Profile **ret,
                 char **ret_problem) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_(profile_file_deinit) ProfileFile file = {};
        char file_name[PROFILE_NAME_MAX + sizeof(SUFFIX)];
        int r;

        if (*config_dir != '/' || flags & ~(unsigned) PROFILE_ALLOW_STICKY_PARENTS)
                return -EINVAL;
        if (!profile_name_is_valid(name))
                return profile_problem_set(PROFILE_MISSING, ret_problem,
                                           "No profile can have this name; write up to 64 letters, "
                                           "digits and . _ - with a letter or digit first");

        (void) snprintf(file_name, sizeof(file_name), "%s" SUFFIX, name);
        r = profile_file_read(config_dir, file_name, flags, &file, ret_problem);
        if (r != PROFILE_OK)
                return r;

        profile = calloc(1, sizeof(Profile));
        if (!profile)
                return -ENOMEM;
        profile->name = strdup(name);
        if (!profile->name)
                return -ENOMEM;
        memcpy(profile->version, file.version, sizeof(profile->version));
        r = profile_keys_parse(profile, file_name, file.text, file.size, ret_problem);
        if (r != PROFILE_OK)
                return r;

        *ret = TAKE_POINTER(profile);
        return PROFILE_OK;
}

/* The profile's name of a file name, to be freed; *ret NULL if no profile can have it. */
static int name_of_file(const char *file_name, char **ret) {
        size_t length = strlen(file_name), suffix = strlen(SUFFIX);
        _cleanup_free_ char *name = NULL;

        *ret = NULL;
        if (length <= suffix || strcmp(file_name + length - suffix, SUFFIX) != 0)
                return 0;
        name = strndup(file_name, length - suffix);
        if (!name)
                return -ENOMEM;
        if (profile_name_is_valid(name))
                *ret = TAKE_POINTER(name);
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* NULL with errno: could not; NULL and 0: there is none. */
static DIR *open_directory(const char *config_dir) {
        _cleanup_close_ int parent = open(config_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        DIR *directory = parent >= 0 ? directory_open(parent, "profiles") : NULL;

        if (!directory && errno == ENOENT)
                errno = 0;
        return directory;
}

int profile_list(const char *config_dir, char ***ret) {
        _cleanup_(profile_names_free_cleanup) char **names = NULL;
        _cleanup_closedir_ DIR *directory = NULL;
        size_t n = 0;
        int r;

        if (*config_dir != '/')
                return -EINVAL;

        names = calloc(1, sizeof(char *));
        if (!names)
                return -ENOMEM;

        directory = open_directory(config_dir);
        if (!directory && errno != 0)
                return -errno;

        while (directory) {
                _cleanup_free_ char *name = NULL;
                struct dirent *entry;

                errno = 0;
                entry = readdir(directory);
                if (!entry && errno != 0)
                        return -errno;
                if (!entry)
                        break;
                r = name_of_file(entry->d_name, &name);
                if (r == 0 && name)
                        r = value_argv_append(&names, &n, name);
                if (r < 0)
                        return r;
                name = NULL;
        }

        qsort(names, n, sizeof(char *), compare_names);
        *ret = TAKE_POINTER(names);
        return 0;
}

char **profile_names_free(char **names) {
        return value_argv_free(names);
}

void ports_format(const Port *ports, size_t n_ports, char *ret, size_t size) {
        size_t used = 0;

        (void) snprintf(ret, size, "none");
        for (size_t i = 0; i < n_ports && used < size; i++)
                used += (size_t) snprintf(ret + used, size - used, "%s%u/%s", i > 0 ? " " : "",
                                          ports[i].number, protocol_to_string(ports[i].protocol));
}

int port_compare(const void *a, const void *b) {
        const Port *x = a, *y = b;

        if (x->number != y->number)
                return x->number < y->number ? -1 : 1;
        return (x->protocol > y->protocol) - (x->protocol < y->protocol);
}

bool ports_are_same(const Port *a, size_t n_a, const Port *b, size_t n_b) {
        if (n_a != n_b)
                return false;
        for (size_t i = 0; i < n_a; i++)
                if (port_compare(&a[i], &b[i]) != 0)
                        return false;
        return true;
}

int ports_join(Port *ports, size_t *n_ports, const Port *others, size_t n_others) {
        Port all[PROFILE_PORTS_MAX];
        size_t n = *n_ports;

        memcpy(all, ports, n * sizeof(all[0]));
        for (size_t i = 0; i < n_others; i++) {
                bool known = false;

                for (size_t k = 0; k < n; k++)
                        known |= port_compare(&all[k], &others[i]) == 0;
                if (known)
                        continue;
                if (n == PROFILE_PORTS_MAX)
                        return -ENOSPC;
                all[n++] = others[i];
        }
        if (n > 0) {
                qsort(all, n, sizeof(all[0]), port_compare);
                memcpy(ports, all, n * sizeof(all[0]));
        }
        *n_ports = n;
        return 0;
}

void profile_format_ports(const Profile *profile, char *ret, size_t size) {
        ports_format(profile->ports, profile->n_ports, ret, size);
}

const char *protocol_to_string(Protocol protocol) {
        switch (protocol) {
        case PROTOCOL_TCP:
                return "tcp";
        case PROTOCOL_UDP:
                return "udp";
        }
        return NULL;
}

const char *gate_type_to_string(GateType type) {
        static const char *const strings[] = {
                [GATE_AUTO] = "auto",           [GATE_NFTABLES] = "nftables",
                [GATE_FIREWALLD] = "firewalld", [GATE_COMMAND] = "command",
                [GATE_NONE] = "none",
        };

        return (size_t) type < ELEMENTS(strings) ? strings[type] : NULL;
}
