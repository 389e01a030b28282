/* SPDX-License-Identifier: GPL-2.0-or-later */

/* fork, a list of things to shed in the right order, exec. */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <postern/cleanup.h>
#include <postern/run-child.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The installed posternd's user: what it owns, no renewal may touch. */
#define BROKER_USER "_postern"

enum {
        STATUS_FD = 3, /* tells why there was no exec; closes by itself when there is */
        GROUPS_MAX = 256,
        ENVIRONMENT_MAX = 256,
};

struct RunUser {
        char *name;
        char *home;
        char *shell;
        uid_t uid;
        gid_t gid;
        gid_t groups[GROUPS_MAX];
        int n_groups;
};

/* What root keeps: what ACME clients and their hooks do. Not the network's configuration, other
 * processes' memory, modules, devices, mounts. A user other than root has none to begin with. */
static const unsigned kept_capabilities[] = {
        CAP_NET_BIND_SERVICE, /* to listen on port 80 */
        CAP_CHOWN,            /* keys and certificates change hands */
        CAP_DAC_OVERRIDE,     /* webroots and configuration of other users */
        CAP_DAC_READ_SEARCH,  /* likewise, to read */
        CAP_FOWNER,           /* modes of files that belong to others */
        CAP_FSETID,           /* and keep their setgid bits */
        CAP_KILL,             /* reload a server by signal */
        CAP_SETUID,           /* hooks that change user */
        CAP_SETGID,           /* likewise */
        CAP_SYS_CHROOT,       /* servers test their configuration in a chroot */
        CAP_AUDIT_WRITE,      /* su and sudo in hooks */
};

RunUser *run_user_free(RunUser *user) {
        if (!user)
                return NULL;
        free(user->name);
        free(user->home);
        free(user->shell);
        free(user);
        return NULL;
}

DEFINE_CLEANUP(RunUser, run_user_free);

/* The entry is libc's own, and good until the next call. */
static const struct passwd *find_entry(const char *name) {
        char *end;
        unsigned long number = strtoul(name, &end, 10);

        return *end ? getpwnam(name) : getpwuid(number);
}

/* What the problem itself may not hold: everybody can read that, and not everybody the profile. */
static void describe(const char *key, const char *value) {
        fprintf(stderr, "postern-run: %s%s\n", key, value);
}

int run_user_find(const Profile *profile, uid_t peer, RunUser **ret, char *problem, size_t size) {
        const char *name = profile->user;
        _cleanup_(run_user_free_cleanup) RunUser *user = NULL;
        const struct passwd *entry;
        uid_t broker = 0;

        entry = getpwnam(BROKER_USER);
        if (entry)
                broker = entry->pw_uid;
        entry = find_entry(name);
        if (!entry) {
                describe("User=", name);
                snprintf(problem, size,
                         "User= of profile %s is no user of this host: name one "
                         "that exists",
                         profile->name);
                return -ENOENT;
        }
        if (entry->pw_uid != 0 && (entry->pw_uid == broker || entry->pw_uid == peer)) {
                describe("User=", name);
                snprintf(problem, size,
                         "User= of profile %s is the user that posternd runs as, which no renewal "
                         "may be: name another one",
                         profile->name);
                return -EPERM;
        }
        user = calloc(1, sizeof(*user));
        if (!user)
                return -ENOMEM;
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
        user->name = strdup(entry->pw_name);
        user->home = strdup(entry->pw_dir);
        user->shell = strdup(entry->pw_shell && *entry->pw_shell ? entry->pw_shell : "/bin/sh");
        if (!user->name || !user->home || !user->shell)
                return -ENOMEM;
        user->n_groups = ELEMENTS(user->groups);
        if (getgrouplist(user->name, user->gid, user->groups, &user->n_groups) < 0) {
                describe("User=", name);
                snprintf(problem, size,
                         "User= of profile %s is in more than %d groups: name another one",
                         profile->name, GROUPS_MAX);
                return -E2BIG;
        }
        *ret = TAKE_POINTER(user);
        return 0;
}

typedef struct Environment {
        char *strings[ENVIRONMENT_MAX + 1];
        size_t n;
        bool failed;
} Environment;

static void environment_deinit(Environment *environment) {
        for (size_t i = 0; i < environment->n; i++)
                free(environment->strings[i]);
}

