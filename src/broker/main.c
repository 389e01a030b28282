/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * posternd: options, directories, signals, and the order of coming up and going down.
 *
 * Up: what an earlier daemon left open is closed, and what it left running is killed, before the
 * name is taken, so nobody is served by a host that is not clean. Down: every window is closed and
 * every answer handed to the bus, or the time for that is over; whatever happens then, the doors
 * are shut first.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <postern/broker.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/expiry.h>
#include <postern/idle.h>
#include <postern/log.h>
#include <postern/profile-value.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

/* a command that closes a firewall elsewhere is given some time (OWED_STOP_LIMIT_USEC), and some
 * more to end (RUN_STOP_LIMIT_USEC) */
#define MAIN_STOP_LIMIT_USEC ((uint64_t) 15 * 1000 * 1000)
#define MAIN_IDLE_EXIT_USEC  ((uint64_t) 60 * 1000 * 1000)

enum { EXIT_USAGE = 2 };

typedef struct Main {
        sd_event *event;
        sd_bus *connection;
        Bus *bus;
        Broker *broker;
        Idle *idle; /* NULL: stays whether there is work or not */
        uint64_t idle_exit_usec;
        sd_event_source *stop_limit;
        bool stopping;
        bool told; /* by a signal */
        int status;
} Main;

typedef struct Options {
        BrokerOptions broker;
        uint64_t idle_exit_usec; /* 0: never */
} Options;

static void main_help(void) {
        puts("Usage: posternd [OPTION...]\n"
             "\n"
             "Opens a port for a certificate renewal, by a profile in the configuration "
             "directory,\n"
             "when polkit allows it, and closes it again.\n"
             "\n"
             "  --config-dir=DIR   profiles are in DIR/profiles (" POSTERN_CONFIG_DIR ")\n"
             "  --state-dir=DIR    what must survive a restart (" POSTERN_STATE_DIR ")\n"
             "  --runtime-dir=DIR  what must not survive a boot (" POSTERN_RUNTIME_DIR ")\n"
             "  --run-path=FILE    start this as the helper postern-run\n"
             "  --run-socket=FILE  or have helpers started by who listens here. Without either:\n"
             "                     " POSTERN_RUN_SOCKET " where systemd runs and that\n"
             "                     exists and there is no --config-dir=, else " POSTERN_RUN_PATH
             "\n"
             "  --idle-exit=TIME   leave after so long without work; 0: never. Without it: after\n"
             "                     1min where the bus started this, else never\n"
             "  --version\n"
             "  --help");
}

