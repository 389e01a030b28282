/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What can be seen at once is looked at when a pre-flight begins; then it waits for what the bus
 * knows: whether polkit is there, and whether something else renews by itself. That is the same for
 * all of them, so it is asked about once, however many wait: a bus lets us have only so many
 * questions under way, and renewals need them.
 */

#include <errno.h>
#include <fcntl.h>
#include <postern/check.h>
#include <postern/cleanup.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_USEC ((uint64_t) 2 * 1000 * 1000)

#define DRIVER_NAME     "org.freedesktop.DBus"
#define DRIVER_PATH     "/org/freedesktop/DBus"
#define POLKIT_NAME     "org.freedesktop.PolicyKit1"
#define SYSTEMD_NAME    "org.freedesktop.systemd1"
#define SYSTEMD_UNITS   "/org/freedesktop/systemd1/unit"
#define SYSTEMD_BOOTED  "/run/systemd/system"
#define TIMERS_WANTED   "/etc/systemd/system/timers.target.wants/"
#define CERTBOT_IN_CRON "/etc/cron.d/certbot"

/* What renews by itself, as Debian and snap install it. */
static const char *const timers[] = {"certbot.timer", "snap.certbot.renew.timer"};

enum { TIMERS = ELEMENTS(timers) };

typedef enum Presence {
        PRESENCE_UNKNOWN,
        PRESENCE_THERE,
        PRESENCE_ON_DEMAND, /* the bus starts it */
        PRESENCE_ABSENT,
} Presence;

typedef struct Waiting Waiting;

struct Waiting {
        Waiting *next;
        uint64_t id;
        bool opens_ports;
        Findings findings;
};

typedef struct TimerQuestion {
        Checks *checks;
        sd_bus_slot *slot;
        Presence active;
} TimerQuestion;

struct Checks {
        CheckHost host;
        CheckCallback callback;
        void *userdata;
        Waiting *first;

        /* the answers to the questions that are under way */
        unsigned n_pending;
        sd_bus_slot *polkit_slot;
        Presence polkit;
        TimerQuestion timers[TIMERS];
};

static void message_unref_cleanup(sd_bus_message **message) {
        sd_bus_message_unref(*message);
}

static Waiting *waiting_free(Waiting *waiting) {
        findings_deinit(&waiting->findings);
        free(waiting);
        return NULL;
}

static void report_polkit(const Checks *checks, Findings *findings) {
        switch (checks->polkit) {
        case PRESENCE_THERE:
                findings_add(findings, FINDING_OK, "polkit", "polkitd runs");
                return;
        case PRESENCE_ON_DEMAND:
                findings_add(findings, FINDING_OK, "polkit", "the bus starts polkitd when asked");
                return;
        case PRESENCE_ABSENT:
                findings_add(
                        findings, FINDING_ERROR, "polkit",
                        "polkitd does not run and the bus cannot start it, so every request is "
                        "refused: install polkitd, or see systemctl status polkit");
                return;
        case PRESENCE_UNKNOWN:
                findings_add(findings, FINDING_NOTE, "polkit",
                             "the bus does not say whether polkitd is there; without it every "
                             "request is refused");
                return;
        }
}

