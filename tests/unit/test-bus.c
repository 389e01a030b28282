/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What reaches an object: only what the table of methods names, however the call is sent. */

#include "bus-pair.h"

#include <postern/bus.h>
#include <stdlib.h>

#define OTHER_INTERFACE "org.postern.Other"

typedef struct Fixture {
        BusPair pair;
        Bus *bus;
        unsigned n_seen, n_replies;
        bool was_refused, is_answered;
} Fixture;

static int on_forgotten(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Fixture *fixture = userdata;

        fixture->n_seen++;
        return sd_bus_reply_method_return(message, NULL);
}

/* An object that somebody added, and forgot in the table. */
static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Forgotten", "", "", on_forgotten, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Close", "", "", on_forgotten, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static void on_news(BusNews news, void *userdata) {
}

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        bus_pair_open(&fixture->pair);
        assert_int_equal(bus_new(&fixture->bus, fixture->pair.ours, on_news, fixture), 0);
        assert_true(bus_serve(fixture->bus, NULL) >= 0);
        assert_true(sd_bus_add_object_vtable(fixture->pair.ours, NULL, "/other", OTHER_INTERFACE,
                                             vtable, fixture) >= 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        sd_bus_ref(fixture->pair.ours); /* bus_free() closes and lets go of its own */
        bus_free(fixture->bus);
        sd_bus_unref(fixture->pair.ours);
        bus_pair_close(&fixture->pair);
        free(fixture);
        return 0;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Fixture *fixture = userdata;

        fixture->n_replies++;
        fixture->was_refused =
                sd_bus_error_has_name(sd_bus_message_get_error(reply), SD_BUS_ERROR_UNKNOWN_METHOD);
        fixture->is_answered = true;
        return 0;
}

static sd_bus_message *new_call(Fixture *fixture, const char *interface, const char *member) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_method_call(fixture->pair.theirs, &message, NULL, "/other",
                                                   interface, member) >= 0);
        return message;
}

/* Messages keep their order, so what was sent before has been seen when this is answered. */
static void call_and_wait(Fixture *fixture, const char *interface, const char *member) {
        sd_bus_message *message = new_call(fixture, interface, member);

        fixture->is_answered = false;
        assert_true(sd_bus_call_async(fixture->pair.theirs, NULL, message, on_reply, fixture, 0) >=
                    0);
        sd_bus_message_unref(message);
        bus_pair_wait(&fixture->pair, &fixture->is_answered);
}

static void send_without_reply(Fixture *fixture, const char *interface, const char *member) {
        sd_bus_message *message = new_call(fixture, interface, member);

        assert_true(sd_bus_message_set_expect_reply(message, 0) >= 0);
        assert_true(sd_bus_send(fixture->pair.theirs, message, NULL) >= 0);
        sd_bus_message_unref(message);
}

static void refused(void **state) {
        Fixture *fixture = *state;

        call_and_wait(fixture, OTHER_INTERFACE, "Forgotten");
        assert_true(fixture->was_refused);
        assert_int_equal(fixture->n_seen, 0);
}

static void refused_without_reply(void **state) {
        Fixture *fixture = *state;

        send_without_reply(fixture, OTHER_INTERFACE, "Forgotten");
        send_without_reply(fixture, OTHER_INTERFACE, "Close");
        send_without_reply(fixture, NULL, "Close");
        call_and_wait(fixture, "org.freedesktop.DBus.Peer", "Ping");
        assert_false(fixture->was_refused);
        assert_int_equal(fixture->n_seen, 0);
        assert_int_equal(fixture->n_replies, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(refused, setup, teardown),
                cmocka_unit_test_setup_teardown(refused_without_reply, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
