# SPDX-License-Identifier: GPL-2.0-or-later
"""A host whose firewall is iptables-nft: its tools read, save and restore the rules during a window,
which differ by one rule alone; and that rule opens nothing by itself, whenever it comes back."""

import shutil
import socket
from pathlib import Path

import pytest
import xtables
from labels import let_in
from net import HOST4, STRANGER4
from probe import FAMILIES, SELDOM, HeldConnection, Listener, Outcome, Prober
from process import netns, new_directory, now, run, wait_until
from scene import Renewal, Scene, saved_ruleset, state, wait_state
from testbed import BusError, Testbed

# name: (what the host has, the chain that a window opens in, the rule that comes after it there)
SHAPES = {
    "policy": (xtables.denying(), "INPUT", None),
    "policy, nothing for established": (xtables.denying(established=False), "INPUT", None),
    "last rule drops, and says why": (
        xtables.denying(policy="ACCEPT", last='-A INPUT -m comment --comment "the rest" -j DROP'),
        "INPUT",
        '-A INPUT -m comment --comment "the rest" -j DROP',
    ),
    "rejects by protocol": (
        xtables.denying(
            last="-A INPUT -p tcp -j REJECT --reject-with tcp-reset\n-A INPUT -p udp -j REJECT\n-A INPUT -j DROP"
        ),
        "INPUT",
        "-A INPUT -p tcp -j REJECT --reject-with tcp-reset",
    ),
    "jump to log and drop": (
        xtables.denying(
            policy="ACCEPT",
            chains=":LOGDROP -\n-A LOGDROP -m limit --limit 5/min -j LOG\n-A LOGDROP -j DROP",
            last="-A INPUT -j LOGDROP",
        ),
        "LOGDROP",
        "-A LOGDROP -m limit --limit 5/min -j LOG",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name):
    """Where it opens, what iptables says of it during the window, and that nothing is left."""
    texts, chain, following = SHAPES[name]
    with Testbed("") as testbed:
        xtables.restore_all(texts)
        before, ruleset = xtables.all_rules(), testbed.net.ruleset()
        renewal = Renewal(testbed)
        with testbed.daemon(), Listener(), Prober(interval=SELDOM) as prober:
            found = testbed.bus.call("Check", "s", "web")[0]
            places = [subject for level, subject, _ in found if level == "ok" and " " in subject]
            assert places == [f"ip filter {chain}", f"ip6 filter {chain}"]
            window = renewal.request()
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family)
                assert_one_rule_more(family, chain, following)
                # its own tools, their status and what they read back
                saved = xtables.save(family)
                xtables.restore(family, saved)
                assert_readable(family)
                wait_until(lambda f=family: is_placed(f, chain, following), "the gate to be where it belongs")
            during = xtables.all_rules()
            assert [rule for rule in during if not xtables.is_gate(rule)] == before
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family)
            with HeldConnection(HOST4) as held:
                assert held.state() == "alive"
            renewal.finish()
            wait_state(testbed, window, "closed")
            for family in FAMILIES:
                assert Outcome.OPEN not in prober.outcomes(family, now())
                assert_readable(family)
            assert xtables.all_rules() == before
            assert testbed.net.ruleset() == ruleset


def assert_one_rule_more(family, chain, following):
    assert is_placed(family, chain, following), xtables.rules(family)
    assert len(xtables.gates(family)) == 1


def is_placed(family, chain, following):
    rules = [*xtables.in_chain(family, chain), None]
    positions = [n for n, rule in enumerate(rules) if rule and xtables.is_gate(rule)]
    return len(positions) == 1 and same_rule(rules[positions[0] + 1], following)


def same_rule(found, wanted):
    return found == wanted or (found and wanted and found.startswith(wanted))


def assert_readable(family):
    """-S and -save agree, and both read every rule (each fails where it cannot)."""
    listed = [line for line in xtables.iptables(family, "-S").splitlines() if line.startswith("-A")]
    assert listed == [rule for rule in xtables.rules(family) if rule.startswith("-A")]
    xtables.iptables(family, "-L", "-n", "-v")


def finish(testbed, renewal, window, daemon):
    renewal.finish()
    wait_state(testbed, window, "closed")
    return now()


def sigkill(testbed, renewal, window, daemon):
    daemon.kill9()
    return now()


def sigstop(testbed, renewal, window, daemon):
    event = state(testbed, window, "DeadlineBoottime") * 1000
    daemon.stop()
    wait_until(lambda: now() > event, "the deadline")
    return event


@pytest.mark.parametrize(
    ("end", "established"), [(finish, True), (finish, False), (sigkill, True), (sigkill, False), (sigstop, False)]
)
def test_end(end, established):
    """However it ends: shut at once, held connections dead, the office untouched."""
    with Testbed("") as testbed:
        xtables.restore_all(xtables.denying(established=established))
        before = xtables.all_rules()
        renewal = Renewal(testbed)
        with Scene(testbed) as scene:
            daemon = testbed.daemon().start()
            window = renewal.request(8 if end is sigstop else 600)
            scene.connect()
            event = end(testbed, renewal, window, daemon)
            scene.assert_shut(event)
            if end is sigkill:
                assert [len(xtables.gates(family)) for family in FAMILIES] == [1, 1], "there is nothing to sweep"
            if daemon.alive():
                daemon.cont()
            wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone", patience=10)
            assert daemon.end() == ""
            with testbed.daemon():
                scene.assert_swept()
                assert xtables.all_rules() == before


