/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Stands before libc's functions, for the program as well as for the libraries it uses. Where a
 * sanitizer is, this comes before it, so that what does not fail is still watched.
 */

/* Its inline functions stand where these are defined. */
#undef _FORTIFY_SOURCE

#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool is_netlink(int fd) {
        int domain = 0;
        socklen_t size = sizeof(domain);

        /* not by the function, which may be what fails */
        return faults && atomic_load(&faults->armed) &&
               syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
               domain == AF_NETLINK;
}

/* What dlsym() gives is a function, which ISO C does not let a pointer say. */
#define NEXT(name)                                                                                 \
        static __typeof__(name) *next;                                                             \
        if (!next)                                                                                 \
        *(void **) &next = dlsym(RTLD_NEXT, #name)

#define FAIL(value, error)                                                                         \
        do {                                                                                       \
                errno = (error);                                                                   \
                return value;                                                                      \
        } while (0)

/* Allocations of glibc's own look-ups of users do not fail: where the configuration of those cannot
 * be allocated, glibc 2.36 goes on and follows a null pointer (nss_database_check_reload_and_get).
 * That is not for Postern to survive, but for the helper's tests not to die of. */
static bool looking_up; /* the programs have one thread */

static bool allocation_fails(const char *site) {
        return !looking_up && faults_next(FAULT_ALLOCATION, site);
}

#define LOOK_UP(type, name, parameters, arguments)                                                 \
        type name parameters {                                                                     \
                type found;                                                                        \
                NEXT(name);                                                                        \
                looking_up = true;                                                                 \
                found = next arguments;                                                            \
                looking_up = false;                                                                \
                return found;                                                                      \
        }

LOOK_UP(struct passwd *, getpwnam, (const char *name), (name))
LOOK_UP(struct passwd *, getpwuid, (uid_t uid), (uid))
LOOK_UP(int, getgrouplist, (const char *user, gid_t group, gid_t *groups, int *n),
        (user, group, groups, n))

#define ALLOCATION(name, parameters, arguments)                                                    \
        void *name parameters {                                                                    \
                NEXT(name);                                                                        \
                if (allocation_fails(#name))                                                       \
                        FAIL(NULL, ENOMEM);                                                        \
                return next arguments;                                                             \
        }

ALLOCATION(malloc, (size_t size), (size))
ALLOCATION(calloc, (size_t n, size_t size), (n, size))
ALLOCATION(realloc, (void *old, size_t size), (old, size))
ALLOCATION(reallocarray, (void *old, size_t n, size_t size), (old, n, size))

/* A sanitizer's own do not call malloc(). */
char *strdup(const char *text) {
        NEXT(strdup);
        if (allocation_fails("strdup"))
                FAIL(NULL, ENOMEM);
        return next(text);
}

char *strndup(const char *text, size_t size) {
        NEXT(strndup);
        if (allocation_fails("strndup"))
                FAIL(NULL, ENOMEM);
        return next(text, size);
}

#define REFUSABLE(type, name, parameters, arguments, error)                                        \
        type name parameters {                                                                     \
                NEXT(name);                                                                        \
                if (faults_next(FAULT_REFUSED, #name))                                             \
                        FAIL(-1, error);                                                           \
                return next arguments;                                                             \
        }

REFUSABLE(int, socket, (int domain, int type, int protocol), (domain, type, protocol), ENFILE)
REFUSABLE(int, bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size),
          ENOMEM)
REFUSABLE(int, connect, (int fd, const struct sockaddr *address, socklen_t size),
          (fd, address, size), EAGAIN)
REFUSABLE(int, getsockname, (int fd, struct sockaddr *address, socklen_t *size),
          (fd, address, size), ENOBUFS)
REFUSABLE(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
          (fd, level, name, value, size), ENOMEM)
REFUSABLE(int, socketpair, (int domain, int type, int protocol, int fds[2]),
          (domain, type, protocol, fds), EMFILE)
REFUSABLE(int, shutdown, (int fd, int how), (fd, how), ENOBUFS)
REFUSABLE(int, pipe2, (int fds[2], int flags), (fds, flags), EMFILE)
REFUSABLE(int, dup2, (int old, int new), (old, new), EMFILE)
REFUSABLE(int, dup3, (int old, int new, int flags), (old, new, flags), EMFILE)
REFUSABLE(int, inotify_init1, (int flags), (flags), EMFILE)
REFUSABLE(int, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask),
          ENOSPC)
REFUSABLE(int, epoll_create1, (int flags), (flags), EMFILE)
REFUSABLE(int, epoll_ctl, (int fd, int operation, int other, struct epoll_event *event),
          (fd, operation, other, event), ENOMEM)
REFUSABLE(int, timerfd_create, (int clock, int flags), (clock, flags), EMFILE)
REFUSABLE(int, timerfd_settime,
          (int fd, int flags, const struct itimerspec *new, struct itimerspec *old),
          (fd, flags, new, old), ENOMEM)
REFUSABLE(pid_t, fork, (void), (), EAGAIN)
REFUSABLE(int, pidfd_open, (pid_t pid, unsigned flags), (pid, flags), EMFILE)
REFUSABLE(int, pidfd_send_signal, (int fd, int number, siginfo_t *info, unsigned flags),
          (fd, number, info, flags), ENOMEM)
REFUSABLE(ssize_t, getrandom, (void *buffer, size_t size, unsigned flags), (buffer, size, flags),
          EAGAIN)
REFUSABLE(int, mkdir, (const char *path, mode_t mode), (path, mode), ENOSPC)
REFUSABLE(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode), ENOSPC)
REFUSABLE(int, setgroups, (size_t n, const gid_t *groups), (n, groups), ENOMEM)
REFUSABLE(int, setresuid, (uid_t a, uid_t b, uid_t c), (a, b, c), EAGAIN)
REFUSABLE(int, setresgid, (gid_t a, gid_t b, gid_t c), (a, b, c), EAGAIN)
REFUSABLE(int, execve, (const char *path, char *const *arguments, char *const *environment),
          (path, arguments, environment), ENOMEM)

REFUSABLE(int, execvp, (const char *path, char *const *arguments), (path, arguments), ENOMEM)
REFUSABLE(pid_t, setsid, (void), (), EPERM)
REFUSABLE(int, chdir, (const char *path), (path), ENOMEM)
REFUSABLE(int, fchdir, (int fd), (fd), EIO)
REFUSABLE(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags),
          EMFILE)
REFUSABLE(int, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags), EMFILE)
REFUSABLE(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
          (fd, level, name, value, size), ENOBUFS)
