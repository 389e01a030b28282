/* SPDX-License-Identifier: GPL-2.0-or-later */

/* CheckAuthorization, asked asynchronously, one Question per call in flight. See authority.h. */

#include <errno.h>
#include <inttypes.h>
#include <postern/authority.h>
#include <postern/cleanup.h>
#include <postern/log.h>
#include <string.h>

#define POLKIT_NAME      "org.freedesktop.PolicyKit1"
#define POLKIT_PATH      "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"

enum {
        POLKIT_ALLOW_INTERACTION = 1 << 0,
        QUESTION_NAME_MAX = 40,
};

typedef struct Question Question;

struct Question {
        Authority *authority;
        Question *next;
        uint64_t id;
        bool canceled;
        sd_bus_slot *slot;
};

struct Authority {
        sd_bus *bus;
        AuthorityCallback callback;
        void *userdata;
        Question *first;
};

static void message_unref_cleanup(sd_bus_message **message) {
        sd_bus_message_unref(*message);
}

const char *authority_action_to_string(AuthorityAction action) {
        switch (action) {
        case ACTION_INVALID:
        case ACTION_NOT_NEEDED:
                return NULL;
        case ACTION_REQUEST_WINDOW:
                return "org.postern.renewal1.request-window";
        case ACTION_CLOSE_WINDOW:
                return "org.postern.renewal1.close-window";
        case ACTION_READ_LOG:
                return "org.postern.renewal1.read-log";
        }
        return NULL;
}

/* polkit keeps these per connection, so a number that is new in this process is enough. */
static void question_format_name(uint64_t id, char ret[QUESTION_NAME_MAX]) {
        (void) snprintf(ret, QUESTION_NAME_MAX, "postern-%" PRIu64, id);
}

static void question_unlink(Question *question) {
        for (Question **link = &question->authority->first; *link; link = &(*link)->next)
                if (*link == question) {
                        *link = question->next;
                        return;
                }
}

static Question *question_free(Question *question) {
        sd_bus_slot_unref(question->slot);
        free(question);
        return NULL;
}

/* Nobody waits for the answer; polkit is not started just to be told. */
static void question_send_cancel(Question *question) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = NULL;
        char name[QUESTION_NAME_MAX];
        int r;

        question_format_name(question->id, name);
        r = sd_bus_message_new_method_call(question->authority->bus, &message, POLKIT_NAME,
                                           POLKIT_PATH, POLKIT_INTERFACE,
                                           "CancelCheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(message, 0);
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(message, 0);
        if (r >= 0)
                r = sd_bus_message_append(message, "s", name);
        if (r >= 0)
                r = sd_bus_send(question->authority->bus, message, NULL);
        if (r < 0 && r != -ENOTCONN)
                log_warning("Cannot take a question back from polkit: %s", strerror(-r));
}

static AuthorityAnswer question_read(sd_bus_message *reply) {
        int authorized = 0, challenge = 0;
        int r;

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}");
        if (r > 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        if (r <= 0) {
                log_error("polkit answered in a form that is not its own; refusing");
                return AUTHORITY_FAILED;
        }

        if (authorized)
                return AUTHORITY_GRANTED;
        if (challenge)
                return AUTHORITY_CHALLENGE;
        return AUTHORITY_REFUSED;
}

static int question_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Question *question = userdata;
        Authority *authority = question->authority;
        const sd_bus_error *failure = sd_bus_message_get_error(reply);
        uint64_t id = question->id;
        AuthorityAnswer answer;

        if (!failure)
                answer = question_read(reply);
        else if (question->canceled)
                answer = AUTHORITY_FAILED;
        else {
                log_warning("polkit: %s: %s", failure->name,
                            failure->message ? failure->message : "");
                if (sd_bus_error_has_name(failure, SD_BUS_ERROR_NO_REPLY) ||
                    sd_bus_error_has_name(failure, SD_BUS_ERROR_TIMEOUT)) {
                        question_send_cancel(question);
                        answer = AUTHORITY_SILENT;
                } else
                        answer = AUTHORITY_FAILED;
        }

        question_unlink(question);
        question_free(question);
        authority->callback(id, answer, authority->userdata);
        return 0;
}

static int question_new_message(sd_bus_message **ret, sd_bus *bus, const char *sender,
                                AuthorityAction action, const AuthorityDetails *details,
                                bool interactive, uint64_t id) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = NULL;
        char name[QUESTION_NAME_MAX], duration[24];
        int r;

        question_format_name(id, name);
        (void) snprintf(duration, sizeof(duration), "%" PRIu64,
                        details->duration_usec / 1000000 + (details->duration_usec % 1000000 > 0));

        r = sd_bus_message_new_method_call(bus, &message, POLKIT_NAME, POLKIT_PATH,
                                           POLKIT_INTERFACE, "CheckAuthorization");
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "(sa{sv})s", "system-bus-name", 1, "name", "s", sender,
                                  authority_action_to_string(action));
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "a{ss}us", 4, "profile", details->profile, "ports",
                                  details->ports, "duration", duration, "gate", details->gate,
                                  interactive ? (uint32_t) POLKIT_ALLOW_INTERACTION : 0, name);
        if (r < 0)
                return r;

        *ret = TAKE_POINTER(message);
        return 0;
}

int authority_ask(Authority *authority, uint64_t id, const char *sender, AuthorityAction action,
                  const AuthorityDetails *details, bool interactive) {
        _cleanup_(message_unref_cleanup) sd_bus_message *message = NULL;
        Question *question;
        int r;

        if (!authority_action_to_string(action))
                return -EINVAL;

        r = question_new_message(&message, authority->bus, sender, action, details, interactive,
                                 id);
        if (r < 0)
                return r;

        question = calloc(1, sizeof(*question));
        if (!question)
                return -ENOMEM;
        question->authority = authority;
        question->id = id;

        r = sd_bus_call_async(authority->bus, &question->slot, message, question_on_reply, question,
                              AUTHORITY_TIMEOUT_USEC);
        if (r < 0) {
                question_free(question);
                return r;
        }

        question->next = authority->first;
        authority->first = question;
        return 0;
}

void authority_cancel(Authority *authority, uint64_t id) {
        for (Question *question = authority->first; question; question = question->next)
                if (question->id == id && !question->canceled) {
                        question->canceled = true;
                        question_send_cancel(question);
                        return;
                }
}

int authority_new(Authority **ret, sd_bus *bus, AuthorityCallback callback, void *userdata) {
        Authority *authority = calloc(1, sizeof(*authority));

        if (!authority)
                return -ENOMEM;
        authority->bus = sd_bus_ref(bus);
        authority->callback = callback;
        authority->userdata = userdata;
        *ret = authority;
        return 0;
}

Authority *authority_free(Authority *authority) {
        if (!authority)
                return NULL;
        while (authority->first) {
                Question *question = authority->first;

                if (!question->canceled)
                        question_send_cancel(question);
                question_unlink(question);
                question_free(question);
        }
        sd_bus_unref(authority->bus);
        free(authority);
        return NULL;
}
