# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's ruleset: where a window opens in it, what is refused, and what foreign changes do."""

import socket
import struct

import pytest
from net import DEFAULT_DENY, HOST4, OFFICE4, STRANGER4
from probe import FAMILIES, HeldConnection, Listener, Outcome, Prober
from process import netns, now, run, wait_until
from scene import ADDRESSES, Renewal, Scene, saved_ruleset, state, wait_state
from testbed import BusError, Testbed

# name: (ruleset, the chains that a window opens in)
DENIALS = {
    "policy": ("table inet fw { chain in { type filter hook input priority 0; policy drop; }; }", ["inet fw in"]),
    "last rule drops": (
        "table inet fw { chain in { type filter hook input priority 0; iif lo accept; counter drop; }; }",
        ["inet fw in"],
    ),
    "last rule rejects": (
        "table inet fw { chain in { type filter hook input priority 0; iif lo accept; log reject; }; }",
        ["inet fw in"],
    ),
    "jump to where it rejects": (
        """table inet fw {
            chain no { ip saddr 192.0.2.1 accept; reject with icmpx type admin-prohibited; }
            chain in { type filter hook input priority 0; iif lo accept; jump no; }
        }""",
        ["inet fw no"],
    ),
    "goto, two deep": (
        """table inet fw {
            chain no { drop; }
            chain more { tcp dport 22 accept; goto no; }
            chain in { type filter hook input priority 0; goto more; }
        }""",
        ["inet fw no"],
    ),
    "a jump that returns, then the policy": (
        """table inet fw {
            chain some { tcp dport 22 accept; return; drop; }
            chain in { type filter hook input priority 0; policy drop; jump some; }
        }""",
        ["inet fw in"],
    ),
    "a chain for each family": (
        """table ip fw4 { chain in { type filter hook input priority 0; policy drop; }; }
        table ip6 fw6 { chain in { type filter hook input priority 0; policy drop;
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }""",
        ["ip fw4 in", "ip6 fw6 in"],
    ),
    "two chains deny": (
        """table inet one { chain in { type filter hook input priority -5000; policy drop; }; }
        table inet two { chain in { type filter hook input priority 100; reject; }; }""",
        ["inet one in", "inet two in"],
    ),
    "a limited reject before the policy": (
        """table inet fw { chain in { type filter hook input priority 0; policy drop;
            ct state invalid drop
            iif lo accept
            pkttype host limit rate 5/second counter reject with icmpx type admin-prohibited
            counter
        }; }""",
        ["inet fw in"],
    ),
    "rejects by protocol, then the rest": (
        """table inet fw { chain in { type filter hook input priority 0; policy accept;
            iif lo accept
            meta l4proto tcp reject with tcp reset
            ip protocol udp reject
            reject with icmpx type port-unreachable
        }; }""",
        ["inet fw in"],
    ),
    "a drop with a named counter": (
        """table inet fw { counter denied { }
            chain in { type filter hook input priority 0; iif lo accept; counter name denied drop; }; }""",
        ["inet fw in"],
    ),
    "no established accept": (
        """table inet fw { chain in { type filter hook input priority 0; policy drop;
            tcp sport 14000 accept; ip saddr 192.0.2.7 drop; }; }""",
        ["inet fw in"],
    ),
}


def findings(testbed, profile="web"):
    return testbed.bus.call("Check", "s", profile)[0]


@pytest.mark.parametrize("name", DENIALS)
def test_denial(name):
    """Check says where; a window opens there, for both families, and leaves the rules as they were."""
    ruleset, chains = DENIALS[name]
    with Testbed(ruleset) as testbed:
        before = testbed.net.ruleset()
        renewal = Renewal(testbed)
        with testbed.daemon(), Listener(), Prober() as prober:
            places = [subject for level, subject, _ in findings(testbed) if level == "ok" and " " in subject]
            assert sorted(places) == sorted(chains)
            window = renewal.request()
            prober.wait_for(Outcome.OPEN, "v4")
            assert state(testbed, window, "Gate") == "nftables: " + ", ".join(places)
            renewal.finish()
            wait_state(testbed, window, "closed")
            assert Outcome.OPEN not in prober.outcomes("v4", now())
            assert testbed.net.ruleset() == before


