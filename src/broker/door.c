/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Doors: the windows' wishes, the watch over the ruleset, and what to do when shutting fails.
 *
 * Shutting has a last resort that needs neither memory nor the kernel's good will: closing the
 * socket that owns the lease. It shuts every door; those that should stay open are then put up
 * anew.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <postern/door-internal.h>
#include <postern/log.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
        DOORS_MAX = LEASE_WINDOWS_MAX,
        TIDY_RETRY_USEC = 1000 * 1000,
        LINGER_RETRY_USEC = 5 * 1000 * 1000,
        WATCH_BUFFER_SIZE = 64 * 1024,
};

typedef enum DoorStanding {
        STANDING_FREE, /* the slot is free, or of a door that was shut (its count is still known) */
        STANDING_OPEN,
        STANDING_LOST, /* shut, and its window is still to be told */
} DoorStanding;

typedef struct DoorEntry {
        DoorStanding standing;
        char id[LEASE_ID_MAX];
        Profile profile; /* ports, chain and precedence alone */
        char *legacy;
        uint64_t deadline; /* CLOCK_BOOTTIME, microseconds */
        bool leased;
        uint64_t admitted; /* by leases that were replaced; by all of them once it is shut */
        char why[256];     /* STANDING_LOST */
} DoorEntry;

struct Door {
        sd_event *event;
        sd_event_source *watch_source;
        sd_event_source *news_source; /* tells windows of lost doors, outside of any call */
        sd_event_source *tidy_source;
        struct mnl_socket *watch;
        Installation installation;
        DoorEntry entries[DOORS_MAX];
        bool untidy; /* something inert of ours is left in the kernel */
        DoorCallback callback;
        void *userdata;
};

static uint64_t boottime_usec(void) {
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

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

/* The slots hold what the wishes point to. */
static size_t door_wishes(Door *door, InstallationWish *wishes) {
        size_t n = 0;

        for (size_t i = 0; i < DOORS_MAX; i++) {
                DoorEntry *entry = &door->entries[i];

                if (entry->standing != STANDING_OPEN)
                        continue;
                wishes[n] = (InstallationWish){
                        .profile = &entry->profile,
                        .legacy = entry->legacy,
                        .leased = entry->leased,
                };
                memcpy(wishes[n].window.id, entry->id, sizeof(entry->id));
                memcpy(wishes[n].window.ports, entry->profile.ports, sizeof(entry->profile.ports));
                wishes[n].window.n_ports = entry->profile.n_ports;
                wishes[n].window.deadline = entry->deadline;
                n++;
        }
        return n;
}

static void wishes_deinit(InstallationWish *wishes, size_t n_wishes) {
        for (size_t i = 0; i < n_wishes; i++) {
                free(wishes[i].gate);
                free(wishes[i].problem);
        }
}

static DoorEntry *door_of_wish(Door *door, const InstallationWish *wish) {
        return door_find(door, wish->window.id);
}

/* Its window is told from the event loop: never from inside a call of the broker's. */
static void door_lose(Door *door, DoorEntry *entry, const char *why) {
        entry->standing = STANDING_LOST;
        snprintf(entry->why, sizeof(entry->why), "%s", why);
        if (sd_event_source_set_enabled(door->news_source, SD_EVENT_ONESHOT) < 0)
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
                entry->admitted += wishes[i].admitted;
                if (entry == subject)
                        *ret_gate = TAKE_POINTER(wishes[i].gate);
        }
        wishes_deinit(wishes, n);
        return r;
}

