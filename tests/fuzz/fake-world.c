/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "fake-world.h"

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <postern/challenge.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/log.h>
#include <postern/owed-store.h>
#include <postern/profile-keys.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

FakeWorld fake_world;

/* log.c */

void log_event(int priority, const char *message_id, const char *const *fields, const char *format,
               ...) {
        char text[1024];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
}

/* profile.c */

static const struct {
        const char *name;
        const char *text;
} profiles[] = {
        {"web", "[Profile]\nDescription=a\n[Renewal]\nExec=/a\n[Window]\nPorts=80/tcp 443/udp\n"
                "RateLimit=100/1s\nMaxDuration=1h\n"},
        {"none", "[Renewal]\nExec=/a\n[Window]\nPorts=none\nRateLimit=100/1s\n[Profile]\n"
                 "Certificate=/c\n"},
        {"rare", "[Renewal]\nExec=/a\n[Window]\nPorts=80/tcp\nRateLimit=1/1d\n"},
        {"bad", "[Renewal]\nExec=a\n"},
        {"armed", "[Renewal]\nExec=/a\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"
                  "OpenOn=challenge\nChallengeDirectory=/d\n"},
        {"narrow", "[Renewal]\nExec=/a\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"
                   "Reach=renewal\n"},
        {"nogate", "[Renewal]\nUnit=a.service\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"
                   "[Gate]\nType=none\n"},
};

const char *fake_profile_at(unsigned i) {
        return i < ELEMENTS(profiles) ? profiles[i].name : NULL;
}

const char *fake_profile_name(uint8_t byte) {
        return profiles[byte < 0xe0 ? byte % 4 : 4 + byte % 3].name;
}

int __wrap_profile_load(const char *config_dir, const char *name, unsigned flags, Profile **ret,
                        char **ret_problem);
int __wrap_profile_list(const char *config_dir, char ***ret);

int __wrap_profile_load(const char *config_dir, const char *name, unsigned flags, Profile **ret,
                        char **ret_problem) {
        for (size_t i = 0; i < ELEMENTS(profiles); i++) {
                _cleanup_free_ char *text = NULL;
                Profile *profile;
                int r;

                if (strcmp(profiles[i].name, name) != 0)
                        continue;
                text = strdup(profiles[i].text);
                profile = calloc(1, sizeof(*profile));
                require(text && profile);
                r = profile_keys_parse(profile, "name.conf", text, strlen(text), ret_problem);
                profile->name = strdup(name);
                if (r == PROFILE_OK)
                        *ret = profile;
                else
                        profile_free(profile);
                return r;
        }
        return PROFILE_MISSING;
}

int __wrap_profile_list(const char *config_dir, char ***ret) {
        char **names = calloc(ELEMENTS(profiles) + 1, sizeof(*names));

        require(names);
        for (size_t i = 0; i < ELEMENTS(profiles); i++)
                names[i] = strdup(profiles[i].name);
        *ret = names;
        return 0;
}

/* records.c */

int __wrap_records_new(Records **ret, const char *state_dir, Quota *quota);
Records *__wrap_records_free(Records *records);
const Record *__wrap_records_find(const Records *records, const char *profile);
void __wrap_records_note_begun(Records *records, const char *profile);
void __wrap_records_note_closed(Records *records, const char *profile, WindowResult result,
                                uint64_t closed_at, const Certificate *certificate);

int __wrap_records_new(Records **ret, const char *state_dir, Quota *quota) {
        *ret = NULL;
        return 0;
}

Records *__wrap_records_free(Records *records) {
        return NULL;
}

const Record *__wrap_records_find(const Records *records, const char *profile) {
        static const Record record = {.last_result = RESULT_TIMEOUT, .last_closed_at = 1};

        return strcmp(profile, "web") == 0 ? &record : NULL;
}

void __wrap_records_note_begun(Records *records, const char *profile) {
}

void __wrap_records_note_closed(Records *records, const char *profile, WindowResult result,
                                uint64_t closed_at, const Certificate *certificate) {
        require(result != RESULT_NONE);
}

/* challenge.c, and of cgroup.c what says which cgroup a path is */

int __wrap_challenge_new(Challenge **ret, sd_event *event, const char *directory,
                         ChallengeCallback callback, void *userdata);
Challenge *__wrap_challenge_free(Challenge *challenge);
int __wrap_run_cgroup_identify(const char *path, uint32_t *ret_level, uint64_t *ret_id);

struct Challenge {
        ChallengeCallback callback;
        void *userdata;
        bool pending;
        Challenge *next;
};

static Challenge *challenges;

