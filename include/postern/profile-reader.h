/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * profile-reader: the lines of a profile, one section or key at a time.
 *
 * Knows the form of a line, but no section and no key. Cuts the text into strings in place.
 */

#include <postern/profile.h>

typedef enum ReaderItem {
        READER_END,
        READER_SECTION, /* section is new */
        READER_KEY,     /* key and value are set */
} ReaderItem;

typedef struct ProfileReader {
        const char *file_name; /* for what is said of a problem */
        char *next;
        char *end;

        unsigned line; /* of the last item, from 1 */
        ReaderItem item;
        const char *section; /* never NULL with READER_KEY */
        const char *key;     /* letters and digits */
        const char *value;   /* without the blanks around it; may be "" */
} ProfileReader;

/* text: size bytes and one more that may be written to; must outlive the reader. */
void profile_reader_init(ProfileReader *reader, const char *file_name, char *text, size_t size);

/* Goes to the next section or key, or to READER_END. 0, PROFILE_BAD with *ret_problem, or -ENOMEM.
 */
int profile_reader_next(ProfileReader *reader, char **ret_problem);
