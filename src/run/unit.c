/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Signals of the service manager are for waking up alone; what counts is what its properties say
 * then. They are kept by a reference (RefUnit): without one a unit that has ended is forgotten, and
 * an unknown unit's properties read like a success.
 *
 * Whether the run is over is asked as "no job, and inactive or failed", the job first: one that is
 * seen to be done has changed the state before.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <postern/cleanup.h>
#include <postern/profile.h>
#include <postern/run-supervise.h>
#include <postern/run-unit.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

#define MANAGER_NAME      "org.freedesktop.systemd1"
#define MANAGER_PATH      "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE MANAGER_NAME ".Manager"
#define UNIT_INTERFACE    MANAGER_NAME ".Unit"
#define SERVICE_INTERFACE MANAGER_NAME ".Service"

#define USEC_PER_MSEC ((uint64_t) 1000)

enum {
        CALL_TIMEOUT_MSEC = 5000, /* the manager's answer */
        LOOK_MSEC = 1000,   /* look anyway: a signal that is lost costs this, not the window */
        END_LOOK_MSEC = 20, /* likewise, once it should be gone */
        END_TRIES = 200,    /* looks that may fail, with the bus being started anew meanwhile */
};

#define NOTE "unit"

#define UNKNOWN_END "has ended, and systemd does not answer how: see its journal"

typedef struct Unit {
        const char *name;
        sd_bus *bus;
        char *path;
} Unit;

static void unit_deinit(Unit *unit) {
        unit->bus = sd_bus_close_unref(unit->bus); /* and its reference to the unit with it */
        free(unit->path);
        unit->path = NULL;
}

static int say(char *problem, size_t size, const char *name, int r, const char *what) {
        (void) snprintf(problem, size, "%s %s", name, what);
        return r;
}

static int unit_call(const Unit *unit, const char *member, sd_bus_error *error,
                     sd_bus_message **ret_reply, const char *types, const char *a, const char *b) {
        /* the second is left unread where types has one letter */
        return sd_bus_call_method(unit->bus, MANAGER_NAME, MANAGER_PATH, MANAGER_INTERFACE, member,
                                  error, ret_reply, types, a, b);
}