int __wrap_challenge_new(Challenge **ret, sd_event *event, const char *directory,
                         ChallengeCallback callback, void *userdata) {
        Challenge *challenge = calloc(1, sizeof(*challenge));

        require(challenge && strcmp(directory, "/d") == 0);
        challenge->callback = callback;
        challenge->userdata = userdata;
        challenge->next = challenges;
        *ret = challenges = challenge;
        return 0;
}

Challenge *__wrap_challenge_free(Challenge *challenge) {
        for (Challenge **link = &challenges; challenge && *link; link = &(*link)->next)
                if (*link == challenge) {
                        *link = challenge->next;
                        break;
                }
        free(challenge);
        return NULL;
}

void fake_challenge_tell(unsigned n, bool pending) {
        Challenge *challenge = challenges;

        for (; challenge && n > 0; n--)
                challenge = challenge->next;
        if (!challenge || challenge->pending == pending)
                return;
        challenge->pending = pending;
        challenge->callback(pending, challenge->userdata);
}

static bool is_token_there(void) {
        for (const Challenge *challenge = challenges; challenge; challenge = challenge->next)
                if (challenge->pending)
                        return true;
        return false;
}

int __wrap_run_cgroup_identify(const char *path, uint32_t *ret_level, uint64_t *ret_id) {
        if (fake_world.door_refuses)
                return -EOPNOTSUPP;
        *ret_level = 3;
        *ret_id = 4711;
        return 0;
}

/* libc and libsystemd: the clock, and chance */

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_sd_event_source_set_time(sd_event_source *source, uint64_t usec);
int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
        int r = __real_clock_gettime(clock, ret);

        ret->tv_sec += (time_t) (fake_world.skipped_usec / 1000000);
        return r;
}

int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec) {
        uint64_t skipped = fake_world.skipped_usec;

        return __real_sd_event_source_set_time(source, usec > skipped ? usec - skipped : 0);
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags) {
        static uint32_t state;

        for (size_t i = 0; i < size; i++) {
                state = state * 1664525 + 1013904223;
                ((uint8_t *) buffer)[i] = (uint8_t) (state >> 24);
        }
        return (ssize_t) size;
}

static void skip_source(sd_event_source *source, uint64_t usec) {
        uint64_t due;

        if (sd_event_source_get_time(source, &due) < 0 || due == UINT64_MAX)
                return;
        (void) __real_sd_event_source_set_time(source, due > usec ? due - usec : 0);
}

void fake_world_skip(Broker *broker, uint64_t usec) {
        usec -= usec % 1000000;
        fake_world.skipped_usec += usec;
        skip_source(broker->poll, usec);
        for (Renewal *renewal = broker->renewals; renewal; renewal = renewal->next)
                skip_source(renewal->timer, usec);
}

/* runner.c */

struct Run {
        Runner *runner;
        Run *next;
        char window_id[RENEWAL_ID_SIZE];
        Output *output;
        bool ready, going, stopped;
};

struct Runner {
        RunnerCallback callback;
        void *userdata;
        Run *runs;
};

static Runner *the_runner;

int runner_use_socket(Runner *runner, const char *path) {
        return 0;
}

int runner_new(Runner **ret, sd_event *event, const char *helper_path, const char *config_dir,
               const char *runtime_dir, bool allow_sticky_parents, RunnerCallback callback,
               void *userdata) {
        the_runner = *ret = calloc(1, sizeof(**ret));
        require(*ret);
        (*ret)->callback = callback;
        (*ret)->userdata = userdata;
        return 0;
}

Runner *runner_free(Runner *runner) {
        require(!runner->runs);
        free(runner);
        return the_runner = NULL;
}

int runner_sweep(Runner *runner) {
        return 0;
}

int run_start(Runner *runner, const char *window_id, const Profile *profile, Run **ret) {
        Run *run = calloc(1, sizeof(*run));

        require(run && fake_world.may_open(profile->name));
        require(strlen(window_id) == RENEWAL_ID_SIZE - 1);
        for (const Run *other = runner->runs; other; other = other->next)
                require(strcmp(other->window_id, window_id) != 0);
        run->runner = runner;
        strcpy(run->window_id, window_id);
        require(output_new(&run->output, NULL, NULL) == 0);
        run->next = runner->runs;
        runner->runs = run;
        *ret = run;
        return 0;
}

int run_start_gate(Runner *runner, RunVerb verb, const char *window_id, const Profile *profile,
                   const char *ports, RunnerCallback callback, void *userdata, Run **ret) {
        require(!"a profile of these tests names a command");
        return -EOPNOTSUPP;
}