static bool timer_is_enabled(const char *timer) {
        char path[128];

        (void) snprintf(path, sizeof(path), TIMERS_WANTED "%s", timer);
        /* through a link that leads nowhere in this view of the host, too */
        return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void report_timer(const TimerQuestion *question, const char *timer, Findings *findings) {
        static const char consequence[] =
                "it renews behind a shut port, fails, and uses up the authority's limit of failed "
                "validations";

        if (question->active == PRESENCE_THERE)
                findings_add(findings, FINDING_NOTE, timer,
                             "is active beside this: %s. Turn it off: systemctl disable --now %s",
                             consequence, timer);
        else if (timer_is_enabled(timer))
                findings_add(findings, FINDING_NOTE, timer,
                             "is enabled%s: where systemd runs it, %s. Turn it off: systemctl "
                             "disable --now %s",
                             question->active == PRESENCE_ABSENT ? ", though not active now" : "",
                             consequence, timer);
}

static void report_timers(const Checks *checks, Findings *findings) {
        for (size_t i = 0; i < TIMERS; i++)
                report_timer(&checks->timers[i], timers[i], findings);
        /* Debian's job leaves it to the timer where systemd runs */
        if (access(SYSTEMD_BOOTED, F_OK) < 0 && access(CERTBOT_IN_CRON, F_OK) == 0)
                findings_add(
                        findings, FINDING_NOTE, CERTBOT_IN_CRON,
                        "cron runs certbot beside this, behind a shut port: it fails, and uses "
                        "up the authority's limit of failed validations. Take its line out");
}

static void checks_finish(Checks *checks) {
        Waiting *waiting;

        while ((waiting = checks->first)) {
                checks->first = waiting->next;
                report_polkit(checks, &waiting->findings);
                if (waiting->opens_ports)
                        report_timers(checks, &waiting->findings);
                checks->callback(waiting->id, &waiting->findings, checks->userdata);
                waiting_free(waiting);
        }
}

/* Nothing may be touched after the last. */
static void checks_on_answer(Checks *checks) {
        if (--checks->n_pending == 0)
                checks_finish(checks);
}

static int checks_on_activatable(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Checks *checks = userdata;
        const char *name;
        int r = -EIO;

        checks->polkit_slot = sd_bus_slot_unref(checks->polkit_slot);
        if (!sd_bus_message_is_method_error(reply, NULL))
                r = sd_bus_message_enter_container(reply, 'a', "s");
        if (r >= 0)
                checks->polkit = PRESENCE_ABSENT;
        while (r >= 0 && (r = sd_bus_message_read(reply, "s", &name)) > 0)
                if (strcmp(name, POLKIT_NAME) == 0)
                        checks->polkit = PRESENCE_ON_DEMAND;
        checks_on_answer(checks);
        return 0;
}

static int checks_ask_driver(Checks *checks, const char *member, const char *about,
                             sd_bus_message_handler_t handler) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(checks->host.bus, &message, DRIVER_NAME, DRIVER_PATH,
                                           DRIVER_NAME, member);
        if (r >= 0 && about)
                r = sd_bus_message_append(message, "s", about);
        if (r >= 0)
                r = sd_bus_call_async(checks->host.bus, &checks->polkit_slot, message, handler,
                                      checks, ANSWER_TIMEOUT_USEC);
        return r;
}

static int checks_on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Checks *checks = userdata;

        checks->polkit_slot = sd_bus_slot_unref(checks->polkit_slot);
        if (!sd_bus_message_is_method_error(reply, NULL))
                checks->polkit = PRESENCE_THERE;
        else if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_NAME_HAS_NO_OWNER) &&
                 checks_ask_driver(checks, "ListActivatableNames", NULL, checks_on_activatable) >=
                         0)
                return 0;
        checks_on_answer(checks);
        return 0;
}

static int checks_on_timer(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        TimerQuestion *question = userdata;
        const char *state;

        question->slot = sd_bus_slot_unref(question->slot);
        if (!sd_bus_message_is_method_error(reply, NULL) &&
            sd_bus_message_read(reply, "v", "s", &state) > 0)
                question->active = strcmp(state, "active") == 0 || strcmp(state, "activating") == 0
                                           ? PRESENCE_THERE
                                           : PRESENCE_ABSENT;
        checks_on_answer(question->checks);
        return 0;
}

/* A unit that is not loaded has a path as well, and is inactive. */
static int checks_ask_timer(Checks *checks, const char *timer, TimerQuestion *question) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = sd_bus_path_encode(SYSTEMD_UNITS, timer, &path);
        if (r >= 0)
                r = sd_bus_message_new_method_call(checks->host.bus, &message, SYSTEMD_NAME, path,
                                                   "org.freedesktop.DBus.Properties", "Get");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(message, false);
        if (r >= 0)
                r = sd_bus_message_append(message, "ss", SYSTEMD_NAME ".Unit", "ActiveState");
        if (r >= 0)
                r = sd_bus_call_async(checks->host.bus, &question->slot, message, checks_on_timer,
                                      question, ANSWER_TIMEOUT_USEC);
        return r;
}

