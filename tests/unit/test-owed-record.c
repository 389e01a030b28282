/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What is written is read again, and nothing else is. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/owed-record.h>

#define BOOT  "0123456789abcdef0123456789abcdef"
#define HEAD  "Version=1\nProfile=web\nGate=command\nBootId=" BOOT "\nDeadline=1800000000000000\n"
#define TAIL  "Settled=no\nOpenedBy=4611686018427387903\n"
#define WHOLE HEAD "Ports=80/tcp 443/tcp 443/udp\n" TAIL

static void whole(void **state) {
        char text[OWED_RECORD_MAX];
        OwedRecord record;

        assert_int_equal(owed_record_parse(WHOLE, strlen(WHOLE), &record), 0);
        assert_string_equal(record.profile, "web");
        assert_int_equal(record.gate, GATE_COMMAND);
        assert_string_equal(record.boot_id, BOOT);
        assert_true(record.deadline == 1800000000000000);
        assert_int_equal(record.n_ports, 3);
        assert_int_equal(record.ports[0].number, 80);
        assert_int_equal(record.ports[2].number, 443);
        assert_int_equal(record.ports[2].protocol, PROTOCOL_UDP);
        assert_true(record.unsettled);
        assert_true(record.opened_by == INT64_MAX / 2);
        assert_int_equal(owed_record_format(&record, text), strlen(WHOLE));
        assert_memory_equal(text, WHOLE, strlen(WHOLE));
}

#define CLAIMS                                                                                     \
        "Version=1\nProfile=web\nGate=firewalld\nBootId=" BOOT                                     \
        "\nDeadline=1\nPorts=80/tcp 443/udp\n"
#define CLAIMED CLAIMS "Instance=:1.5\nClaims=public:80/tcp dmz:443/udp\n"

static void claims(void **state) {
        char text[OWED_RECORD_MAX];
        OwedRecord record;

        assert_int_equal(owed_record_parse(CLAIMED, strlen(CLAIMED), &record), 0);
        assert_int_equal(record.gate, GATE_FIREWALLD);
        assert_string_equal(record.claims.instance, ":1.5");
        assert_int_equal(record.claims.n, 2);
        assert_string_equal(record.claims.list[1].zone, "dmz");
        assert_int_equal(record.claims.list[1].port.number, 443);
        assert_int_equal(record.claims.list[1].port.protocol, PROTOCOL_UDP);
        assert_int_equal(owed_record_format(&record, text), strlen(CLAIMED));
        assert_memory_equal(text, CLAIMED, strlen(CLAIMED));
        for (size_t size = 0; size < strlen(CLAIMED); size++)
                assert_int_equal(owed_record_parse(CLAIMED, size, &record), -EBADMSG);
}

static void no_claims(void **state) {
        static const char text[] = CLAIMS "Instance=:1.5\nClaims=\n";
        char again[OWED_RECORD_MAX];
        OwedRecord record;

        assert_int_equal(owed_record_parse(text, strlen(text), &record), 0);
        assert_int_equal(record.claims.n, 0);
        assert_int_equal(owed_record_format(&record, again), strlen(text));
        assert_memory_equal(again, text, strlen(text));
}

static void most_claims(void **state) {
        OwedRecord record = {.gate = GATE_FIREWALLD, .boot_id = BOOT, .deadline = INT64_MAX / 2},
                   again;
        char text[OWED_RECORD_MAX];
        size_t size;

        memset(record.profile, 'a', PROFILE_NAME_MAX);
        memset(record.claims.instance, '1', FIREWALLD_INSTANCE_MAX - 1);
        record.claims.instance[0] = ':';
        for (unsigned i = 0; i < PROFILE_PORTS_MAX; i++)
                record.ports[record.n_ports++] =
                        (Port){PROTOCOL_TCP, (uint16_t) (UINT16_MAX - PROFILE_PORTS_MAX + 1 + i)};
        while (record.claims.n < FIREWALLD_CLAIMS_MAX) {
                FirewalldClaim *claim = &record.claims.list[record.claims.n];

                memset(claim->zone, 'z', FIREWALLD_ZONE_MAX - 1);
                claim->port = record.ports[record.claims.n++ % PROFILE_PORTS_MAX];
        }
        size = owed_record_format(&record, text);
        assert_int_equal(owed_record_parse(text, size, &again), 0);
        assert_memory_equal(&again, &record, sizeof(record));
}

static void longest(void **state) {
        OwedRecord record = {.gate = GATE_COMMAND,
                             .boot_id = BOOT,
                             .deadline = INT64_MAX / 2,
                             .opened_by = INT64_MAX / 2},
                   again;
        char text[OWED_RECORD_MAX];
        size_t size;

        memset(record.profile, 'a', PROFILE_NAME_MAX);
        for (unsigned i = 0; i < PROFILE_PORTS_MAX; i++)
                record.ports[record.n_ports++] =
                        (Port){PROTOCOL_TCP, (uint16_t) (UINT16_MAX - PROFILE_PORTS_MAX + 1 + i)};
        size = owed_record_format(&record, text);
        assert_int_equal(owed_record_parse(text, size, &again), 0);
        assert_memory_equal(&again, &record, sizeof(record));
}

