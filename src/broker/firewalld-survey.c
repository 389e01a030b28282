/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The steps, in their order. Each asks one thing at a time, and does so until there is nothing left
 * for it to ask:
 *
 *     who is firewalld, does it let anything in at all
 *     the default zone, and the zone of each interface that a default route leads to
 *     what each zone admits, and each policy from these zones to the host
 *     what each service admits that was named there
 *     after a reload: what the permanent configuration of a zone opens, where something is ours
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/firewalld-call.h>
#include <postern/firewalld-look.h>
#include <postern/firewalld-routes.h>
#include <postern/firewalld-survey.h>
#include <postern/log.h>
#include <stdio.h>
#include <string.h>

struct FirewalldSurvey {
        sd_bus *bus;
        sd_bus_slot *slot;
        FirewalldWish wish;
        FirewalldIsOurs is_ours;
        FirewalldSurveyed surveyed;
        void *userdata;

        size_t step; /* of steps[] */
        size_t at;   /* within the step */
        const char *member;
        const char *zone; /* what was asked about, or NULL */
        char instance[FIREWALLD_INSTANCE_MAX];
        InterfaceName interfaces[FIREWALLD_INTERFACES_MAX];
        size_t n_interfaces;
        FirewalldName *name;
        char *path; /* of a zone's permanent configuration */
        FirewalldLook look;
};

/* 1: asked; 0: nothing (more) to ask. */
typedef int (*Ask)(FirewalldSurvey *survey);
/* 0; FIREWALLD_REFUSED with *ret_problem; or a negative errno. */
typedef int (*Read)(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem);

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error);

static int ask(FirewalldSurvey *survey, const char *path, const char *interface, const char *member,
               const char *argument) {
        int r;

        survey->member = member;
        r = firewalld_call(survey->bus, &survey->slot, survey->instance, path, interface, member,
                           on_reply, survey, argument ? "s" : "", argument);
        return r < 0 ? r : 1;
}

static int ask_owner(FirewalldSurvey *survey) {
        int r;

        if (survey->at > 0)
                return 0;
        survey->member = "GetNameOwner";
        r = firewalld_ask_owner(survey->bus, &survey->slot, on_reply, survey);
        return r < 0 ? r : 1;
}

static int read_owner(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        const FirewalldClaims *before = survey->wish.before;
        const char *name;
        int r;

        r = sd_bus_message_read(reply, "s", &name);
        if (r <= 0 || !firewalld_instance_is_valid(name))
                return r < 0 ? r : -EBADMSG;
        memcpy(survey->instance, name, strlen(name) + 1);
        r = 0;
        for (size_t i = 0; r == 0 && before && i < before->n; i++)
                if (strcmp(before->instance, name) == 0)
                        r = firewalld_look_add_zone(&survey->look, before->list[i].zone);
        return r;
}

static int ask_panic(FirewalldSurvey *survey) {
        if (survey->at > 0)
                return 0;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_INTERFACE, "queryPanicMode", NULL);
}

static int read_panic(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        int panic, r;

        r = sd_bus_message_read(reply, "b", &panic);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (!panic)
                return 0;
        *ret_problem = strdup("firewalld is in panic mode and lets nothing in: `firewall-cmd "
                              "--panic-off` ends that");
        return FIREWALLD_REFUSED;
}

static int ask_default_zone(FirewalldSurvey *survey) {
        if (survey->at > 0)
                return 0;
        if (*survey->wish.zone)
                return firewalld_look_add_zone(&survey->look, survey->wish.zone);
        return ask(survey, FIREWALLD_PATH, FIREWALLD_INTERFACE, "getDefaultZone", NULL);
}

static int read_zone_name(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        const char *name;
        int r;

        r = sd_bus_message_read(reply, "s", &name);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        /* an interface that is in no zone is in the default one */
        return *name ? firewalld_look_add_zone(&survey->look, name) : 0;
}

