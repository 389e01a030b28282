# SPDX-License-Identifier: GPL-2.0-or-later
"""What Check says of a port, and what is then seen: who comes in before and during the window that it
spoke of, and where that opens."""

import itertools
import re
from typing import NamedTuple

import pytest
import xtables
from bus import GUESTS
from corpus import Host
from knocks import VISITORS, Knock
from probe import FAMILIES
from process import run
from test_corpus import RULESETS, has_flowtables, headers, without_flowtables
from test_ruleset import DENIALS
from ufw import Ufw


@pytest.fixture(scope="module")
def host():
    """Strangers come in by the interface of the default route."""
    with Host() as value:
        for route in DEFAULT_ROUTES:
            run(["ip", "-n", "host", *route])
        yield value


DEFAULT_ROUTES = [
    ["-4", "route", "replace", "default", "via", "203.0.113.80", "dev", "uplink"],
    ["-6", "route", "replace", "default", "via", "2001:db8:1::80", "dev", "uplink"],
]


askers = itertools.cycle(GUESTS)  # none of them too often


def check(host) -> list[tuple[str, str, str]]:
    return host.bus.call("Check", "s", "web", user=next(askers))[0]


class Claim(NamedTuple):
    """Of strangers. sure: of everybody."""

    comes_in: bool
    sure: bool


EXCEPT = "(, except for whom rules about addresses, interfaces or rates say otherwise)?"
SENTENCES = {
    rf"is open to everybody already{EXCEPT}": lambda m: (Claim(True, not m[1]), Claim(True, not m[1])),
    rf"is shut now{EXCEPT}; a window opens it to everybody{EXCEPT}": lambda m: (
        Claim(False, not m[1]), Claim(True, not m[2])),
    rf"stays shut during a window{EXCEPT}: a rule in chain (.+) denies it before .*": lambda m: (
        None, Claim(False, not m[1])),
    rf"is sent elsewhere by chain (.+) before the input hook{EXCEPT}, .*": lambda m: (None, None),
}  # fmt: skip


def read(text: str) -> tuple[Claim | None, Claim | None]:
    """What a sentence of Check claims: for now, and for the time of a window."""
    found = [(match, claims) for pattern, claims in SENTENCES.items() if (match := re.fullmatch(pattern, text))]
    assert len(found) == 1, f"not understood: {text}"
    match, claims = found[0]
    return claims(match)


def assert_holds(claim: Claim | None, family: str, came_in: set[Knock], text: str) -> None:
    if claim is None:
        return
    seen = {Knock(visitor, family, 80) in came_in for visitor in VISITORS}
    assert claim.comes_in in seen, f"{family}: {text}"
    assert not claim.sure or seen == {claim.comes_in}, f"{family}: {text}"


def assert_true(host, gate: str = "") -> dict[str, str]:
    """Opens what Check spoke of and compares. Gives what was said, by family."""
    host.gate(gate)
    findings = check(host)
    before = host.who_comes_in()
    refusals = [text for level, subject, text in findings if level == "error" and subject == "nftables"]
    if refusals:
        assert refusals[0] in host.refusal().text
        assert not any(":80/tcp" in subject for _, subject, _ in findings)
        return {}
    said = {f: text for f in FAMILIES for _, subject, text in findings if subject == f"IP{f}:80/tcp"}
    with host.window() as gate_of_window:
        during = host.who_comes_in()
    for family in FAMILIES:
        now, then = read(said[family])
        assert_holds(now, family, before, said[family])
        assert_holds(then, family, during, said[family])
    where = ", ".join(subject for level, subject, text in findings if level == "ok" and text.startswith("a window opens"))
    assert gate_of_window == (f"nftables: {where}" if where else "none: no chain on the input hook denies by default")
    return said


DENY = "type filter hook input priority 0; policy drop; meta l4proto ipv6-icmp accept; ct state established accept"