REFUSABLE(int, fstatfs64, (int fd, struct statfs64 *status), (fd, status), ENOMEM)
REFUSABLE(int, fstat64, (int fd, struct stat64 *status), (fd, status), ENOMEM)
REFUSABLE(int, fstatat64, (int fd, const char *path, struct stat64 *status, int flags),
          (fd, path, status, flags), ENOMEM)
REFUSABLE(int, lstat64, (const char *path, struct stat64 *status), (path, status), ENOMEM)
REFUSABLE(int, faccessat, (int fd, const char *path, int mode, int flags), (fd, path, mode, flags),
          ENOMEM)
REFUSABLE(int, fsync, (int fd), (fd), EIO)
REFUSABLE(int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid), EIO)
REFUSABLE(int, setrlimit64, (__rlimit_resource_t what, const struct rlimit64 *limit), (what, limit),
          EPERM)

int prctl(int option, ...) {
        unsigned long a[4];
        va_list list;
        NEXT(prctl);
        va_start(list, option);
        for (unsigned i = 0; i < 4; i++)
                a[i] = va_arg(list, unsigned long);
        va_end(list);
        if (faults_next(FAULT_REFUSED, "prctl"))
                FAIL(-1, EINVAL);
        return next(option, a[0], a[1], a[2], a[3]);
}

