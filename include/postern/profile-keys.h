/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* profile-keys: what each key of a profile means, and which values go together. */

#include <postern/profile.h>

/*
 * Fills in an empty (all zero) profile from the text of its file: everything but name and version.
 *
 * text: size bytes and one more; it is cut up in place.
 * Returns PROFILE_OK, PROFILE_BAD with *ret_problem, or -ENOMEM. When it fails, what is in the
 * profile is of no use but to profile_free().
 */
int profile_keys_parse(Profile *profile, const char *file_name, char *text, size_t size,
                       char **ret_problem);
