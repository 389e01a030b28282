/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A file's bytes to what outlives the daemon, and to a rate limit. Only what state_format() writes
 * is read; and what is read limits as it did before the restart.
 */

#include "fuzz.h"

#include <errno.h>
#include <postern/quota.h>
#include <postern/state.h>
#include <string.h>

#define PROFILE "web"

static void check_state(const State *state) {
        const QuotaHistory *history = &state->history;

        require(strlen(state->boot_id) == STATE_BOOT_ID_SIZE - 1);
        require(state->last_result >= RESULT_NONE && state->last_result <= RESULT_STOPPED);
        require(certificate_serial_is_valid(state->certificate.serial));
        require(certificate_names_are_valid(state->certificate.names));
        require(history->n_times <= QUOTA_HISTORY_MAX);
        for (unsigned i = 1; i < history->n_times; i++)
                require(history->times[i - 1] <= history->times[i]);
        /* what is added up does not overflow */
        require(history->interval_usec <= INT64_MAX / 2);
        for (unsigned i = 0; i < history->n_times; i++)
                require(history->times[i] <= INT64_MAX / 2);
}

/* So many windows were opened in the last `interval_usec`; none of the times is still to come. */
static unsigned count(const QuotaHistory *history, uint64_t now, uint64_t interval_usec) {
        unsigned n = 0;

        for (unsigned i = 0; i < history->n_times; i++)
                n += history->times[i] <= now && now - history->times[i] < interval_usec;
        return n;
}

static void check_limit(const QuotaHistory *file, uint64_t now, uint64_t interval_usec) {
        unsigned n = count(file, now, interval_usec);
        QuotaHistory kept;
        Quota *quota;

        require(quota_new(&quota) == 0);
        require(quota_set_history(quota, PROFILE, file, now) == 0);
        quota_get_history(quota, PROFILE, &kept);
        require(kept.n_times <= file->n_times);
        for (unsigned i = 0; i < kept.n_times; i++)
                require(kept.times[i] == file->times[i] && kept.times[i] <= now);
        require(kept.n_times == file->n_times || file->times[kept.n_times] > now);

        for (unsigned limit = 1; limit <= QUOTA_HISTORY_MAX; limit += 33) {
                uint64_t retry_at = 0;
                int r = quota_window_check(quota, PROFILE, limit, interval_usec, 1, now, &retry_at);

                require(r == (n < limit ? QUOTA_OK : QUOTA_RATE_LIMITED));
                require(r == QUOTA_OK || (retry_at > now && retry_at - now <= interval_usec));
        }
        if (n < QUOTA_HISTORY_MAX) {
                uint64_t retry_at;

                require(quota_window_begin(quota, PROFILE, QUOTA_HISTORY_MAX, interval_usec, 1, now,
                                           &retry_at) == QUOTA_OK);
                quota_get_history(quota, PROFILE, &kept);
                require(kept.n_times > 0 && kept.times[kept.n_times - 1] == now);
                require(kept.interval_usec == interval_usec);
                quota_window_done(quota, 1);
        }
        quota_free(quota);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const State untouched = {.boot_id = "untouched"};
        State state = untouched;
        char text[STATE_FILE_MAX];
        uint64_t now, interval;
        int r = state_parse((const char *) data, size, &state);

        if (r != 0) {
                require(r == -EBADMSG);
                require(memcmp(&state, &untouched, sizeof(state)) == 0);
                return 0;
        }
        check_state(&state);
        require(state_format(&state, text) == size);
        require(memcmp(text, data, size) == 0);

        /* intervals are what a profile may say: a second to a day */
        interval = 1000 * 1000 + state.history.interval_usec % ((uint64_t) 86399 * 1000 * 1000);
        now = state.history.n_times > 0 ? state.history.times[state.history.n_times / 2] : 0;
        check_limit(&state.history, 0, interval);
        check_limit(&state.history, now, interval);
        check_limit(&state.history, now + interval - 1, interval);
        check_limit(&state.history, now + interval, interval);
        check_limit(&state.history, INT64_MAX, interval);
        return 0;
}
