/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The bus of another host: ssh, and systemd-stdio-bridge at its other end.
 *
 * sd_bus_open_system_remote() does the same, but gives its ssh the signals' default actions back.
 * What a terminal sends to everybody on Ctrl-C would end ssh, and it is by way of ssh that Ctrl-C
 * closes the window.
 */

#include <errno.h>
#include <postern/client.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child; does not return. ssh leaves an ignored SIGINT ignored. It keeps the terminal, where
 * it may have to ask for a passphrase. */
static void execute_ssh(const char *host, int fd) {
        /* one that does not get through is not to stay behind for as long as it tries */
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (signal(SIGINT, SIG_IGN) != SIG_ERR && dup2(fd, STDIN_FILENO) >= 0 &&
            dup2(fd, STDOUT_FILENO) >= 0)
                execlp("ssh", "ssh", "-xT", "--", host, "systemd-stdio-bridge", NULL);
        client_say("ssh cannot be started: is it installed (openssh-client)?");
        _exit(127);
}

static int use_socket(Client *client, int fd) {
        int r;

        r = sd_bus_new(&client->bus);
        if (r < 0) {
                close(fd);
                return r;
        }
        r = sd_bus_set_fd(client->bus, fd, fd);
        if (r < 0) {
                close(fd);
                return r;
        }
        /* the bus has it from here on, also when something fails */
        r = sd_bus_set_description(client->bus, "postern");
        if (r >= 0)
                r = sd_bus_set_bus_client(client->bus, 1);
        if (r >= 0) /* there are none that could be passed on */
                r = sd_bus_negotiate_fds(client->bus, 0);
        return r < 0 ? r : sd_bus_start(client->bus);
}

int client_open_remote(Client *client) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        client->ssh = fork();
        if (client->ssh == 0)
                execute_ssh(client->host, fds[1]);
        close(fds[1]);
        if (client->ssh < 0) {
                close(fds[0]);
                return -errno;
        }
        return use_socket(client, fds[0]);
}

void client_end_remote(Client *client) {
        if (client->ssh <= 0)
                return;
        (void) kill(client->ssh, SIGTERM);
        while (waitpid(client->ssh, NULL, 0) < 0 && errno == EINTR)
                ;
        client->ssh = 0;
}
