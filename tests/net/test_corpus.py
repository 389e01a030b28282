# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets in the shapes that people write: who comes in before, during and after a window.

A file in rulesets/ says in its first lines what is to be expected of it:

    # opens: CHAIN, CHAIN...   where the window's rule goes ("nowhere": nothing denies)
    # keeps out: VISITOR...    who may not come in during the window either
    # refused: TEXT            or: no window can be opened, and the error has this text
    # advice: TEXT             and this one, which says what to do
    # gate: KEY=VALUE          a line of the profile's section [Gate]
    # devices: NAME...         network devices that it wants
    # wants: flowtable         what not every kernel has; there, it is tried without
"""

import re
import socket
from collections.abc import Set
from pathlib import Path

import pytest
import xtables
from corpus import Host, strangers_at
from knocks import everything
from process import netns, run

RULESETS = sorted(path for path in Path(__file__).with_name("rulesets").iterdir())
# where the package was installed with its documentation
EXAMPLES = sorted(Path("/usr/share/doc/nftables/examples").glob("*.nft"))
EXAMPLES_OPEN_IN = {"workstation.nft": "inet filter input", "ct_helpers.nft": "inet filter input"}
EXAMPLES_AFTER = {"sets_and_maps.nft": "table ip filter { }"}  # which it deletes
NOT_EVERYWHERE = {"secmark.nft", "load_balancing.nft"}  # what it uses is not in every kernel
HEADERS = ("opens", "keeps out", "refused", "advice", "gate", "devices", "wants")


@pytest.fixture(scope="module")
def host():
    with Host() as value:
        yield value


def headers(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        key, colon, value = line.removeprefix("#").strip().partition(": ")
        if colon and key in HEADERS:
            found.setdefault(key, []).append(value)
    assert found, f"{path.name} does not say what is to be expected of it"
    return found


def has_flowtables(host) -> bool:
    try:
        host.load(text="table inet t { flowtable f { hook ingress priority 0; devices = { uplink }; }; }")
    except RuntimeError:
        return False
    return True


def without_flowtables(text: str) -> str:
    text = re.sub(r"^\tflowtable .*?^\t}$", "", text, flags=re.M | re.S)
    return re.sub(r"^.*flow add.*$", "", text, flags=re.M)


def test_every_visitor_is_seen(host):
    """What the rest stands on: an open host lets everybody in, a shut one nobody."""
    host.load(text="table inet fw { }")
    assert host.who_comes_in() == set(everything())
    host.load(text="table inet fw { chain in { type filter hook input priority 0; policy drop; }; }")
    assert host.who_comes_in() == set()


@pytest.mark.parametrize("path", RULESETS, ids=lambda path: path.name)
def test_ruleset(host, path):
    expected = headers(path)
    devices = " ".join(expected.get("devices", [])).split()
    if "wants" in expected and not has_flowtables(host):
        host.load(text=without_flowtables(path.read_text()), devices=devices)
    else:
        host.load(path, devices=devices)
    if "refused" in expected:
        assert_refused(host, expected["refused"] + expected["advice"])
    else:
        kept_out = set(" ".join(expected.get("keeps out", [])).split())
        readable = path.suffix == ".iptables"
        assert_opens(host, expected["opens"][0], kept_out, "\n".join(expected.get("gate", [])), readable)


OWN_NETWORK = """table {family} fw {{
    chain in {{ type filter hook input priority 0; policy accept
        ct state established accept
        iifname "uplink" drop
        ip saddr 192.168.7.66 drop
    }}
}}"""


@pytest.mark.parametrize("family", ["inet", "ip"])
def test_own_network_is_none_of_the_world(host, family):
    """Where the uplink alone is denied, a window opens for what comes in there: who is banned in the
    host's own network stays banned."""
    host.load(text=OWN_NETWORK.format(family=family), devices=["lan0"])
    run(["ip", "-n", "host", "link", "set", "lan0-far", "netns", "internet"])
    for ns, device, addresses in (("host", "lan0", ["1"]), ("internet", "lan0-far", ["66", "67"])):
        for address in addresses:
            run(["ip", "-n", ns, "address", "add", f"192.168.7.{address}/24", "dev", device])
        run(["ip", "-n", ns, "link", "set", device, "up"])

    def comes_in(source: str) -> bool:
        with netns("internet"), socket.socket() as s:
            s.settimeout(2)  # only who is denied waits so long
            s.bind((source, 0))
            return s.connect_ex(("192.168.7.1", 80)) == 0

    host.gate()
    with host.window():
        assert comes_in("192.168.7.67") and not comes_in("192.168.7.66")
        assert host.who_comes_in() >= {knock for knock in strangers_at(80) if knock.family == "v4"}


def test_every_label_is_in_use(host):
    """Three are needed that no rule uses. Two are left, then three."""
    rules = "\n".join(f"ct label {number} counter" for number in range(125))
    chain = "chain in {{ type filter hook input priority 0; policy drop; {}\n}}"
    host.load(text=f"table inet fw {{ {chain.format(rules)}\nchain other {{ ct label 125 accept; }}; }}")
    host.gate()
    before, listing = host.who_comes_in(), host.net.ruleset()
    assert "no three connection label bits are free" in host.refusal().text
    assert (host.who_comes_in(), host.net.ruleset()) == (before, listing)
    host.load(text=f"table inet fw {{ {chain.format(rules)}; }}")
    with host.window():
        assert host.who_comes_in() == strangers_at(80)
    assert host.who_comes_in() == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_of_nftables(host, path):
    try:
        host.load(path, text=EXAMPLES_AFTER.get(path.name, ""), devices=["eth0", "eth1", "eth2", "eth3", "bond0", "bond1"])
    except RuntimeError as problem:
        assert path.name in NOT_EVERYWHERE and re.search("No such file|not supported", str(problem))
        return
    assert_opens(host, EXAMPLES_OPEN_IN.get(path.name, "nowhere"))


def assert_opens(
    host, places: str, kept_out: Set[str] = frozenset(), gate: str = "", readable: bool = False
) -> None:  # fmt: skip
    """There and nowhere else, for everybody but those; and everything is afterwards as it was before.
    readable: iptables reads all of it in between."""
    host.gate(gate)
    before = host.who_comes_in()
    rules = host.net.ruleset()  # after the knocks, which may be noted in a set
    if places == "nowhere":
        during, said = before, "none: no chain on the input hook denies by default"
        assert host.places() == []
    else:
        during, said = before | strangers_at(80, but=kept_out), f"nftables: {places}"
        assert ", ".join(host.places()) == places
    by_iptables = xtables.all_rules() if readable else []
    with host.window() as gate:
        assert gate == said
        assert host.who_comes_in() == during
        if readable:
            assert [rule for rule in xtables.all_rules() if not xtables.is_gate(rule)] == by_iptables
    assert host.who_comes_in() == before
    assert host.net.ruleset() == rules


def assert_refused(host, texts: list[str]) -> None:
    """With these texts, before anything is opened; Check says the same."""
    host.gate()
    before = host.who_comes_in()
    rules = host.net.ruleset()
    error = host.refusal()
    assert error.name == "org.postern.Renewal1.Error.GateFailed"
    for text in texts:
        assert text in error.text
    assert any(level == "error" and all(part in text for part in texts) for level, _, text in host.findings())
    assert host.who_comes_in() == before
    assert host.net.ruleset() == rules