int run_go(Run *run, uint64_t deadline_usec) {
        require(run->ready && !run->going && !run->stopped);
        require(deadline_usec >= clock_now(CLOCK_REALTIME));
        run->going = true;
        return 0;
}

void run_stop(Run *run) {
        run->stopped = true;
}

int run_output_tail(const Run *run, size_t lines, const char ***ret) {
        return output_tail(run->output, lines, ret);
}

Output *run_take_output(Run *run) {
        return TAKE_POINTER(run->output);
}

Run *run_free(Run *run) {
        if (!run)
                return NULL;
        for (Run **link = &run->runner->runs; *link; link = &(*link)->next)
                if (*link == run) {
                        *link = run->next;
                        break;
                }
        output_free(run->output);
        free(run);
        return NULL;
}

void fake_runner_tell(unsigned n, uint8_t what, const char *text) {
        Runner *runner = the_runner;
        Certificate before = {.serial = "01"}, after = {.names = "example.com"};
        RunnerEvent event = {.line = text, .problem = text, .legacy = ""};
        Run *run = runner->runs;
        char window_id[RENEWAL_ID_SIZE];

        for (; run && n > 0; n--)
                run = run->next;
        if (!run)
                return;
        strcpy(window_id, run->window_id); /* the last event is the end of the run */

        if (!run->ready && !run->stopped && what % 4 != 3) {
                event.type = RUNNER_READY;
                event.legacy = what & 0x80 ? text : "";
                run->ready = true;
        } else if (run->going && what % 4 == 1) {
                event.type = RUNNER_OUTPUT;
                output_write(run->output, text, strlen(text));
        } else if (run->going && what % 4 != 3) {
                event.type = RUNNER_ENDED;
                event.exit_status = what & 0x80 ? 0 : what >> 2;
                strcpy(after.serial, what & 0x40 ? "01" : what & 0x20 ? "" : "02");
                after.not_after = (uint64_t) what * 1000000;
                event.before = &before;
                event.after = &after;
        } else
                event.type = RUNNER_LOST;
        runner->callback(window_id, &event, runner->userdata);
}

/* gate-firewalld.c: there is none */

int gate_firewalld_new(GateFirewalld **ret, sd_bus *bus, const FirewalldObserver *observer,
                       void *userdata) {
        return 0;
}

GateFirewalld *gate_firewalld_free(GateFirewalld *gate) {
        return NULL;
}

bool gate_firewalld_is_planned(const GateFirewalld *gate, const char *id) {
        return false;
}

bool gate_firewalld_may_run(const GateFirewalld *gate) {
        return false;
}

int gate_firewalld_plan(GateFirewalld *gate, const char *id, const Port *ports, size_t n_ports,
                        const char *zone) {
        require(!"it was not to be asked");
        return -EOPNOTSUPP;
}

int gate_firewalld_open(GateFirewalld *gate, const char *id) {
        require(!"it was not to be asked");
        return -EOPNOTSUPP;
}

int gate_firewalld_shut(GateFirewalld *gate, const char *id, const FirewalldClaims *claims) {
        require(!"it was not to be asked");
        return -EOPNOTSUPP;
}

void gate_firewalld_forget(GateFirewalld *gate, const char *id) {
        require(!"it was not to be asked");
}

/* owed-store.c: nothing is ever written */

int owed_store_open(const char *state_dir) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int owed_store_read(int store_fd, OwedStoreCallback callback, void *userdata) {
        return 0;
}

int owed_store_write(int store_fd, const char *window_id, const OwedRecord *record) {
        return -EROFS;
}

int owed_store_remove(int store_fd, const char *window_id) {
        return 0;
}

/* door.c */

struct Door {
        DoorCallback callback;
        void *userdata;
        char open[QUOTA_WINDOWS + 1][RENEWAL_ID_SIZE];
};

static Door *the_door;

int door_new(Door **ret, sd_event *event, const char *runtime_dir, DoorCallback callback,
             void *userdata) {
        the_door = *ret = calloc(1, sizeof(**ret));
        require(*ret);
        (*ret)->callback = callback;
        (*ret)->userdata = userdata;
        return 0;
}

Door *door_free(Door *door) {
        require(!challenges); /* they go with the windows that wait for them */
        fake_world.n_doors = 0;
        free(door);
        return the_door = NULL;
}

int door_sweep(Door *door) {
        return 0;
}

bool door_is_idle(const Door *door) {
        return fake_world.n_doors == 0;
}

static char *find_door(Door *door, const char *window_id) {
        for (size_t i = 0; i < ELEMENTS(door->open); i++)
                if (strcmp(door->open[i], window_id) == 0)
                        return door->open[i];
        return NULL;
}

