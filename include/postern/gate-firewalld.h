/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * gate-firewalld: a window's ports, opened and shut by firewalld over its D-Bus API.
 *
 * It knows no deadline. What it opens stays open until firewalld is told otherwise, whatever became
 * of us, so something else has to bound it (the lease and its guard). Only firewalld's runtime
 * changes, never its permanent configuration, and never with a timeout of firewalld's: one that is
 * reloaded meanwhile forgets it, or worse.
 *
 * A port in a zone that nobody admits yet is *claimed*: opened by us, and shut by us. What the
 * admin admits already is left alone, before and after. Claims are to be on disk before they are
 * opened, so this goes in steps, each of which is answered later through the observer, never from
 * inside the call:
 *
 *     plan ──▶ planned ──▶ (written to disk) ──▶ open ──▶ opened ──▶ … ──▶ shut ──▶ shut
 *
 * Everything is asked of the one instance of firewalld that was looked at, by its unique name, and
 * each call has 10 s. Who wants a thing is named by an id: a window's.
 */

#include <postern/firewalld-claims.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

enum { FIREWALLD_ID_MAX = 32 };

typedef enum FirewalldOutcome {
        FIREWALLD_DONE,
        FIREWALLD_ABSENT,  /* nobody has its name on the bus; no problem text */
        FIREWALLD_REFUSED, /* problem: what is in the way, and what to do */
} FirewalldOutcome;

typedef struct FirewalldObserver {
        /* claims (DONE): what is to be opened; none if all is open already. where (DONE):
         * "firewalld: public, dmz". Both stay the callee's to read during the call alone. */
        void (*planned)(const char *id, FirewalldOutcome outcome, const FirewalldClaims *claims,
                        const char *where, const char *problem, void *userdata);

        /* DONE, or REFUSED: perhaps half open. shut follows in either case. */
        void (*opened)(const char *id, FirewalldOutcome outcome, const char *problem,
                       void *userdata);

        /* DONE: firewalld lists none of it on our behalf any more. REFUSED: it may, try again.
         * ABSENT: firewalld is not there; rules of a dead one may be in the kernel still. */
        void (*shut)(const char *id, FirewalldOutcome outcome, const char *problem, void *userdata);

        /* firewalld was reloaded or restarted while this was open, and these are the claims from
         * now on; they are opened when this returns 0 (written to disk). A negative errno: lost. */
        int (*claimed)(const char *id, const FirewalldClaims *claims, void *userdata);
        /* They are open. what: a sentence. */
        void (*mended)(const char *id, const char *what, void *userdata);
        /* It could not be kept open; shut follows. why: a sentence. */
        void (*lost)(const char *id, const char *why, void *userdata);
} FirewalldObserver;

typedef struct GateFirewalld GateFirewalld;

/* The observer's table stays the caller's, and must stay. */
int gate_firewalld_new(GateFirewalld **ret, sd_bus *bus, const FirewalldObserver *observer,
                       void *userdata);
/* Shuts nothing. NULL is taken. */
GateFirewalld *gate_firewalld_free(GateFirewalld *gate);

/* False: nobody has its name, by what the bus has told. Then there is nothing to plan. */
bool gate_firewalld_may_run(const GateFirewalld *gate);

/*
 * Looks for what opening would take; opens nothing.
 *
 * zone: the only zone; NULL: the default zone, and those of the interfaces that a default route
 * leads to. Ports that an open window, or one whose shut has failed, has claimed are claimed, too.
 * 0: planned() follows. -EEXIST: the id is in use. Another negative errno: nothing follows.
 */
int gate_firewalld_plan(GateFirewalld *gate, const char *id, const Port *ports, size_t n_ports,
                        const char *zone);

/* It is planned, or being planned, and not opened. */
bool gate_firewalld_is_planned(const GateFirewalld *gate, const char *id);

/* Opens what was planned. 0: opened() follows. -ENOENT: nothing is planned under this id. */
int gate_firewalld_open(GateFirewalld *gate, const char *id);

/*
 * Shuts what is claimed, but for what others have claimed as well: those keep it. Whatever the id
 * is at, no answer but shut() follows from now on. claims: for an id that is not known (what an
 * earlier posternd has left); else what is known counts. 0: shut() follows. Negative errno: nothing
 * follows; call again.
 */
int gate_firewalld_shut(GateFirewalld *gate, const char *id, const FirewalldClaims *claims);

/* Nothing is known of the id from now on, and no answer follows: for one that is only planned, or
 * whose claims are void. Not from inside opened(), claimed(), mended() or lost(). */
void gate_firewalld_forget(GateFirewalld *gate, const char *id);