/* Options to *ret. 0; 1: nothing more to do; -EINVAL: said what is wrong. */
static int main_parse(int argc, char *argv[], Options *ret) {
        enum {
                OPTION_CONFIG_DIR = 0x100,
                OPTION_STATE_DIR,
                OPTION_RUNTIME_DIR,
                OPTION_RUN_PATH,
                OPTION_RUN_SOCKET,
                OPTION_IDLE_EXIT,
                OPTION_ALLOW_STICKY_PARENTS,
                OPTION_VERSION,
                OPTION_HELP,
        };
        static const struct option options[] = {
                {"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
                {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
                {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
                {"run-path", required_argument, NULL, OPTION_RUN_PATH},
                {"run-socket", required_argument, NULL, OPTION_RUN_SOCKET},
                {"idle-exit", required_argument, NULL, OPTION_IDLE_EXIT},
                /* for tests alone, which keep their profiles below /tmp */
                {"allow-sticky-parents", no_argument, NULL, OPTION_ALLOW_STICKY_PARENTS},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, OPTION_HELP},
                {0},
        };
        const char *paths[5];
        bool starts_helpers = false;
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case OPTION_CONFIG_DIR:
                        ret->broker.config_dir = optarg;
                        starts_helpers = true; /* systemd's read the installed directory */
                        break;
                case OPTION_STATE_DIR:
                        ret->broker.state_dir = optarg;
                        break;
                case OPTION_RUNTIME_DIR:
                        ret->broker.runtime_dir = optarg;
                        break;
                case OPTION_RUN_PATH:
                        ret->broker.run_path = optarg;
                        starts_helpers = true;
                        break;
                case OPTION_RUN_SOCKET:
                        ret->broker.run_socket = optarg;
                        break;
                case OPTION_IDLE_EXIT:
                        if (value_parse_timespan(optarg, &ret->idle_exit_usec) < 0) {
                                fprintf(stderr,
                                        "posternd: \"%s\" is not a time; --idle-exit takes 90, "
                                        "1min or 0\n",
                                        optarg);
                                return -EINVAL;
                        }
                        break;
                case OPTION_ALLOW_STICKY_PARENTS:
                        ret->broker.allow_sticky_parents = true;
                        break;
                case OPTION_VERSION:
                        puts("posternd " POSTERN_VERSION);
                        return 1;
                case OPTION_HELP:
                        main_help();
                        return 1;
                default:
                        return -EINVAL;
                }

        if (optind < argc) {
                fprintf(stderr, "posternd: \"%s\" is not an option; see --help\n", argv[optind]);
                return -EINVAL;
        }

        if (!ret->broker.run_socket && !starts_helpers && sd_booted() > 0 &&
            access(POSTERN_RUN_SOCKET, F_OK) >= 0)
                ret->broker.run_socket = POSTERN_RUN_SOCKET;

        paths[0] = ret->broker.config_dir;
        paths[1] = ret->broker.state_dir;
        paths[2] = ret->broker.runtime_dir;
        paths[3] = ret->broker.run_path;
        paths[4] = ret->broker.run_socket;
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (paths[i] && paths[i][0] != '/') {
                        fprintf(stderr, "posternd: \"%s\" must be an absolute path\n", paths[i]);
                        return -EINVAL;
                }
        return 0;
}

/* A directory of ours that nobody else can write to. */
static int main_make_directory(const char *path, mode_t mode) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (mkdir(path, mode) < 0 && errno != EEXIST) {
                log_error("Cannot make the directory %s: %s. Make its parent, or name another "
                          "place; see --help.",
                          path, strerror(errno));
                return -errno;
        }
        fd = open(path, O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                log_error(
                        "Cannot look at the directory %s: %s. Remove what stands there, and it is "
                        "made anew.",
                        path, strerror(errno));
                return -errno;
        }
        if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
                log_error("The directory %s must belong to this user and be writable by nobody "
                          "else: remove it, and it is made anew.",
                          path);
                return -EPERM;
        }
        return 0;
}

static int main_on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata) {
        Main *self = userdata;

        log_error("Not everything could be closed in time; ending anyway, which shuts every door.");
        return sd_event_exit(self->event, EXIT_FAILURE);
}

static void main_stop(Main *self, int status) {
        if (self->stopping)
                return;

        self->stopping = true;
        self->status = status;
        (void) sd_notify(0, "STOPPING=1");
        if (sd_event_add_time_relative(self->event, &self->stop_limit, CLOCK_BOOTTIME,
                                       MAIN_STOP_LIMIT_USEC, 0, main_on_stop_limit, self) < 0)
                (void) sd_event_exit(self->event, EXIT_FAILURE);
        broker_stop(self->broker);
}

static int main_on_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata) {
        Main *self = userdata;

        if (info->ssi_signo == SIGTERM && self->idle && !self->stopping && idle_on_term(self->idle))
                return 0;
        if (self->told) {
                log_warning("Told to end a second time; not waiting any longer.");
                return sd_event_exit(self->event, EXIT_FAILURE);
        }
        self->told = true;
        log_info("Told to end; closing every window.");
        main_stop(self, EXIT_SUCCESS);
        return 0;
}

/* Runs after every turn of the loop, and so sees the last window close and the last byte go. */
static int main_on_turn(sd_event_source *source, void *userdata) {
        Main *self = userdata;

        bus_on_turn(self->bus);
        if (self->idle && !self->stopping)
                idle_on_turn(self->idle);
        if (self->stopping && broker_is_stopped(self->broker) && bus_is_flushed(self->bus))
                return sd_event_exit(self->event, self->status);
        return 0;
}

static void main_on_idle(void *userdata) {
        main_stop(userdata, EXIT_SUCCESS);
}

static void main_on_bus(BusNews news, void *userdata) {
        Main *self = userdata;

        if (self->idle && idle_on_bus(self->idle, news))
                return;

        switch (news) {
        case BUS_READY:
                (void) sd_notify(0, "READY=1");
                if (self->idle)
                        log_info("posternd " POSTERN_VERSION " is ready; it leaves after %" PRIu64
                                 " s without work.",
                                 self->idle_exit_usec / 1000000);
                else
                        log_info("posternd " POSTERN_VERSION
                                 " is ready; it stays until it is told to end.");
                return;
        case BUS_REFUSED:
                main_stop(self, EXIT_FAILURE);
                return;
        case BUS_RELEASED: /* idle's alone */
                return;
        case BUS_LOST:
                if (!self->stopping)
                        log_error("The bus is gone; closing every window and ending.");
                main_stop(self, EXIT_FAILURE);
                self->status = EXIT_FAILURE;
                return;
        }
}