static int ask_interface(FirewalldSurvey *survey) {
        int r;

        if (*survey->wish.zone)
                return 0;
        if (survey->at == 0) {
                r = firewalld_read_interfaces(survey->interfaces, &survey->n_interfaces);
                if (r < 0)
                        return r;
        }
        if (survey->at == survey->n_interfaces)
                return 0;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_ZONE, "getZoneOfInterface",
                   survey->interfaces[survey->at].text);
}

static int ask_zone(FirewalldSurvey *survey) {
        if (survey->at == survey->look.n_zones)
                return 0;
        survey->zone = survey->look.zones[survey->at].name;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_ZONE, "getZoneSettings2", survey->zone);
}

static int read_zone(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        FirewalldZone *zone = &survey->look.zones[survey->at];
        int r;

        r = firewalld_look_read_zone(&survey->look, survey->at, reply);
        if (r < 0)
                return r;
        for (size_t i = 0; i < survey->wish.n_ports; i++)
                if (survey->is_ours(survey->instance, zone->name, survey->wish.ports[i],
                                    survey->userdata))
                        zone->ours |= zone->by_port & 1u << i;
        return 0;
}

static int ask_policies(FirewalldSurvey *survey) {
        if (survey->at > 0 || firewalld_look_is_open(&survey->look))
                return 0;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_POLICY, "getActivePolicies", NULL);
}

static int read_policies(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        return firewalld_look_read_policies(&survey->look, reply);
}

static int ask_policy(FirewalldSurvey *survey) {
        survey->name = firewalld_names_next(&survey->look.policies);
        if (!survey->name)
                return 0;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_POLICY, "getPolicySettings",
                   survey->name->text);
}

static int ask_service(FirewalldSurvey *survey) {
        if (firewalld_look_is_open(&survey->look))
                return 0;
        survey->name = firewalld_names_next(&survey->look.services);
        if (!survey->name)
                return 0;
        return ask(survey, FIREWALLD_PATH, FIREWALLD_INTERFACE, "getServiceSettings2",
                   survey->name->text);
}

static int read_name(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        return firewalld_look_read_name(&survey->look, survey->name->zones, reply);
}

/* Two calls for each zone where something is ours: for its path, and for what is there. */
static int ask_permanent(FirewalldSurvey *survey) {
        const FirewalldLook *look = &survey->look;

        if (!survey->wish.reloaded)
                return 0;
        while (survey->at / 2 < look->n_zones && look->zones[survey->at / 2].ours == 0)
                survey->at += 2;
        if (survey->at / 2 == look->n_zones)
                return 0;
        survey->zone = look->zones[survey->at / 2].name;
        if (survey->at % 2)
                return ask(survey, survey->path, FIREWALLD_CONFIG_ZONE, "getSettings2", NULL);
        return ask(survey, FIREWALLD_CONFIG_PATH, FIREWALLD_CONFIG, "getZoneByName", survey->zone);
}

static int read_permanent(FirewalldSurvey *survey, sd_bus_message *reply, char **ret_problem) {
        const char *path;
        int r;

        if (survey->at % 2)
                return firewalld_look_read_permanent(&survey->look, survey->at / 2, reply);
        r = sd_bus_message_read(reply, "o", &path);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        free(survey->path);
        survey->path = strdup(path);
        return survey->path ? 0 : -ENOMEM;
}

static const struct {
        Ask ask;
        Read read;
        bool may_vanish; /* what is asked about; then it admits nothing */
} steps[] = {
        {ask_owner, read_owner},
        {ask_panic, read_panic},
        {ask_default_zone, read_zone_name},
        {ask_interface, read_zone_name},
        {ask_zone, read_zone},
        {ask_policies, read_policies},
        {ask_policy, read_name, .may_vanish = true},
        {ask_service, read_name, .may_vanish = true},
        {ask_permanent, read_permanent},
};

