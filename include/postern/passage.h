/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * passage: all of a window's way in, opened and shut as one: the door on this host, firewalld where
 * that runs, and the firewall elsewhere that a profile's commands open.
 *
 *     open:  write down what will have to be closed ──▶ door ──▶ OpenCommand= ──▶ opened
 *     shut:  door ──▶ CloseCommand=, once ──▶ shut
 *
 * With firewalld its zones are in the command's place, and it is asked first what there is to open.
 *
 * The door is always shut first, within the call. A close elsewhere that fails is owed (owed.h),
 * and does not keep the window. What fails in the middle of opening is followed by everything that
 * shuts.
 */

#include <postern/door.h>
#include <postern/owed.h>
#include <postern/profile.h>
#include <postern/runner.h>
#include <systemd/sd-event.h>

typedef struct Passage Passage;

typedef enum PassageNews {
        PASSAGE_OPENED,  /* text: where ("nftables: inet filter input; command") */
        PASSAGE_REFUSED, /* text: why, a sentence. All of it is shut, or owed */
        PASSAGE_SHUT,    /* likewise */
        PASSAGE_LOST,    /* text: why. It was open and could not be kept so; the door is shut */
} PassageNews;

/* May come from inside passage_open() and passage_shut(). */
typedef void (*PassageCallback)(const char *window_id, PassageNews news, const char *text,
                                void *userdata);

/* door, owed, runner and firewalld stay the caller's, and longer than this. */
int passage_new(Passage **ret, sd_event *event, Door *door, Owed *owed, Runner *runner,
                GateFirewalld *firewalld, PassageCallback callback, void *userdata);
/* Shuts nothing: that is the door's, and owed's at the next start. NULL is taken. */
Passage *passage_free(Passage *passage);

/* PASSAGE_OPENED or PASSAGE_REFUSED follows, unless passage_shut() is called before. The profile
 * must stay until then. deadline: CLOCK_BOOTTIME, microseconds. legacy, reach: see door_open(). */
void passage_open(Passage *passage, const char *window_id, const Profile *profile,
                  uint64_t deadline, const char *legacy, const LeaseReach *reach);

/* Whatever it is at. PASSAGE_SHUT follows, and nothing else. */
void passage_shut(Passage *passage, const char *window_id);

/* For the observer of owed. */
void passage_on_attempted(Passage *passage, const char *window_id, const char *problem);

/* For the observer of the gate. */
void passage_on_planned(Passage *passage, const char *window_id, FirewalldOutcome outcome,
                        const FirewalldClaims *claims, const char *where, const char *problem);
void passage_on_firewalld_opened(Passage *passage, const char *window_id, FirewalldOutcome outcome,
                                 const char *problem);
int passage_on_claimed(Passage *passage, const char *window_id, const FirewalldClaims *claims);
void passage_on_firewalld_lost(Passage *passage, const char *window_id, const char *why);
