/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What to do when another program has changed the ruleset. */

#include <postern/door-internal.h>
#include <stdio.h>
#include <string.h>

enum { MEND_QUIET_USEC = 1000 * 1000 };

/* Puts back what a foreign program took, for the time that is left. */
static void door_put_back(Door *door) {
        char why[256];

        (void) sd_event_source_set_enabled(door->mend_source, SD_EVENT_OFF);
        snprintf(why, sizeof(why), "%s changed the ruleset; the window's rules were put back",
                 door->culprit);
        door_settle(door);
        for (size_t i = 0; i < DOORS_MAX; i++) {
                char id[LEASE_ID_MAX];

                if (door->entries[i].standing != STANDING_OPEN)
                        continue;
                memcpy(id, door->entries[i].id, sizeof(id));
                door->callback(id, DOOR_NEWS_RESTORED, why, door->userdata);
        }
}

/*
 * A foreign program has changed the ruleset. Where that leaves but a gate too few, it may be in the
 * middle of more: `ufw reload` is 200 changes in two seconds, first empties its chains and then
 * removes those that are empty; a chain in which it found our rule would make it think that it had
 * been started already, and leave the host without its rules. So it gets time to finish, more than
 * passes between two of its changes on a host that has much else to do (half a second has been
 * seen); meanwhile the window is shut. What else may be wrong, a denial behind our rule for one, is
 * put right at once.
 */
static void door_mend(Door *door, bool quiet) {
        InstallationWish wishes[DOORS_MAX] = {};
        bool short_of_time = true;
        size_t n;
        int r;

        n = door_wishes(door, wishes);
        for (size_t i = 0; i < n; i++)
                short_of_time &= lease_time_left_msec(&wishes[i].window) < LEASE_TIMEOUT_MIN_MSEC;
        if (short_of_time && door->installation.n_bans == 0)
                return;
        r = installation_stands(&door->installation, wishes, n);
        door_wishes_deinit(wishes, n);
        if (r == INSTALLATION_STANDS)
                return;
        if (r == INSTALLATION_LACKS_GATES && !quiet &&
            sd_event_source_set_time_relative(door->mend_source, MEND_QUIET_USEC) >= 0 &&
            sd_event_source_set_enabled(door->mend_source, SD_EVENT_ONESHOT) >= 0)
                return;
        door_put_back(door);
}

static int on_mend(sd_event_source *source, uint64_t usec, void *userdata) {
        door_mend(userdata, true);
        return 0;
}

static void on_foreign_change(const char *culprit, void *userdata) {
        Door *door = userdata;

        (void) snprintf(door->culprit, sizeof(door->culprit), "%s", culprit);
        door_mend(door, false);
}

int door_watch(Door *door) {
        if (door->watch)
                return 0;
        return ruleset_watch_new(&door->watch, door->event, &door->installation.owner.port_id,
                                 on_foreign_change, door);
}

int door_mend_prepare(Door *door) {
        int r = sd_event_add_time_relative(door->event, &door->mend_source, CLOCK_BOOTTIME,
                                           MEND_QUIET_USEC, 0, on_mend, door);

        return r < 0 ? r : sd_event_source_set_enabled(door->mend_source, SD_EVENT_OFF);
}