/* A file that was cut off, or has one byte of another, is none; and the output stays as it was. */
static void cut_and_changed(void **state) {
        OwedRecord record = {.profile = "untouched"};
        char text[sizeof(WHOLE)];

        for (size_t size = 0; size < strlen(WHOLE); size++)
                assert_int_equal(owed_record_parse(WHOLE, size, &record), -EBADMSG);
        for (size_t i = 0; i < strlen(WHOLE); i++) {
                memcpy(text, WHOLE, sizeof(text));
                text[i] ^= 0x80;
                assert_int_equal(owed_record_parse(text, strlen(WHOLE), &record), -EBADMSG);
                text[i] = 0;
                assert_int_equal(owed_record_parse(text, strlen(WHOLE), &record), -EBADMSG);
        }
        assert_string_equal(record.profile, "untouched");
}

static void others(void **state) {
        static const char *const texts[] = {
                "",
                "\n",
                HEAD "Ports=\n" TAIL,
                HEAD "Ports=none\n" TAIL,
                HEAD "Ports=0/tcp\n" TAIL,
                HEAD "Ports=65536/tcp\n" TAIL,
                HEAD "Ports=080/tcp\n" TAIL,
                HEAD "Ports=80/sctp\n" TAIL,
                HEAD "Ports=80\n" TAIL,
                HEAD "Ports=80/tcp \n" TAIL,
                HEAD "Ports=80/tcp  443/tcp\n" TAIL,
                HEAD "Ports=443/tcp 80/tcp\n" TAIL,
                HEAD "Ports=80/tcp 80/tcp\n" TAIL,
                HEAD "Ports=80/udp 80/tcp\n" TAIL,
                HEAD "Ports=1/tcp 2/tcp 3/tcp 4/tcp 5/tcp 6/tcp 7/tcp 8/tcp 9/tcp 10/tcp 11/tcp "
                     "12/tcp 13/tcp 14/tcp 15/tcp 16/tcp 17/tcp\n" TAIL,
                HEAD "Ports=80/tcp\n",
                HEAD "Ports=80/tcp\nSettled=maybe\nOpenedBy=1\n",
                HEAD "Ports=80/tcp\nSettled=yes\n",
                HEAD "Ports=80/tcp\nSettled=yes\nOpenedBy=\n",
                HEAD "Ports=80/tcp\nSettled=yes\nOpenedBy=-1\n",
                HEAD "Ports=80/tcp\nSettled=yes\nOpenedBy=4611686018427387904\n",
                HEAD "Ports=80/tcp\n\n" TAIL,
                HEAD "Ports=80/tcp\n" TAIL "\n",
                HEAD "Ports=80/tcp\n" TAIL "More=1\n",
                HEAD "Ports=80/tcp\nInstance=:1.5\nClaims=public:80/tcp\n",
                CLAIMS TAIL,
                CLAIMS,
                CLAIMS "Instance=:1.5\nClaims= \n",
                CLAIMS "Instance=1.5\nClaims=public:80/tcp\n",
                CLAIMS "Instance=:\nClaims=public:80/tcp\n",
                CLAIMS "Instance=:1.5\nClaims=public:80\n",
                CLAIMS "Instance=:1.5\nClaims=:80/tcp\n",
                CLAIMS "Instance=:1.5\nClaims=pub.lic:80/tcp\n",
                CLAIMS "Instance=:1.5\nClaims=public:80/tcp \n",
                CLAIMS "Instance=:1.5\nClaims=public:80/tcp\n\n",
                CLAIMS "Instance=:1.5\nClaims=zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz:80/tcp\n",
                "Version=2\nProfile=web\nGate=command\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=\nGate=command\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=.web\nGate=command\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=a b\nGate=command\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=../a\nGate=command\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=web\nGate=none\nBootId=" BOOT
                "\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=web\nGate=command\nBootId=01\nDeadline=1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=web\nGate=command\nBootId=" BOOT
                "\nDeadline=-1\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=web\nGate=command\nBootId=" BOOT
                "\nDeadline=\nPorts=80/tcp\n" TAIL,
                "Version=1\nProfile=web\nGate=command\nBootId=" BOOT
                "\nDeadline=18446744073709551616\nPorts=80/tcp\n" TAIL,
        };
        OwedRecord record;

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                if (owed_record_parse(texts[i], strlen(texts[i]), &record) != -EBADMSG)
                        fail_msg("read: %s", texts[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole),     cmocka_unit_test(claims),
                cmocka_unit_test(no_claims), cmocka_unit_test(most_claims),
                cmocka_unit_test(longest),   cmocka_unit_test(cut_and_changed),
                cmocka_unit_test(others),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