@pytest.mark.parametrize("established", [True, False], ids=["established", "stateless"])
def test_saved_ruleset_is_inert(established):
    """Saved during a window, restored after a crash and after a reboot: admits nothing. The next start
    takes it away, in the form that iptables-restore gives it."""
    with Testbed("") as testbed:
        xtables.restore_all(xtables.denying(established=established))
        before = xtables.all_rules()
        renewal = Renewal(testbed)
        with Scene(testbed) as scene:
            daemon = testbed.daemon().start()
            renewal.request()
            scene.connect()
            saved = {family: xtables.save(family) for family in FAMILIES}
            daemon.kill9()
            wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone")
            # as ever while iptables-restore replaces its table: seen some ten times in 400 restores
            testbed.net.host_was_open = True
            xtables.restore_all(saved)
            scene.assert_shut(now())
            assert [len(xtables.gates(family)) for family in FAMILIES] == [1, 1]
            with testbed.daemon():
                scene.assert_swept()
                assert xtables.all_rules() == before

            # after a reboot: no connection is known, no broker runs
            testbed.net.nft("flush ruleset")
            run(["conntrack", "-F"], ns="host")
            xtables.restore_all(saved)
            run(["conntrack", "-F"], ns="host")
            for family in FAMILIES:
                assert scene.prober.outcomes(family, now()) == {Outcome.SILENT}
            # in the kernel's words: our comment is a match now, and nft reads none
            assert "postern:gate" not in testbed.net.ruleset()
            assert "postern:gate" in xtables.save("v4")
            with testbed.daemon():
                assert xtables.all_rules() == before
                assert testbed.net.ruleset() == scene.ruleset


def test_saved_by_nft_is_inert():
    """In nft's words there is a native rule in its place, which iptables could not read any more (nor the
    rest of what nft makes of its rules). It opens nothing and is known again, too."""
    with Testbed("") as testbed:
        xtables.restore_all(xtables.denying())
        renewal = Renewal(testbed)
        with Listener(), Prober() as prober:
            daemon = testbed.daemon().start()
            renewal.request()
            saved = saved_ruleset(testbed)
            daemon.kill9()
            assert daemon.end() == ""
            testbed.net.nft("flush ruleset\n" + saved)
            assert saved_ruleset(testbed).count("postern:gate") == len(FAMILIES)
            for family in FAMILIES:
                assert prober.outcomes(family, now()) == {Outcome.SILENT}
            with testbed.daemon():
                assert "postern" not in saved_ruleset(testbed)


def test_stale_gate_during_another_window():
    """The gate of a crashed broker's window is restored while another broker's window is open: gone as
    soon as it is seen, and inert before."""
    with Testbed("") as testbed:
        texts = xtables.denying()
        xtables.restore_all(texts)
        before = xtables.all_rules()
        renewal = Renewal(testbed)
        with testbed.daemon() as daemon, Listener(), Prober() as prober:
            renewal.request()
            stale, saved = xtables.gates("v4"), {family: xtables.save(family) for family in FAMILIES}
            daemon.kill9()
        wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone")
        while True:
            with testbed.daemon() as daemon, Listener(), Prober() as prober:
                window = renewal.request()
                mine = xtables.gates("v4")
                if mine[0][1] == stale[0][1]:  # the same bit, 1 of 128: draw again
                    renewal.finish()
                    continue
                prober.wait_for(Outcome.OPEN, "v4")
                xtables.restore_all(saved)
                wait_until(lambda: [xtables.gates(f) for f in FAMILIES] == [mine, mine], "the gates to be its own")
                for family in FAMILIES:
                    prober.wait_for(Outcome.OPEN, family, since=now())

                daemon.stop()
                xtables.restore_all(saved)
                restored = now()
                assert xtables.gates("v4") == stale
                for family in FAMILIES:
                    assert prober.outcomes(family, restored) == {Outcome.SILENT}
                daemon.cont()
                renewal.finish()
                wait_state(testbed, window, "closed")
                wait_until(lambda: not let_in(), "the window's connections to be forgotten")
                assert xtables.all_rules() == before
                return


