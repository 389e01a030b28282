/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Doors: the windows' wishes, and what to do when shutting fails.
 *
 * Shutting has a last resort that needs neither memory nor the kernel's good will: closing the
 * socket that owns the lease. It shuts every door; those that should stay open are then put up
 * anew.
 */

#include <errno.h>
#include <postern/clock.h>
#include <postern/door-internal.h>
#include <postern/log.h>
#include <stdio.h>
#include <string.h>

enum {
        TIDY_RETRY_USEC = 1000 * 1000,
        LINGER_RETRY_USEC = 5 * 1000 * 1000,
        /* the kernel remembers a connection for 10 s at least after its end */
        LOOK_USEC = 4 * 1000 * 1000,
};

static void entry_release(DoorEntry *entry) {
        free(entry->profile.chain);
        free(entry->legacy);
        entry->profile.chain = NULL;
        entry->legacy = NULL;
        entry->standing = STANDING_FREE;
}

static DoorEntry *door_find(Door *door, const char *window_id) {
        for (size_t i = 0; i < DOORS_MAX; i++)
                if (strcmp(door->entries[i].id, window_id) == 0)
                        return &door->entries[i];
        return NULL;
}

static size_t door_count(const Door *door) {
        size_t n = 0;

        for (size_t i = 0; i < DOORS_MAX; i++)
                n += door->entries[i].standing == STANDING_OPEN;
        return n;
}

size_t door_wishes(Door *door, InstallationWish *wishes) {
        size_t n = 0;

        for (size_t i = 0; i < DOORS_MAX; i++) {
                DoorEntry *entry = &door->entries[i];

                if (entry->standing != STANDING_OPEN)
                        continue;
                wishes[n] = (InstallationWish){
                        .profile = &entry->profile,
                        .legacy = entry->legacy,
                        .leased = entry->leased,
                        .spare_firewalld = entry->outer.spare_firewalld,
                };
                memcpy(wishes[n].window.id, entry->id, sizeof(entry->id));
                memcpy(wishes[n].window.ports, entry->profile.ports, sizeof(entry->profile.ports));
                wishes[n].window.n_ports = entry->profile.n_ports;
                wishes[n].window.deadline = entry->deadline;
                memcpy(wishes[n].window.outer, entry->outer.ports, sizeof(entry->outer.ports));
                wishes[n].window.n_outer = entry->outer.n_ports;
                wishes[n].window.reach = entry->reach;
                n++;
        }
        return n;
}

void door_wishes_deinit(InstallationWish *wishes, size_t n_wishes) {
        for (size_t i = 0; i < n_wishes; i++) {
                free(wishes[i].gate);
                free(wishes[i].problem);
        }
}

static DoorEntry *door_of_wish(Door *door, const InstallationWish *wish) {
        return door_find(door, wish->window.id);
}

/* A connection belongs to every window that leads to its port, or has till now. */
static void on_visit(uint32_t id, bool is_ipv6, const uint8_t *address, const Port *port,
                     void *userdata) {
        Door *door = userdata;

        for (size_t i = 0; i < DOORS_MAX; i++) {
                DoorEntry *entry = &door->entries[i];

                if (!entry->ending && entry->standing != STANDING_OPEN)
                        continue;
                for (size_t k = 0; k < entry->profile.n_ports; k++)
                        if (entry->profile.ports[k].number == port->number &&
                            entry->profile.ports[k].protocol == port->protocol)
                                sources_add(&entry->sources, id, is_ipv6, address);
        }
}

/* Its window is told from the event loop: never from inside a call of the broker's. */
static void door_lose(Door *door, DoorEntry *entry, const char *why) {
        /* while its lease stands; 0 where that has gone */
        entry->admitted += installation_window_admitted(&door->installation, entry->id);
        entry->standing = STANDING_LOST;
        entry->ending = true;
        snprintf(entry->why, sizeof(entry->why), "%s", why);
        /* takes memory where many things are due; the timer has had its place from the beginning */
        if (sd_event_source_set_enabled(door->news_source, SD_EVENT_ONESHOT) < 0 &&
            (sd_event_source_set_time_relative(door->tidy_source, 0) < 0 ||
             sd_event_source_set_enabled(door->tidy_source, SD_EVENT_ONESHOT) < 0))
                log_error("Cannot tell window %s that its door is shut", entry->id);
}

/* Brings the kernel to what the entries say. INSTALLATION_OK, INSTALLATION_REFUSED with
 * *ret_refused (the entry) and *ret_problem, or a negative errno. ret_gate: of the entry `subject`,
 * if not NULL. */
