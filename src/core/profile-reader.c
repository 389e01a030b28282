/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Reads "[Section]", "Key=value" and whole-line comments, and refuses every other line with its
 * number.
 *
 * By hand, because the library at hand does not keep what a profile promises: libinih as Debian
 * builds it cuts lines at 200 bytes and values at ';'. A certbot command line is easily longer than
 * that, and a command that is run without its last arguments is not the one that the admin wrote.
 */

#include <postern/profile-problem.h>
#include <postern/profile-reader.h>
#include <postern/profile-value.h>
#include <string.h>

#define BLANKS " \t"

void profile_reader_init(ProfileReader *reader, const char *file_name, char *text, size_t size) {
        *reader = (ProfileReader){
                .file_name = file_name,
                .next = text,
                .end = text + size,
        };
}

static int bad(const ProfileReader *reader, char **ret_problem, const char *fault) {
        return profile_problem_set(PROFILE_BAD, ret_problem, "%s:%u: %s", reader->file_name,
                                   reader->line, fault);
}

/* What no line may hold, whatever it means; NULL if it is fine. line[length] is 0. */
static const char *line_fault(const char *line, size_t length) {
        if (length > PROFILE_LINE_MAX)
                return "the line is longer than 4096 bytes; put what is so long into a script "
                       "or a file of the program's own";
        if (memchr(line, 0, length))
                return "the line holds a NUL byte; save the file as plain UTF-8 text";
        if (memchr(line, '\r', length))
                return "the line holds a carriage return; save the file with Unix line ends";
        if (strncmp(line, "\xef\xbb\xbf", 3) == 0)
                return "the line begins with a byte order mark; save the file as UTF-8 without one";
        if (!value_is_utf8(line))
                return "the line is not valid UTF-8; save the file as plain UTF-8 text";
        for (const char *p = line; *p; p++)
                if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7f)
                        return "the line holds a control character; take it out (in Exec= write "
                               "it as \\xHH)";
        return NULL;
}

/* Cuts the next line off, without its newline. */
static char *cut_line(ProfileReader *reader, size_t *ret_length) {
        char *line = reader->next;
        size_t rest = (size_t) (reader->end - line);
        char *newline = memchr(line, '\n', rest);

        *ret_length = newline ? (size_t) (newline - line) : rest;
        line[*ret_length] = 0;
        reader->next = newline ? newline + 1 : reader->end;
        reader->line++;
        return line;
}

/* Cuts the blanks at both ends off. */
static char *strip(char *text) {
        char *end;

        text += strspn(text, BLANKS);
        end = text + strlen(text);
        while (end > text && strchr(BLANKS, end[-1]))
                end--;
        *end = 0;
        return text;
}

/* Only such a name is ever repeated in a problem: a pasted password most likely is none. */
static bool is_name(const char *text) {
        size_t length =
                strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");

        return length > 0 && length <= PROFILE_NAME_MAX && !text[length];
}

static bool is_continued(const char *line) {
        size_t length = strlen(line), backslashes = 0;

        while (backslashes < length && line[length - 1 - backslashes] == '\\')
                backslashes++;
        return backslashes % 2 == 1;
}

static int read_section(ProfileReader *reader, char *line, char **ret_problem) {
        size_t length = strlen(line);

        if (line[length - 1] == ']')
                line[length - 1] = 0;
        else
                length = 0;
        if (length == 0 || !is_name(line + 1))
                return bad(reader, ret_problem,
                           "this is no section; write [Profile], [Renewal], [Window] or [Gate] and "
                           "nothing else on the line");

        reader->item = READER_SECTION;
        reader->section = line + 1;
        reader->key = reader->value = NULL;
        return 0;
}

static int read_key(ProfileReader *reader, char *line, char **ret_problem) {
        char *value = strchr(line, '=');
        const char *key;

        if (value)
                *value++ = 0;
        key = strip(line);
        if (!value || !is_name(key))
                return bad(reader, ret_problem,
                           "this is neither [Section] nor Key=value; write one of them, or # in "
                           "front of a comment");
        if (!reader->section)
                return profile_problem_set(PROFILE_BAD, ret_problem,
                                           "%s:%u: %s= stands above the first section; write its "
                                           "section, such as [Profile], above it",
                                           reader->file_name, reader->line, key);
        if (is_continued(value))
                return profile_problem_set(PROFILE_BAD, ret_problem,
                                           "%s:%u: %s= ends with a backslash, but a line cannot be "
                                           "continued; write all of it on one line",
                                           reader->file_name, reader->line, key);

        reader->item = READER_KEY;
        reader->key = key;
        reader->value = strip(value);
        return 0;
}

int profile_reader_next(ProfileReader *reader, char **ret_problem) {
        while (reader->next < reader->end) {
                const char *fault;
                size_t length;
                char *line;

                line = cut_line(reader, &length);
                fault = line_fault(line, length);
                if (fault)
                        return bad(reader, ret_problem, fault);

                line = strip(line);
                if (!*line || *line == '#' || *line == ';')
                        continue;
                return *line == '[' ? read_section(reader, line, ret_problem)
                                    : read_key(reader, line, ret_problem);
        }

        reader->item = READER_END;
        return 0;
}
