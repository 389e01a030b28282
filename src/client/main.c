/* SPDX-License-Identifier: GPL-2.0-or-later */

/* postern: asks posternd for what somebody typed. */

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <postern/cleanup.h>
#include <postern/client.h>
#include <postern/profile-value.h>
#include <string.h>
#include <unistd.h>

static const char usage_text[] =
        "postern [OPTION]... COMMAND\n"
        "\n"
        "Renews certificates through a firewall that is shut, by way of posternd.\n"
        "\n"
        "  renew PROFILE     open the profile's ports, run its renewal, close them\n"
        "  list              the profiles, and when their certificates expire\n"
        "  status [PROFILE]  open windows, or one profile\n"
        "  check [PROFILE]   what a renewal would do, and what stands in the way\n"
        "  close PROFILE     close its window now\n"
        "  log PROFILE       what its last renewal printed\n"
        "  monitor           what happens to windows, as it happens\n"
        "\n"
        "  --duration=TIME   how long the window may be open: 90s, 2min (the profile's default)\n"
        "  --no-wait         return when the window is open, and print its id\n"
        "  --verbose         print what the renewal printed\n"
        "  --json            write JSON\n"
        "  -H, --host=[USER@]HOST  on another host, over ssh\n"
        "  --version, --help\n"
        "\n"
        "Exit status: 0 renewed, unchanged or success; 1 failed, or check found an error; 2 usage "
        "or\n"
        "profile; 3 refused; 4 timeout or canceled; 5 the service could not be reached; 6 too "
        "often or\n"
        "too many, try later.\n";

typedef struct Command {
        const char *name;
        int least, most; /* arguments */
        int (*run)(Client *client, const char *argument);
} Command;

static int run_list(Client *client, const char *argument) {
        return client_list(client);
}

static int run_monitor(Client *client, const char *argument) {
        return client_monitor(client);
}

static const Command commands[] = {
        {"renew", 1, 1, client_renew},   {"list", 0, 0, run_list},
        {"status", 0, 1, client_status}, {"check", 0, 1, client_check},
        {"close", 1, 1, client_close},   {"log", 1, 1, client_log},
        {"monitor", 0, 0, run_monitor},
};

static int bad_usage(const char *what) {
        client_say("%s; see postern --help", what);
        return CLIENT_USAGE;
}

enum {
        OPTION_DURATION = 256,
        OPTION_NO_WAIT,
        OPTION_VERBOSE,
        OPTION_JSON,
        OPTION_VERSION,
        OPTION_HELP,
};

/* 0: go on; 1: done; or a ClientStatus as its negative. */
static int parse_options(Client *client, int argc, char **argv) {
        static const struct option options[] = {
                {"duration", required_argument, NULL, OPTION_DURATION},
                {"no-wait", no_argument, NULL, OPTION_NO_WAIT},
                {"verbose", no_argument, NULL, OPTION_VERBOSE},
                {"json", no_argument, NULL, OPTION_JSON},
                {"host", required_argument, NULL, 'H'},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, OPTION_HELP},
                {},
        };
        int option;

        while ((option = getopt_long(argc, argv, "H:h", options, NULL)) >= 0)
                switch (option) {
                case OPTION_DURATION:
                        if (value_parse_timespan(optarg, &client->duration_usec) < 0 ||
                            client->duration_usec == 0)
                                return -bad_usage("--duration= is no time; write one such as 90s "
                                                  "or 2min");
                        break;
                case OPTION_NO_WAIT:
                        client->wait = false;
                        break;
                case OPTION_VERBOSE:
                        client->verbose = true;
                        break;
                case OPTION_JSON:
                        client->json = true;
                        break;
                case 'H':
                        /* ssh would take it for an option of its own */
                        if (*optarg == '-' || !*optarg)
                                return -bad_usage("--host= is no host's name");
                        client->host = optarg;
                        break;
                case OPTION_VERSION:
                        puts("postern " POSTERN_VERSION);
                        return 1;
                case 'h':
                case OPTION_HELP:
                        fputs(usage_text, stdout);
                        return 1;
                default: /* getopt has said what */
                        return -bad_usage("That is not understood");
                }
        return 0;
}

static int run(Client *client, int n, char **arguments) {
        const Command *command = NULL;
        int r;

        if (n == 0)
                return bad_usage("A command is missing");
        for (size_t i = 0; i < ELEMENTS(commands); i++)
                if (strcmp(commands[i].name, arguments[0]) == 0)
                        command = &commands[i];
        if (!command)
                return bad_usage("There is no such command");
        if (n - 1 < command->least)
                return bad_usage("The profile's name is missing");
        if (n - 1 > command->most)
                return bad_usage("That is more than the command takes");
        if (n > 1 && !profile_name_is_valid(arguments[1]))
                return bad_usage(
                        "A profile's name is letters, digits, dots, hyphens and underscores");
        if (command->run != client_renew && (client->duration_usec > 0 || !client->wait))
                return bad_usage("--duration= and --no-wait go with renew");

        if (asprintf(&client->command, "postern%s%s", client->host ? " -H " : "",
                     client->host ? client->host : "") < 0)
                return client_fail(ENOMEM);
        client->can_ask = !client->host && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
        client->live = isatty(STDERR_FILENO);
        r = client_connect(client);
        if (r == 0)
                r = command->run(client, n > 1 ? arguments[1] : NULL);
        client_disconnect(client);
        return r;
}

int main(int argc, char **argv) {
        Client client = {.wait = true};
        int r;

        (void) setlocale(LC_ALL, "");
        r = parse_options(&client, argc, argv);
        if (r != 0)
                return r < 0 ? -r : client_finish_output();
        r = run(&client, argc - optind, argv + optind);
        if (r == CLIENT_OK)
                r = client_finish_output();
        return r;
}