int door_open(Door *door, const char *window_id, const Profile *profile, uint64_t deadline,
              const char *legacy, const DoorOuter *outer, const LeaseReach *reach, char **ret_gate,
              char **ret_problem) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);

        require(fake_world.may_open(profile->name));
        require(profile->n_ports > 0 && profile->gate != GATE_NONE);
        require(deadline > now && deadline - now <= profile->max_duration_usec);
        require(!find_door(door, window_id));
        require(!profile->open_on_challenge || is_token_there());
        require(profile->reach_renewal == (reach && reach->level > 0));
        if (fake_world.door_breaks)
                return -EIO;
        if (fake_world.door_refuses || *legacy) {
                *ret_problem = strdup("Chain inet filter input denies.");
                return DOOR_REFUSED;
        }
        require(find_door(door, ""));
        strcpy(find_door(door, ""), window_id);
        fake_world.n_doors++;
        *ret_gate = strdup("nftables: inet filter input");
        return DOOR_OK;
}

int door_ban(Door *door, const char *window_id, const Port *ports, size_t n_ports) {
        return 0;
}

bool door_sees_firewalld(Door *door, const Port *ports, size_t n_ports, bool runs) {
        return false;
}

void door_unban(Door *door, const char *window_id) {
}

void door_shut(Door *door, const char *window_id) {
        char *open = find_door(door, window_id);

        if (open) {
                memset(open, 0, RENEWAL_ID_SIZE);
                fake_world.n_doors--;
        }
}

bool door_look(Door *door) {
        return true;
}

void door_take_sources(Door *door, const char *window_id, Sources *to) {
}

uint64_t door_admitted(Door *door, const char *window_id) {
        static uint64_t n;

        return n++;
}

bool door_host_admits(Door *door, const Profile *profile) {
        return fake_world.door_refuses;
}

/* check.c */

struct Checks {
        CheckCallback callback;
        void *userdata;
        sd_event_source *source;
        uint64_t ids[BROKER_CALLS];
        size_t n;
};

static int on_checks(sd_event_source *source, void *userdata) {
        Checks *checks = userdata;

        while (checks->n > 0) {
                uint64_t id = checks->ids[--checks->n];
                Findings findings = {};

                findings_add(&findings, FINDING_OK, "inet filter input", "a window opens here");
                findings_add(&findings, FINDING_NOTE, "iptables", "is not looked at");
                checks->callback(id, &findings, checks->userdata);
                findings_deinit(&findings);
        }
        return 0;
}

int checks_new(Checks **ret, const CheckHost *host, CheckCallback callback, void *userdata) {
        Checks *checks = calloc(1, sizeof(*checks));

        require(checks);
        checks->callback = callback;
        checks->userdata = userdata;
        require(sd_event_add_defer(sd_bus_get_event(host->bus), &checks->source, on_checks,
                                   checks) >= 0);
        require(sd_event_source_set_enabled(checks->source, SD_EVENT_OFF) >= 0);
        *ret = checks;
        return 0;
}

Checks *checks_free(Checks *checks) {
        if (!checks)
                return NULL;
        require(checks->n == 0); /* whoever waited has been answered */
        sd_event_source_disable_unref(checks->source);
        free(checks);
        return NULL;
}

int checks_begin(Checks *checks, uint64_t id, const char *name, const Profile *profile,
                 const char *problem, uid_t uid) {
        require(!profile == !!problem);
        if (fake_world.door_breaks)
                return -EIO;
        require(checks->n < ELEMENTS(checks->ids));
        checks->ids[checks->n++] = id;
        require(sd_event_source_set_enabled(checks->source, SD_EVENT_ONESHOT) >= 0);
        return 0;
}

void checks_cancel(Checks *checks, uint64_t id) {
        for (size_t i = 0; i < checks->n; i++)
                if (checks->ids[i] == id) {
                        checks->ids[i] = checks->ids[--checks->n];
                        return;
                }
}

void fake_door_tell(unsigned n, DoorNews news, const char *text) {
        char window_id[RENEWAL_ID_SIZE];

        for (size_t i = 0; i < ELEMENTS(the_door->open); i++) {
                if (!*the_door->open[i] || n-- > 0)
                        continue;
                strcpy(window_id, the_door->open[i]);
                if (news == DOOR_NEWS_LOST) { /* then it is shut */
                        memset(the_door->open[i], 0, RENEWAL_ID_SIZE);
                        fake_world.n_doors--;
                }
                the_door->callback(window_id, news, text, the_door->userdata);
                return;
        }
}
