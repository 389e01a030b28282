/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * With a cgroup the kernel kills the tree as one. In any case this process is the subreaper:
 * whatever loses its parent becomes its child, so killing children until there are none ends all of
 * it, also where there is no cgroup and where root has moved itself out of it.
 */

#include <errno.h>
#include <poll.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/run-supervise.h>
#include <signal.h>
#include <stdint.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum { EMPTY_POLL_MSEC = 5 }; /* how often to look whether the tree is gone, once it should be */

typedef struct Supervisor {
        const RunChild *child;
        const RunCgroup *cgroup;
        int socket, signal_fd;
        bool main_ended;
        int status;
        bool stopping;
        uint64_t kill_at; /* CLOCK_MONOTONIC, milliseconds */
} Supervisor;

static uint64_t now_msec(void) {
        return clock_now(CLOCK_MONOTONIC) / 1000;
}

int run_supervise_prepare(void) {
        sigset_t signals;
        int fd;

        if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
                return -errno;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

/* The children that came to this process, besides those of the main process's group (if group is
 * not 0). They are ours until waited for, so their numbers hold. */
static void signal_children(int signal, pid_t group) {
        _cleanup_fclose_ FILE *children = NULL;
        char path[64];
        int pid;

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int) getpid());
        children = fopen(path, "re");
        while (children && fscanf(children, "%d", &pid) == 1)
                if (group == 0 || getpgid(pid) != group)
                        (void) kill(pid, signal);
}

/* Once to each: a second SIGTERM would cut short what the first one began. */
static void terminate_tree(const Supervisor *supervisor) {
        if (supervisor->cgroup->fd >= 0) {
                run_cgroup_signal(supervisor->cgroup, SIGTERM);
                return;
        }
        (void) kill(-supervisor->child->pid, SIGTERM); /* its session's first group */
        signal_children(SIGTERM, supervisor->child->pid);
}

static void kill_tree(const Supervisor *supervisor) {
        run_cgroup_signal(supervisor->cgroup, SIGKILL);
        if (!supervisor->main_ended)
                (void) kill(-supervisor->child->pid, SIGKILL);
        signal_children(SIGKILL, 0);
}

static int status_of(const siginfo_t *info) {
        return info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
}

/* Reaps what has ended; true when there is no child left. */
static bool reap(Supervisor *supervisor) {
        for (;;) {
                siginfo_t info = {};

                if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0)
                        return errno == ECHILD;
                if (info.si_pid == 0)
                        return false;
                if (info.si_pid == supervisor->child->pid) {
                        supervisor->main_ended = true;
                        supervisor->status = status_of(&info);
                }
        }
}

static bool tree_is_gone(Supervisor *supervisor) {
        bool childless = reap(supervisor);

        return supervisor->main_ended && childless && !run_cgroup_populated(supervisor->cgroup);
}

static void begin_stop(Supervisor *supervisor) {
        if (supervisor->stopping)
                return;
        supervisor->stopping = true;
        supervisor->kill_at = now_msec() + RUN_GRACE_MSEC;
        if (!supervisor->main_ended) /* else it is being killed already */
                terminate_tree(supervisor);
}

static void look_around(Supervisor *supervisor, int timeout) {
        struct signalfd_siginfo info;
        struct pollfd polled[] = {
                {.fd = supervisor->main_ended ? -1 : supervisor->child->pidfd, .events = POLLIN},
                {.fd = supervisor->stopping ? -1 : supervisor->socket,
                 .events = POLLIN | POLLRDHUP},
                {.fd = supervisor->signal_fd, .events = POLLIN},
        };

        if (poll(polled, ELEMENTS(polled), timeout) <= 0)
                return;
        /* Nothing is to be said any more: whatever comes means the end. */
        if (polled[1].revents)
                begin_stop(supervisor);
        if (polled[2].revents) {
                while (read(supervisor->signal_fd, &info, sizeof(info)) > 0)
                        ;
                begin_stop(supervisor);
        }
}

int run_supervise_wait(int socket, int signal_fd) {
        struct pollfd polled[] = {
                {.fd = socket, .events = POLLIN},
                {.fd = signal_fd, .events = POLLIN},
        };

        while (poll(polled, ELEMENTS(polled), -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return polled[1].revents ? 0 : 1;
}

int run_supervise(const RunChild *child, const RunCgroup *cgroup, int socket, int signal_fd) {
        Supervisor supervisor = {
                .child = child,
                .cgroup = cgroup,
                .socket = socket,
                .signal_fd = signal_fd,
        };

        while (!tree_is_gone(&supervisor)) {
                uint64_t now = now_msec();
                int timeout = -1;

                if (supervisor.main_ended || (supervisor.stopping && now >= supervisor.kill_at)) {
                        /* Each time: something may have been forked meanwhile. */
                        kill_tree(&supervisor);
                        timeout = EMPTY_POLL_MSEC;
                } else if (supervisor.stopping)
                        timeout = supervisor.kill_at - now;
                look_around(&supervisor, timeout);
        }
        return supervisor.status;
}
