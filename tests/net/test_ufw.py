# SPDX-License-Identifier: GPL-2.0-or-later
"""A host behind ufw: a window opens behind the admin's own rules, ufw's commands work on during it, and
what ufw has on disk and in the kernel is afterwards what it was before."""

import contextlib

import pytest
import xtables
from net import HOST4, OFFICE4, STRANGER4, STRANGER6
from probe import FAMILIES, SELDOM, HeldConnection, Listener, Outcome, Prober
from process import now, wait_until
from scene import OFFICES, Renewal, Scene, state, wait_state
from testbed import Testbed
from ufw import Ufw

USER = {"v4": "ufw-user-input", "v6": "ufw6-user-input"}
STRANGERS = {"v4": STRANGER4, "v6": STRANGER6}


@pytest.fixture
def host():
    """With the office admitted, as in the other tests."""
    offices = [f"allow proto tcp from {office} to any port 80" for office in OFFICES.values()]
    with Testbed("") as testbed, Ufw(*offices) as testbed.ufw:
        testbed.renewal = Renewal(testbed)
        yield testbed


def is_last(family):
    rules = xtables.in_chain(family, USER[family])
    return [xtables.is_gate(rule) for rule in rules] == [False] * (len(rules) - 1) + [True]


def is_placed():
    """One rule in each family, at the end of the admin's, and none elsewhere."""
    return all(is_last(family) and len(xtables.gates(family)) == 1 for family in FAMILIES)


def without_gates():
    return [rule for rule in xtables.all_rules() if not xtables.is_gate(rule)]


def close(testbed, window):
    testbed.renewal.finish()
    wait_state(testbed, window, "closed")


def test_window(host):
    """Opened, used, shut: in the kernel one rule for each family more, on disk nothing."""
    before, files = xtables.all_rules(), host.ufw.files()
    told = host.ufw.run("status", "verbose")
    with Scene(host) as scene, host.daemon():
        found = host.bus.call("Check", "s", "web")[0]
        places = [(level, subject) for level, subject, _ in found if " " in subject]
        assert places == [("ok", "ip filter ufw-user-input"), ("ok", "ip6 filter ufw6-user-input")]
        window = host.renewal.request()
        scene.connect()
        assert state(host, window, "Gate") == "nftables: ip filter ufw-user-input, ip6 filter ufw6-user-input"
        assert is_placed()
        assert without_gates() == before
        assert host.ufw.run("status", "verbose") == told
        close(host, window)
        scene.assert_shut(now())
        scene.assert_swept()
    assert xtables.all_rules() == before
    assert host.ufw.run("status", "verbose") == told
    assert host.ufw.files() == files


def test_killed(host):
    """What posternd leaves when it is killed hinders ufw in nothing."""
    before = xtables.all_rules()
    with Scene(host) as scene:
        daemon = host.daemon().start()
        host.renewal.request()
        scene.connect()
        daemon.kill9()
        scene.assert_shut(now())
        assert is_placed()
        assert host.ufw.run("reload") == "Firewall reloaded\n"
        host.net.host_was_open = True  # as ever while ufw reloads
        wait_until(lambda: not host.renewal.tree(), "the renewal's tree to be gone")
        assert xtables.all_rules() == before
        with host.daemon():
            scene.assert_swept()
            assert xtables.all_rules() == before