static void environment_add(Environment *environment, const Profile *profile, const char *key,
                            const char *value) {
        size_t length = strlen(key);

        /* The profile's own goes first. */
        for (char **own = profile->environment; *own; own++)
                if (strncmp(*own, key, length) == 0 && (*own)[length] == '=')
                        return;
        if (environment->n == ENVIRONMENT_MAX ||
            asprintf(&environment->strings[environment->n], "%s=%s", key, value) < 0) {
                environment->strings[environment->n] = NULL;
                environment->failed = true;
                return;
        }
        environment->n++;
}

static int environment_make(Environment *ret, const Profile *profile, const RunUser *user,
                            const char *window, uint64_t deadline, const char *ports) {
        char number[32];

        for (char **own = profile->environment; *own; own++) {
                if (ret->n == ENVIRONMENT_MAX)
                        return -E2BIG;
                ret->strings[ret->n] = strdup(*own);
                if (!ret->strings[ret->n])
                        return -ENOMEM;
                ret->n++;
        }
        snprintf(number, sizeof(number), "%" PRIu64, deadline);
        environment_add(ret, profile, "PATH",
                        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        environment_add(ret, profile, "LANG", "C.UTF-8");
        environment_add(ret, profile, "HOME", user->home);
        environment_add(ret, profile, "USER", user->name);
        environment_add(ret, profile, "LOGNAME", user->name);
        environment_add(ret, profile, "SHELL", user->shell);
        environment_add(ret, profile, "POSTERN_PROFILE", profile->name);
        environment_add(ret, profile, "POSTERN_WINDOW", window);
        environment_add(ret, profile, "POSTERN_DEADLINE", number);
        if (ports)
                environment_add(ret, profile, "POSTERN_PORTS", ports);
        return ret->failed ? -ENOMEM : 0;
}

static int drop_capabilities(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
        int present;

        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return -errno;
        for (unsigned i = 0; (present = prctl(PR_CAPBSET_READ, i, 0, 0, 0)) >= 0; i++) {
                bool kept = false;

                for (size_t k = 0; k < ELEMENTS(kept_capabilities); k++)
                        kept |= kept_capabilities[k] == i;
                if (present && !kept && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
                        return -errno;
        }
        if (syscall(SYS_capget, &header, data) < 0)
                return -errno;
        data[0].inheritable = data[1].inheritable = 0;
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int become(const RunUser *user) {
        uid_t r, e, s;

        if (setgroups(user->n_groups, user->groups) < 0 ||
            setresgid(user->gid, user->gid, user->gid) < 0 ||
            setresuid(user->uid, user->uid, user->uid) < 0)
                return -errno;
        if (getresuid(&r, &e, &s) < 0 || r != user->uid || e != user->uid || s != user->uid)
                return -EPERM;
        return 0;
}

static int reset_signals(void) {
        sigset_t none;

        for (int i = 1; i < _NSIG; i++)
                (void) signal(i, SIG_DFL); /* two cannot be changed, a few are libc's */
        sigemptyset(&none);
        return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

static int reset_limits(void) {
        struct rlimit files;

        if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) < 0 ||
            getrlimit(RLIMIT_NOFILE, &files) < 0)
                return -errno;
        files.rlim_cur = files.rlim_max < 1024 ? files.rlim_max : 1024;
        return setrlimit(RLIMIT_NOFILE, &files) < 0 ? -errno : 0;
}

/* Standard input from nowhere, output to the pipe, the status pipe at its place, nothing else open.
 */
static int arrange_descriptors(int output, int status) {
        int null;

        null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0)
                return -errno;
        /* Out of the way first: any of them may sit where another one goes. */
        output = fcntl(output, F_DUPFD_CLOEXEC, 10);
        status = fcntl(status, F_DUPFD_CLOEXEC, 10);
        null = fcntl(null, F_DUPFD_CLOEXEC, 10);
        if (output < 0 || status < 0 || null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 ||
            dup2(output, 2) < 0 || dup3(status, STATUS_FD, O_CLOEXEC) < 0 ||
            close_range(STATUS_FD + 1, UINT32_MAX, 0) < 0)
                return -errno;
        return 0;
}

/* What the child says when it does not come to be the program. */
typedef struct Failure {
        char step[32]; /* "" for exec itself */
        int error;
} Failure;

#define TRY(expression, name)                                                                      \
        do {                                                                                       \
                int _r = (expression);                                                             \
                if (_r < 0)                                                                        \
                        child_fail(status, name, _r);                                              \
        } while (0)

__attribute__((noreturn)) static void child_fail(int status, const char *step, int error) {
        Failure failure = {.error = error};

        snprintf(failure.step, sizeof(failure.step), "%s", step);
        (void) !write(status, &failure, sizeof(failure));
        _exit(255);
}

__attribute__((noreturn)) static void child_main(const Profile *profile, const RunCommand *command,
                                                 const RunUser *user, const RunCgroup *cgroup,
                                                 char **environment, int output, int status,
                                                 pid_t parent) {
        TRY(run_cgroup_enter(cgroup), "entering the cgroup");
        TRY(setsid() < 0 ? -errno : 0, "making a session");
        TRY(reset_signals(), "resetting signals");
        TRY(reset_limits(), "resetting limits");
        TRY(arrange_descriptors(output, status), "arranging descriptors");
        status = STATUS_FD;
        umask(022);
        TRY(chdir("/") < 0 ? -errno : 0, "changing to /");
        TRY(drop_capabilities(), "dropping capabilities");
        TRY(become(user), "becoming the user");
        if (profile->no_new_privileges)
                TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0,
                    "setting no_new_privs");
        /* Without a cgroup this is what ends it when the helper is killed. After setresuid(), which
         * clears it; and the helper may have gone before. */
        TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0, "tying it to the helper");
        TRY(getppid() != parent ? -ESRCH : 0, "tying it to the helper");
        execve(command->argv[0], command->argv, environment);
        child_fail(status, "", -errno);
}

