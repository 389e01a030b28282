/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The gate of firewalld's hosts by itself, on a real bus: told what to do by lines on its standard
 * input, and saying what is answered, one line each.
 *
 *     plan ID PORTS [ZONE]     PORTS: 80/tcp,443/tcp
 *     open ID
 *     shut ID [INSTANCE ZONE:PORT...]
 *     forget ID
 */

#include <errno.h>
#include <postern/gate-firewalld.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static GateFirewalld *gate;

static const char *outcome_to_string(FirewalldOutcome outcome) {
        switch (outcome) {
        case FIREWALLD_DONE:
                return "done";
        case FIREWALLD_ABSENT:
                return "absent";
        case FIREWALLD_REFUSED:
                return "refused";
        }
        abort();
}

static void print_claims(const FirewalldClaims *claims) {
        printf(" [%s", claims->instance);
        for (size_t i = 0; i < claims->n; i++)
                printf(" %s:%u/%s", claims->list[i].zone, claims->list[i].port.number,
                       protocol_to_string(claims->list[i].port.protocol));
        printf("]");
}

static void on_planned(const char *id, FirewalldOutcome outcome, const FirewalldClaims *claims,
                       const char *where, const char *problem, void *userdata) {
        printf("planned %s %s", id, outcome_to_string(outcome));
        if (outcome == FIREWALLD_DONE)
                print_claims(claims);
        printf(" %s\n", where ? where : problem ? problem : "");
}

static void on_opened(const char *id, FirewalldOutcome outcome, const char *problem,
                      void *userdata) {
        printf("opened %s %s %s\n", id, outcome_to_string(outcome), problem ? problem : "");
}

static void on_shut(const char *id, FirewalldOutcome outcome, const char *problem, void *userdata) {
        printf("shut %s %s %s\n", id, outcome_to_string(outcome), problem ? problem : "");
}

static int on_claimed(const char *id, const FirewalldClaims *claims, void *userdata) {
        printf("claimed %s", id);
        print_claims(claims);
        printf("\n");
        return 0;
}

static void on_mended(const char *id, const char *what, void *userdata) {
        printf("mended %s %s\n", id, what);
}

static void on_lost(const char *id, const char *why, void *userdata) {
        printf("lost %s %s\n", id, why);
}

static const FirewalldObserver observer = {
        .planned = on_planned,
        .opened = on_opened,
        .shut = on_shut,
        .claimed = on_claimed,
        .mended = on_mended,
        .lost = on_lost,
};

static Port read_port(const char *text) {
        char protocol[4] = "";
        unsigned number = 0;

        if (sscanf(text, "%5u/%3s", &number, protocol) != 2)
                abort();
        return (Port){
                .number = (uint16_t) number,
                .protocol = strcmp(protocol, "udp") == 0 ? PROTOCOL_UDP : PROTOCOL_TCP,
        };
}

static int do_plan(const char *id, char *words) {
        Port ports[PROFILE_PORTS_MAX];
        char *list = strtok_r(NULL, " ", &words), *zone = strtok_r(NULL, " ", &words);
        size_t n = 0;

        for (char *port = strtok_r(list, ",", &list); port; port = strtok_r(NULL, ",", &list))
                ports[n++] = read_port(port);
        return gate_firewalld_plan(gate, id, ports, n, zone);
}

static int do_shut(const char *id, char *words) {
        FirewalldClaims claims = {};
        char *word = strtok_r(NULL, " ", &words);

        if (!word)
                return gate_firewalld_shut(gate, id, NULL);
        (void) snprintf(claims.instance, sizeof(claims.instance), "%s", word);
        while ((word = strtok_r(NULL, " ", &words))) {
                FirewalldClaim *claim = &claims.list[claims.n++];

                (void) sscanf(word, "%31[^:]", claim->zone);
                claim->port = read_port(strchr(word, ':') + 1);
        }
        return gate_firewalld_shut(gate, id, &claims);
}

static int on_line(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        char line[512], *words = line;
        const char *verb, *id;
        int r = 0;

        if (!fgets(line, sizeof(line), stdin))
                return sd_event_exit(sd_event_source_get_event(source), 0);
        line[strcspn(line, "\n")] = '\0';
        verb = strtok_r(line, " ", &words);
        id = strtok_r(NULL, " ", &words);
        if (strcmp(verb, "plan") == 0)
                r = do_plan(id, words);
        else if (strcmp(verb, "open") == 0)
                r = gate_firewalld_open(gate, id);
        else if (strcmp(verb, "shut") == 0)
                r = do_shut(id, words);
        else
                gate_firewalld_forget(gate, id);
        if (r < 0)
                printf("failed %s %s\n", id, strerror(-r));
        return 0;
}

int main(void) {
        sd_event *event = NULL;
        sd_bus *bus = NULL;
        int r;

        /* one line at a time, in and out */
        setvbuf(stdin, NULL, _IONBF, 0);
        setvbuf(stdout, NULL, _IOLBF, 0);
        r = sd_event_default(&event);
        if (r >= 0)
                r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_attach_event(bus, event, 0);
        if (r >= 0)
                r = gate_firewalld_new(&gate, bus, &observer, NULL);
        if (r >= 0)
                r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_line, NULL);
        if (r >= 0)
                r = sd_event_loop(event);
        gate_firewalld_free(gate);
        sd_bus_flush_close_unref(bus);
        sd_event_unref(event);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
