/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <inttypes.h>
#include <postern/audit.h>
#include <postern/broker.h>
#include <postern/log-fields.h>
#include <postern/log.h>
#include <postern/request.h>
#include <stdarg.h>

typedef struct WindowRecord {
        LogFields fields;
        char ports[PROFILE_PORTS_TEXT_MAX];
        char request[REQUEST_NAME_SIZE];
} WindowRecord;

/* What every record of a window has. */
static void record_begin(WindowRecord *record, const Renewal *renewal) {
        profile_format_ports(renewal->profile, record->ports, sizeof(record->ports));
        request_format_id(renewal->request, record->request);

        log_fields_add(&record->fields, "POSTERN_PROFILE", renewal->profile->name);
        log_fields_add(&record->fields, "POSTERN_WINDOW", renewal->id);
        log_fields_add(&record->fields, "POSTERN_REQUEST", record->request);
        log_fields_add_number(&record->fields, "POSTERN_UID", renewal->opened_by);
        log_fields_add(&record->fields, "POSTERN_PORTS", record->ports);
        log_fields_add(&record->fields, "POSTERN_GATE", renewal->gate);
        log_fields_add_usec(&record->fields, "POSTERN_DURATION_USEC",
                            renewal->window.duration_usec);
        log_fields_add_usec(&record->fields, "POSTERN_OPENED_AT_USEC", renewal->opened_at);
        log_fields_add_usec(&record->fields, "POSTERN_DEADLINE_USEC", renewal->deadline);
}

__attribute__((format(printf, 5, 6))) static void record_end(const WindowRecord *record,
                                                             int priority, const char *message_id,
                                                             const Renewal *renewal,
                                                             const char *format, ...) {
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        log_event(priority, message_id, record->fields.pairs, "Window of profile %s %s",
                  renewal->profile->name, text);
}

void audit_armed(const Renewal *renewal) {
        WindowRecord record = {};

        record_begin(&record, renewal);
        record_end(&record, LOG_NOTICE, MESSAGE_ARMED, renewal,
                   "is armed for up to %" PRIu64 " s: open while a token is there",
                   renewal->window.duration_usec / 1000000);
}

void audit_opened(const Renewal *renewal) {
        WindowRecord record = {};

        record_begin(&record, renewal);
        record_end(&record, LOG_NOTICE, MESSAGE_OPENED, renewal,
                   "is open for up to %" PRIu64 " s: %s", renewal->window.duration_usec / 1000000,
                   renewal->gate ? renewal->gate : "no port is opened");
}

void audit_shut(const Renewal *renewal) {
        WindowRecord record = {};

        record_begin(&record, renewal);
        log_fields_add_number(&record.fields, "POSTERN_ADMITTED", (int64_t) renewal->admitted);
        record_end(&record, LOG_NOTICE, MESSAGE_SHUT, renewal,
                   "is armed again: the last token is gone, %" PRIu64 " connections let in so far",
                   renewal->admitted);
}

void audit_run_ended(const Renewal *renewal, const RunnerEvent *event) {
        WindowRecord record = {};

        record_begin(&record, renewal);
        if (event->type == RUNNER_ENDED) {
                log_fields_add_number(&record.fields, "POSTERN_EXIT_STATUS", event->exit_status);
                record_end(&record, LOG_INFO, MESSAGE_RUN_ENDED, renewal,
                           "has ended its run: exit status %i, and nothing of it is left",
                           event->exit_status);
        } else {
                log_fields_add_number(&record.fields, "POSTERN_EXIT_STATUS", -1);
                record_end(&record, LOG_WARNING, MESSAGE_RUN_ENDED, renewal, "has lost its run: %s",
                           event->problem ? event->problem : "no reason given");
        }
}

void audit_closed(const Renewal *renewal) {
        const Window *window = &renewal->window;
        const char *result = window_result_to_string(window->result);
        WindowRecord record = {};

        record_begin(&record, renewal);
        log_fields_add(&record.fields, "POSTERN_RESULT", result);
        log_fields_add_number(&record.fields, "POSTERN_EXIT_STATUS", window->exit_status);
        log_fields_add_usec(&record.fields, "POSTERN_CLOSED_AT_USEC", renewal->closed_at);
        log_fields_add_number(&record.fields, "POSTERN_ADMITTED", (int64_t) renewal->admitted);
        log_fields_add_number(&record.fields, "POSTERN_NETWORKS", renewal->sources.n_networks);
        log_fields_add(&record.fields, "POSTERN_HINT", renewal->hint);
        log_fields_add(&record.fields, "POSTERN_SERIAL_BEFORE", renewal->certificate_before.serial);
        log_fields_add(&record.fields, "POSTERN_SERIAL", renewal->certificate.serial);
        log_fields_add_usec(&record.fields, "POSTERN_EXPIRES", renewal->certificate.not_after);
        record_end(&record, LOG_NOTICE, MESSAGE_CLOSED, renewal,
                   "is closed: %s, exit status %i, %" PRIu64 " connections let in", result,
                   window->exit_status, renewal->admitted);
}
