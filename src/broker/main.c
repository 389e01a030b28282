/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * posternd: options, directories, signals, and the order of coming up and going down.
 *
 * Up: what an earlier daemon left open is closed before the name is taken, so nobody is served by a
 * host that is not clean. Down: every window is closed and every answer handed to the bus, or ten
 * seconds are over; whatever happens then, the doors are shut first.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <postern/broker.h>
#include <postern/bus.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/log.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define MAIN_STOP_LIMIT_USEC ((uint64_t) 10 * 1000 * 1000)

enum { EXIT_USAGE = 2 };

typedef struct Main {
        sd_event *event;
        sd_bus *connection;
        Bus *bus;
        Broker *broker;
        sd_event_source *stop_limit;
        bool stopping;
        int status;
} Main;

typedef struct Options {
        BrokerOptions broker;
        const char *state_dir;
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
             "  --run-path=FILE    the helper postern-run\n"
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
                OPTION_ALLOW_STICKY_PARENTS,
                OPTION_VERSION,
                OPTION_HELP,
        };
        static const struct option options[] = {
                {"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
                {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
                {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
                {"run-path", required_argument, NULL, OPTION_RUN_PATH},
                /* for tests alone, which keep their profiles below /tmp */
                {"allow-sticky-parents", no_argument, NULL, OPTION_ALLOW_STICKY_PARENTS},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, OPTION_HELP},
                {0},
        };
        const char *paths[4];
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case OPTION_CONFIG_DIR:
                        ret->broker.config_dir = optarg;
                        break;
                case OPTION_STATE_DIR:
                        ret->state_dir = optarg;
                        break;
                case OPTION_RUNTIME_DIR:
                        ret->broker.runtime_dir = optarg;
                        break;
                case OPTION_RUN_PATH:
                        ret->broker.run_path = optarg;
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

        paths[0] = ret->broker.config_dir;
        paths[1] = ret->state_dir;
        paths[2] = ret->broker.runtime_dir;
        paths[3] = ret->broker.run_path;
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (paths[i][0] != '/') {
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
                log_error("Cannot look at the directory %s: %s.", path, strerror(errno));
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

        if (self->stopping) {
                log_warning("Told to end a second time; not waiting any longer.");
                return sd_event_exit(self->event, EXIT_FAILURE);
        }
        log_info("Told to end; closing every window.");
        main_stop(self, EXIT_SUCCESS);
        return 0;
}

/* Runs after every turn of the loop, and so sees the last window close and the last byte go. */
static int main_on_turn(sd_event_source *source, void *userdata) {
        Main *self = userdata;

        if (self->stopping && broker_is_stopped(self->broker) && bus_is_flushed(self->bus))
                return sd_event_exit(self->event, self->status);
        return 0;
}

static void main_on_bus(BusNews news, void *userdata) {
        Main *self = userdata;

        switch (news) {
        case BUS_READY:
                (void) sd_notify(0, "READY=1");
                log_info("posternd " POSTERN_VERSION " is ready.");
                return;
        case BUS_REFUSED:
                main_stop(self, EXIT_FAILURE);
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

        r = main_make_directory(options->state_dir, 0700);
        if (r >= 0)
                r = main_make_directory(options->broker.runtime_dir, 0711);
        if (r < 0)
                return r;
        (void) umask(0077);

        r = sd_event_default(&self->event);
        if (r >= 0)
                r = main_add_signals(self);
        if (r < 0) {
                log_error("Cannot set up the event loop: %s.", strerror(-r));
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
                log_error("Cannot set up the broker: %s.", strerror(-r));
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
                          "one "
                          "first.");
                return r;
        } else if (r < 0) {
                log_error("Cannot remove what an earlier posternd may have left open: %s.",
                          strerror(-r));
                return r;
        }

        r = bus_serve(self->bus, self->broker);
        if (r >= 0)
                r = bus_take_name(self->bus);
        if (r < 0)
                log_error("Cannot serve on the bus: %s.", strerror(-r));
        return r;
}

static void main_end(Main *self) {
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
                                .runtime_dir = POSTERN_RUNTIME_DIR,
                                .run_path = POSTERN_RUN_PATH,
                        },
                .state_dir = POSTERN_STATE_DIR,
        };
        Main self = {0};
        int r;

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
