/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What a person can do about an errno of the kernel's. */

#include <errno.h>
#include <postern/installation.h>

const char *installation_explain(int error) {
        switch (error) {
        case -EPERM:
        case -EACCES:
                return "posternd lacks CAP_NET_ADMIN, without which it cannot change the firewall: "
                       "run it as root or with AmbientCapabilities=CAP_NET_ADMIN";
        case -EBUSY:
                return "another posternd holds the table inet postern: stop that one first";
        case -EOPNOTSUPP:
        case -EPROTONOSUPPORT:
        case -EAFNOSUPPORT:
        case -ENOENT:
                return "the kernel lacks something that a window needs: nf_tables with owner "
                       "tables (5.12 or later), conntrack labels (CONFIG_NF_CONNTRACK_LABELS), "
                       "nf_conntrack_netlink and, for tables of iptables, nft_compat and "
                       "xt_connlabel; see which modules are missing";
        case -EAGAIN:
        case -ESTALE:
                return "another program changes the ruleset without pause: wait until it has "
                       "finished and ask again";
        case -ENOMEM:
        case -ENOBUFS:
                return "memory ran out: free some and ask again";
        case -ENOSPC:
                return "no three connection label bits are free: the host's rules use nearly all "
                       "128";
        case -ELOOP:
                return "the chains of the host's ruleset jump to each other so often that what "
                       "they do to a packet cannot be told: have fewer of them jump without a "
                       "condition";
        case -EPROTO:
                return "the kernel does not show the rules as they were written, so they are not "
                       "trusted: this kernel and this version do not fit together";
        default:
                return "the kernel refused the rules: posternd's log says which";
        }
}
