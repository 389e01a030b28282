/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * profile-value: the value syntaxes of a profile: time spans, ports, Exec lines, rate limits.
 *
 * Each returns 0, or -EINVAL (malformed), -ERANGE (well-formed, but outside what can be meant),
 * -ENOMEM; outputs are left alone on failure.
 */

#include <postern/profile.h>

/* systemd's time spans (systemd.time(7)): "90", "2min", "1h 30min", "1.5s"; a bare number is
 * seconds; "infinity" is refused. Microseconds. Units: usec us ms s sec m min h hr d and so on. */
int value_parse_timespan(const char *text, uint64_t *ret_usec);

/* "80/tcp", "80/tcp 443/tcp" (blanks or commas between), or "none" (n = 0). The protocol must be
 * named. Sorts and refuses doubles (-EEXIST), more than PROFILE_PORTS_MAX (-E2BIG). */
int value_parse_ports(const char *text, Port ret[PROFILE_PORTS_MAX], size_t *ret_n);

/* Splits as systemd splits Exec lines: blanks separate; '…' and "…" quote; \ escapes (\a \b \f \n
 * \r \t \v \\ \" \' \s \xHH \ooo); nothing is expanded ($, % and ; are ordinary). *ret is
 * NULL-terminated and freed with value_argv_free(). -EINVAL for an unfinished quote or an unknown
 * escape, -ENOENT for an empty line. */
int value_split_argv(const char *text, char ***ret);
char **value_argv_free(char **argv);
/* Appends item, which then belongs to *argv; *n counts. *argv NULL and *n 0: the first one. */
int value_argv_append(char ***argv, size_t *n, char *item);

/* "5/1h": count 1..100, interval 1s..1d */
int value_parse_rate_limit(const char *text, unsigned *ret_count, uint64_t *ret_interval_usec);

/* True for valid UTF-8 without control characters, bidirectional controls or markup (<, >, &). */
bool value_is_plain_text(const char *text);

/* True for valid UTF-8; for the same without control characters. */
bool value_is_utf8(const char *text);
bool value_is_printable(const char *text);

/* An absolute path without ".." and control characters. */
bool value_is_path(const char *text);

/* "certbot", or a number from 0 to 4294967294. Nobody is looked up. */
bool value_is_user(const char *text);

/* A service of systemd's by its whole name, "certbot.service" or "acme@example.com.service"; no
 * template without an instance. Nothing is looked up. */
bool value_is_service(const char *text);

/* "inet filter input": family inet, ip or ip6, then two names as nft writes them. *ret has single
 * spaces and is freed by the caller. */
int value_parse_chain(const char *text, char **ret);
