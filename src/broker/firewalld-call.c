/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Calls and their errors. firewalld has two names for errors, and says the rest in the text: a word
 * in capitals, a colon, and whatever belongs to it. The word alone is passed on.
 */

#include <postern/firewalld-call.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRIVER "org.freedesktop.DBus"

int firewalld_call(sd_bus *bus, sd_bus_slot **slot, const char *instance, const char *path,
                   const char *interface, const char *member, sd_bus_message_handler_t handler,
                   void *userdata, const char *types, ...) {
        sd_bus_message *message = NULL;
        va_list arguments;
        int r;

        r = sd_bus_message_new_method_call(bus, &message, instance, path, interface, member);
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(message, 0);
        if (r >= 0 && *types) {
                va_start(arguments, types);
                r = sd_bus_message_appendv(message, types, arguments);
                va_end(arguments);
        }
        if (r >= 0)
                r = sd_bus_call_async(bus, slot, message, handler, userdata,
                                      FIREWALLD_CALL_LIMIT_USEC);
        sd_bus_message_unref(message);
        return r < 0 ? r : 0;
}

int firewalld_ask_owner(sd_bus *bus, sd_bus_slot **slot, sd_bus_message_handler_t handler,
                        void *userdata) {
        return firewalld_call(bus, slot, DRIVER, "/org/freedesktop/DBus", DRIVER, "GetNameOwner",
                              handler, userdata, "s", FIREWALLD_NAME);
}

/* "INVALID_ZONE: nope". A text of another shape has no code. */
static void read_code(const char *text, char *ret) {
        size_t length = text ? strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") : 0;

        if (length == 0 || length >= FIREWALLD_CODE_MAX || (text[length] && text[length] != ':'))
                length = 0;
        if (length > 0)
                memcpy(ret, text, length);
        ret[length] = '\0';
}

FirewalldReply firewalld_read_reply(sd_bus_message *message) {
        const sd_bus_error *error = sd_bus_message_get_error(message);
        FirewalldReply reply = {.kind = FIREWALLD_REPLY_OK};

        if (!error)
                return reply;
        if (sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT,
                                   SD_BUS_ERROR_DISCONNECTED))
                reply.kind = FIREWALLD_REPLY_SILENT;
        else if (sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN,
                                        SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                reply.kind = FIREWALLD_REPLY_GONE;
        else if (sd_bus_error_has_names(error, FIREWALLD_NAME ".NotAuthorizedException",
                                        SD_BUS_ERROR_ACCESS_DENIED))
                reply.kind = FIREWALLD_REPLY_DENIED;
        else {
                reply.kind = FIREWALLD_REPLY_ERROR;
                read_code(error->message, reply.code);
        }
        return reply;
}

static char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *text, ...) {
        va_list arguments;
        char *result;
        int r;

        va_start(arguments, text);
        r = vasprintf(&result, text, arguments);
        va_end(arguments);
        return r < 0 ? NULL : result;
}

static char *explain_code(const char *code, const char *member, const char *zone) {
        if (strcmp(code, "ACCESS_DENIED") == 0)
                return format("firewalld's lockdown is on, and does not list who posternd runs "
                              "as: add that user with `firewall-cmd "
                              "--add-lockdown-whitelist-user=`, once more with --permanent");
        if (strcmp(code, FIREWALLD_INVALID_ZONE) == 0 && zone)
                return format("firewalld has no zone %s: `firewall-cmd --get-zones` lists those "
                              "that it has, and Zone= names one of them",
                              zone);
        return format("firewalld refused %s%s%s: `journalctl -u firewalld` says more", member,
                      *code ? " with " : "", code);
}

char *firewalld_explain(const FirewalldReply *reply, const char *member, const char *zone) {
        switch (reply->kind) {
        case FIREWALLD_REPLY_OK:
                return firewalld_explain_form(member);
        case FIREWALLD_REPLY_DENIED:
                return format("firewalld does not let posternd call %s: polkit has to grant the "
                              "user that posternd runs as org.fedoraproject.FirewallD1.config and "
                              "config.info, as Postern's rules file 60-postern-firewalld.rules "
                              "does",
                              member);
        case FIREWALLD_REPLY_ERROR:
                return explain_code(reply->code, member, zone);
        case FIREWALLD_REPLY_SILENT:
        case FIREWALLD_REPLY_GONE: /* whoever asks has words of his own for that */
                return format("firewalld did not answer %s within %u s, or ended in the middle of "
                              "it: `systemctl status firewalld` says more",
                              member, (unsigned) (FIREWALLD_CALL_LIMIT_USEC / 1000000));
        }
        return NULL;
}

char *firewalld_explain_form(const char *member) {
        return format("firewalld answered %s in a form that is not known here: this version of it "
                      "cannot be used with Type=firewalld",
                      member);
}