static int door_apply(Door *door, const DoorEntry *subject, DoorEntry **ret_refused,
                      char **ret_problem, char **ret_gate) {
        InstallationWish wishes[DOORS_MAX] = {};
        size_t n;
        int r;

        n = door_wishes(door, wishes);
        r = installation_apply(&door->installation, wishes, n);
        for (size_t i = 0; i < n; i++) {
                DoorEntry *entry = door_of_wish(door, &wishes[i]);

                if (r == INSTALLATION_REFUSED && wishes[i].problem) {
                        *ret_refused = entry;
                        free(*ret_problem);
                        *ret_problem = TAKE_POINTER(wishes[i].problem);
                }
                if (r != INSTALLATION_OK)
                        continue;
                entry->leased = wishes[i].leased;
                entry->left_out = wishes[i].left_out;
                entry->admitted += wishes[i].admitted;
                if (entry == subject)
                        *ret_gate = TAKE_POINTER(wishes[i].gate);
        }
        door_wishes_deinit(wishes, n);
        return r;
}

static void door_tidy_later(Door *door, uint64_t usec) {
        door->untidy = true;
        if (sd_event_source_set_time_relative(door->tidy_source, usec) < 0 ||
            sd_event_source_set_enabled(door->tidy_source, SD_EVENT_ONESHOT) < 0)
                log_error("Cannot start a timer to tidy up: the next window or start does it");
}

void door_settle(Door *door) {
        bool dropped = false, lost = false;

        for (;;) {
                _cleanup_free_ char *problem = NULL;
                DoorEntry *refused = NULL;
                int r;

                r = door_apply(door, NULL, &refused, &problem, NULL);
                if (r == INSTALLATION_OK)
                        return;
                if (r == INSTALLATION_REFUSED && refused) {
                        lost = true;
                        door_lose(door, refused, problem);
                        continue; /* one fewer each time */
                }
                /* What stands is not known: shut everything, then put up anew what should stay. */
                installation_drop(&door->installation);
                door->untidy = true;
                if (!dropped) {
                        dropped = true;
                        continue;
                }
                for (size_t i = 0; i < DOORS_MAX; i++) {
                        if (door->entries[i].standing != STANDING_OPEN)
                                continue;
                        lost = true;
                        door_lose(door, &door->entries[i], installation_explain(r));
                }
                /* news of a lost one tidies, too; else nothing would put the bans up again */
                if (!lost)
                        door_tidy_later(door, TIDY_RETRY_USEC);
                return;
        }
}

/* With no door open: ends what came in, takes the guard away. Tried again later where it fails, or
 * where a local end may still speak; till then the guard cuts. */
static void door_tidy(Door *door) {
        int r;

        if (door_count(door) > 0)
                return;
        r = installation_clear(&door->installation);
        door->untidy = false;
        if (r == INSTALLATION_LINGERS)
                door_tidy_later(door, LINGER_RETRY_USEC);
        else if (r < 0) {
                log_warning("Cannot tidy up the firewall yet (%s): every port is shut, trying "
                            "again",
                            strerror(-r));
                door_tidy_later(door, TIDY_RETRY_USEC);
        }
}

static void door_cut(Door *door) {
        Port keep[DOORS_MAX * PROFILE_PORTS_MAX];
        size_t n_keep = 0;

        if (door_count(door) == 0) {
                door_tidy(door);
                return;
        }
        for (size_t i = 0; i < DOORS_MAX; i++) {
                const DoorEntry *entry = &door->entries[i];

                if (entry->standing != STANDING_OPEN)
                        continue;
                for (size_t k = 0; k < entry->profile.n_ports; k++)
                        keep[n_keep++] = entry->profile.ports[k];
        }
        if (installation_cut(&door->installation, keep, n_keep) < 0)
                log_warning(
                        "Cannot end idle connections of a window yet: they are cut at their next "
                        "packet");
}

/* What came in through a door that is shut now: those to ports that are still open stay. */
static void door_end_connections(Door *door) {
        door_cut(door);
        for (size_t i = 0; i < DOORS_MAX; i++)
                door->entries[i].ending = false;
}

static int on_news(sd_event_source *source, void *userdata) {
        Door *door = userdata;

        door_end_connections(door);
        for (size_t i = 0; i < DOORS_MAX; i++) {
                DoorEntry *entry = &door->entries[i];
                char id[LEASE_ID_MAX], why[sizeof(entry->why)];

                if (entry->standing != STANDING_LOST)
                        continue;
                memcpy(id, entry->id, sizeof(id));
                memcpy(why, entry->why, sizeof(why));
                entry_release(entry);
                door->callback(id, DOOR_NEWS_LOST, why, door->userdata);
        }
        return 0;
}

