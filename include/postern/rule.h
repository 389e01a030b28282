/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * rule: writes nftables rules expression by expression, and reads them back.
 *
 * A RuleWriter collects the first failure (memory), so that a rule reads as a list of what it
 * matches and does; rule_finish() hands it out or says what failed.
 */

#include <libnftnl/rule.h>
#include <postern/label.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct RuleWriter {
        struct nftnl_rule *rule; /* NULL after a failure */
} RuleWriter;

RuleWriter rule_begin(uint32_t family, const char *table, const char *chain);
/* 0 and the rule, owned by the caller; or -ENOMEM. */
int rule_finish(RuleWriter *writer, struct nftnl_rule **ret);

/* matches */
void rule_match_label(RuleWriter *writer, const Label *label, bool has);
void rule_match_new(RuleWriter *writer);      /* ct state new */
void rule_match_original(RuleWriter *writer); /* ct direction original */
/* ct state & established == 0: also what is not tracked */
void rule_match_not_established(RuleWriter *writer);
void rule_match_not_loopback(RuleWriter *writer); /* meta iiftype != loopback */
/* meta iifname: nft compares all bytes that a name may have, iptables' -i those that it has */
void rule_match_interface(RuleWriter *writer, const char *name, bool as_xtables);
void rule_match_protocol(RuleWriter *writer, uint8_t protocol);
void rule_match_port(RuleWriter *writer, uint16_t number); /* th dport, host byte order */
void rule_match_tcp_flags(RuleWriter *writer, uint8_t mask, uint8_t value, bool equal);
/* The first packet of a connection, and no other. */
void rule_match_syn(RuleWriter *writer, bool is);
void rule_match_stamp(RuleWriter *writer, uint32_t stamp, bool equal); /* meta priority */
void rule_match_port_set(RuleWriter *writer, const char *set); /* meta l4proto . th dport @set */
/* socket cgroupv2 level LEVEL; no match where there is no socket, or a half-open one */
void rule_match_cgroup(RuleWriter *writer, uint32_t level, uint64_t id, bool equal);
void rule_limit(RuleWriter *writer, uint64_t per_second, uint32_t burst);

/* statements */
void rule_set_label(RuleWriter *writer, const Label *label);
void rule_set_stamp(RuleWriter *writer, uint32_t stamp);
void rule_count(RuleWriter *writer);
void rule_reset_tcp(RuleWriter *writer); /* reject with tcp reset */
void rule_verdict(RuleWriter *writer, int verdict,
                  const char *chain); /* chain: for jump and goto */
void rule_comment(RuleWriter *writer, const char *comment);

/* reading */

/* The same expressions in the same order; what counters have counted does not matter. */
bool rule_equals(const struct nftnl_rule *a, const struct nftnl_rule *b);
bool rule_has_comment(const struct nftnl_rule *rule, const char *comment);
/* Every label bit that the rule names, to match or to set. */
Label rule_labels(const struct nftnl_rule *rule);
/* Those that it sets. */
Label rule_labels_set(const struct nftnl_rule *rule);
/* Packets of its first counter, or 0. */
uint64_t rule_packets(const struct nftnl_rule *rule);
