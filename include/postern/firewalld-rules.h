/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* firewalld-rules: what firewalld has in the kernel, where it cannot be asked about that. */

#include <postern/profile.h>
#include <postern/ruleset.h>

/* It does not run. Are its rules there all the same, as those of one that was killed are? */
bool firewalld_left_rules(const Ruleset *ruleset);

/*
 * It runs. Is one of the ports admitted by a rule of an earlier one? A firewalld that starts after
 * one was killed adds its rules to those that it finds (tried: 1.3.3) and knows nothing of them; a
 * reload takes away both.
 */
bool firewalld_left_port(const Ruleset *ruleset, const Port *ports, size_t n_ports);