static void explain(const Profile *profile, const RunCommand *command, const Failure *failure,
                    char *problem, size_t size) {
        const char *name = profile->name, *key = command->key;

        describe(key, command->argv[0]);
        describe("User=", profile->user);
        if (*failure->step) {
                snprintf(problem, size,
                         "the program of %s of profile %s could not be started: %s failed (%s); "
                         "see to that and ask again",
                         key, name, failure->step, strerror(-failure->error));
                return;
        }
        switch (failure->error) {
        case -ENOENT:
                snprintf(problem, size,
                         "the program of %s of profile %s does not exist (or its interpreter "
                         "does not): install it, or correct %s",
                         key, name, key);
                break;
        case -EACCES:
                snprintf(problem, size,
                         "the user of profile %s may not execute the program of %s: make it "
                         "executable, or correct %s or User=",
                         name, key, key);
                break;
        case -ENOEXEC:
                snprintf(problem, size,
                         "the program of %s of profile %s is not a program: if it is a script, "
                         "its first line must name the interpreter (#!/bin/sh)",
                         key, name);
                break;
        default:
                snprintf(problem, size,
                         "the program of %s of profile %s could not be started (%s): see to that "
                         "and ask again",
                         key, name, strerror(-failure->error));
                break;
        }
}

int run_child_start(const Profile *profile, const RunCommand *command, const RunUser *user,
                    const RunCgroup *cgroup, const char *window, uint64_t deadline, int output,
                    RunChild *ret, char *problem, size_t size) {
        _cleanup_(environment_deinit) Environment environment = {};
        _cleanup_close_ int status_read = -1, status_write = -1, pidfd = -1;
        pid_t pid, parent = getpid();
        Failure failure = {};
        int status[2], r;
        ssize_t n;

        r = environment_make(&environment, profile, user, window, deadline, command->ports);
        if (r < 0 || pipe2(status, O_CLOEXEC) < 0) {
                snprintf(problem, size, "memory or descriptors ran out: free some and ask again");
                return r < 0 ? r : -errno;
        }
        status_read = status[0];
        status_write = status[1];
        /* A program that opens /dev/stdout anew needs the right to. */
        (void) !fchown(output, user->uid, user->gid);

        pid = fork();
        if (pid == 0)
                child_main(profile, command, user, cgroup, environment.strings, output,
                           status_write, parent);
        if (pid < 0) {
                r = -errno;
                snprintf(problem, size, "no process could be made (%s): wait and ask again",
                         strerror(-r));
                return r;
        }
        /* Our own child, not yet waited for: its number is still its own. */
        pidfd = pidfd_open(pid, 0);
        if (pidfd < 0) {
                r = -errno;
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                snprintf(problem, size,
                         "the kernel has no pidfds (%s): Linux 5.14 or later is needed",
                         strerror(-r));
                return r;
        }
        close(TAKE_FD(status_write));
        do
                n = read(status_read, &failure, sizeof(failure));
        while (n < 0 && errno == EINTR);
        if (n == sizeof(failure)) {
                (void) waitid(P_PIDFD, pidfd, &(siginfo_t){}, WEXITED);
                explain(profile, command, &failure, problem, size);
                return failure.error;
        }
        *ret = (RunChild){.pid = pid, .pidfd = TAKE_FD(pidfd)};
        return 0;
}
