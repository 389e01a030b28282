/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A file's bytes to what has to be closed elsewhere. Only what owed_record_format() writes is read.
 */

#include "fuzz.h"

#include <errno.h>
#include <postern/owed-record.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const OwedRecord untouched = {.profile = "untouched"};
        OwedRecord record = untouched;
        char text[OWED_RECORD_MAX];
        int r = owed_record_parse((const char *) data, size, &record);

        if (r != 0) {
                require(r == -EBADMSG);
                require(memcmp(&record, &untouched, sizeof(record)) == 0);
                return 0;
        }
        require(profile_name_is_valid(record.profile));
        require(strlen(record.boot_id) == STATE_BOOT_ID_SIZE - 1);
        require(record.n_ports > 0 && record.n_ports <= PROFILE_PORTS_MAX);
        for (size_t i = 0; i < record.n_ports; i++) {
                require(record.ports[i].number > 0 && protocol_to_string(record.ports[i].protocol));
                require(i == 0 || port_compare(&record.ports[i - 1], &record.ports[i]) < 0);
        }
        require(record.gate == GATE_COMMAND || record.gate == GATE_FIREWALLD);
        require(record.claims.n == 0 || (record.gate == GATE_FIREWALLD &&
                                         firewalld_instance_is_valid(record.claims.instance)));
        require(record.claims.n <= FIREWALLD_CLAIMS_MAX);
        for (size_t i = 0; i < record.claims.n; i++)
                require(firewalld_zone_is_valid(record.claims.list[i].zone));
        require(owed_record_format(&record, text) == size);
        require(memcmp(text, data, size) == 0);
        return 0;
}