static int on_tidy(sd_event_source *source, uint64_t usec, void *userdata) {
        Door *door = userdata;

        for (size_t i = 0; i < DOORS_MAX; i++)
                if (door->entries[i].standing == STANDING_LOST)
                        return on_news(source, door); /* tidies as well */
        if (door->untidy)
                door_tidy(door);
        return 0;
}

int door_new(Door **ret, sd_event *event, const char *runtime_dir, DoorCallback callback,
             void *userdata) {
        Door *door;
        int r;

        door = calloc(1, sizeof(*door));
        if (!door)
                return -ENOMEM;
        door->event = sd_event_ref(event);
        door->callback = callback;
        door->userdata = userdata;
        door->installation.marks.runtime_fd = -1;
        r = installation_init(&door->installation, runtime_dir);
        door->installation.visit = on_visit;
        door->installation.visit_data = door;
        if (r == 0)
                r = sd_event_add_defer(event, &door->news_source, on_news, door);
        if (r >= 0)
                r = sd_event_source_set_enabled(door->news_source, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &door->tidy_source, CLOCK_BOOTTIME,
                                               TIDY_RETRY_USEC, 0, on_tidy, door);
        if (r >= 0)
                r = sd_event_source_set_enabled(door->tidy_source, SD_EVENT_OFF);
        if (r >= 0)
                r = door_mend_prepare(door);
        if (r < 0) {
                door_free(door);
                return r;
        }
        *ret = door;
        return 0;
}

Door *door_free(Door *door) {
        if (!door)
                return NULL;
        /* First of all: shut. */
        netlink_close(&door->installation.owner);
        if (door_count(door) > 0 || door->untidy)
                (void) installation_clear(&door->installation);
        installation_deinit(&door->installation);
        ruleset_watch_free(door->watch);
        sd_event_source_disable_unref(door->news_source);
        sd_event_source_disable_unref(door->tidy_source);
        sd_event_source_disable_unref(door->mend_source);
        for (size_t i = 0; i < DOORS_MAX; i++)
                entry_release(&door->entries[i]);
        sd_event_unref(door->event);
        free(door);
        return NULL;
}

bool door_is_idle(const Door *door) {
        return door_count(door) == 0 && !door->untidy && door->installation.n_bans == 0;
}

int door_sweep(Door *door) {
        int r;

        if (door->installation.n_bans > 0)
                (void) door_watch(door); /* fails of what the sweep fails of, too */
        r = installation_sweep(&door->installation);
        if (r == INSTALLATION_LINGERS)
                door_tidy_later(door, LINGER_RETRY_USEC);
        return r < 0 ? r : 0;
}

int door_ban(Door *door, const char *window_id, const Port *ports, size_t n_ports) {
        Installation *installation = &door->installation;
        int r;

        r = bans_add(&door->bans, window_id, ports, n_ports);
        if (r < 0)
                return r;
        return bans_gather(&door->bans, installation->bans, &installation->n_bans) ? 0 : -ENOSPC;
}

static bool door_end_ban(Door *door, const char *window_id) {
        if (!bans_end(&door->bans, window_id))
                return false;
        (void) bans_gather(&door->bans, door->installation.bans, &door->installation.n_bans);
        return true;
}

void door_unban(Door *door, const char *window_id) {
        if (!door_end_ban(door, window_id))
                return;
        if (door_count(door) > 0)
                door_settle(door);
        else if (door->watch) /* else there was no right to ban anything, either */
                door_tidy(door);
}

static int entry_fill(DoorEntry *entry, const char *window_id, const Profile *profile,
                      uint64_t deadline, const char *legacy, const DoorOuter *outer,
                      const LeaseReach *reach) {
        if (strlen(window_id) >= sizeof(entry->id))
                return -EINVAL;
        *entry = (DoorEntry){.deadline = deadline};
        if (outer)
                entry->outer = *outer;
        if (reach)
                entry->reach = *reach;
        entry->profile.precedence = profile->precedence;
        entry->profile.gate = profile->gate;
        entry->profile.n_ports = profile->n_ports;
        memcpy(entry->profile.ports, profile->ports, sizeof(profile->ports));
        entry->legacy = strdup(legacy ? legacy : "");
        if (profile->chain)
                entry->profile.chain = strdup(profile->chain);
        if (!entry->legacy || (profile->chain && !entry->profile.chain)) {
                entry_release(entry);
                return -ENOMEM;
        }
        memcpy(entry->id, window_id, strlen(window_id) + 1);
        return 0;
}

static int refuse(char **ret_problem, const char *problem) {
        char *text = strdup(problem);

        if (!text)
                return -ENOMEM;
        free(*ret_problem);
        *ret_problem = text;
        return DOOR_REFUSED;
}

