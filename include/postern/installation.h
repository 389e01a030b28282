/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * installation: brings the kernel to what is wished for: lease, guard and gate rules together.
 *
 * One function for opening, shutting and mending: it reads the ruleset, works out what should
 * stand, replaces what is ours in one transaction made for just that generation, and reads it back.
 */

#include <postern/conntrack.h>
#include <postern/gate-nftables.h>
#include <postern/guard.h>
#include <postern/marks.h>
#include <postern/netlink.h>
#include <postern/ours.h>

enum { INSTALLATION_TRIES = 8 };

typedef struct Installation {
        Netlink owner; /* owns the lease: when it goes, every door is shut */
        Netlink query; /* dumps */
        Netlink cut;   /* conntrack deletions during a dump */
        Batch batch;
        Marks marks;
        Ours ours;

        /* Ports that the guard has to ban, sorted, without doubles. The door's; whatever is
         * applied, cleared or swept from then on has them. */
        Port bans[GUARD_BANS_MAX];
        size_t n_bans;

        ConntrackVisit visit; /* told of each connection that a window has let in, as it is ended */
        void *visit_data;

        /* connections let in, summed over guards that were wiped and built anew */
        uint64_t admitted;
        uint64_t admitted_raw;
        uint64_t admitted_ended; /* so many were there when the last walk ended them */
        bool lingering;          /* connections whose local end may still speak */
        uint64_t early_msec;     /* of timeouts: what the last commits have taken */
        bool guard_wiped; /* since then the guard was gone for a while: the sum may lack some */
} Installation;

/* One window as it should stand. */
typedef struct InstallationWish {
        const Profile *profile; /* ports, chain, precedence */
        const char *legacy;
        LeaseWindow window;
        bool spare_firewalld; /* its tables are asked, not written to */
        uint64_t admitted; /* out: connections let in by leases of this window that were replaced */
        bool leased;       /* in: keep a lease even if nothing denies just now; out: it has one */
        bool left_out;     /* out: it should have one, and too little time is left for that */

        /* out */
        char *gate;    /* where the rules are, for a person; owned by the caller */
        char *problem; /* why this one cannot be opened; owned by the caller */
} InstallationWish;

typedef enum InstallationOutcome {
        INSTALLATION_OK = 0,
        INSTALLATION_REFUSED, /* a wish's problem is set; nothing was changed */
        INSTALLATION_LINGERS, /* the guard has to stay: come back in a while */
} InstallationOutcome;

/* runtime_dir: where the label in use is noted, for the sweep after a crash. Succeeds without
 * CAP_NET_ADMIN or netlink; then the others fail. */
int installation_init(Installation *ret, const char *runtime_dir);
/* Everything is shut when this returns. */
void installation_deinit(Installation *installation);

/* The wishes, the bans and nothing else stand when this returns INSTALLATION_OK. The guard is left
 * when there are no more wishes: it goes with installation_clear(). After a negative errno the
 * state is not known: call installation_drop(). */
int installation_apply(Installation *installation, InstallationWish *wishes, size_t n_wishes);

typedef enum InstallationStanding {
        INSTALLATION_WRONG,
        INSTALLATION_STANDS,
        INSTALLATION_LACKS_GATES, /* shut where it should be open, and nothing else is wrong */
} InstallationStanding;

/* Does all of it stand, just where it belongs? An InstallationStanding or a negative errno. */
int installation_stands(Installation *installation, InstallationWish *wishes, size_t n_wishes);

/* Shuts everything, now, without memory: closes the owning socket. Opens a new one if it can. */
void installation_drop(Installation *installation);

/* What applying a wish for this profile would do: a GateOutcome or a negative errno. Changes
 * nothing. The plan's strings are the ruleset's, which the caller frees. */
int installation_check(Installation *installation, const Profile *profile, const char *legacy,
                       Ruleset **ret_ruleset, GatePlan *ret_plan, char **ret_problem);

/* See door_sees_firewalld(). */
bool installation_sees_firewalld(Installation *installation, const Port *ports, size_t n_ports,
                                 bool runs);

/* Shuts one window, as the first thing, without reading the ruleset; what stands besides its ports
 * is for installation_apply() to take away. 0 or a negative errno. */
int installation_silence(Installation *installation, const char *window_id);

/* Connections that the window has let in by the lease that stands now. */
uint64_t installation_window_admitted(Installation *installation, const char *window_id);

/* Tells of each connection that a window has let in, as far as the kernel still knows of it. */
void installation_look(Installation *installation);

/* Ends connections that a window let in, except to ports that others keep open. */
int installation_cut(Installation *installation, const Port *keep, size_t n_keep);

/* With no wish left: ends the connections, then takes away guard (unless it bans) and note.
 * INSTALLATION_OK, INSTALLATION_LINGERS or a negative errno; in either case all doors are shut and
 * the guard cuts.
 */
int installation_clear(Installation *installation);

/* Takes away what an earlier broker left. Likewise; -EBUSY: a broker that lives owns the lease. */
int installation_sweep(Installation *installation);

/* A negative errno in words: what lacks and what to do. Static text. */
const char *installation_explain(int error);
