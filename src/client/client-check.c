/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The pre-flight of one profile, or of all. */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/client-text.h>
#include <postern/client.h>
#include <string.h>

DEFINE_CLEANUP(sd_bus_message, sd_bus_message_unref);
DEFINE_CLEANUP(json_t, json_decref);

/* Each user's pre-flights are limited; who asks for all of them waits for the next turn. */
static int call_check(Client *client, const char *profile, bool patient, sd_bus_message **ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        for (;;) {
                r = sd_bus_call_method(client->bus, CLIENT_NAME, CLIENT_ROOT, CLIENT_MANAGER,
                                       "Check", &error, ret, "s", profile);
                if (r >= 0)
                        return 0;
                if (!patient || !sd_bus_error_has_name(&error, CLIENT_ERROR "RateLimited"))
                        return client_explain(client, &error, r);
                sd_bus_error_free(&error);
                sleep(1);
        }
}

static int read_findings(Client *client, const char *profile, bool patient, json_t **ret) {
        static const char *const members[] = {"level", "subject", "message"};
        _cleanup_(sd_bus_message_unref_cleanup) sd_bus_message *reply = NULL;
        int r;

        r = call_check(client, profile, patient, &reply);
        if (r != 0)
                return r;
        r = client_read_list(reply, "sss", members, ret);
        return r < 0 ? client_fail(r) : 0;
}

static TextStyle style_of(const char *level) {
        if (strcmp(level, "error") == 0)
                return TEXT_RED;
        return strcmp(level, "note") == 0 ? TEXT_YELLOW : TEXT_GREEN;
}

static bool has_error(const json_t *findings) {
        const json_t *finding;
        size_t i;

        json_array_foreach(findings, i, finding) if (strcmp(client_string(finding, "level"),
                                                            "error") == 0) return true;
        return false;
}

static void print_findings(const Client *client, const char *profile, const json_t *findings) {
        const json_t *finding;
        size_t i;

        fputs(text_style(stdout, TEXT_BOLD), stdout);
        text_write(stdout, profile, 0);
        printf("%s\n", text_reset(stdout));
        json_array_foreach(findings, i, finding) {
                const char *level = client_string(finding, "level");
                size_t at = 9, written;

                printf("  %s", text_style(stdout, style_of(level)));
                written = text_write(stdout, level, 6);
                printf("%*s%s ", (int) (6 - written), "", text_reset(stdout));
                at += text_write(stdout, client_string(finding, "subject"), 0);
                fputs(": ", stdout);
                text_paragraph(stdout, client_string(finding, "message"), at + 2, 9);
        }
        if (has_error(findings))
                puts("\n  It cannot renew like this: mend what is marked as an error.");
        else
                printf("\n  To renew: %s renew %s\n", client->command, profile);
}

int client_check(Client *client, const char *profile) {
        _cleanup_(json_decref_cleanup) json_t *profiles = NULL, *all = json_object();
        const json_t *item;
        int r, status = CLIENT_OK;
        size_t i;

        if (profile)
                profiles = json_pack("[{ss}]", "name", profile);
        else {
                r = client_list_profiles(client, &profiles);
                if (r != 0)
                        return r;
        }
        if (!profiles || !all)
                return client_fail(ENOMEM);
        if (json_array_size(profiles) == 0)
                client_say("There is no profile to check: %s list says how to begin",
                           client->command);

        json_array_foreach(profiles, i, item) {
                const char *name = client_string(item, "name");
                json_t *findings;

                r = read_findings(client, name, !profile, &findings);
                if (r != 0)
                        return r;
                if (has_error(findings))
                        status = CLIENT_FAILED;
                if (!client->json) {
                        fputs(i > 0 ? "\n" : "", stdout);
                        print_findings(client, name, findings);
                }
                if (json_object_set_new(all, name, findings) < 0)
                        return client_fail(ENOMEM);
        }
        if (client->json) {
                r = client_print_json(profile ? json_object_get(all, profile) : all);
                if (r != 0)
                        return r;
        }
        return status;
}
