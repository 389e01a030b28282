/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * run-protocol: what the broker and the root helper postern-run say to each other.
 *
 * One SOCK_SEQPACKET connection per run, on the helper's standard input. A packet is a word, a
 * newline, and lines "key=value\n"; at most RUN_PACKET_MAX bytes, printable ASCII besides the
 * newlines. Unknown words end the connection; unknown keys are refused.
 *
 *   broker                                     helper
 *   renew  profile= version= window=   ──▶           (with one descriptor: the pipe for the output)
 *   gate-open   profile= version= window= ports=  ──▶  (instead; likewise: runs OpenCommand=)
 *   gate-close  profile= version= window= ports=  ──▶  (instead; likewise: runs CloseCommand=)
 *                                      ◀──   ready  cgroup= legacy=
 *                                      ◀──   refused  problem=         (instead; then it hangs up)
 *   go     deadline=                   ──▶
 *                                      ◀──   ended  status= serial_before= not_after_before=
 *                                                   serial_after= not_after_after=
 *                                                   not_before= names= names_left_out=
 *                                      ◀──   failed  problem=          (instead: not started)
 *   shutdown(SHUT_WR)                  ──▶           (ends what it started, answers `ended`)
 *
 * profile   the profile's name; the helper reads and checks the file itself
 * version   Profile.version that the broker read; the helper refuses another
 * window    the window's id, for the renewal's environment
 * ports     what the window opens or has opened, as in Ports=, for a gate command's environment
 * cgroup    path of the renewal's cgroup below the cgroup2 mount, "" where there is none
 * legacy    space-separated names in /proc/net/ip_tables_names and ip6_tables_names, as "ip/filter"
 * deadline  CLOCK_REALTIME, seconds, for the renewal's environment
 * status    exit status 0..255, or 128 + signal
 * serial_*  the certificate's serial in lower-case hex, "" if there is none to read
 * not_after_*  when it expires, CLOCK_REALTIME in seconds, 0 if there is none to read
 * not_before  of the one afterwards, likewise; names and names_left_out too: see certificate.h
 *
 * `ended` is sent when the whole tree that the renewal started is gone; after a gate command its
 * serials are "" and its numbers 0.
 */

#include <postern/certificate.h>
#include <stddef.h>

enum {
        RUN_PACKET_MAX = 4096,
        RUN_PROBLEM_MAX = 512,
        RUN_FIELDS_MAX = 8,
        RUN_NAME_MAX = 32, /* with the final 0 */
};

/* What the helper is asked to run. */
typedef enum RunVerb {
        RUN_RENEW,
        RUN_GATE_OPEN,
        RUN_GATE_CLOSE,
} RunVerb;

const char *run_verb_to_string(RunVerb verb);
/* 0, or -EINVAL for another word. */
int run_verb_from_string(const char *word, RunVerb *ret);

/* A window's three runs may be there at the same time. This names one of them apart from the
 * others, for its cgroup: the window's id and, for a gate command, "open" or "close". -EINVAL: the
 * id is too long, or is not of small letters and digits. */
int run_name(RunVerb verb, const char *window, char ret[RUN_NAME_MAX]);

typedef struct RunPacket {
        char buffer[RUN_PACKET_MAX]; /* the text; parsing cuts it into strings in place */
        size_t size;
        const char *word;
        struct {
                const char *key;
                const char *value;
        } fields[RUN_FIELDS_MAX];
        size_t n_fields;
} RunPacket;

/* Starts a packet; adds a field ('\n' and control bytes in the value become '?'). -ENOBUFS when
 * full: checked once, by run_packet_send(). */
void run_packet_begin(RunPacket *packet, const char *word);
void run_packet_add(RunPacket *packet, const char *key, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Sends it, with fd (SCM_RIGHTS) unless that is -1. 0 or negative errno. */
int run_packet_send(const RunPacket *packet, int socket_fd, int fd);

/* Receives and parses one. 1: a packet; 0: the other side hung up; -EAGAIN; -EBADMSG: malformed;
 * or another errno. *ret_fd (may be NULL: any descriptor is closed and the packet is -EBADMSG)
 * gets the descriptor that came with it or -1, with close-on-exec set. */
int run_packet_receive(RunPacket *packet, int socket_fd, int *ret_fd);

/* The value of a key, or NULL. */
const char *run_packet_get(const RunPacket *packet, const char *key);
/* Decimal; 0 where it lacks, is no number, or is above max. */
uint64_t run_packet_get_number(const RunPacket *packet, const char *key, uint64_t max);

/* The fields of `ended` that tell of the certificate. Taken out of a packet, what is not as
 * certificate.h says is left empty; and the one before has no names and no not_before. */
void run_packet_add_certificates(RunPacket *packet, const Certificate *before,
                                 const Certificate *after);
void run_packet_get_certificates(const RunPacket *packet, Certificate *ret_before,
                                 Certificate *ret_after);
