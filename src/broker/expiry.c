/* SPDX-License-Identifier: GPL-2.0-or-later */

/* See expiry.h. The records have it all, but for when it was last said. */

#include <fcntl.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/clock.h>
#include <postern/expiry.h>
#include <postern/log.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

DEFINE_CLEANUP(Profile, profile_free);

#define DAY_USEC ((uint64_t) 24 * 60 * 60 * 1000 * 1000)

/* A profile that nothing has used for longer has no timer. */
#define UNUSED_USEC (2 * DAY_USEC)

/* Two days and more in days, else in hours. */
static void format_time(uint64_t usec, char *ret, size_t size) {
        bool days = usec >= 2 * DAY_USEC;

        (void) snprintf(ret, size, "%" PRIu64 " %s", usec / (days ? DAY_USEC : DAY_USEC / 24),
                        days ? "d" : "h");
}

/* window_id: NULL at start. */
static void expiry_warn(const char *profile, const char *window_id, WindowResult result,
                        const Certificate *certificate, uint64_t now) {
        time_t not_after = (time_t) (certificate->not_after / 1000000);
        bool over = now >= certificate->not_after;
        char date[32] = "", distance[32], lifetime[32], number[24];
        const char *const fields[] = {
                "POSTERN_PROFILE",
                profile,
                "POSTERN_WINDOW",
                window_id,
                "POSTERN_RESULT",
                result == RESULT_NONE ? NULL : window_result_to_string(result),
                "POSTERN_EXPIRES",
                number,
                NULL,
        };
        struct tm utc;

        if (gmtime_r(&not_after, &utc))
                (void) strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &utc);
        format_time(over ? now - certificate->not_after : certificate->not_after - now, distance,
                    sizeof(distance));
        format_time(certificate->not_after - certificate->not_before, lifetime, sizeof(lifetime));
        (void) snprintf(number, sizeof(number), "%" PRIu64, certificate->not_after);
        if (over)
                log_event(LOG_ERR, MESSAGE_EXPIRY, fields,
                          "The certificate of profile %s expired %s ago, at %s UTC. See what "
                          "renewing it says: postern renew --verbose %s",
                          profile, distance, date, profile);
        else
                log_event(LOG_WARNING, MESSAGE_EXPIRY, fields,
                          "The certificate of profile %s expires in %s, at %s UTC: less than a "
                          "third of its %s is left. See what renewing it says: postern renew "
                          "--verbose %s",
                          profile, distance, date, lifetime, profile);
}

void expiry_on_closed(const Renewal *renewal) {
        const char *name = renewal->profile->name;
        /* not the window's own: one that could not run has read none */
        const Record *record = records_find(renewal->broker->records, name);
        uint64_t now = clock_now(CLOCK_REALTIME);

        if (record && renewal->profile->certificate &&
            certificate_is_near_end(&record->certificate, now))
                expiry_warn(name, renewal->id, renewal->window.result, &record->certificate, now);
}

/* One that is removed, or names no certificate any more, is nobody's worry. One that has become bad
 * all the more is. */
static bool profile_is_there(const Broker *broker, const char *name) {
        _cleanup_(profile_free_cleanup) Profile *profile = NULL;
        _cleanup_free_ char *problem = NULL;
        int r = broker_load_profile(broker, name, &profile, &problem);

        return r == PROFILE_BAD || (r == PROFILE_OK && profile->certificate);
}

/* In the runtime directory: when it was last said at a start. */
#define SAID_FILE "expiry-said"

static bool was_said_today(int runtime_fd, uint64_t now) {
        struct stat st;
        uint64_t said;

        if (fstatat(runtime_fd, SAID_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return false;
        said = (uint64_t) st.st_mtim.tv_sec * 1000000;
        return said <= now && now - said < DAY_USEC;
}

/* One that cannot be written is said more often. */
static void say_when(int runtime_fd) {
        _cleanup_close_ int fd =
                openat(runtime_fd, SAID_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd >= 0)
                (void) futimens(fd, NULL);
}

void expiry_on_start(const Broker *broker, const char *runtime_dir) {
        _cleanup_close_ int runtime_fd = open(runtime_dir, O_DIRECTORY | O_PATH | O_CLOEXEC);
        uint64_t now = clock_now(CLOCK_REALTIME);
        bool said = false;

        if (runtime_fd < 0 || was_said_today(runtime_fd, now))
                return;
        for (const Record *record = records_first(broker->records); record; record = record->next) {
                const Certificate *certificate = &record->certificate;
                bool unused =
                        record->last_closed_at > now || now - record->last_closed_at > UNUSED_USEC;

                if (certificate_is_near_end(certificate, now) &&
                    (unused || certificate_is_near_end(certificate, record->last_closed_at)) &&
                    profile_is_there(broker, record->profile)) {
                        expiry_warn(record->profile, NULL, record->last_result, certificate, now);
                        said = true;
                }
        }
        if (said)
                say_when(runtime_fd);
}