static void survey_refuse(FirewalldSurvey *survey, char *problem) {
        _cleanup_free_ char *text = problem;

        survey->surveyed(FIREWALLD_REFUSED, NULL, NULL,
                         text ? text : "Memory ran out; free some and ask again.",
                         survey->userdata);
}

static void survey_fail(FirewalldSurvey *survey, int error) {
        log_error("Cannot look at firewalld (%s): %s", survey->member ? survey->member : "start",
                  strerror(-error));
        if (error == -E2BIG)
                survey_refuse(survey,
                              strdup("firewalld has more zones here than a window can be opened "
                                     "in: name the one that matters with Zone="));
        else if (error == -EBADMSG || error == -ENXIO)
                survey_refuse(survey, firewalld_explain_form(survey->member));
        else
                survey_refuse(survey, strdup("firewalld could not be asked; the service's log says "
                                             "why"));
}

static void survey_conclude(FirewalldSurvey *survey) {
        _cleanup_free_ FirewalldClaims *claims = calloc(1, sizeof(*claims));
        _cleanup_free_ char *where = NULL;

        if (!claims || firewalld_look_conclude(&survey->look, survey->instance, claims, &where) < 0)
                return survey_refuse(survey, NULL);
        survey->surveyed(FIREWALLD_DONE, claims, where, NULL, survey->userdata);
}

/* 1: a reply is on its way; 0: there is nothing left. */
static int survey_ask(FirewalldSurvey *survey) {
        int r = 0;

        for (; survey->step < ELEMENTS(steps); survey->step++, survey->at = 0) {
                survey->zone = NULL;
                r = steps[survey->step].ask(survey);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Nobody may touch the survey after an answer to its owner, who may have freed it. */
static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        FirewalldReply reply = firewalld_read_reply(message);
        FirewalldSurvey *survey = userdata;
        char *problem = NULL;
        int r = 0;

        survey->slot = sd_bus_slot_unref(survey->slot);
        if (reply.kind == FIREWALLD_REPLY_GONE) {
                survey->surveyed(FIREWALLD_ABSENT, NULL, NULL, NULL, survey->userdata);
                return 0;
        }
        if (reply.kind == FIREWALLD_REPLY_OK)
                r = steps[survey->step].read(survey, message, &problem);
        else if (reply.kind != FIREWALLD_REPLY_ERROR || !steps[survey->step].may_vanish) {
                problem = firewalld_explain(&reply, survey->member, survey->zone);
                r = FIREWALLD_REFUSED;
        }
        if (r == FIREWALLD_REFUSED) {
                survey_refuse(survey, problem);
                return 0;
        }
        survey->at++;
        if (r >= 0)
                r = survey_ask(survey);
        if (r < 0)
                survey_fail(survey, r);
        else if (r == 0)
                survey_conclude(survey);
        return 0;
}

int firewalld_survey_new(FirewalldSurvey **ret, sd_bus *bus, const FirewalldWish *wish,
                         FirewalldIsOurs is_ours, FirewalldSurveyed surveyed, void *userdata) {
        FirewalldSurvey *survey = calloc(1, sizeof(*survey));
        int r;

        if (!survey)
                return -ENOMEM;
        survey->bus = sd_bus_ref(bus);
        survey->wish = *wish;
        survey->is_ours = is_ours;
        survey->surveyed = surveyed;
        survey->userdata = userdata;
        memcpy(survey->look.ports, wish->ports, sizeof(wish->ports));
        survey->look.n_ports = wish->n_ports;
        r = survey_ask(survey);
        if (r < 0) {
                firewalld_survey_free(survey);
                return r;
        }
        *ret = survey;
        return 0;
}

FirewalldSurvey *firewalld_survey_free(FirewalldSurvey *survey) {
        if (!survey)
                return NULL;
        sd_bus_slot_unref(survey->slot);
        sd_bus_unref(survey->bus);
        free(survey->path);
        free(survey);
        return NULL;
}