def test_what_the_host_admitted_does_not_pass_after_the_window():
    """A flow that the host's own limited rule let in during the window, and nobody answered, has label
    W; the gate that a killed broker left must not take it for one of the window's."""
    last = "-A INPUT -p udp --dport 80 -m limit --limit 1/hour --limit-burst 1 -j ACCEPT"
    with Testbed("") as testbed:
        xtables.restore_all(xtables.denying(last=last))
        renewal = Renewal(testbed, window="Ports=80/udp")
        with netns("host"):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind((HOST4, 80))
            server.settimeout(20)
        with testbed.daemon() as daemon, server:
            with netns("internet"):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with client:
                client.bind((STRANGER4, 0))
                client.connect((HOST4, 80))
                renewal.request()
                client.send(b"admitted by the host")
                assert server.recv(100) == b"admitted by the host"
                daemon.kill9()
                packets = gate_packets()
                client.send(b"late")
                wait_until(lambda: gate_packets() > packets, "the packet to pass the gate")
                client.send(b"later")
                server.setblocking(False)
                with pytest.raises(BlockingIOError):
                    server.recv(100)
        with testbed.daemon():
            assert not xtables.gates("v4")


def gate_packets():
    for line in xtables.iptables("v4", "-L", "INPUT", "-n", "-v", "-x").splitlines():
        if "postern:gate" in line:
            return int(line.split()[0])
    raise AssertionError("there is no gate")


def test_one_family_denies():
    """IPv6 is open to everybody: nothing is added there."""
    with Testbed("") as testbed:
        xtables.restore("v4", xtables.denying()["v4"])
        before, renewal = testbed.net.ruleset(), Renewal(testbed)
        with testbed.daemon(), Listener(), Prober() as prober:
            window = renewal.request()
            prober.wait_for(Outcome.OPEN, "v4")
            assert (len(xtables.gates("v4")), xtables.gates("v6")) == (1, [])
            assert state(testbed, window, "Gate") == "nftables: ip filter INPUT"
            renewal.finish()
            wait_state(testbed, window, "closed")
            assert prober.outcomes("v4", now()) == {Outcome.SILENT}
            prober.wait_for(Outcome.OPEN, "v6")
            assert testbed.net.ruleset() == before


NOTRACK = "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT\n"
FINDINGS = {
    "notrack": (xtables.denying()["v4"] + NOTRACK, "error", "ip raw PREROUTING takes every packet out"),
    "a program decides": (xtables.denying(last="-A INPUT -j NFQUEUE")["v4"], "note", "no chain on the input hook"),
    "denied earlier": ("*mangle\n:PREROUTING DROP\nCOMMIT\n", "error", "ip mangle PREROUTING denies by default"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_finding(name):
    """What iptables' own targets do, Check says as of nft's."""
    text, level, message = FINDINGS[name]
    with Testbed("") as testbed, testbed.daemon():
        xtables.restore("v4", text)
        Renewal(testbed)
        findings = testbed.bus.call("Check", "s", "web")[0]
        assert any(found == level and message in said for found, _, said in findings), findings


@pytest.fixture
def label_names():
    """/etc/xtables/connlabel.conf, in a copy of /etc."""
    copy = new_directory("etc") / "etc"
    shutil.copytree("/etc", copy, symlinks=True)
    run(["mount", "--bind", str(copy), "/etc"])
    Path("/etc/xtables").mkdir(exist_ok=True)
    yield Path("/etc/xtables/connlabel.conf")
    run(["umount", "/etc"])


def test_label_names(label_names):
    """iptables shows the names that an admin has given to labels; a file without any is its undoing, so
    there nothing is opened."""
    with Testbed("") as testbed:
        xtables.restore_all(xtables.denying())
        before, ruleset = xtables.all_rules(), testbed.net.ruleset()
        renewal = Renewal(testbed)
        with testbed.daemon(), Listener(), Prober() as prober:
            label_names.write_text("# none yet\n")
            with pytest.raises(BusError, match="connlabel.conf names no label"):
                renewal.request()
            assert testbed.net.ruleset() == ruleset

            label_names.write_text("".join(f"{bit}\tname-{bit}\n" for bit in range(128)))
            window = renewal.request()
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family)
                assert_readable(family)
                assert '--label "name-' in xtables.save(family)
                xtables.restore(family, xtables.save(family))
            renewal.finish()
            wait_state(testbed, window, "closed")
            assert xtables.all_rules() == before


def test_precedence_and_chain():
    """`Precedence=first` goes to the head of INPUT, `Chain=` where it says."""
    with Testbed("") as testbed:
        chains = ":world -\n-A world -j DROP"
        xtables.restore_all(xtables.denying(chains=chains, last="-A INPUT -i uplink -j world"))
        xtables.iptables("v4", "-I", "INPUT", "-s", STRANGER4, "-j", "DROP")
        first = Renewal(testbed, "first", gate="[Gate]\nPrecedence=first\n")
        named = Renewal(testbed, "named", gate="[Gate]\nChain=ip6 filter world\n")
        with testbed.daemon(), Listener(), Prober() as prober:
            window = first.request()
            prober.wait_for(Outcome.OPEN, "v4")
            assert xtables.is_gate(xtables.in_chain("v4", "INPUT")[0])
            first.finish()
            wait_state(testbed, window, "closed")
            window = named.request()
            prober.wait_for(Outcome.OPEN, "v6")
            assert xtables.is_gate(xtables.in_chain("v6", "world")[0])
            assert prober.outcomes("v4", now()) == {Outcome.SILENT}
            named.finish()
            wait_state(testbed, window, "closed")
