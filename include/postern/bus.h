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

/* BUS_READY: the name is ours. BUS_REFUSED: it is not, and why has been logged. BUS_RELEASED: it is
 * ours no more, and every call that was made to it has been seen. BUS_LOST: the connection is gone.
 */
typedef enum BusNews {
        BUS_READY,
        BUS_REFUSED,
        BUS_RELEASED,
        BUS_LOST,
} BusNews;

typedef void (*BusCallback)(BusNews news, void *userdata);

enum {
        BUS_LISTERS = 64,
        BUS_LISTER_USEC = 1000 * 1000,
};

/* A program that has been given a list although there was no time left for lists. */
typedef struct BusLister {
        char name[32];  /* unique name */
        uint64_t until; /* CLOCK_MONOTONIC (usec): it gets no other before */
} BusLister;

/* Fields are for bus*.c. */
struct Bus {
        sd_bus *connection;
        Broker *broker;
        BusCallback callback;
        void *userdata;
        uint64_t n_calls;
        uint64_t listing_begun; /* CPU time (usec) when the last listing was let through, or 0 */
        uint64_t listings_paid_off; /* CLOCK_MONOTONIC (usec) */
        BusLister listers[BUS_LISTERS];
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
/* BUS_RELEASED follows. */
int bus_release_name(Bus *bus);

/* After each turn of the event loop. */
void bus_on_turn(Bus *bus);

/* How many calls have come in. */
uint64_t bus_count_calls(const Bus *bus);

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

/* The object that a path names, as sd-bus asks for it: 1; 0 where the path is not theirs; negative,
 * with an error that says so, where there is none. */
int bus_window_find(sd_bus *connection, const char *path, const char *interface, void *userdata,
                    void **ret_found, sd_bus_error *error);
int bus_profile_find(sd_bus *connection, const char *path, const char *interface, void *userdata,
                     void **ret_found, sd_bus_error *error);

/* bus-names.c: does everything that a call names exist, or could it? Negative, with an error for
 * the caller, where it does not. For calls that have an interface. */
int bus_check_names(Bus *bus, sd_bus_message *message, sd_bus_error *error);

int bus_manager_reply_check(sd_bus_message *call, const Answer *answer);
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
void bus_profile_emit_owed(Bus *bus, const char *name);
void bus_profile_forget(Bus *bus);
