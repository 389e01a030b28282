/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * bus: the service on the bus: parses calls, hands them to the broker, answers, announces.
 */

#include <postern/authority.h>
#include <postern/broker.h>
#include <postern/request.h>
#include <systemd/sd-bus.h>

#define BUS_NAME              "org.postern.Renewal1"
#define BUS_PATH              "/org/postern/Renewal1"
#define BUS_WINDOW_PREFIX     BUS_PATH "/window"
#define BUS_PROFILE_PREFIX    BUS_PATH "/profile"
#define BUS_MANAGER_INTERFACE "org.postern.Renewal1.Manager"
#define BUS_WINDOW_INTERFACE  "org.postern.Renewal1.Window"
#define BUS_PROFILE_INTERFACE "org.postern.Renewal1.Profile"

typedef struct Bus Bus;
typedef struct BusShown BusShown;
typedef struct BusProfile BusProfile;

/* BUS_READY: the name is ours. BUS_REFUSED: it is not, and why has been logged. BUS_LOST: the
 * connection is gone. */
typedef enum BusNews {
        BUS_READY,
        BUS_REFUSED,
        BUS_LOST,
} BusNews;

typedef void (*BusCallback)(BusNews news, void *userdata);

/* Fields are for bus*.c. */
struct Bus {
        sd_bus *connection;
        Broker *broker;
        BusCallback callback;
        void *userdata;
        BusShown *shown;     /* what clients were last told of each window */
        BusProfile *profile; /* the one that is being read */
};

/* Connects, without waiting. Logs what a person should do where that fails. */
int bus_connect(sd_bus **ret, sd_event *event);

/* For broker_new(), with the Bus as userdata. */
extern const BrokerObserver bus_observer;

int bus_new(Bus **ret, sd_bus *connection, BusCallback callback, void *userdata);
Bus *bus_free(Bus *bus);

/* Answers calls from now on, by way of the broker. */
int bus_serve(Bus *bus, Broker *broker);
/* BUS_READY or BUS_REFUSED follows. */
int bus_take_name(Bus *bus);

/* Everything that was said has been handed to the bus. */
bool bus_is_flushed(Bus *bus);

/* What the table of methods demands for this call; ACTION_INVALID where it is not in it. */
AuthorityAction bus_get_action(sd_bus_message *message);

/* Keeps the message until it is answered. */
Call *bus_call_new(sd_bus_message *message);
void bus_fill_caller(sd_bus_message *message, Caller *ret);

/* bus-manager.c, bus-window.c, bus-profile.c: adds its objects. */
int bus_manager_add(Bus *bus);
int bus_window_add(Bus *bus);
int bus_profile_add(Bus *bus);

int bus_manager_reply_check(Bus *bus, sd_bus_message *call, const Answer *answer);
void bus_manager_emit(Bus *bus, const char *property);
void bus_manager_emit_opened(Bus *bus, const Renewal *renewal);
void bus_manager_emit_closed(Bus *bus, const Renewal *renewal);

enum { BUS_WINDOW_PATH_MAX = sizeof(BUS_WINDOW_PREFIX "/") + RENEWAL_ID_SIZE };
void bus_window_format_path(const Renewal *renewal, char ret[BUS_WINDOW_PATH_MAX]);
void bus_window_emit_added(Bus *bus, const Renewal *renewal);
/* Tells what differs from what was told last. */
void bus_window_emit_changed(Bus *bus, const Renewal *renewal);
void bus_window_emit_removed(Bus *bus, const Renewal *renewal);
void bus_window_forget_all(Bus *bus);

/* Appends a profile's ports as an array of strings. */
int bus_append_ports(sd_bus_message *message, const Profile *profile);

void bus_profile_emit_closed(Bus *bus, const char *name);
void bus_profile_forget(Bus *bus);
