/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See runner-helper.h. A child is waited for in any case, also when its run is no more. */

#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <postern/runner-helper.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Owned by its event source. */
struct Helper {
        int pidfd;
        char *window_id; /* for the log */
        HelperCallback callback;
        void *owner;
        Helper **link; /* the owner's pointer to it; NULL once nobody thinks of it */
};

static int helper_connect_socket(const char *path, int *ret) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        /* a full queue is an error here, and nothing to wait for */
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        *ret = TAKE_FD(fd);
        return 0;
}

int helper_connect(const HelperWay *way, int *ret_ours, int *ret_theirs) {
        int sockets[2], r;

        if (way->socket) {
                r = helper_connect_socket(way->socket, ret_ours);
                if (r < 0)
                        log_error("Cannot connect to %s: %s. See systemctl status "
                                  "postern-run.socket.",
                                  way->socket, strerror(-r));
                else
                        *ret_theirs = -1;
                return r;
        }
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        *ret_ours = sockets[0];
        *ret_theirs = sockets[1];
        return 0;
}

static void on_helper_destroy(void *userdata) {
        Helper *helper = userdata;

        if (helper->link)
                *helper->link = NULL;
        close(helper->pidfd);
        free(helper->window_id);
        free(helper);
}

static int on_helper_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Helper *helper = userdata;
        bool has_owner = helper->link;
        HelperCallback callback = helper->callback;
        void *owner = helper->owner;
        siginfo_t info = {};

        if (waitid(P_PIDFD, helper->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return 0;
        if (info.si_code != CLD_EXITED)
                log_warning("The root helper of window %s was killed by signal %d",
                            helper->window_id, info.si_status);
        (void) sd_event_source_set_floating(source, 0); /* the last reference: frees the helper */
        if (has_owner)
                callback(owner);
        return 0;
}

/* The pidfd is the helper's, unless this fails. */
static int helper_watch(const HelperWay *way, const char *window_id, int pidfd, void *owner,
                        Helper **link) {
        sd_event_source *source = NULL;
        Helper *helper;
        int r;

        helper = calloc(1, sizeof(*helper));
        if (!helper)
                return -ENOMEM;
        *helper = (Helper){.pidfd = pidfd, .callback = way->callback, .owner = owner};
        helper->window_id = strdup(window_id);
        r = helper->window_id
                    ? sd_event_add_io(way->event, &source, pidfd, EPOLLIN, on_helper_exit, helper)
                    : -ENOMEM;
        if (r < 0) {
                free(helper->window_id);
                free(helper);
                return r;
        }
        (void) sd_event_source_set_destroy_callback(source, on_helper_destroy);
        (void) sd_event_source_set_floating(source, 1);
        sd_event_source_unref(source);
        helper->link = link;
        *link = helper;
        return 0;
}

/* posix_spawn: no descriptor but the socket and standard error, no signal state of ours. */
static int helper_spawn(const HelperWay *way, int socket_fd, pid_t *ret) {
        char *arguments[] = {
                (char *) way->path,
                (char *) way->config_option,
                way->allow_sticky_parents ? (char *) "--allow-sticky-parents" : NULL,
                NULL,
        };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t all, none;
        int r;

        sigfillset(&all);
        sigemptyset(&none);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        r = posix_spawn_file_actions_adddup2(&actions, socket_fd, STDIN_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(&attributes, &all);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF |
                                                                  POSIX_SPAWN_SETSIGMASK |
                                                                  POSIX_SPAWN_SETSID);
        if (r == 0)
                r = posix_spawn(ret, way->path, &actions, &attributes, arguments, environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int on_unwatched(sd_event_source *source, void *userdata) {
        siginfo_t info = {};

        /* running yet: again after the next event, of whatever */
        if (waitid(P_PID, (id_t) (intptr_t) userdata, &info, WEXITED | WNOHANG) == 0 &&
            info.si_pid == 0)
                return 0;
        return sd_event_source_set_floating(source, 0); /* the last reference */
}

/* Kills and reaps a helper that nothing watches. Needs no descriptor: those may be what lacks. */
static void helper_discard(const HelperWay *way, pid_t pid) {
        sd_event_source *source = NULL;
        int r;

        /* Our child, not waited for: the number is its own. */
        (void) kill(pid, SIGKILL);

        r = sd_event_add_post(way->event, &source, on_unwatched, (void *) (intptr_t) pid);
        if (r >= 0)
                r = sd_event_source_set_floating(source, 1);
        if (r < 0)
                log_warning("The root helper %d was killed, and stays a zombie: %s", (int) pid,
                            strerror(-r));
        sd_event_source_unref(source);
}

int helper_start(const HelperWay *way, const char *window_id, int theirs, void *owner,
                 Helper **ret) {
        _cleanup_close_ int reserve = -1;
        pid_t pid;
        int pidfd, r;

        *ret = NULL;
        if (theirs < 0)
                return 0;
        /* A process without a pidfd could not be waited for: its descriptor is seen to beforehand.
         */
        reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (reserve < 0)
                return -errno;

        r = helper_spawn(way, theirs, &pid);
        if (r < 0) {
                log_error("Cannot start %s: %s", way->path, strerror(-r));
                return r;
        }
        close(TAKE_FD(reserve));
        pidfd = pidfd_open(pid, 0);
        r = pidfd < 0 ? -errno : helper_watch(way, window_id, pidfd, owner, ret);
        if (r < 0) {
                helper_discard(way, pid);
                if (pidfd >= 0)
                        close(pidfd);
        }
        return r;
}

void helper_kill(const Helper *helper) {
        if (helper)
                (void) pidfd_send_signal(helper->pidfd, SIGKILL, NULL, 0);
}

void helper_disown(Helper *helper) {
        if (helper)
                helper->link = NULL;
}