/* Applies; whoever cannot stay open is lost, the others stay. Ends with all of them settled. */
static void door_settle(Door *door) {
        bool dropped = false;

        for (;;) {
                _cleanup_free_ char *problem = NULL;
                DoorEntry *refused = NULL;
                int r;

                r = door_apply(door, NULL, &refused, &problem, NULL);
                if (r == INSTALLATION_OK)
                        return;
                if (r == INSTALLATION_REFUSED && refused) {
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
                for (size_t i = 0; i < DOORS_MAX; i++)
                        if (door->entries[i].standing == STANDING_OPEN)
                                door_lose(door, &door->entries[i], installation_explain(r));
                return;
        }
}

static void door_unwatch(Door *door) {
        door->watch_source = sd_event_source_disable_unref(door->watch_source);
        if (door->watch)
                mnl_socket_close(door->watch);
        door->watch = NULL;
}

static void door_tidy_later(Door *door, uint64_t usec) {
        door->untidy = true;
        if (sd_event_source_set_time_relative(door->tidy_source, usec) < 0 ||
            sd_event_source_set_enabled(door->tidy_source, SD_EVENT_ONESHOT) < 0)
                log_error("Cannot start a timer to tidy up: the next window or start does it");
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

static int on_tidy(sd_event_source *source, uint64_t usec, void *userdata) {
        Door *door = userdata;

        if (door->untidy)
                door_tidy(door);
        return 0;
}

/* What came in through a door that is shut now: those to ports that are still open stay. */
static void door_end_connections(Door *door) {
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

/* A foreign program has changed the ruleset: put back what it took, for the time that is left. */
static void door_mend(Door *door, const char *who) {
        InstallationWish wishes[DOORS_MAX] = {};
        char why[256];
        bool short_of_time = true;
        size_t n;
        int r;

        n = door_wishes(door, wishes);
        for (size_t i = 0; i < n; i++)
                short_of_time &= lease_time_left_msec(&wishes[i].window) < LEASE_TIMEOUT_MIN_MSEC;
        if (n == 0 || short_of_time)
                return;
        r = installation_stands(&door->installation, wishes, n);
        wishes_deinit(wishes, n);
        if (r > 0)
                return;
        snprintf(why, sizeof(why), "%s changed the ruleset; the window's rules were put back", who);
        door_settle(door);
        for (size_t i = 0; i < DOORS_MAX; i++) {
                char id[LEASE_ID_MAX];

                if (door->entries[i].standing != STANDING_OPEN)
                        continue;
                memcpy(id, door->entries[i].id, sizeof(id));
                door->callback(id, DOOR_NEWS_RESTORED, why, door->userdata);
        }
}

/* The name of the program behind a generation, bounded and harmless. */
static void read_culprit(const struct nlmsghdr *message, char *ret, size_t size) {
        const struct nlattr *attribute;
        const char *name = NULL;
        uint32_t pid = 0;

        mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg)) {
                if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_NAME &&
                    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
                        name = mnl_attr_get_str(attribute);
                else if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_PID &&
                         mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
                        pid = ntohl(mnl_attr_get_u32(attribute));
        }
        snprintf(ret, size, "%.16s (pid %u)", name ? name : "a program", pid);
}

static int on_watch(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _cleanup_free_ char *buffer = NULL;
        Door *door = userdata;
        char who[64] = "a program";
        bool foreign = false;
        int left;
        ssize_t n;

        buffer = malloc(WATCH_BUFFER_SIZE);
        for (;;) {
                char scrap[1];

                n = recv(fd, buffer ? buffer : scrap, buffer ? WATCH_BUFFER_SIZE : sizeof(scrap),
                         MSG_DONTWAIT);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        if (errno != ENOBUFS)
                                break;
                        foreign = true; /* more than the queue holds is not ours */
                        continue;
                }
                if (!buffer) {
                        foreign = true;
                        continue;
                }
                left = n;
                for (const struct nlmsghdr *message = (const void *) buffer;
                     mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
                        if (message->nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN) ||
                            message->nlmsg_pid == door->installation.owner.port_id)
                                continue;
                        foreign = true;
                        read_culprit(message, who, sizeof(who));
                }
        }
        if (foreign)
                door_mend(door, who);
        return 0;
}

/* From before the first ruleset is read, so that no change falls between reading and watching; then
 * for good, since leaving the group would wait for a grace period of the kernel's. */
