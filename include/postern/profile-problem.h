/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* profile-problem: how what is wrong with a profile is said: bounded, printable, one line. */

#include <postern/profile.h>

enum {
        PROFILE_PROBLEM_MAX = 512,      /* with the terminating 0 */
        PROFILE_PROBLEM_PATH_MAX = 200, /* of a path; what to do about it must still fit */
};

/* Sets *ret, cut to PROFILE_PROBLEM_MAX, bytes other than printable ASCII shown as '?'. Returns
 * outcome, or -ENOMEM. */
int profile_problem_set(ProfileOutcome outcome, char **ret, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Letters to add, drop or replace to come from one name to the other; upper and lower case are the
 * same. Names longer than PROFILE_NAME_MAX are infinitely far (SIZE_MAX). */
size_t profile_problem_distance(const char *a, const char *b);