int fcntl64(int fd, int command, ...) {
        va_list list;
        void *value;
        NEXT(fcntl64);
        va_start(list, command);
        value = va_arg(list, void *);
        va_end(list);
        if (faults_next(FAULT_REFUSED, "fcntl"))
                FAIL(-1, command == F_DUPFD_CLOEXEC || command == F_DUPFD ? EMFILE : ENOLCK);
        return next(fd, command, value);
}

FILE *fopen64(const char *path, const char *mode) {
        NEXT(fopen64);
        if (faults_next(FAULT_REFUSED, "fopen"))
                FAIL(NULL, EMFILE);
        return next(path, mode);
}

int poll(struct pollfd *fds, nfds_t n, int timeout) {
        NEXT(poll);
        if (faults_next(FAULT_REFUSED, "poll"))
                FAIL(-1, ENOMEM);
        if (faults_next(FAULT_INTERRUPTED, "poll"))
                FAIL(-1, EINTR);
        return next(fds, n, timeout);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
        NEXT(ppoll);
        if (faults_next(FAULT_REFUSED, "ppoll"))
                FAIL(-1, ENOMEM);
        if (faults_next(FAULT_INTERRUPTED, "ppoll"))
                FAIL(-1, EINTR);
        return next(fds, n, timeout, mask);
}

