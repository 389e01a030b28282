# SPDX-License-Identifier: GPL-2.0-or-later
"""iptables' own view of the host's rules, in both families."""

import re

from net import OFFICE4, OFFICE6
from probe import FAMILIES
from process import run

IPTABLES = {"v4": "iptables", "v6": "ip6tables"}
OFFICE = {
    family: f"-A INPUT -s {office} -p tcp --dport 80 -j ACCEPT" for family, office in (("v4", OFFICE4), ("v6", OFFICE6))
}
ICMP = {"v4": "-A INPUT -p icmp -j ACCEPT", "v6": "-A INPUT -p ipv6-icmp -j ACCEPT"}
ESTABLISHED = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
GATE = re.compile(
    r'-A (\S+) (?:-i \S+ )?-m connlabel --label "(\d+)" -m connlabel --label "(\d+)" --set '
    r'-m comment --comment "postern:gate" -j ACCEPT'
)


def iptables(family: str, *arguments: str) -> str:
    return run([IPTABLES[family], *arguments], ns="host")


def save(family: str) -> str:
    """With what the program says of itself and of the time."""
    return run([IPTABLES[family] + "-save"], ns="host")


def restore(family: str, text: str) -> None:
    run([IPTABLES[family] + "-restore"], input=text, ns="host")


def rules(family: str, table: str = "filter") -> list[str]:
    """The rules as iptables-save has them, without what changes from one second to the next."""
    lines = run([IPTABLES[family] + "-save", "-t", table], ns="host").splitlines()
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]


def all_rules() -> list[str]:
    return [rule for family in FAMILIES for rule in rules(family)]


def is_gate(rule: str) -> bool:
    return bool(GATE.fullmatch(rule))


def gates(family: str) -> list[tuple[str, str, str]]:
    """Of each gate's rule: the chain, W and G."""
    return [match.groups() for rule in rules(family) if (match := GATE.fullmatch(rule))]


def in_chain(family: str, chain: str) -> list[str]:
    return [rule for rule in rules(family) if rule.startswith(f"-A {chain} ")]


def denying(*, established: bool = True, last: str = "", policy: str = "DROP", chains: str = "") -> dict[str, str]:
    """What an admin would feed to iptables-restore and ip6tables-restore: the office may come in."""
    texts = {}
    for family in FAMILIES:
        middle = [ESTABLISHED] if established else []
        middle += ["-A INPUT -i lo -j ACCEPT", ICMP[family], OFFICE[family], *last.splitlines()]
        builtin = [f":INPUT {policy}", ":FORWARD ACCEPT", ":OUTPUT ACCEPT"]
        texts[family] = "\n".join(["*filter", *builtin, *chains.splitlines(), *middle, "COMMIT", ""])
    return texts


def restore_all(texts: dict[str, str]) -> None:
    for family, text in texts.items():
        restore(family, text)
