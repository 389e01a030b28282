/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* firewalld-survey: which zones matter, and what they admit already. A series of calls, each of
 * which decides the next. */

#include <postern/gate-firewalld.h>

typedef struct FirewalldSurvey FirewalldSurvey;

typedef struct FirewalldWish {
        Port ports[PROFILE_PORTS_MAX];
        size_t n_ports;
        char zone[FIREWALLD_ZONE_MAX]; /* "": those that matter */
        /* Firewalld says that it was reloaded: what its permanent configuration opens now is the
         * admin's, whoever opened it before. */
        bool reloaded;
        const FirewalldClaims
                *before; /* the zones of these as well, in the same instance; or NULL */
} FirewalldWish;

/* Has somebody here claimed this? */
typedef bool (*FirewalldIsOurs)(const char *instance, const char *zone, Port port, void *userdata);

/* As GateFirewalld's planned(). Once, unless freed before; the survey is still there, and may be
 * freed. */
typedef void (*FirewalldSurveyed)(FirewalldOutcome outcome, const FirewalldClaims *claims,
                                  const char *where, const char *problem, void *userdata);

int firewalld_survey_new(FirewalldSurvey **ret, sd_bus *bus, const FirewalldWish *wish,
                         FirewalldIsOurs is_ours, FirewalldSurveyed surveyed, void *userdata);
FirewalldSurvey *firewalld_survey_free(FirewalldSurvey *survey);
