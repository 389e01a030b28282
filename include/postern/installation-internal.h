/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* installation-internal: what putting up and taking away share. */

#include <postern/installation.h>

/* The netlink sockets are open: 0 or a negative errno. */
int installation_ready(Installation *installation);

/* Reads the ruleset, or of its rules ours alone. *ret_standing: our lease is in it. -EBUSY: another
 * broker's is. */
int installation_read(Installation *installation, bool ours_alone, Ruleset **ret,
                      bool *ret_standing);

/* raw: what the guard has counted by now. */
void installation_count(Installation *installation, uint64_t raw);

/* From the first door to the last the guard stands; if it is not in the ruleset, somebody has taken
 * it away, and what it had counted since it was last read is lost. */
void installation_see_guard(Installation *installation, const Ruleset *ruleset);

/* Into the batch. The lease and the gates; the guard stays. */
void installation_delete_ours(Installation *installation, const Ruleset *ruleset);
void installation_delete_table(Installation *installation, const char *name);
/* Unless it stands just so. What the old one has counted since it was last read is lost, so the
 * next walk through the connections is made in any case. */
void installation_replace_guard(Installation *installation, const Blueprint *guard,
                                const Ruleset *ruleset);

/* Commits the batch, which was made for this generation. places: where gates stand then; NULL:
 * where they did. -ESTALE: the ruleset moved, read it again; unknown outcomes are for the
 * verification to find out. */
int installation_commit(Installation *installation, uint32_t genid, const GatePlan *places);