static void checks_take_back(Checks *checks) {
        checks->polkit_slot = sd_bus_slot_unref(checks->polkit_slot);
        for (size_t i = 0; i < TIMERS; i++)
                checks->timers[i].slot = sd_bus_slot_unref(checks->timers[i].slot);
        checks->n_pending = 0;
}

static int checks_ask(Checks *checks) {
        int r;

        checks->polkit = PRESENCE_UNKNOWN;
        r = checks_ask_driver(checks, "GetNameOwner", POLKIT_NAME, checks_on_polkit);
        for (size_t i = 0; r >= 0 && i < TIMERS; i++) {
                checks->timers[i] = (TimerQuestion){.checks = checks};
                r = checks_ask_timer(checks, timers[i], &checks->timers[i]);
        }
        if (r < 0) {
                checks_take_back(checks);
                return r;
        }
        checks->n_pending = 1 + TIMERS;
        return 0;
}

static int checks_look(const Checks *checks, const char *name, const Profile *profile,
                       const char *problem, uid_t uid, Findings *findings) {
        int r = 0;

        if (profile)
                findings_add(findings, FINDING_OK, "profile", "The profile has no error.");
        else
                findings_add(findings, FINDING_ERROR, "profile", "%s", problem);
        if (profile) {
                r = door_check(checks->host.door, profile,
                               gate_firewalld_may_run(checks->host.firewalld), findings);
                check_listeners(profile, findings);
                check_profile_files(profile, uid == 0, findings);
        }
        if (owed_has(checks->host.owed, name))
                findings_add(findings, FINDING_NOTE, "CloseOwed",
                             "what a window has opened in a firewall elsewhere is not closed there "
                             "yet; it is tried again, and till then its ports are shut here: "
                             "journalctl -t posternd says why");
        check_directory(checks->host.config_dir, name, findings);
        check_helper(checks->host.run_path, checks->host.run_socket, findings);
        return r < 0 ? r : findings->lacking ? -ENOMEM : 0;
}

int checks_begin(Checks *checks, uint64_t id, const char *name, const Profile *profile,
                 const char *problem, uid_t uid) {
        Waiting *waiting = calloc(1, sizeof(*waiting)), **end = &checks->first;
        int r;

        if (!waiting)
                return -ENOMEM;
        waiting->id = id;
        waiting->opens_ports = !profile || (profile->n_ports > 0 && profile->gate != GATE_NONE);
        r = checks_look(checks, name, profile, problem, uid, &waiting->findings);
        if (r >= 0 && checks->n_pending == 0)
                r = checks_ask(checks);
        if (r < 0) {
                waiting_free(waiting);
                return r;
        }
        while (*end)
                end = &(*end)->next;
        *end = waiting;
        return 0;
}

void checks_cancel(Checks *checks, uint64_t id) {
        for (Waiting **link = &checks->first; *link; link = &(*link)->next) {
                Waiting *waiting = *link;

                if (waiting->id != id)
                        continue;
                *link = waiting->next;
                waiting_free(waiting);
                return;
        }
}

int checks_new(Checks **ret, const CheckHost *host, CheckCallback callback, void *userdata) {
        Checks *checks = calloc(1, sizeof(*checks));

        if (!checks)
                return -ENOMEM;
        checks->host = *host;
        checks->host.bus = sd_bus_ref(host->bus);
        checks->callback = callback;
        checks->userdata = userdata;
        *ret = checks;
        return 0;
}

Checks *checks_free(Checks *checks) {
        if (!checks)
                return NULL;
        checks_take_back(checks);
        while (checks->first)
                checks_cancel(checks, checks->first->id);
        sd_bus_unref(checks->host.bus);
        free(checks);
        return NULL;
}
