/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * addPort and removePort. firewalld works calls off in the order in which they come, so what is
 * sent after an answer, or after 10 s without one, is not overtaken by what was sent before.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/firewalld-call.h>
#include <postern/firewalld-task.h>
#include <postern/log.h>
#include <stdio.h>
#include <string.h>

struct FirewalldTask {
        sd_bus *bus;
        sd_bus_slot *slot;
        FirewalldVerb verb;
        const FirewalldClaims *claims;
        FirewalldSkips skips;
        FirewalldTaskEnded ended;
        void *userdata;
        size_t n_sent;
        bool is_stopped;
        char *problem; /* the first */
};

static const char *verb_to_member(FirewalldVerb verb) {
        switch (verb) {
        case FIREWALLD_ADD:
                return "addPort";
        case FIREWALLD_REMOVE:
                return "removePort";
        }
        return NULL;
}

static void task_note(FirewalldTask *task, char *problem) {
        if (!task->problem)
                task->problem =
                        problem ? problem : strdup("Memory ran out; free some and ask again.");
        else
                free(problem);
}

/* Nobody may touch the task after this. */
static void task_end(FirewalldTask *task, FirewalldOutcome outcome) {
        _cleanup_free_ char *problem = TAKE_POINTER(task->problem);

        /* nothing is nowhere */
        if (outcome == FIREWALLD_ABSENT && task->claims->n == 0)
                outcome = FIREWALLD_DONE;
        task->ended(outcome,
                    outcome != FIREWALLD_REFUSED ? NULL
                    : problem                    ? problem
                                                 : "It was not wanted any more.",
                    task->n_sent, task->userdata);
}

static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error);

static int task_send(FirewalldTask *task, const FirewalldClaim *claim) {
        char port[sizeof("65535")];

        (void) snprintf(port, sizeof(port), "%u", claim->port.number);
        if (task->verb == FIREWALLD_ADD)
                /* the 0: for as long as it is not removed */
                return firewalld_call(task->bus, &task->slot, task->claims->instance,
                                      FIREWALLD_PATH, FIREWALLD_ZONE, "addPort", on_reply, task,
                                      "sssi", claim->zone, port,
                                      protocol_to_string(claim->port.protocol), 0);
        return firewalld_call(task->bus, &task->slot, task->claims->instance, FIREWALLD_PATH,
                              FIREWALLD_ZONE, "removePort", on_reply, task, "sss", claim->zone,
                              port, protocol_to_string(claim->port.protocol));
}

static void task_next(FirewalldTask *task) {
        int r;

        while (task->n_sent < task->claims->n && !task->is_stopped) {
                const FirewalldClaim *claim = &task->claims->list[task->n_sent];

                if (task->skips && task->skips(claim, task->userdata)) {
                        task->n_sent++;
                        continue;
                }
                r = task_send(task, claim);
                if (r < 0) {
                        log_error("Cannot call firewalld: %s", strerror(-r));
                        task_note(task, strdup("firewalld could not be called; the service's log "
                                               "says why"));
                        break;
                }
                task->n_sent++;
                return;
        }
        task_end(task, task->problem || task->is_stopped ? FIREWALLD_REFUSED : FIREWALLD_DONE);
}

/* What there is to do is done already, by whomever. */
static bool task_is_moot(const FirewalldTask *task, const FirewalldReply *reply) {
        if (reply->kind != FIREWALLD_REPLY_ERROR)
                return false;
        if (task->verb == FIREWALLD_ADD)
                return strcmp(reply->code, FIREWALLD_ALREADY_ENABLED) == 0;
        return strcmp(reply->code, FIREWALLD_NOT_ENABLED) == 0 ||
               strcmp(reply->code, FIREWALLD_INVALID_ZONE) == 0;
}

static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        FirewalldReply reply = firewalld_read_reply(message);
        FirewalldTask *task = userdata;

        task->slot = sd_bus_slot_unref(task->slot);
        if (reply.kind == FIREWALLD_REPLY_GONE) {
                task_end(task, FIREWALLD_ABSENT);
                return 0;
        }
        if (reply.kind != FIREWALLD_REPLY_OK && !task_is_moot(task, &reply)) {
                const FirewalldClaim *claim = &task->claims->list[task->n_sent - 1];

                task_note(task, firewalld_explain(&reply, verb_to_member(task->verb), claim->zone));
                /* each further call might take as long */
                if (task->verb == FIREWALLD_ADD || reply.kind == FIREWALLD_REPLY_SILENT) {
                        task_end(task, FIREWALLD_REFUSED);
                        return 0;
                }
        }
        task_next(task);
        return 0;
}

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        FirewalldReply reply = firewalld_read_reply(message);
        FirewalldTask *task = userdata;
        const char *name;

        task->slot = sd_bus_slot_unref(task->slot);
        if (reply.kind == FIREWALLD_REPLY_GONE)
                task_end(task, FIREWALLD_ABSENT);
        else if (reply.kind != FIREWALLD_REPLY_OK ||
                 sd_bus_message_read(message, "s", &name) <= 0) {
                task_note(task, firewalld_explain(&reply, "GetNameOwner", NULL));
                task_end(task, FIREWALLD_REFUSED);
        } else if (strcmp(name, task->claims->instance) == 0)
                task_next(task);
        else
                task_end(task, task->verb == FIREWALLD_ADD ? FIREWALLD_ABSENT : FIREWALLD_DONE);
        return 0;
}

int firewalld_task_new(FirewalldTask **ret, sd_bus *bus, FirewalldVerb verb,
                       const FirewalldClaims *claims, FirewalldSkips skips,
                       FirewalldTaskEnded ended, void *userdata) {
        FirewalldTask *task = calloc(1, sizeof(*task));
        int r;

        if (!task)
                return -ENOMEM;
        task->bus = sd_bus_ref(bus);
        task->verb = verb;
        task->claims = claims;
        task->skips = skips;
        task->ended = ended;
        task->userdata = userdata;
        r = firewalld_ask_owner(bus, &task->slot, on_owner, task);
        if (r < 0) {
                firewalld_task_free(task);
                return r;
        }
        *ret = task;
        return 0;
}

void firewalld_task_stop(FirewalldTask *task) {
        task->is_stopped = true;
}

FirewalldTask *firewalld_task_free(FirewalldTask *task) {
        if (!task)
                return NULL;
        sd_bus_slot_unref(task->slot);
        sd_bus_unref(task->bus);
        free(task->problem);
        free(task);
        return NULL;
}
