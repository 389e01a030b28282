# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts and a wire: `host`, behind a default-deny firewall, and `internet`."""

import json
import re
from pathlib import Path

from process import run

HOST4, HOST6 = "203.0.113.10", "2001:db8:1::10"
STRANGER4, STRANGER6 = "203.0.113.80", "2001:db8:1::80"
OFFICE4, OFFICE6 = "203.0.113.81", "2001:db8:1::81"

DEFAULT_DENY = f"""
table inet filter {{
    chain input {{
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif "lo" accept
        meta l4proto {{ icmp, ipv6-icmp }} accept
        ip saddr {OFFICE4} tcp dport 80 accept
        ip6 saddr {OFFICE6} tcp dport 80 accept
    }}
}}
"""


class Net:
    """The namespaces exist inside the context; one Net at a time."""

    def __init__(self, ruleset: str = DEFAULT_DENY) -> None:
        self.ruleset_text = ruleset
        self.host_was_open = False  # to anybody, by a change of its own rules

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        for name in ("host", "internet"):
            run(["ip", "netns", "add", name])
            run(["ip", "-n", name, "link", "set", "lo", "up"])
        run(["ip", "link", "add", "uplink", "netns", "host", "type", "veth", "peer", "uplink", "netns", "internet"])
        self._addresses()
        self.nft(self.ruleset_text)

    def _addresses(self) -> None:
        self._address("host", f"{HOST4}/24", f"{HOST6}/64")
        self._address("internet", f"{STRANGER4}/24", f"{STRANGER6}/64", f"{OFFICE4}/24", f"{OFFICE6}/64")
        # who does not ask for the office's address must not be given it: IPv6 prefers the newest
        run(["ip", "-n", "internet", "address", "change", f"{OFFICE6}/64", "dev", "uplink", "preferred_lft", "0"])

    def __exit__(self, *_) -> None:
        for name in ("host", "internet"):
            if Path("/run/netns", name).exists():
                run(["ip", "netns", "delete", name])

    def _address(self, ns: str, *addresses: str) -> None:
        for address in addresses:
            # without duplicate address detection an address can be used at once
            run(["ip", "-n", ns, "address", "add", address, "dev", "uplink", *(["nodad"] if ":" in address else [])])
        run(["ip", "-n", ns, "link", "set", "uplink", "up"])

    def nft(self, text: str, ns: str = "host") -> None:
        run(["nft", "-f", "-"], input=text, ns=ns)

    def replace(self, text: str) -> None:
        """The host's own rules, replaced in one transaction, as its administrators do it. For a moment of
        such a transaction the kernel lets in whom it pleases, on any port, also where no Postern is: seen
        21 times with 2,744 of them and 1,000 knocks a second."""
        self.host_was_open = True
        self.nft("flush ruleset\n" + text)

    def ruleset(self, ns: str = "host") -> str:
        return ruleset(ns)

    def conntrack(self, ns: str = "host") -> list[str]:
        return conntrack(ns)


def ruleset(ns: str = "host") -> str:
    """What the kernel enforces, as text that is equal when the rules are: without handles, counts and
    the time that set elements have left."""

    def canonical(value):
        if isinstance(value, dict):
            return {
                key: 0 if key in ("packets", "bytes") else canonical(item)
                for key, item in value.items()
                if key not in ("handle", "expires", "index", "used")
            }
        if isinstance(value, list):
            return [canonical(item) for item in value if not (isinstance(item, dict) and "metainfo" in item)]
        return value

    listing = json.loads(run(["nft", "-j", "list", "ruleset"], ns=ns))
    return json.dumps(canonical(listing), indent=1, sort_keys=True)


def conntrack(ns: str = "host") -> list[str]:
    lines = []
    for family in ("ipv4", "ipv6"):
        lines += run(["conntrack", "-L", "-f", family, "-o", "labels"], ns=ns).splitlines()
    # timeouts run down; what is compared must not
    return [re.sub(r"\s+", " ", re.sub(r"^(\S+\s+\d+)\s+\d+", r"\1", line)) for line in lines]
