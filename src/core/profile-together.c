/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What goes together, and what does not. */

#include <postern/cleanup.h>
#include <postern/profile-together.h>

static int check_required(Parse *parse, Key key, const char *example) {
        if (parse->lines[key] != 0)
                return 0;
        return profile_keys_lacks(parse, key, example);
}

static int check_command(Parse *parse) {
        Profile *profile = parse->profile;

        if (profile->gate != GATE_COMMAND) {
                if (profile->open_command)
                        return profile_keys_bad(
                                parse, KEY_OPEN_COMMAND,
                                "means nothing without Type=command; leave it out, or write "
                                "Type=command");
                if (profile->close_command)
                        return profile_keys_bad(
                                parse, KEY_CLOSE_COMMAND,
                                "means nothing without Type=command; leave it out, or write "
                                "Type=command");
                return 0;
        }
        if (!profile->open_command)
                return profile_keys_bad(
                        parse, KEY_TYPE,
                        "is command, which needs OpenCommand=; add it, as in " EXAMPLE_OPEN);
        /* what was opened must be closed, whatever comes */
        if (!profile->close_command)
                return profile_keys_bad(
                        parse, KEY_TYPE,
                        "is command, which needs CloseCommand=; add it, as in " EXAMPLE_CLOSE);
        if (profile->n_ports == 0)
                return profile_keys_bad(
                        parse, KEY_TYPE,
                        "is command, which has nothing to open with Ports=none; name the ports, "
                        "or write Type=none");
        return 0;
}

/* What a unit says for itself cannot be said here. */
static int check_unit(Parse *parse) {
        static const Key its_own[] = {KEY_USER, KEY_ENVIRONMENT, KEY_NO_NEW_PRIVILEGES};

        if (!parse->profile->unit)
                return check_required(parse, KEY_EXEC, "/usr/bin/certbot renew");
        if (parse->profile->exec)
                return profile_keys_bad(parse, KEY_UNIT,
                                        "stands beside Exec=; leave one of them out");
        for (size_t i = 0; i < ELEMENTS(its_own); i++)
                if (parse->lines[its_own[i]])
                        return profile_keys_bad(
                                parse, its_own[i],
                                "is the unit's own to say, with Unit=; leave it out, and see "
                                "systemctl edit");
        if (parse->profile->reach_renewal)
                return profile_keys_bad(
                        parse, KEY_REACH,
                        "is renewal, which does not go with Unit=; write Reach=any, or Exec= in "
                        "place of Unit=");
        return 0;
}

int profile_together_check(Parse *parse) {
        Profile *profile = parse->profile;
        int r;

        r = check_unit(parse);
        if (r == 0)
                r = check_required(parse, KEY_PORTS, "80/tcp");
        if (r != 0)
                return r;

        /* who gives only a short maximum means that as the default too */
        if (!parse->lines[KEY_DEFAULT_DURATION] &&
            profile->max_duration_usec < profile->default_duration_usec)
                profile->default_duration_usec = profile->max_duration_usec;
        if (profile->default_duration_usec > profile->max_duration_usec)
                return profile_keys_bad(
                        parse, KEY_DEFAULT_DURATION,
                        "is longer than MaxDuration= (10min where it is not given); write a "
                        "shorter time, or a longer MaxDuration=");

        if (profile->open_on_challenge && !profile->challenge_directory)
                return profile_keys_bad(
                        parse, KEY_OPEN_ON,
                        "needs ChallengeDirectory=; add where the client puts its tokens, as in "
                        "ChallengeDirectory=/var/www/html/.well-known/acme-challenge");
        if (!profile->open_on_challenge && profile->challenge_directory)
                return profile_keys_bad(parse, KEY_CHALLENGE_DIRECTORY,
                                        "means nothing with OpenOn=start; leave it out or write "
                                        "OpenOn=challenge");
        if (profile->reach_renewal && (profile->n_ports == 0 || profile->gate == GATE_NONE))
                return profile_keys_bad(parse, KEY_REACH,
                                        "opens nothing with Ports=none or Type=none; leave it out");
        if (profile->open_on_challenge && (profile->n_ports == 0 || profile->gate == GATE_NONE))
                return profile_keys_bad(parse, KEY_OPEN_ON,
                                        "opens nothing with Ports=none or Type=none; leave it out");

        if (profile->gate == GATE_NONE && profile->chain)
                return profile_keys_bad(
                        parse, KEY_CHAIN,
                        "means nothing with Type=none; leave it out or write Type=nftables");
        if (profile->gate == GATE_NONE && parse->lines[KEY_PRECEDENCE])
                return profile_keys_bad(
                        parse, KEY_PRECEDENCE,
                        "means nothing with Type=none; leave it out or write Type=nftables");
        if (profile->gate != GATE_FIREWALLD && profile->zone)
                return profile_keys_bad(
                        parse, KEY_ZONE,
                        "means nothing without Type=firewalld; leave it out, or write "
                        "Type=firewalld");
        return check_command(parse);
}