#define REPORTED_LATE(name, parameters, arguments, refused, late)                                  \
        int name parameters {                                                                      \
                NEXT(name);                                                                        \
                if (faults_next(FAULT_REFUSED, #name))                                             \
                        FAIL(-1, refused);                                                         \
                if (faults_next(FAULT_AFTERWARDS, #name)) {                                        \
                        if (next arguments < 0)                                                    \
                                return -1;                                                         \
                        FAIL(-1, late);                                                            \
                }                                                                                  \
                return next arguments;                                                             \
        }

REPORTED_LATE(renameat, (int fd, const char *old, int other, const char *new),
              (fd, old, other, new), ENOSPC, EIO)
REPORTED_LATE(rename, (const char *old, const char *new), (old, new), ENOSPC, EIO)
REPORTED_LATE(unlinkat, (int fd, const char *path, int flags), (fd, path, flags), EIO, EIO)
REPORTED_LATE(rmdir, (const char *path), (path), EBUSY, EIO)

/* A descriptor is gone whatever close() says. */
int close(int fd) {
        NEXT(close);
        if (faults_next(FAULT_AFTERWARDS, "close")) {
                (void) next(fd);
                FAIL(-1, EINTR);
        }
        return next(fd);
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int flags) {
        NEXT(waitid);
        if (faults_next(FAULT_INTERRUPTED, "waitid"))
                FAIL(-1, EINTR);
        return next(type, id, info, flags);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
        NEXT(epoll_wait);
        if (faults_next(FAULT_INTERRUPTED, "epoll_wait"))
                FAIL(-1, EINTR);
        return next(fd, events, n, timeout);
}

int epoll_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout,
                 const sigset_t *mask) {
        NEXT(epoll_pwait2);
        if (faults_next(FAULT_INTERRUPTED, "epoll_pwait2"))
                FAIL(-1, EINTR);
        return next(fd, events, n, timeout, mask);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const arguments[],
                char *const environment[]) {
        NEXT(posix_spawn);
        if (faults_next(FAULT_REFUSED, "posix_spawn"))
                return EAGAIN;
        return next(pid, path, actions, attributes, arguments, environment);
}

/* --- files: with and without large-file names, fortified and not ---------------------------- */

#define OPENS(name, parameters, last, arguments)                                                   \
        int name parameters {                                                                      \
                mode_t mode = 0;                                                                   \
                va_list list;                                                                      \
                NEXT(name);                                                                        \
                va_start(list, last);                                                              \
                if (flags & (O_CREAT | O_TMPFILE))                                                 \
                        mode = va_arg(list, mode_t);                                               \
                va_end(list);                                                                      \
                if (faults_next(FAULT_REFUSED, #name))                                             \
                        FAIL(-1, EMFILE);                                                          \
                if (faults_next(FAULT_INTERRUPTED, #name))                                         \
                        FAIL(-1, EINTR);                                                           \
                return next arguments;                                                             \
        }

#undef open
#undef open64
#undef openat
#undef openat64
OPENS(open64, (const char *path, int flags, ...), flags, (path, flags, mode))
OPENS(openat64, (int fd, const char *path, int flags, ...), flags, (fd, path, flags, mode))

int __open64_2(const char *path, int flags);
int __openat64_2(int fd, const char *path, int flags);
int __open64_2(const char *path, int flags) {
        return open64(path, flags);
}
int __openat64_2(int fd, const char *path, int flags) {
        return openat64(fd, path, flags);
}

ssize_t read(int fd, void *buffer, size_t size) {
        NEXT(read);
        if (faults_next(FAULT_REFUSED, "read"))
                FAIL(-1, EIO);
        if (faults_next(FAULT_INTERRUPTED, "read"))
                FAIL(-1, EINTR);
        return next(fd, buffer, size);
}

ssize_t write(int fd, const void *data, size_t size) {
        NEXT(write);
        if (faults_next(FAULT_REFUSED, "write"))
                FAIL(-1, ENOSPC);
        if (faults_next(FAULT_INTERRUPTED, "write"))
                FAIL(-1, EINTR);
        if (size > 1 && faults_next(FAULT_SHORT, "write"))
                size /= 2;
        return next(fd, data, size);
}

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room) {
        return size > room ? (abort(), -1) : read(fd, buffer, size);
}

/* --- messages -------------------------------------------------------------------------------- */

enum { LATE_MSEC = 60 }; /* more than a lease may be late */

#define SENDS(name, parameters, arguments)                                                         \
        ssize_t name parameters {                                                                  \
                NEXT(name);                                                                        \
                if (faults_next(FAULT_REFUSED, #name))                                             \
                        FAIL(-1, ENOBUFS);                                                         \
                if (faults_next(FAULT_INTERRUPTED, #name))                                         \
                        FAIL(-1, EINTR);                                                           \
                if (is_netlink(fd) && faults_next(FAULT_AFTERWARDS, #name)) {                      \
                        if (next arguments < 0)                                                    \
                                return -1;                                                         \
                        FAIL(-1, EINTR);                                                           \
                }                                                                                  \
                if (is_netlink(fd) && faults_next(FAULT_LATE, #name))                              \
                        (void) poll(NULL, 0, LATE_MSEC);                                           \
                return next arguments;                                                             \
        }

enum { HEADER = 20 }; /* of a netlink message, and a little */

/* Only what was received can be lost: what would block is asked for again. */
#define RECEIVES(name, parameters, arguments)                                                      \
        ssize_t name parameters {                                                                  \
                ssize_t n;                                                                         \
                NEXT(name);                                                                        \
                if (faults_next(FAULT_REFUSED, #name))                                             \
                        FAIL(-1, ENOMEM);                                                          \
                if (faults_next(FAULT_INTERRUPTED, #name))                                         \
                        FAIL(-1, EINTR);                                                           \
                n = next arguments;                                                                \
                if (n < 0 || !is_netlink(fd))                                                      \
                        return n;                                                                  \
                if (faults_next(FAULT_AFTERWARDS, #name))                                          \
                        FAIL(-1, ENOBUFS);                                                         \
                if (faults_next(FAULT_EMPTY, #name))                                               \
                        FAIL(-1, EAGAIN);                                                          \
                return faults_next(FAULT_SHORT, #name) && n > HEADER ? HEADER : n;                 \
        }

SENDS(send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
SENDS(sendto,
      (int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
       socklen_t length),
      (fd, data, size, flags, address, length))
SENDS(sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
SENDS(writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
RECEIVES(recv, (int fd, void *buffer, size_t size, int flags), (fd, buffer, size, flags))
RECEIVES(recvfrom,
         (int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
          socklen_t *length),
         (fd, buffer, size, flags, address, length))
RECEIVES(recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))

ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
        return size > room ? (abort(), -1) : recv(fd, buffer, size, flags);
}
