# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may not have a window: nothing is opened, and not a byte of the ruleset changes."""

import subprocess

import pytest
from probe import FAMILIES, Listener, Outcome, Prober
from process import in_netns, now, run, wait_until
from scene import Renewal, saved_ruleset, state, wait_state
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
        # in JSON, nft 1.0.6 writes anything for the flag of a table with an owner
        wait_until(lambda: "chain in" in saved_ruleset(testbed), "their chain")
        before = saved_ruleset(testbed)
        says = r"Chain inet theirs in denies, and the program with netlink port \d+ owns its table, so nobody else can add"
        with pytest.raises(BusError, match=says) as refusal:
            Renewal(testbed).request()
        assert refusal.value.name == ERROR + "GateFailed"
        assert saved_ruleset(testbed) == before
        owner.stdin.close()
        owner.wait(20)


def test_jumps_without_end():
    """Each chain jumps to the next one twice: what becomes of a packet is followed up to a bound."""
    depth = 12
    chains = [f"chain c{n} {{ jump c{n + 1}; jump c{n + 1}; }}" for n in range(depth)]
    base = "chain in { type filter hook input priority 0; policy drop; jump c0; }"
    ruleset = f"table inet maze {{ chain c{depth} {{ counter; }}\n" + "\n".join([*reversed(chains), base]) + "\n}"
    with Testbed(ruleset) as testbed, testbed.daemon():
        before = testbed.net.ruleset()
        renewal = Renewal(testbed)
        with pytest.raises(BusError, match="jump to each other so often that what they do to a packet cannot be told") as refusal:
            renewal.request()
        assert refusal.value.name == ERROR + "GateFailed"
        assert not renewal.tree() and testbed.net.ruleset() == before


def test_legacy_iptables():
    """Its rules are seen by nobody who reads nftables: said before anything is opened."""
    with Testbed("") as testbed, testbed.daemon():
        try:
            run(["iptables-legacy", "-P", "INPUT", "DROP"], ns="host")
        except RuntimeError as problem:
            assert "does not exist" in str(problem), problem  # a kernel without it has nothing to be missed
            return
        before = testbed.net.ruleset()
        renewal = Renewal(testbed)
        with pytest.raises(BusError, match=r"Legacy iptables is loaded \(ip/filter\).*move to iptables-nft") as refusal:
            renewal.request()
        assert refusal.value.name == ERROR + "GateFailed"
        assert any(level == "error" and "ip/filter" in text for level, _, text in testbed.bus.call("Check", "s", "web")[0])
        assert not renewal.tree(), "the renewal ran although the gate could not be opened"
        assert testbed.net.ruleset() == before


def test_a_unit_without_a_service_manager(testbed):
    """Nobody would stop it if the helper were killed, so it is not started."""
    testbed.profile("unit", "[Renewal]\nUnit=certbot.service\n[Window]\nPorts=80/tcp\n")
    before = testbed.net.ruleset()
    with testbed.daemon():
        with pytest.raises(BusError, match=r"certbot.service is not started, as nobody would stop it.*elsewhere write Exec=") as refusal:
            testbed.bus.call("Renew", "stt", "unit", 0, 0, user="deploy")
        assert refusal.value.name == ERROR + "RunFailed"
        assert testbed.net.ruleset() == before
        found = {subject: level for level, subject, _ in testbed.bus.call("Check", "s", "unit")[0]}
        assert "Unit" in found and "Exec" not in found