static int main_add_signals(Main *self) {
        sigset_t mask;
        int r;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        /* a log that nobody reads any more is no reason to leave a port open */
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;

        r = sd_event_add_signal(self->event, NULL, SIGTERM, main_on_signal, self);
        if (r >= 0)
                r = sd_event_add_signal(self->event, NULL, SIGINT, main_on_signal, self);
        if (r >= 0)
                r = sd_event_add_post(self->event, NULL, main_on_turn, self);
        return r;
}

static int main_start(Main *self, const Options *options) {
        int r;

        r = main_make_directory(options->broker.state_dir, 0700);
        if (r >= 0)
                r = main_make_directory(options->broker.runtime_dir, 0711);
        if (r < 0)
                return r;
        (void) umask(0077);

        r = sd_event_default(&self->event);
        if (r >= 0) /* does nothing where nobody watches */
                r = sd_event_set_watchdog(self->event, true);
        if (r >= 0)
                r = main_add_signals(self);
        if (r < 0) {
                log_error("Cannot set up the event loop: %s. See that memory and descriptors are "
                          "left, and start it again.",
                          strerror(-r));
                return r;
        }

        r = bus_connect(&self->connection, self->event);
        if (r < 0)
                return r;
        r = bus_new(&self->bus, self->connection, main_on_bus, self);
        if (r >= 0)
                r = broker_new(&self->broker, self->event, self->connection, &options->broker,
                               &bus_observer, self->bus);
        if (r < 0) {
                log_error("Cannot set up the broker: %s. See what else is said here, and that "
                          "memory and descriptors are left; then start it again.",
                          strerror(-r));
                return r;
        }

        r = broker_sweep(self->broker);
        if (r == -EPERM || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP)
                /* Then it cannot open anything either; profiles without a firewall still run. */
                log_warning(
                        "Cannot see the firewall (%s), so nothing that an earlier posternd may "
                        "have left is removed, and no window opens a port. It needs root or the "
                        "capability CAP_NET_ADMIN, and nf_tables in the kernel.",
                        strerror(-r));
        else if (r == -EBUSY) {
                log_error("Another posternd is running: it holds the table inet postern. Stop that "
                          "one first.");
                return r;
        } else if (r < 0) {
                log_error(
                        "Cannot remove what an earlier posternd may have left open: %s. `nft list "
                        "ruleset` shows it, by the name postern; start it again when that can be "
                        "changed.",
                        strerror(-r));
                return r;
        }

        r = bus_serve(self->bus, self->broker);
        self->idle_exit_usec = options->idle_exit_usec;
        if (r >= 0 && options->idle_exit_usec > 0)
                r = idle_new(&self->idle, self->event, self->connection, self->bus, self->broker,
                             options->idle_exit_usec, main_on_idle, self);
        if (r >= 0)
                r = bus_take_name(self->bus);
        if (r >= 0)
                expiry_on_start(self->broker, options->broker.runtime_dir);
        if (r < 0)
                log_error("Cannot serve on the bus: %s. See systemctl status dbus, and start it "
                          "again.",
                          strerror(-r));
        return r;
}

static void main_end(Main *self) {
        idle_free(self->idle);
        broker_free(self->broker);
        bus_free(self->bus);
        sd_bus_unref(self->connection);
        sd_event_source_disable_unref(self->stop_limit);
        sd_event_unref(self->event);
}

int main(int argc, char *argv[]) {
        Options options = {
                .broker =
                        {
                                .config_dir = POSTERN_CONFIG_DIR,
                                .state_dir = POSTERN_STATE_DIR,
                                .runtime_dir = POSTERN_RUNTIME_DIR,
                                .run_path = POSTERN_RUN_PATH,
                        },
        };
        Main self = {0};
        int r;

        /* set by a bus that starts its services itself; our own file for that says it as an option,
         * too, as not every bus does */
        if (getenv("DBUS_STARTER_BUS_TYPE"))
                options.idle_exit_usec = MAIN_IDLE_EXIT_USEC;
        r = main_parse(argc, argv, &options);
        if (r != 0)
                return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;

        (void) umask(0022);
        r = main_start(&self, &options);
        if (r >= 0)
                r = sd_event_loop(self.event);
        main_end(&self);

        return r < 0 ? EXIT_FAILURE : r;
}