static int door_watch(Door *door) {
        int group = NFNLGRP_NFTABLES, size = 4 * 1024 * 1024, r;

        if (door->watch)
                return 0;
        door->watch = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (!door->watch)
                return -errno;
        (void) setsockopt(mnl_socket_get_fd(door->watch), SOL_SOCKET, SO_RCVBUFFORCE, &size,
                          sizeof(size));
        if (mnl_socket_bind(door->watch, 0, MNL_SOCKET_AUTOPID) < 0 ||
            mnl_socket_setsockopt(door->watch, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
                r = -errno;
                door_unwatch(door);
                return r;
        }
        r = sd_event_add_io(door->event, &door->watch_source, mnl_socket_get_fd(door->watch),
                            EPOLLIN, on_watch, door);
        if (r < 0)
                door_unwatch(door);
        return r;
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
        if (r == 0)
                r = sd_event_add_defer(event, &door->news_source, on_news, door);
        if (r >= 0)
                r = sd_event_source_set_enabled(door->news_source, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &door->tidy_source, CLOCK_BOOTTIME,
                                               TIDY_RETRY_USEC, 0, on_tidy, door);
        if (r >= 0)
                r = sd_event_source_set_enabled(door->tidy_source, SD_EVENT_OFF);
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
        door_unwatch(door);
        sd_event_source_disable_unref(door->news_source);
        sd_event_source_disable_unref(door->tidy_source);
        for (size_t i = 0; i < DOORS_MAX; i++)
                entry_release(&door->entries[i]);
        sd_event_unref(door->event);
        free(door);
        return NULL;
}

Installation *door_installation(Door *door) {
        return &door->installation;
}

int door_sweep(Door *door) {
        int r;

        r = installation_sweep(&door->installation);
        if (r == INSTALLATION_LINGERS)
                door_tidy_later(door, LINGER_RETRY_USEC);
        return r < 0 ? r : 0;
}

static int entry_fill(DoorEntry *entry, const char *window_id, const Profile *profile,
                      uint64_t deadline, const char *legacy) {
        if (strlen(window_id) >= sizeof(entry->id))
                return -EINVAL;
        *entry = (DoorEntry){.deadline = deadline};
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

int door_open(Door *door, const char *window_id, const Profile *profile, uint64_t deadline,
              const char *legacy, char **ret_gate, char **ret_problem) {
        _cleanup_free_ char *problem = NULL, *gate = NULL;
        DoorEntry *entry = NULL, *refused = NULL;
        int r;

        for (size_t i = 0; i < DOORS_MAX && !entry; i++)
                if (door->entries[i].standing == STANDING_FREE)
                        entry = &door->entries[i];
        if (!entry)
                return refuse(ret_problem, "too many doors are open: wait until one has shut");
        if (deadline < boottime_usec() + LEASE_TIMEOUT_MIN_MSEC * 1000ULL)
                return refuse(ret_problem,
                              "less than a second is left, too little for the kernel's timer: ask "
                              "for a longer window");
        r = entry_fill(entry, window_id, profile, deadline, legacy);
        if (r < 0)
                return r;
        r = door_watch(door);
        if (r < 0) {
                entry_release(entry);
                return refuse(ret_problem, installation_explain(r));
        }

        entry->standing = STANDING_OPEN;
        r = door_apply(door, entry, &refused, &problem, &gate);
        if (r == INSTALLATION_OK) {
                *ret_gate = TAKE_POINTER(gate);
                return DOOR_OK;
        }

        /* Shut again, whatever became of it: put up what the others wish for, and if that does not
         * come to stand either, shut everything first. */
        entry_release(entry);
        if (r < 0)
                log_warning("Cannot open the door of window %s: %s", window_id, strerror(-r));
        if (door_count(door) > 0)
                door_settle(door);
        else if (r != -EPERM && r != -EBUSY) { /* with these, nothing came to stand */
                if (r < 0)
                        installation_drop(&door->installation);
                door_tidy(door);
        }
        return refuse(ret_problem, problem ? problem : installation_explain(r));
}

int door_shut(Door *door, const char *window_id) {
        DoorEntry *entry = door_find(door, window_id);

        if (!entry || entry->standing == STANDING_FREE)
                return 0;
        if (entry->standing == STANDING_LOST) {
                entry_release(entry); /* shut already; its window knows what it wants */
                return 0;
        }

        /* First of all, and at once however large the host's ruleset is: nobody comes in any more,
         * and who came in is cut. If that fails, the whole replacement below does the same. */
        (void) installation_silence(&door->installation, window_id);
        entry->admitted += installation_window_admitted(&door->installation, window_id);
        entry_release(entry);
        door_settle(door);
        door_end_connections(door);
        return 0;
}

uint64_t door_admitted(Door *door, const char *window_id) {
        DoorEntry *entry = door_find(door, window_id);

        if (!entry)
                return 0;
        if (entry->standing != STANDING_OPEN)
                return entry->admitted;
        return entry->admitted + installation_window_admitted(&door->installation, window_id);
}