static const char too_late[] = "less than a second is left, too little for the kernel's timer: ask "
                               "for a longer window";
static const char took_too_long[] =
        "changing the firewall took so long that less than a second is left, too little for the "
        "kernel's timer: ask for a longer window";

/* Then it is left out of the lease. */
static bool is_too_late(uint64_t deadline) {
        return deadline < clock_now(CLOCK_BOOTTIME) + LEASE_TIMEOUT_MIN_MSEC * 1000ULL;
}

int door_open(Door *door, const char *window_id, const Profile *profile, uint64_t deadline,
              const char *legacy, const DoorOuter *outer, const LeaseReach *reach, char **ret_gate,
              char **ret_problem) {
        _cleanup_free_ char *problem = NULL, *gate = NULL;
        DoorEntry *entry = NULL, *refused = NULL;
        bool was_banned;
        int r;

        for (size_t i = 0; i < DOORS_MAX && !entry; i++)
                if (door->entries[i].standing == STANDING_FREE)
                        entry = &door->entries[i];
        if (!entry)
                return refuse(ret_problem, "too many doors are open: wait until one has shut");
        if (is_too_late(deadline))
                return refuse(ret_problem, too_late);
        r = entry_fill(entry, window_id, profile, deadline, legacy, outer, reach);
        if (r < 0)
                return r;
        r = door_watch(door);
        if (r < 0) {
                entry_release(entry);
                return refuse(ret_problem, installation_explain(r));
        }

        /* one that opens for each challenge may have a close owed from the last */
        was_banned = bans_have(&door->bans, window_id);
        if (outer && outer->n_ports > 0 &&
            door_ban(door, window_id, outer->ports, outer->n_ports) < 0) {
                entry_release(entry);
                if (!was_banned)
                        (void) door_end_ban(door, window_id);
                return refuse(ret_problem,
                              "too many ports are still to be closed in other firewalls: see why "
                              "(OwedCloses), and ask again when that is done");
        }

        entry->standing = STANDING_OPEN;
        r = door_apply(door, entry, &refused, &problem, &gate);
        if (r == INSTALLATION_OK && !entry->left_out && !is_too_late(deadline)) {
                *ret_gate = TAKE_POINTER(gate);
                return DOOR_OK;
        }

        /* Shut again, whatever became of it: put up what the others wish for, and if that does not
         * come to stand either, shut everything first. */
        entry_release(entry);
        if (!was_banned)
                (void) door_end_ban(door, window_id);
        if (r < 0)
                log_warning("Cannot open the door of window %s: %s", window_id, strerror(-r));
        if (door_count(door) > 0)
                door_settle(door);
        else if (r != -EPERM && r != -EBUSY) { /* with these, nothing came to stand */
                if (r != INSTALLATION_REFUSED)
                        installation_drop(&door->installation);
                door_tidy(door);
        }
        return refuse(ret_problem, problem                ? problem
                                   : r == INSTALLATION_OK ? took_too_long
                                                          : installation_explain(r));
}

bool door_sees_firewalld(Door *door, const Port *ports, size_t n_ports, bool runs) {
        return installation_sees_firewalld(&door->installation, ports, n_ports, runs);
}

void door_shut(Door *door, const char *window_id) {
        DoorEntry *entry = door_find(door, window_id);

        if (!entry || entry->standing == STANDING_FREE)
                return;
        if (entry->standing == STANDING_LOST) {
                entry_release(entry); /* shut already; its window knows what it wants */
                return;
        }

        /* First of all, and at once however large the host's ruleset is: nobody comes in any more,
         * and who came in is cut. If that fails, the whole replacement below does the same. */
        (void) installation_silence(&door->installation, window_id);
        entry->admitted += installation_window_admitted(&door->installation, window_id);
        entry_release(entry);
        entry->ending = true;
        door_settle(door);
        door_end_connections(door);
}

bool door_look(Door *door) {
        uint64_t now = clock_now(CLOCK_BOOTTIME);

        if (now < door->looked_at + LOOK_USEC)
                return false;
        installation_look(&door->installation);
        door->looked_at = now;
        return true;
}

void door_take_sources(Door *door, const char *window_id, Sources *to) {
        DoorEntry *entry = door_find(door, window_id);

        if (!entry)
                return;
        sources_merge(to, &entry->sources);
        entry->sources = (Sources){};
}

uint64_t door_admitted(Door *door, const char *window_id) {
        DoorEntry *entry = door_find(door, window_id);

        if (!entry)
                return 0;
        if (entry->standing != STANDING_OPEN)
                return entry->admitted;
        return entry->admitted + installation_window_admitted(&door->installation, window_id);
}