# what an admin may type during a window, and by which rules ufw then has more
COMMANDS = {
    "allow": (["allow 443/tcp"], ["-A ufw-user-input -p tcp -m tcp --dport 443 -j ACCEPT",
                                  "-A ufw6-user-input -p tcp -m tcp --dport 443 -j ACCEPT"]),
    "insert": (["insert 1 deny from 192.0.2.7"], ["-A ufw-user-input -s 192.0.2.7/32 -j DROP"]),
    "add and delete": (["allow 443/tcp", "delete allow 443/tcp"], []),
    "reload": (["reload"], []),
    "disable and enable": (["disable", "--force enable"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_command_during_window(host, name):
    """Does what it would without a window; the window goes on for the time it had left, and holds its
    one rule for each family, behind the new ones."""
    commands, more = COMMANDS[name]
    before = xtables.all_rules()
    with host.daemon(), Listener(), Prober() as prober:
        window = host.renewal.request()
        until = state(host, window, "DeadlineBoottime")
        assert is_placed()
        for command in commands:
            host.ufw.run(*command.split())
        wait_until(is_placed, "the gate to be at the end again")
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        assert [rule for rule in without_gates() if rule not in more] == before
        assert [rule for rule in without_gates() if rule in more] == more
        assert state(host, window, "DeadlineBoottime") == until
        told = host.ufw.run("status")
        close(host, window)
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
        assert [rule for rule in xtables.all_rules() if rule not in more] == before
        assert host.ufw.run("status") == told


def test_not_put_back_in_the_middle(host):
    """A rule in the chain that ufw has just emptied would keep it from removing that chain, and the host
    from getting its rules again: posternd waits until nothing has changed for a second."""
    with host.daemon():
        window = host.renewal.request()
        begun = now()
        xtables.iptables("v4", "-F", USER["v4"])
        wait_until(is_placed, "the gate to be put back")
        assert now() - begun >= 1_000_000_000
        close(host, window)


# what an admin has said of the port before: whether strangers come in during the window, and whether
# they do anyway
OWN_RULES = {
    "allow 80/tcp": ({"v4": True, "v6": True}, True),
    "limit 80/tcp": ({"v4": False, "v6": False}, True),  # that is: not who knocks without end
    "deny 80/tcp": ({"v4": False, "v6": False}, False),
    f"deny from {STRANGER4}": ({"v4": False, "v6": True}, False),
}


@pytest.mark.parametrize("rule", OWN_RULES)
def test_own_rule(rule):
    """An admin's own rule about the port is afterwards what it was, and what it denies stays denied."""
    strangers, anyway = OWN_RULES[rule]
    with Testbed("") as testbed, Ufw(rule) as ufw, Listener(), Prober(interval=SELDOM) as prober:
        before, files, told = xtables.all_rules(), ufw.files(), ufw.run("status", "numbered")
        testbed.renewal = Renewal(testbed)
        for family in FAMILIES:  # until the limit is reached
            wait_until(lambda f=family: comes_in(prober, f) == (anyway and strangers[f]), "the rule to act")
        with testbed.daemon(), contextlib.ExitStack() as stack:
            window = testbed.renewal.request()
            assert is_placed()
            for family in FAMILIES:
                assert comes_in(prober, family) == strangers[family]
            held = [stack.enter_context(HeldConnection(HOST4, source=OFFICE4))] if anyway else []
            close(testbed, window)
            for connection in held:
                assert connection.state() == "alive", "a connection that ufw's own rule admitted was cut"
        assert (xtables.all_rules(), ufw.files(), ufw.run("status", "numbered")) == (before, files, told)


def comes_in(prober, family):
    return Outcome.OPEN in prober.outcomes(family, now(), 50)


def test_denied_during_window(host):
    """Denied while a window is open: ufw puts that behind the window's rule, where it does not stay."""
    with host.daemon(), Listener(), Prober() as prober:
        window = host.renewal.request()
        for family, stranger in STRANGERS.items():
            prober.wait_for(Outcome.OPEN, family)
            host.ufw.run("deny", "from", stranger)
            wait_until(is_placed, "the gate to be at the end again")
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
        close(host, window)


@pytest.mark.parametrize("incoming", ["REJECT", "ACCEPT"])
def test_default(incoming):
    """`ufw default reject` denies as well; by `ufw default allow` nothing is denied."""
    with Testbed("") as testbed, Ufw(incoming=incoming):
        before = xtables.all_rules()
        testbed.renewal = Renewal(testbed)
        with testbed.daemon(), Listener(), Prober(interval=SELDOM) as prober:
            window = testbed.renewal.request()
            if incoming == "REJECT":
                assert is_placed()
            else:
                assert state(testbed, window, "Gate").startswith("none:") and xtables.all_rules() == before
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family)
            close(testbed, window)
            for family in FAMILIES:
                assert comes_in(prober, family) == (incoming == "ACCEPT")
        assert xtables.all_rules() == before


def test_without_ipv6():
    """ufw then denies all of IPv6 in INPUT itself, and so does a window open there."""
    with Testbed("") as testbed, Ufw(ipv6=False):
        before = xtables.all_rules()
        testbed.renewal = Renewal(testbed)
        with testbed.daemon(), Listener(), Prober() as prober:
            window = testbed.renewal.request()
            prober.wait_for(Outcome.OPEN, "v4")
            chains = [chain for family in FAMILIES for chain, _, _ in xtables.gates(family)]
            assert chains == ["ufw-user-input", "INPUT"]
            close(testbed, window)
            assert prober.outcomes("v4", now()) == {Outcome.SILENT}
        assert xtables.all_rules() == before
