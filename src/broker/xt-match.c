/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The kernel takes and gives the structure that the match's own header declares, padded. */

#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/xt_connlabel.h>
#include <postern/xt-match.h>
#include <stdlib.h>
#include <string.h>

static bool write_match(struct nftnl_rule *rule, const char *name, const void *info, size_t size) {
        struct nftnl_expr *expr;
        void *copy;

        expr = nftnl_expr_alloc("match");
        if (!expr)
                return false;
        nftnl_rule_add_expr(rule, expr); /* which owns it from here on */
        copy = calloc(1, XT_ALIGN(size));
        if (!copy)
                return false;
        memcpy(copy, info, size);
        /* this alone is kept by the expression, not copied */
        if (nftnl_expr_set(expr, NFTNL_EXPR_MT_INFO, copy, XT_ALIGN(size)) < 0) {
                free(copy);
                return false;
        }
        nftnl_expr_set_u32(expr, NFTNL_EXPR_MT_REV, 0);
        return nftnl_expr_set_str(expr, NFTNL_EXPR_MT_NAME, name) >= 0;
}

void xt_match_write_connlabel(RuleWriter *writer, const Label *label, bool set) {
        struct xt_connlabel_mtinfo info = {
                .bit = label_to_bit(label),
                .options = set ? XT_CONNLABEL_OP_SET : 0,
        };

        if (!writer->rule || write_match(writer->rule, "connlabel", &info, sizeof(info)))
                return;
        nftnl_rule_free(writer->rule);
        writer->rule = NULL;
}

bool xt_match_is(const struct nftnl_expr *expr, const char *name) {
        const char *found;

        if (strcmp(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME), "match") != 0)
                return false;
        found = nftnl_expr_get_str(expr, NFTNL_EXPR_MT_NAME);
        return found && strcmp(found, name) == 0;
}

Label xt_match_read_connlabel(const struct nftnl_expr *expr, bool *ret_sets) {
        struct xt_connlabel_mtinfo info;
        uint32_t size = 0;
        const void *data;

        data = xt_match_is(expr, "connlabel") ? nftnl_expr_get(expr, NFTNL_EXPR_MT_INFO, &size)
                                              : NULL;
        if (!data || size < sizeof(info))
                return (Label){};
        memcpy(&info, data, sizeof(info));
        if (info.bit >= LABEL_BITS)
                return (Label){};
        if (ret_sets)
                *ret_sets = info.options & XT_CONNLABEL_OP_SET;
        return label_from_bit(info.bit);
}

bool xt_match_has_comment(const struct nftnl_expr *expr, const char *comment) {
        uint32_t size = 0;
        const void *data;

        data = xt_match_is(expr, "comment") ? nftnl_expr_get(expr, NFTNL_EXPR_MT_INFO, &size)
                                            : NULL;
        return data && size > strlen(comment) && memcmp(data, comment, strlen(comment) + 1) == 0;
}

bool xt_match_equals(const struct nftnl_expr *a, const struct nftnl_expr *b) {
        uint32_t size_a = 0, size_b = 0;
        const void *info_a = nftnl_expr_get(a, NFTNL_EXPR_MT_INFO, &size_a);
        const void *info_b = nftnl_expr_get(b, NFTNL_EXPR_MT_INFO, &size_b);

        return info_a && info_b && size_a == size_b && memcmp(info_a, info_b, size_a) == 0;
}
