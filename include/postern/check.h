/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * check: the pre-flight of a profile: what a window would do, and what stands in the way.
 *
 * Opens nothing and starts nothing. What it says of the firewall comes from the functions that open
 * (door-check.c); the rest are looks at files, at sockets (check-listeners.c) and questions to the
 * bus, which are asked once for all pre-flights that wait at the same time. Nothing in it waits.
 */

#include <postern/door.h>
#include <postern/finding.h>
#include <postern/owed.h>
#include <postern/profile.h>
#include <systemd/sd-bus.h>

typedef struct Checks Checks;

/* Strings stay the caller's, as long as the Checks are there. */
typedef struct CheckHost {
        sd_bus *bus;
        Door *door;
        const Owed *owed;
        const GateFirewalld *firewalld;
        const char *config_dir;
        const char *run_path;   /* of postern-run */
        const char *run_socket; /* where it is started instead, or NULL */
} CheckHost;

/* Never called from inside a function of this module. */
typedef void (*CheckCallback)(uint64_t id, const Findings *findings, void *userdata);

int checks_new(Checks **ret, const CheckHost *host, CheckCallback callback, void *userdata);
Checks *checks_free(Checks *checks);

/*
 * Looks, and calls back with this id when the bus has answered, too, or after two seconds.
 *
 * profile: as it is now; NULL where it has an error, and then problem says which. name: the
 * profile's. uid: of who asks; root alone is told what the profile names, as others may not be able
 * to read it. 0, or a negative errno and nothing follows.
 */
int checks_begin(Checks *checks, uint64_t id, const char *name, const Profile *profile,
                 const char *problem, uid_t uid);
/* Nobody waits for it any more. */
void checks_cancel(Checks *checks, uint64_t id);

/* check-files.c: the profiles' directory besides this profile; what the profile names, with the
 * names or without; the helper. */
void check_directory(const char *config_dir, const char *name, Findings *findings);
void check_profile_files(const Profile *profile, bool by_name, Findings *findings);
void check_helper(const char *run_path, const char *run_socket, Findings *findings);

/* check-challenge.c: may ChallengeDirectory= be watched, and is it there for a web server? */
void check_challenge(const char *directory, bool by_name, Findings *findings);

/* check-listeners.c: who listens on the profile's ports now. */
void check_listeners(const Profile *profile, Findings *findings);
