# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may not have a window: nothing is opened, and not a byte of the ruleset changes."""

import subprocess

import pytest
from probe import FAMILIES, Listener, Outcome, Prober
from process import in_netns, now, wait_until
from scene import Renewal, Scene, state, wait_state
from testbed import BusError, Testbed

ERROR = "org.postern.Renewal1.Error."


@pytest.fixture
def host():
    """A host that nobody may come to, watched."""
    with Testbed() as testbed:
        testbed.renewal = Renewal(testbed)
        before = testbed.net.ruleset()
        with testbed.daemon() as testbed.posternd, Listener(), Prober() as prober:
            yield testbed
            assert testbed.bus.call("ListWindows")[0] == []
            assert not testbed.renewal.tree()
            assert testbed.net.ruleset() == before
            for family in FAMILIES:
                assert prober.outcomes(family, now()) == {Outcome.SILENT}
                assert {knock.outcome for knock in prober.knocks(family)} == {Outcome.SILENT}


def refused(host, user="visitor"):
    with pytest.raises(BusError) as refusal:
        host.renewal.request(user=user)
    return refusal.value


def test_without_the_right(host):
    assert refused(host).name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
    answer = host.renew("visitor", "web")
    assert not answer.ok and answer.text


def test_rule_says_no(host):
    host.polkit.add_rule("polkit.addRule(function(action, subject) { return polkit.Result.NO; });")
    assert refused(host, "deploy").name == ERROR + "NotAuthorized"


def test_polkit_absent(host):
    host.polkit.kill9()
    wait_until(lambda: not host.bus.owner("org.freedesktop.PolicyKit1"), "polkit to be gone")
    for user in ("deploy", "root"):
        refusal = refused(host, user)
        assert refusal.name == ERROR + "NotAuthorized" and "polkitd" in refusal.text


def test_polkit_stopped_and_caller_gone(host):
    """Other methods answer meanwhile; a caller that leaves during the question leaves nothing."""
    host.polkit.stop()
    caller = host.bus.busctl_start("deploy", *host.renew_arguments("web"))
    wait_until(lambda: "asking polkit" in host.posternd.text(), "the question")
    begun = now()
    assert host.bus.call("ListWindows")[0] == []
    assert host.bus.call("ListProfiles")[0][0][0] == "web"
    assert now() - begun < 5_000_000_000
    caller.kill9()
    wait_until(lambda: "the caller left before the answer" in host.posternd.text(), "the caller to be missed")
    host.polkit.cont()
    # had it gone on, a window would be there before this next question is answered
    assert refused(host).name.endswith("InteractiveAuthorizationRequired")


def test_profile_changed_during_the_question(host):
    """What was authorised is what runs, or nothing."""
    host.polkit.stop()
    caller = host.bus.busctl_start("deploy", *host.renew_arguments("web"))
    wait_until(lambda: "asking polkit" in host.posternd.text(), "the question")
    host.profile("web", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=8080/tcp\n")
    host.polkit.cont()
    assert caller.wait() != 0
    assert "changed" in caller.text()
    wait_until(lambda: host.bus.call("ListWindows")[0] == [], "the window to be closed")


def test_without_net_admin():
    """The error names the capability; the daemon lives on, and runs what needs no firewall."""
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    with Testbed() as testbed, testbed.daemon(through=drop):
        before = testbed.net.ruleset()
        with pytest.raises(BusError, match="CAP_NET_ADMIN") as refusal:
            Renewal(testbed).request()
        assert refusal.value.name == ERROR + "GateFailed"
        assert any(level == "error" and "CAP_NET_ADMIN" in text for level, _, text in testbed.bus.call("Check", "s", "web")[0])
        assert testbed.net.ruleset() == before
        plain = Renewal(testbed, "plain", window="Ports=none")
        window = plain.request()
        plain.finish()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "Result") == "success"


def test_table_of_another_owner():
    """A denial in a table that somebody owns: nobody else can write there, and Postern says so."""
    with Testbed("") as testbed, testbed.daemon():
        owner = subprocess.Popen([*in_netns("host"), "nft", "-i"], stdin=subprocess.PIPE, text=True)
        owner.stdin.write(
            "add table inet theirs { flags owner; }\n"
            "add chain inet theirs in { type filter hook input priority 0; policy drop; }\n"
        )
        owner.stdin.flush()
        wait_until(lambda: "theirs" in testbed.net.ruleset() and "chain" in testbed.net.ruleset(), "their table")
        before = testbed.net.ruleset()
        with pytest.raises(BusError, match="inet theirs in.*owns") as refusal:
            Renewal(testbed).request()
        assert refusal.value.name == ERROR + "GateFailed"
        assert testbed.net.ruleset() == before
        owner.stdin.close()
        owner.wait(20)


def test_reserved_profiles(testbed):
    """What this version cannot do is refused as such, never half obeyed."""
    cases = {
        "reach": "[Window]\nPorts=80/tcp\nReach=renewal\n",
        "challenge": "[Window]\nPorts=80/tcp\nOpenOn=challenge\n",
        "firewalld": "[Window]\nPorts=80/tcp\n[Gate]\nType=firewalld\n",
        "command": "[Window]\nPorts=80/tcp\n[Gate]\nType=command\n",
    }
    for name, text in cases.items():
        testbed.profile(name, "[Renewal]\nExec=/bin/true\n" + text)
    good = Renewal(testbed, "good")
    with testbed.daemon(), Scene(testbed) as scene:
        problems = {name: problem for name, _, _, problem in testbed.bus.call("ListProfiles")[0]}
        for name in cases:
            assert "not available in this version" in problems[name]
            with pytest.raises(BusError, match="not available in this version") as refusal:
                testbed.bus.call("Renew", "stt", name, 0, 0, user="deploy")
            assert refusal.value.name == ERROR + "BadProfile"
        assert problems["good"] == ""
        window = good.request()
        scene.connect()
        event = now()
        good.finish()
        wait_state(testbed, window, "closed")
        scene.assert_shut(event)
        scene.assert_swept()
