/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * firewalld-call: one call to firewalld, and what came of it. The only module that knows how
 * firewalld says no.
 */

#include <stdint.h>
#include <systemd/sd-bus.h>

#define FIREWALLD_NAME            "org.fedoraproject.FirewallD1"
#define FIREWALLD_PATH            "/org/fedoraproject/FirewallD1"
#define FIREWALLD_CONFIG_PATH     FIREWALLD_PATH "/config"
#define FIREWALLD_INTERFACE       FIREWALLD_NAME
#define FIREWALLD_ZONE            FIREWALLD_NAME ".zone"
#define FIREWALLD_POLICY          FIREWALLD_NAME ".policy"
#define FIREWALLD_CONFIG          FIREWALLD_NAME ".config"
#define FIREWALLD_CONFIG_ZONE     FIREWALLD_CONFIG ".zone"
#define FIREWALLD_CALL_LIMIT_USEC ((uint64_t) 10 * 1000 * 1000)
#define FIREWALLD_ALREADY_ENABLED "ALREADY_ENABLED"
#define FIREWALLD_NOT_ENABLED     "NOT_ENABLED"
#define FIREWALLD_INVALID_ZONE    "INVALID_ZONE"

enum { FIREWALLD_CODE_MAX = 40 };

typedef enum FirewalldReplyKind {
        FIREWALLD_REPLY_OK,
        FIREWALLD_REPLY_DENIED, /* by polkit, or by the bus */
        FIREWALLD_REPLY_ERROR,  /* code */
        FIREWALLD_REPLY_SILENT, /* no answer in time, or it ended in the middle */
        FIREWALLD_REPLY_GONE,   /* nobody has that name */
} FirewalldReplyKind;

typedef struct FirewalldReply {
        FirewalldReplyKind kind;
        char code[FIREWALLD_CODE_MAX]; /* firewalld's word for the error, or "" */
} FirewalldReply;

/* instance: a unique name, so that nobody is started by this and no other one answers. The handler
 * is called once, with the reply or an error in its place; the slot is still the caller's to free.
 */
int firewalld_call(sd_bus *bus, sd_bus_slot **slot, const char *instance, const char *path,
                   const char *interface, const char *member, sd_bus_message_handler_t handler,
                   void *userdata, const char *types, ...);

/* Who is firewalld? The reply is its unique name, or FIREWALLD_REPLY_GONE. */
int firewalld_ask_owner(sd_bus *bus, sd_bus_slot **slot, sd_bus_message_handler_t handler,
                        void *userdata);

FirewalldReply firewalld_read_reply(sd_bus_message *message);

/* A sentence: what went wrong with the call `member`, and what to do. zone: what the call was
 * about, or NULL. NULL: no memory. */
char *firewalld_explain(const FirewalldReply *reply, const char *member, const char *zone);
/* It answered in a form that is not its own. */
char *firewalld_explain_form(const char *member);