# the ruleset that is added, the chain that is in the way, and what it does
REFUSED = {
    "denied at prerouting": (
        "table inet raw { chain pre { type filter hook prerouting priority -300; policy drop; ip saddr 203.0.113.81 accept; }; }",
        "inet raw pre", "denies by default before a packet comes to the input hook",
    ),
    "a port is denied at prerouting": (
        "table inet raw { chain pre { type filter hook prerouting priority -300; tcp dport 80 drop; }; }",
        "inet raw pre", "denies port 80/tcp (IPv4) before a packet comes to the input hook",
    ),
    "denied at ingress": (
        "table netdev edge { chain in { type filter hook ingress device uplink priority 0; policy drop; }; }",
        "netdev edge in", "denies by default before a packet comes to the input hook",
    ),
    "nothing is tracked": (
        "table inet raw { chain pre { type filter hook prerouting priority -300; notrack; }; }",
        "inet raw pre", "takes every packet out of connection tracking",
    ),
    "firewalld's table": (
        "table inet firewalld { chain filter_INPUT { type filter hook input priority 10; reject; }; }",
        "inet firewalld filter_INPUT", "denies and is firewalld's, which opens a window itself while it runs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """Before anything is opened, with the chain that is in the way and what to do."""
    ruleset, chain, does = REFUSED[name]
    with Testbed(DEFAULT_DENY + ruleset) as testbed, testbed.daemon():
        before = testbed.net.ruleset()
        renewal = Renewal(testbed)
        assert any(level == "error" and chain in text for level, _, text in findings(testbed))
        with pytest.raises(BusError) as refusal:
            renewal.request()
        assert refusal.value.name == "org.postern.Renewal1.Error.GateFailed"
        assert f"Chain {chain} {does}" in refusal.value.text and ":" in refusal.value.text
        assert not renewal.tree(), "the renewal ran although the gate could not be opened"
        assert testbed.net.ruleset() == before


def test_nothing_denies():
    with Testbed("table inet fw { chain in { type filter hook input priority 0; }; }") as testbed, testbed.daemon():
        before = testbed.net.ruleset()
        renewal = Renewal(testbed)
        assert any(level == "note" and "denies" in text for level, _, text in findings(testbed))
        window = renewal.request()
        assert testbed.net.ruleset() == before, "there was nothing to open"
        assert state(testbed, window, "Gate").startswith("none")
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "Result") == "success"


@pytest.mark.parametrize(("rule", "policy", "words"), [
    ("tcp dport 80 accept", "drop", "open already by this host's own rules"),
    ("", "accept", "open already by this host's own rules"),
    ("", "drop", "No connection came in through the window"),
], ids=["admitted", "open", "shut"])  # fmt: skip
def test_a_hint_about_visitors_knows_who_comes_in_anyway(rule, policy, words):
    ruleset = f"table inet fw {{ chain in {{ type filter hook input priority 0; policy {policy}\n{rule}\n}}; }}"
    with Testbed(ruleset) as testbed, testbed.daemon():
        testbed.profile("web", "[Renewal]\nExec=/bin/false\n[Window]\nPorts=80/tcp\n")
        with pytest.raises(BusError) as failure:
            testbed.bus.call("Renew", "stt", "web", 0, 0, user="deploy")
        # what the client says of itself is worth more
        assert failure.value.text.index("its last lines") < failure.value.text.index(words)


def test_explicit_drop_wins(testbed):
    testbed.net.nft(f"insert rule inet filter input ip saddr {STRANGER4} tcp dport 80 drop")
    renewal = Renewal(testbed)
    with testbed.daemon(), Listener(), Prober() as prober:
        window = renewal.request()
        prober.wait_for(Outcome.OPEN, "v6")
        assert prober.outcomes("v4", now()) == {Outcome.SILENT}
        # a ban that comes during the window goes before the window's rule, and wins, too
        testbed.net.nft("add rule inet filter input ip6 saddr 2001:db8:1::80 tcp dport 80 drop")
        prober.wait_for(Outcome.SILENT, "v6")
        wait_until(lambda: rules(testbed)[-1].endswith('"postern:gate"'), "the gate's rule to be last again")
        assert prober.outcomes("v6", now()) == {Outcome.SILENT}
        renewal.finish()
        wait_state(testbed, window, "closed")


def rules(testbed, chain="inet filter input"):
    lines = run(["nft", "list", "chain", *chain.split()], ns="host").splitlines()
    return [line.strip() for line in lines[3:-2]]


def test_precedence_first(testbed):
    testbed.net.nft(f"insert rule inet filter input ip saddr {STRANGER4} drop")
    renewal = Renewal(testbed, gate="[Gate]\nPrecedence=first\n")
    with testbed.daemon(), Listener(), Prober() as prober:
        window = renewal.request()
        prober.wait_for(Outcome.OPEN, "v4")
        assert rules(testbed)[0].endswith('"postern:gate"')
        renewal.finish()
        wait_state(testbed, window, "closed")


def test_named_chain():
    """The guess is wrong where a rule with conditions leads to the denial; Chain= puts it right."""
    ruleset = """table inet fw {
        chain world { tcp dport 22 accept; drop; }
        chain in { type filter hook input priority 0; policy drop; iif lo accept;
            meta l4proto ipv6-icmp accept; iifname "uplink" jump world; }
    }"""
    with Testbed(ruleset) as testbed, testbed.daemon(), Listener(), Prober() as prober:
        guessed, named = Renewal(testbed, "guessed"), Renewal(testbed, "named", gate="[Gate]\nChain=inet fw world\n")
        assert any(level == "note" and "inet fw world" in subject for level, subject, _ in findings(testbed, "guessed"))
        window = guessed.request()
        assert prober.outcomes("v4", now()) == {Outcome.SILENT}
        guessed.finish()
        wait_state(testbed, window, "closed")
        window = named.request()
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        named.finish()
        wait_state(testbed, window, "closed")
        missing = Renewal(testbed, "missing", gate="[Gate]\nChain=inet fw nowhere\n")
        with pytest.raises(BusError, match="does not exist"):
            missing.request()


@pytest.mark.parametrize("reload", ["replaced", "flush ruleset", "delete table inet postern_guard"])
def test_foreign_reload(testbed, reload):
    """Never wider than the host's rules plus the window; put back for the time that is left."""
    renewal = Renewal(testbed)
    with testbed.daemon() as daemon, Scene(testbed) as scene:
        window = renewal.request()
        scene.connect()
        until = state(testbed, window, "DeadlineBoottime")
        event = now()
        if reload == "replaced":
            testbed.net.replace(DEFAULT_DENY)
        else:
            testbed.net.nft(reload)
        if reload == "flush ruleset":
            # the host itself is open now; its own rules come back later
            scene.prober.wait_for(Outcome.OPEN, "v4", since=event)
            testbed.net.host_was_open = True
            testbed.net.nft(DEFAULT_DENY)
            event = now()
        wait_until(lambda: "put back" in daemon.text(), "the repair to be told")
        for family in FAMILIES:
            scene.prober.wait_for(Outcome.OPEN, family, since=now())
        assert state(testbed, window, "DeadlineBoottime") == until
        for connection in scene.strangers:
            assert connection.state() == "alive"
        renewal.finish()
        wait_state(testbed, window, "closed")
        scene.assert_shut(now())
        scene.assert_swept()


def test_reload_that_cannot_be_mended(testbed):
    """The new ruleset denies where a window cannot open: the window ends, and says why."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Scene(testbed) as scene:
        window = renewal.request()
        scene.connect()
        testbed.net.nft("table inet early { chain pre { type filter hook prerouting priority -300; policy drop; "
                        f"ip saddr {OFFICE4} accept; ip6 saddr 2001:db8:1::81 accept; icmpv6 type {{ 135, 136 }} accept; }}; }}")
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "Result") == "gate-failed"
        assert "inet early pre" in state(testbed, window, "Hint")
        assert not renewal.tree()
        testbed.net.nft("delete table inet early")
        scene.assert_shut(now())
        scene.assert_swept()


def test_a_copy_of_the_gate_goes_with_the_window(testbed):
    """Where rules of ours stand is remembered only as long as nobody else has changed anything."""
    renewal = Renewal(testbed)
    before = testbed.net.ruleset()
    with testbed.daemon() as daemon, Listener(), Prober() as prober:
        window = renewal.request()
        prober.wait_for(Outcome.OPEN, "v4")
        gate = rules(testbed)[-1]
        assert gate.endswith('"postern:gate"')
        daemon.stop()  # it learns of the copy and of the renewal's end at the same time
        testbed.net.nft(f"table inet copy {{ chain c {{ {gate}\n}}\n}}")
        renewal.finish()
        daemon.cont()
        wait_state(testbed, window, "closed")
        # the last of it goes when the connections have been ended
        wait_until(lambda: "postern" not in run(["nft", "list", "ruleset"], ns="host"), "the copy to be gone")
        testbed.net.nft("delete table inet copy")
        assert testbed.net.ruleset() == before


def test_saved_ruleset_is_inert(testbed):
    """Saved during a window, loaded after a crash and after a reboot: admits nothing, blocks nothing."""
    renewal = Renewal(testbed)
    with Scene(testbed) as scene:
        daemon = testbed.daemon().start()
        window = renewal.request()
        scene.connect()
        saved = saved_ruleset(testbed)
        assert "postern_guard" in saved and state(testbed, window) == "open"
        daemon.kill9()
        wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone")

        testbed.net.replace(saved)
        scene.assert_shut(now())
        # the next broker takes it all away
        with testbed.daemon():
            scene.assert_swept()

        # after a reboot: no connection is known, no broker runs
        testbed.net.replace(saved)
        run(["conntrack", "-F"], ns="host")
        with HeldConnection(HOST4, source=OFFICE4) as office:
            assert office.state() == "alive"
            for family in FAMILIES:
                assert scene.prober.outcomes(family, now()) == {Outcome.SILENT}
            # and a window opens and shuts over it as over any other
            with testbed.daemon():
                assert testbed.net.ruleset() == scene.ruleset
                window = renewal.request()
                scene.prober.wait_for(Outcome.OPEN, "v4", since=now())
                renewal.finish()
                wait_state(testbed, window, "closed")
                # how soon after the end is for test_closing.py; it is shut before it says so
                assert scene.prober.outcomes("v4", now()) == {Outcome.SILENT}
                assert office.state() == "alive"
                assert testbed.net.ruleset() == scene.ruleset


def test_overlapping_windows(testbed):
    """Two profiles, one port: open until the later one ends."""
    first, second = Renewal(testbed, "first"), Renewal(testbed, "second", window="Ports=80/tcp 8443/tcp")
    with testbed.daemon(), Scene(testbed) as scene:
        one, two = first.request(), second.request()
        scene.connect()
        first.finish()
        wait_state(testbed, one, "closed")
        for family in FAMILIES:
            scene.prober.wait_for(Outcome.OPEN, family)
        for connection in scene.strangers:
            assert connection.state() == "alive"
        second.finish()
        wait_state(testbed, two, "closed")
        scene.assert_shut(now())
        scene.assert_swept()


def test_admitted_connections_are_counted(testbed):
    renewal = Renewal(testbed)
    with testbed.daemon(), Listener():
        window = renewal.request()
        with HeldConnection(ADDRESSES["v4"]), HeldConnection(ADDRESSES["v6"]), HeldConnection(HOST4, source=OFFICE4):
            wait_until(lambda: state(testbed, window, "AdmittedConnections") == 2, "two strangers to be counted")
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "AdmittedConnections") == 2


def test_connections_are_counted_for_their_window(testbed):
    """Two windows, two ports: each counts its own, also over the other's end and a foreign reload."""
    first, second = Renewal(testbed, "first"), Renewal(testbed, "second", window="Ports=8080/tcp")
    with testbed.daemon() as daemon, Listener(80), Listener(8080):
        one, two = first.request(), second.request()
        with HeldConnection(HOST4, 80), HeldConnection(HOST4, 80), HeldConnection(HOST4, 8080):
            wait_until(lambda: state(testbed, one, "AdmittedConnections") == 2, "the first's two")
            wait_until(lambda: state(testbed, two, "AdmittedConnections") == 1, "the second's one")
        first.finish()
        wait_state(testbed, one, "closed")
        testbed.net.replace(DEFAULT_DENY)
        wait_until(lambda: "put back" in daemon.text(), "the repair to be told")
        with HeldConnection(HOST4, 8080):
            wait_until(lambda: state(testbed, two, "AdmittedConnections") == 2, "the second's second")
        second.finish()
        wait_state(testbed, two, "closed")
        assert (state(testbed, one, "AdmittedConnections"), state(testbed, two, "AdmittedConnections")) == (2, 2)


def test_first_and_last_in_one_chain(testbed):
    """Both precedences at once; a failing third leaves them alone."""
    last = Renewal(testbed, "last")
    first = Renewal(testbed, "first", window="Ports=8080/tcp", gate="[Gate]\nPrecedence=first\n")
    with testbed.daemon(), Listener(80), Listener(8080):
        one = last.request()
        with HeldConnection(HOST4, 80) as held:
            two = first.request()
            wrong = Renewal(testbed, "wrong", gate="[Gate]\nChain=inet fw nowhere\n")
            with pytest.raises(BusError, match="does not exist"):
                wrong.request()
            own = Renewal(testbed, "own", gate="[Gate]\nChain=inet postern input\n")
            with pytest.raises(BusError, match="Chain= names a chain of posternd's own table postern, which comes and goes"):
                own.request()
            with HeldConnection(HOST4, 8080) as other:
                assert (held.state(), other.state()) == ("alive", "alive")
            ours = [number for number, line in enumerate(rules(testbed)) if line.endswith('"postern:gate"')]
            assert ours == [0, len(rules(testbed)) - 1]
            first.finish()
            wait_state(testbed, two, "closed")
            assert held.state() == "alive"
        last.finish()
        wait_state(testbed, one, "closed")


def test_office_of_an_earlier_window(testbed):
    """Who was admitted by the host during a window on one port is not another window's on another."""
    a = Renewal(testbed, "a")
    b = Renewal(testbed, "b", window="Ports=8080/tcp", gate="[Gate]\nPrecedence=first\n")
    with testbed.daemon(), Listener(80), Listener(8080):
        window = a.request()
        with HeldConnection(HOST4, source=OFFICE4) as office:
            a.finish()
            wait_state(testbed, window, "closed")
            window = b.request()
            assert office.state() == "alive"
            b.finish()
            wait_state(testbed, window, "closed")
            assert office.state() == "alive"


def test_icmp_errors_do_not_cut(testbed):
    """A path with a smaller MTU says so; the connection that it says it of goes on."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Listener():
        window = renewal.request()
        with HeldConnection(HOST4) as held:
            assert held.state() == "alive"
            mine, theirs = held.ports()
            quoted = ip_header(HOST4, STRANGER4, socket.IPPROTO_TCP, 40) + struct.pack("!HHI", theirs, mine, 0)
            error = struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + quoted
            error = error[:2] + struct.pack("!H", checksum(error)) + error[4:]
            with netns("internet"), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
                raw.sendto(error, (HOST4, 0))
            assert held.state() == "alive"
            assert held.state() == "alive"
        renewal.finish()
        wait_state(testbed, window, "closed")


def ip_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0x4000, 64, protocol, 0)
    header += socket.inet_aton(source) + socket.inet_aton(destination)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request_shortest(renewal: Renewal) -> str:
    """A window as short as this machine can open one today: as long as opening it takes too long, the
    answer says to ask for a longer one."""
    for seconds in (8, 16, 32, 64):
        try:
            return renewal.request(seconds)
        except BusError as error:
            assert error.name.endswith(".GateFailed") and "ask for a longer window" in str(error), error
    return renewal.request(128)


@pytest.mark.parametrize("rules_before", [0, 20_000])
def test_deadline_holds_on_a_large_ruleset(testbed, rules_before):
    """However long reading the ruleset takes: the kernel's own timer is not late for it."""
    many = "".join(f"ip saddr 198.18.{n // 256 % 256}.{n % 256} tcp dport {n % 60000 + 1} drop\n" for n in range(rules_before))
    testbed.net.nft("table inet large { chain many { " + many + "}\n}" if many else "table inet large { }")
    renewal = Renewal(testbed)
    with testbed.daemon() as daemon, Listener(), Prober() as prober:
        asked = now()
        window = request_shortest(renewal)
        until = state(testbed, window, "DeadlineBoottime") * 1000
        daemon.stop()
        # not from now on: little may be left of it
        prober.wait_for(Outcome.OPEN, "v4", since=asked)
        wait_until(lambda: now() > until, "the deadline")
        assert prober.outcomes("v4", until + 60_000_000, 50) == {Outcome.SILENT}
        daemon.cont()
        wait_state(testbed, window, "closed", patience=60)


def test_a_second_broker_is_refused(testbed):
    """One host, one broker: the tables of a living one are left alone."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Listener(), Prober() as prober:
        window = renewal.request()
        during = testbed.net.ruleset()
        with pytest.raises(AssertionError, match="ended with 1"):
            testbed.daemon().start()
        assert testbed.net.ruleset() == during
        prober.wait_for(Outcome.OPEN, "v4", since=now())
        renewal.finish()
        wait_state(testbed, window, "closed")