/* The connection and the unit's path. */
static int unit_open(Unit *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r;

        r = sd_bus_open_system(&unit->bus);
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(unit->bus, CALL_TIMEOUT_MSEC * USEC_PER_MSEC);
        if (r >= 0)
                r = unit_call(unit, "LoadUnit", NULL, &reply, "s", unit->name, NULL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        unit->path = strdup(path);
        return unit->path ? 0 : -ENOMEM;
}

static int unit_get_string(const Unit *unit, const char *property, char **ret) {
        return sd_bus_get_property_string(unit->bus, MANAGER_NAME, unit->path, UNIT_INTERFACE,
                                          property, NULL, ret);
}

static int unit_is_over(const Unit *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *state = NULL;
        uint32_t job;
        int r;

        r = sd_bus_get_property(unit->bus, MANAGER_NAME, unit->path, UNIT_INTERFACE, "Job", NULL,
                                &reply, "(uo)");
        if (r >= 0)
                r = sd_bus_message_read(reply, "(uo)", &job, NULL);
        if (r >= 0)
                r = unit_get_string(unit, "ActiveState", &state);
        if (r < 0)
                return r;
        return job == 0 && (strcmp(state, "inactive") == 0 || strcmp(state, "failed") == 0);
}

/* RemainAfterExit=: its process has ended, and it will not end by itself. */
static int unit_is_exited(const Unit *unit) {
        _cleanup_free_ char *state = NULL;
        int r;

        r = unit_get_string(unit, "SubState", &state);
        return r < 0 ? r : strcmp(state, "exited") == 0;
}

/* Stops it, whoever has started it, and waits until nothing of it is left. On a connection of its
 * own: that of the wait may be what failed. */
static int end_by_name(const char *name) {
        _cleanup_(unit_deinit) Unit unit = {.name = name};
        unsigned waited = 0, failed = 0;
        bool asked = false;
        int r;

        for (;; (void) poll(NULL, 0, END_LOOK_MSEC), waited += END_LOOK_MSEC) {
                r = unit.path ? 0 : unit_open(&unit);
                if (r >= 0)
                        r = unit_is_over(&unit);
                if (r > 0)
                        return 0;
                if (r == 0 && !asked) {
                        r = unit_call(&unit, "StopUnit", NULL, NULL, "ss", name, "replace");
                        asked = r >= 0;
                } else if (r == 0 && waited >= RUN_GRACE_MSEC)
                        /* Each time: something may have been forked meanwhile, or be its
                         * ExecStopPost=. An error is that nothing lives in it. */
                        (void) sd_bus_call_method(unit.bus, MANAGER_NAME, MANAGER_PATH,
                                                  MANAGER_INTERFACE, "KillUnit", NULL, NULL, "ssi",
                                                  name, "all", SIGKILL);
                if (r < 0) {
                        if (++failed >= END_TRIES)
                                return r;
                        unit_deinit(&unit);
                }
        }
}

/* --- the note --- */

/* A directory that systemd makes for this one helper, and removes after its ExecStopPost=. */
static int note_directory(void) {
        const char *path = getenv("RUNTIME_DIRECTORY");
        int fd;

        if (!path)
                return -ENOENT;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int note_write(int directory, const char *name) {
        _cleanup_close_ int fd = -1;
        ssize_t written;

        fd = openat(directory, NOTE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        written = write(fd, name, strlen(name));
        return written < 0 ? -errno : (size_t) written == strlen(name) ? 0 : -EIO;
}

static void note_remove(void) {
        _cleanup_close_ int directory = note_directory();

        if (directory >= 0)
                (void) unlinkat(directory, NOTE, 0);
}

int run_unit_end_left(void) {
        _cleanup_close_ int directory = note_directory(), fd = -1;
        char name[PROFILE_UNIT_MAX + 1];
        ssize_t size;
        int r;

        if (directory >= 0)
                fd = openat(directory, NOTE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return 0;
        size = read(fd, name, sizeof(name) - 1);
        if (size <= 0)
                return 0; /* written before the unit is started */
        name[size] = 0;
        r = end_by_name(name);
        if (r < 0)
                fprintf(stderr, "postern-run: %s cannot be stopped (%s): see systemctl stop %s\n",
                        name, strerror(-r), name);
        else
                note_remove();
        return r;
}

/* --- the run --- */

/* May it be started? */
static int check_startable(const Unit *unit, char *problem, size_t size) {
        _cleanup_free_ char *loaded = NULL;
        int r;

        r = unit_get_string(unit, "LoadState", &loaded);
        if (r < 0)
                return say(problem, size, unit->name, r,
                           "cannot be looked at: see systemctl status");
        if (strcmp(loaded, "loaded") != 0) {
                (void) snprintf(problem, size,
                                "systemd cannot start %s, which is %s: name another unit in Unit=, "
                                "or see systemctl status %s",
                                unit->name, loaded, unit->name);
                return -ENOENT;
        }
        r = unit_is_over(unit);
        if (r < 0)
                return say(problem, size, unit->name, r,
                           "cannot be looked at: see systemctl status");
        if (r == 0)
                return say(problem, size, unit->name, -EBUSY,
                           "is running already, or about to: wait until it has ended, and see that "
                           "no timer starts it beside the windows");
        return 0;
}

static int on_signal(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return 0;
}

/* Signals, and the reference. */
static int unit_watch(Unit *unit) {
        int r;

        r = unit_call(unit, "Subscribe", NULL, NULL, "", NULL, NULL);
        if (r >= 0)
                r = sd_bus_match_signal(unit->bus, NULL, MANAGER_NAME, unit->path,
                                        "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                        on_signal, NULL);
        if (r >= 0)
                r = unit_call(unit, "RefUnit", NULL, NULL, "s", unit->name, NULL);
        return r;
}

/* 0: started, and noted down. */
static int unit_start(Unit *unit, char *problem, size_t size) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int directory = note_directory();
        int r;

        if (directory < 0)
                return say(problem, size, unit->name, directory,
                           "is not started, as nobody would stop it if this helper were killed: "
                           "Unit= needs systemd, and the helper started by it "
                           "(postern-run.socket); elsewhere write Exec=");
        r = unit_open(unit);
        if (r < 0)
                return say(problem, size, unit->name, r,
                           "cannot be started, as systemd does not answer on the system bus: see "
                           "systemctl status");
        r = check_startable(unit, problem, size);
        if (r < 0)
                return r;
        r = unit_watch(unit);
        if (r < 0)
                return say(problem, size, unit->name, r,
                           "cannot be waited for: see systemctl status, and the journal");
        r = note_write(directory, unit->name);
        if (r < 0)
                return say(problem, size, unit->name, r,
                           "is not started, as its name cannot be written down in the runtime "
                           "directory: see whether /run is full");

        /* "fail": no job of somebody else's is cancelled */
        r = unit_call(unit, "StartUnit", &error, NULL, "ss", unit->name, "fail");
        if (r >= 0)
                return 0;
        (void) snprintf(problem, size, "systemd does not start %s (%s): see systemctl status %s",
                        unit->name, error.message ? error.message : strerror(-r), unit->name);
        /* no answer need not mean no start; what cannot be stopped stays noted */
        if ((r != -ETIMEDOUT && r != -ECONNRESET && r != -ENOTCONN) || end_by_name(unit->name) == 0)
                note_remove();
        return r;
}

/* Until it is over (0), or there is a reason to end it: 1, or a negative errno. */
static int unit_wait(Unit *unit, int socket, int signal_fd) {
        for (;;) {
                struct pollfd polled[] = {
                        {.fd = socket, .events = POLLIN | POLLRDHUP},
                        {.fd = signal_fd, .events = POLLIN},
                        {.fd = sd_bus_get_fd(unit->bus), .events = POLLIN},
                };
                uint64_t queued;
                int r;

                do
                        r = sd_bus_process(unit->bus, NULL);
                while (r > 0);
                if (r >= 0)
                        r = unit_is_over(unit);
                if (r != 0)
                        return r < 0 ? r : 0;
                r = unit_is_exited(unit);
                if (r != 0)
                        return r;
                r = sd_bus_get_n_queued_read(unit->bus, &queued);
                if (r < 0)
                        return r;
                /* what came before an answer is not at the socket any more */
                if (poll(polled, ELEMENTS(polled), queued > 0 ? 0 : LOOK_MSEC) < 0 &&
                    errno != EINTR)
                        return -errno;
                if (polled[0].revents || polled[1].revents)
                        return 1;
        }
}

static int get_number(const Unit *unit, const char *property, int *ret) {
        return sd_bus_get_property_trivial(unit->bus, MANAGER_NAME, unit->path, SERVICE_INTERFACE,
                                           property, NULL, 'i', ret);
}

/* What it ended with, read while the reference holds. */
static int unit_result(const Unit *unit, int *ret_status, char **ret_result) {
        int r, code = 0, status = 0;

        r = sd_bus_get_property_string(unit->bus, MANAGER_NAME, unit->path, SERVICE_INTERFACE,
                                       "Result", NULL, ret_result);
        if (r >= 0)
                r = get_number(unit, "ExecMainCode", &code);
        if (r >= 0)
                r = get_number(unit, "ExecMainStatus", &status);
        if (r < 0)
                return r;
        /* systemd forgives a service SIGTERM; a renewal was cut short by it */
        if (code == CLD_KILLED || code == CLD_DUMPED)
                *ret_status = 128 + status;
        else if (strcmp(*ret_result, "success") == 0)
                *ret_status = 0;
        else
                *ret_status = status ? status : 1;
        return 0;
}

/* A unit whose conditions do not hold is inactive again without having been anything else. */
static int check_was_run(const Unit *unit, char *problem, size_t size) {
        int r, held = 0, asserted = 0;

        r = sd_bus_get_property_trivial(unit->bus, MANAGER_NAME, unit->path, UNIT_INTERFACE,
                                        "ConditionResult", NULL, 'b', &held);
        if (r >= 0)
                r = sd_bus_get_property_trivial(unit->bus, MANAGER_NAME, unit->path, UNIT_INTERFACE,
                                                "AssertResult", NULL, 'b', &asserted);
        if (r < 0)
                return say(problem, size, unit->name, r, UNKNOWN_END);
        if (!held || !asserted)
                return say(problem, size, unit->name, -ECANCELED,
                           "was not run: a condition of the unit's does not hold (systemctl status "
                           "says which)");
        return 0;
}

int run_unit(const char *name, int socket, int signal_fd, int output, int *ret_status,
             char *problem, size_t size) {
        _cleanup_(unit_deinit) Unit unit = {.name = name};
        _cleanup_free_ char *result = NULL;
        int r, ended;

        r = unit_start(&unit, problem, size);
        if (r < 0)
                return r;
        (void) dprintf(output, "What %s prints is in its journal: journalctl --unit=%s\n", name,
                       name);

        r = unit_wait(&unit, socket, signal_fd);
        if (r != 0) {
                ended = end_by_name(name);
                if (ended < 0)
                        return say(problem, size, name, ended,
                                   "cannot be stopped: see systemctl stop");
                if (r < 0) {
                        note_remove();
                        return say(problem, size, name, r,
                                   "was stopped, as systemd was not heard of any more on the bus");
                }
        }
        note_remove();
        r = check_was_run(&unit, problem, size);
        if (r < 0)
                return r;
        r = unit_result(&unit, ret_status, &result);
        if (r < 0)
                return say(problem, size, name, r, UNKNOWN_END);
        (void) dprintf(output, "%s has ended: %s\n", name, result);
        return 0;
}
