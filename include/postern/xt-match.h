/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* xt-match: matches of xtables as expressions of a rule, through the kernel's nft_compat. */

#include <stdio.h> /* libnftnl/expr.h lacks it */

#include <libnftnl/expr.h>
#include <postern/rule.h>

/* connlabel: has the connection this label? set: give it, and go on. label: one bit. */
void xt_match_write_connlabel(RuleWriter *writer, const Label *label, bool set);

/* Reading: any expression may be given. */
bool xt_match_is(const struct nftnl_expr *expr, const char *name);
/* The label of a connlabel match, or none. ret_sets may be NULL. */
Label xt_match_read_connlabel(const struct nftnl_expr *expr, bool *ret_sets);
bool xt_match_has_comment(const struct nftnl_expr *expr, const char *comment);
/* Of two matches: do they look for the same? */
bool xt_match_equals(const struct nftnl_expr *a, const struct nftnl_expr *b);