def deny(rules: str, rest: str = "") -> str:
    return f"table inet fw {{ {rest}\nchain in {{ {DENY}\n{rules}\n}}\n}}\n"


def accept(rules: str, rest: str = "") -> str:
    return f"table inet fw {{ {rest}\nchain in {{ type filter hook input priority 0\n{rules}\n}}\n}}\n"


OPEN, SHUT, STAYS = "is open to everybody already", "is shut now; a window opens it to everybody", "stays shut"
TO_SOME = "is shut now, except for whom"
# name: (ruleset, how the sentence begins, for IPv6 too unless that says otherwise)
SHAPES = {
    "admitted": (deny("tcp dport 80 accept"), OPEN),
    "others are admitted": (deny("tcp dport 81 accept; udp dport 80 accept; tcp sport 80 accept"), TO_SOME),
    "admitted as one of a set": (deny("tcp dport { 22, 80, 443 } accept"), OPEN),
    "not in a set": (deny("tcp dport { 22, 443 } accept"), SHUT),
    "admitted by a range": (deny("tcp dport 70-90 accept"), OPEN),
    "admitted by a set of ranges": (deny("tcp dport { 20-22, 79-81 } accept"), OPEN),
    "between the ranges of a set": (deny("tcp dport { 20-22, 81-90 } accept"), SHUT),
    "admitted by a named set": (
        deny("tcp dport @web accept", "set web { type inet_service; elements = { 80, 443 }; }"), OPEN),
    "in no named set": (deny("tcp dport @web accept", "set web { type inet_service; elements = { 443 }; }"), SHUT),
    "admitted by protocol and port": (deny("meta l4proto . th dport { tcp . 80, udp . 443 } accept"), OPEN),
    "admitted by a map": (
        deny("tcp dport vmap { 22 : drop, 80 : goto web }", "chain web { counter accept; }"), OPEN),
    "denied by a map": (accept("tcp dport vmap { 22 : accept, 80 : drop }"), STAYS),
    "a state in a map": (deny("ct state vmap { established : accept, new : jump fresh }",
                              "chain fresh { tcp dport 80 accept; }"), OPEN),
    "admitted as new": (deny("ct state new tcp dport 80 accept"), OPEN),
    "admitted as a pure SYN": (deny("tcp flags & (fin|syn|rst|ack) == syn tcp dport 80 accept"), OPEN),
    "not new is denied": (deny("tcp flags & (fin|syn|rst|ack) != syn ct state new drop; tcp dport 80 accept"), OPEN),
    "from loopback": (deny('iif lo tcp dport 80 accept; iifname "lo" accept'), SHUT),
    "not from loopback": (deny('iif != lo tcp dport 80 accept'), OPEN),
    "from the way to the world": (deny('iifname "uplink" tcp dport 80 accept'), OPEN + ", except"),
    "from another interface": (deny('iifname "lan0" tcp dport 80 accept'), TO_SOME),
    "not from the world": (deny('iifname != "uplink" tcp dport 80 accept'), TO_SOME),
    "interfaces in a map": (
        deny('iifname vmap { "uplink" : jump world, "lo" : accept }', "chain world { tcp dport 80 accept; }"),
        OPEN + ", except"),
    "from the office": (deny("ip saddr 203.0.113.81 tcp dport 80 accept"), TO_SOME),
    "but for one address": (accept("ip saddr 198.51.100.66 drop; ip6 saddr 2001:db8:66::/64 drop"), OPEN + ", except"),
    "local addresses": (deny("fib daddr type local tcp dport 80 accept"), OPEN),
    "in one family": ("table ip fw { chain in { type filter hook input priority 0; policy drop; }; }", SHUT),
    "denied by itself": (accept("tcp dport 80 drop"), STAYS),
    "denied before the window's rule": (deny("tcp dport 80 reject"), STAYS),
    "denied behind a jump": (deny("jump web", "chain web { tcp dport { 80, 443 } drop; }"), STAYS),
    "so many": (deny("tcp dport 80 limit rate 1000/second accept"), OPEN + ", except"),
    "no more than so many": (accept("tcp dport 80 limit rate over 1000/second drop"), OPEN + ", except"),
    "who comes too often": (
        accept("tcp dport 80 add @often { ip saddr limit rate over 1000/second } drop",
               "set often { type ipv4_addr; size 100; flags dynamic; }"), OPEN + ", except"),
    "to another port": (
        accept("") + "table inet n { chain p { type nat hook prerouting priority -100; "
        "tcp dport 80 redirect to :8080; }; }", "is sent elsewhere"),
    "untracked": (
        accept("") + "table inet r { chain p { type filter hook prerouting priority -300; tcp dport 80 notrack; }; }",
        OPEN),
    "a mark decides": (
        deny("meta mark 7 accept") + "table inet m { chain p { type filter hook prerouting priority -150; "
        "ip saddr 203.0.113.81 meta mark set 7; }; }", TO_SOME),
    "in a table that sleeps": ("table inet off { flags dormant; chain in { type filter hook input priority 0; "
                               "tcp dport 80 drop; }; }", OPEN),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shape(host, name):
    ruleset, begins = SHAPES[name]
    host.load(text=ruleset)
    said = assert_true(host)
    for family in FAMILIES:
        other = begins if not (family == "v6" and name == "in one family") else OPEN
        if family == "v6" and name in ("who comes too often", "from the office", "a mark decides"):
            continue  # these speak of IPv4 alone
        assert said[family].startswith(other), said


@pytest.mark.parametrize("name", DENIALS)
def test_denial(host, name):
    host.load(text=DENIALS[name][0])
    assert_true(host)


@pytest.mark.parametrize("path", RULESETS, ids=lambda path: path.name)
def test_ruleset(host, path):
    expected = headers(path)
    devices = " ".join(expected.get("devices", [])).split()
    if "wants" in expected and not has_flowtables(host):
        host.load(text=without_flowtables(path.read_text()), devices=devices)
    else:
        host.load(path, devices=devices)
    assert_true(host, "\n".join(expected.get("gate", [])))


PORTS = "-A INPUT -p tcp"
IPTABLES = {
    "admitted": (f"{PORTS} --dport 80 -j ACCEPT", OPEN),
    "a range": (f"{PORTS} --dport 79:81 -j ACCEPT", OPEN),
    "not this port": (f"{PORTS} ! --dport 80 -j ACCEPT", SHUT),
    "several": (f"{PORTS} -m multiport --dports 22,79:81 -j ACCEPT", OPEN),
    "none of several": (f"{PORTS} -m multiport --dports 22,443 -j ACCEPT", SHUT),
    "as new": (f"{PORTS} -m conntrack --ctstate NEW -m tcp --dport 80 -j ACCEPT", OPEN),
    "not as new": (f"{PORTS} -m conntrack ! --ctstate NEW -m tcp --dport 80 -j ACCEPT", SHUT),
    "as new, the older way": (f"{PORTS} -m state --state NEW --dport 80 -j ACCEPT", OPEN),
    "local addresses": ("-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT", OPEN),
    "as a SYN": (f"{PORTS} --syn --dport 80 -j ACCEPT", OPEN),
    "by a comment": (f'{PORTS} --dport 80 -m comment --comment "web" -j ACCEPT', OPEN),
    "so many": (f"{PORTS} --dport 80 -m limit --limit 1000/s -j ACCEPT", OPEN + ", except"),
    "denied": (f"{PORTS} --dport 80 -j REJECT --reject-with tcp-reset", STAYS),
    "denied behind a jump": (f"-N WEB\n-A WEB {PORTS[9:]} --dport 80 -j DROP\n-A INPUT -j WEB", STAYS),
}  # fmt: skip


@pytest.mark.parametrize("name", IPTABLES)
def test_iptables(host, name):
    rules, begins = IPTABLES[name]
    host.load()
    for family, text in xtables.denying().items():
        text = text.replace(xtables.OFFICE[family] + "\n", "").replace("COMMIT", rules + "\nCOMMIT")
        xtables.restore(family, text)
    said = assert_true(host)
    for family in FAMILIES:
        assert said[family].startswith(begins), said


@pytest.mark.parametrize(("rules", "begins"), [
    ([], SHUT),
    (["allow 80"], OPEN),
    (["deny 80"], STAYS),
    (["deny from 198.51.100.66", "deny from 2001:db8:66::66"], SHUT + ", except for whom"),
    (["limit 80"], OPEN + ", except"),
], ids=lambda value: ", ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_ufw(host, rules, begins):
    host.load()
    with Ufw(*rules):
        said = assert_true(host)
        for family in FAMILIES:
            assert said[family].startswith(begins), said
    host.load()


def test_without_a_default_route_strangers_come_from_anywhere(host):
    host.load(text=deny('iifname "uplink" tcp dport 80 accept'))
    host.gate()
    for route in DEFAULT_ROUTES:
        run(["ip", "-n", "host", route[0], "route", "delete", *route[3:]])
    try:
        said = [text for _, subject, text in check(host) if subject.endswith(":80/tcp")]
    finally:
        for route in DEFAULT_ROUTES:
            run(["ip", "-n", "host", *route])
    assert [text.startswith(TO_SOME) for text in said] == [True, True], said


def test_too_many_rules_are_not_followed(host):
    many = "".join(f"ip saddr 198.18.{n // 256}.{n % 256} tcp dport 80 drop\n" for n in range(40_000))
    host.load(text=deny(many))
    host.gate()
    said = {subject: text for _, subject, text in check(host)}
    assert "IPv4:80/tcp" in said and "not known" in said["IPv6:80/tcp"]
    host.load()


# what Check says of the place, in the chain `inet fw in` but where another one is named
PLACES = {
    "at the head": (deny(""), "Precedence=first", {"inet fw in": ("ok", "a window opens at the head of this chain")}),
    "at the end": (
        deny(""), "", {"inet fw in": ("ok", "a window opens here, at the end of the chain, before the rest is denied")}),
    "before a rule": (
        accept("tcp dport 22 accept; drop"), "",
        {"inet fw in": ("ok", r"a window opens here, right before the rule with handle \d+, which denies the rest")}),
    "perhaps elsewhere": (
        accept("ip saddr 192.0.2.0/24 jump some; drop", "chain some { drop; }"), "",
        {"inet fw in": ("ok", "a window opens here, right before .*"),
         "inet fw some": ("note", "a rule with conditions sends packets here, and this chain denies them: .* name the chain in Chain=")}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_place(host, name):
    ruleset, gate, places = PLACES[name]
    host.load(text=ruleset)
    host.gate(gate)
    found = {subject: (level, text) for level, subject, text in check(host) if subject.startswith("inet ")}
    assert found.keys() == places.keys()
    for subject, (level, pattern) in places.items():
        assert found[subject][0] == level and re.fullmatch(pattern, found[subject][1]), found


def test_more_rules_than_are_followed(host):
    """Of the first ports Check says what will be; of the last, that it does not know. A window opens them all."""
    ports = [f"{port}/tcp" for port in range(8001, 8017)]
    host.load(text=deny("\n".join(f"tcp dport {port} counter" for port in range(1, 3001))))
    host.gate(ports=" ".join(ports))
    found = {subject: text for _, subject, text in check(host)}
    assert found[f"IPv4:{ports[0]}"].startswith(SHUT)
    assert found[f"IPv6:{ports[-1]}"].startswith("whether it is open now is not known: the ruleset has too many rules")
    with host.window() as gate:
        assert gate == "nftables: inet fw in"
