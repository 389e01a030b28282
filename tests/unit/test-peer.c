/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Whether a caller is still there: only the driver's plain yes is one. The test is the driver. */

#include "bus-pair.h"

#include <errno.h>
#include <postern/peer.h>
#include <stdlib.h>
#include <string.h>

#define CALLER ":1.7"
#define DRIVER "org.freedesktop.DBus"
#define PATH   "/org/freedesktop/DBus"

int __wrap_sd_bus_call_method_async(sd_bus *bus, sd_bus_slot **slot, const char *destination,
                                    const char *path, const char *interface, const char *member,
                                    sd_bus_message_handler_t callback, void *userdata,
                                    const char *types, ...);

typedef struct Fixture {
        BusPair pair;
        Peers *peers;
        sd_bus_message *owner_question; /* as it came, to be answered by the test */
        bool is_asked, is_told;
        PeerNews news;
} Fixture;

static bool nothing_can_be_asked;

int __wrap_sd_bus_call_method_async(sd_bus *bus, sd_bus_slot **slot, const char *destination,
                                    const char *path, const char *interface, const char *member,
                                    sd_bus_message_handler_t callback, void *userdata,
                                    const char *types, ...) {
        va_list arguments;
        int r;

        if (nothing_can_be_asked)
                return -ENOMEM;
        va_start(arguments, types);
        r = sd_bus_call_method_asyncv(bus, slot, destination, path, interface, member, callback,
                                      userdata, types, arguments);
        va_end(arguments);
        return r;
}

static int on_call(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Fixture *fixture = userdata;

        if (sd_bus_message_is_method_call(message, DRIVER, "GetConnectionUnixUser"))
                return sd_bus_reply_method_return(message, "u", 1000);
        if (!sd_bus_message_is_method_call(message, DRIVER, "GetNameOwner"))
                return 0;
        assert_null(fixture->owner_question);
        fixture->owner_question = sd_bus_message_ref(message);
        fixture->is_asked = true;
        return 1;
}

static void on_news(const char *name, PeerNews news, void *userdata) {
        Fixture *fixture = userdata;

        assert_string_equal(name, CALLER);
        fixture->news = news;
        fixture->is_told = true;
}

static PeerNews wait_news(Fixture *fixture) {
        bus_pair_wait(&fixture->pair, &fixture->is_told);
        fixture->is_told = false;
        return fixture->news;
}

static void wait_question(Fixture *fixture) {
        bus_pair_wait(&fixture->pair, &fixture->is_asked);
        fixture->is_asked = false;
}

/* NULL: it is there. */
static void answer(Fixture *fixture, const char *error_name) {
        sd_bus_message *question = fixture->owner_question;

        fixture->owner_question = NULL;
        if (error_name)
                assert_true(sd_bus_reply_method_errorf(question, error_name, "no") >= 0);
        else
                assert_true(sd_bus_reply_method_return(question, "s", CALLER) >= 0);
        sd_bus_message_unref(question);
}

/* What any local user can send. */
static void give_sign(Fixture *fixture) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_signal(fixture->pair.theirs, &message, PATH, DRIVER,
                                              "NameOwnerChanged") >= 0);
        assert_true(sd_bus_message_append(message, "sss", CALLER, CALLER, "") >= 0);
        assert_true(sd_bus_message_set_sender(message, DRIVER) >= 0);
        assert_true(sd_bus_send(fixture->pair.theirs, message, NULL) >= 0);
        sd_bus_message_unref(message);
}

/* One process writes and reads, so nothing is on its way when there is nothing to do. */
static void run_until_idle(Fixture *fixture) {
        while (sd_event_run(fixture->pair.event, 0) > 0)
                ;
}

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        nothing_can_be_asked = false;
        bus_pair_open(&fixture->pair);
        assert_true(sd_bus_add_filter(fixture->pair.theirs, NULL, on_call, fixture) >= 0);
        assert_int_equal(peers_new(&fixture->peers, fixture->pair.ours, on_news, fixture), 0);
        assert_true(peer_hold(fixture->peers, CALLER) >= 0);
        assert_int_equal(wait_news(fixture), PEER_KNOWN);
        assert_int_equal(peer_get_uid(fixture->peers, CALLER), 1000);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        sd_bus_message_unref(fixture->owner_question);
        peers_free(fixture->peers);
        bus_pair_close(&fixture->pair);
        free(fixture);
        return 0;
}

static void stays(void **state) {
        Fixture *fixture = *state;

        give_sign(fixture);
        wait_question(fixture);
        assert_true(peer_is_in_doubt(fixture->peers, CALLER));
        answer(fixture, NULL);
        assert_int_equal(wait_news(fixture), PEER_STAYS);
        assert_false(peer_is_in_doubt(fixture->peers, CALLER));
}

static void every_error_is_a_no(void **state) {
        static const char *const errors[] = {
                SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY,
                SD_BUS_ERROR_LIMITS_EXCEEDED,   SD_BUS_ERROR_ACCESS_DENIED,
                SD_BUS_ERROR_NO_MEMORY,         "org.example.Whatever",
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
                give_sign(fixture);
                wait_question(fixture);
                answer(fixture, errors[i]);
                assert_int_equal(wait_news(fixture), PEER_GONE);
        }
}

static void lost_bus_is_a_no(void **state) {
        Fixture *fixture = *state;

        give_sign(fixture);
        wait_question(fixture);
        sd_bus_close(fixture->pair.theirs);
        assert_int_equal(wait_news(fixture), PEER_GONE);
}

/* The first answer may be older than the second sign. */
static void asked_again(void **state) {
        Fixture *fixture = *state;

        give_sign(fixture);
        wait_question(fixture);
        give_sign(fixture);
        run_until_idle(fixture);
        answer(fixture, NULL);
        wait_question(fixture);
        assert_false(fixture->is_told);
        answer(fixture, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
        assert_int_equal(wait_news(fixture), PEER_GONE);
}

static void cannot_be_asked(void **state) {
        Fixture *fixture = *state;

        nothing_can_be_asked = true;
        give_sign(fixture);
        assert_int_equal(wait_news(fixture), PEER_GONE);
}

static void cannot_be_asked_again(void **state) {
        Fixture *fixture = *state;

        give_sign(fixture);
        wait_question(fixture);
        give_sign(fixture);
        run_until_idle(fixture);
        nothing_can_be_asked = true;
        answer(fixture, NULL);
        assert_int_equal(wait_news(fixture), PEER_GONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(stays, setup, teardown),
                cmocka_unit_test_setup_teardown(every_error_is_a_no, setup, teardown),
                cmocka_unit_test_setup_teardown(lost_bus_is_a_no, setup, teardown),
                cmocka_unit_test_setup_teardown(asked_again, setup, teardown),
                cmocka_unit_test_setup_teardown(cannot_be_asked, setup, teardown),
                cmocka_unit_test_setup_teardown(cannot_be_asked_again, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
