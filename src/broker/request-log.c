/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What the journal is told of a request. */

#include <inttypes.h>
#include <postern/log-fields.h>
#include <postern/log.h>
#include <postern/request.h>

void request_format_id(uint64_t id, char ret[REQUEST_NAME_SIZE]) {
        (void) snprintf(ret, REQUEST_NAME_SIZE, "r%" PRIx64, id);
}

void request_log(const Request *request, int priority, const char *message_id, const char *text) {
        /* the window that a queued one waits for is not the one it is about */
        const Renewal *renewal = request->state != REQUEST_QUEUED
                                         ? broker_find(request->broker, request->window_id)
                                         : NULL;
        const Profile *profile = renewal ? renewal->profile : request->profile;
        const char *action = authority_action_to_string(request->action);
        char id[REQUEST_NAME_SIZE], ports[PROFILE_PORTS_TEXT_MAX];
        LogFields fields = {};

        request_format_id(request->id, id);
        if (profile)
                log_fields_add(&fields, "POSTERN_PROFILE", profile->name);
        if (renewal)
                log_fields_add(&fields, "POSTERN_WINDOW", renewal->id);
        log_fields_add(&fields, "POSTERN_REQUEST", id);
        log_fields_add_number(&fields, "POSTERN_UID", request->uid);
        log_fields_add(&fields, "POSTERN_ACTION", action);
        if (request->profile) {
                profile_format_ports(request->profile, ports, sizeof(ports));
                log_fields_add(&fields, "POSTERN_PORTS", ports);
                log_fields_add_usec(&fields, "POSTERN_DURATION_USEC", request->duration_usec);
        }

        log_event(priority, message_id, fields.pairs, "uid %" PRIu32 ", %s, profile %s: %s",
                  (uint32_t) request->uid, action, profile ? profile->name : "", text);
}

void request_log_refused(Request *request, int priority, const char *text) {
        request_log(request, priority, MESSAGE_REFUSED, text);
        request->told = true;
}

void request_log_end(Request *request, const char *text) {
        if (request->asked && !request->told)
                request_log_refused(request, LOG_NOTICE, text);
}
