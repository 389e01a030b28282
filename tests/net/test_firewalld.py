# SPDX-License-Identifier: GPL-2.0-or-later
"""A host behind firewalld: a window opens in its zones, for as long as the window lasts and no longer,
whatever becomes of firewalld or of posternd, and its permanent configuration is never written."""

import contextlib

import pytest
from bus import MANAGER, PATH
from firewalld import Firewalld
from firewalld_gate import Pretender
from labels import let_in
from net import HOST4, HOST6
from probe import FAMILIES, SELDOM, HeldConnection, Listener, Outcome, Prober
from process import now, wait_until
from scene import TOLERANCE, Renewal, state, wait_state
from testbed import BusError, Testbed

TYPES = {"auto": "", "firewalld": "[Gate]\nType=firewalld"}


class Host:
    """Somebody else's program serves the port; a stranger knocks at it."""

    def __init__(self, testbed, firewalld) -> None:
        self.testbed, self.firewalld = testbed, firewalld

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(Listener())
            self.prober = stack.enter_context(Prober(interval=SELDOM))
            self.renewal = Renewal(self.testbed)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def daemon(self):
        return self.testbed.daemon()

    def profile(self, gate: str, name: str = "other") -> Renewal:
        return Renewal(self.testbed, name, gate=gate)

    def stranger(self, address: str = HOST4) -> HeldConnection:
        connection = self._stack.enter_context(HeldConnection(address))
        assert connection.state() == "alive"
        return connection

    def strangers(self) -> list[HeldConnection]:
        return [self.stranger(HOST4), self.stranger(HOST6)]

    def assert_open(self) -> None:
        for family in FAMILIES:
            self.prober.wait_for(Outcome.OPEN, family)

    def assert_shut(self, event: int | None = None) -> None:
        """firewalld itself rejects; the guard drops."""
        since = now() if event is None else event + TOLERANCE
        for family in FAMILIES:
            outcomes = self.prober.outcomes(family, since, count=50)
            assert Outcome.OPEN not in outcomes, f"{family}: {outcomes}"

    def owed(self) -> int:
        return self.testbed.bus.get(PATH, MANAGER, "OwedCloses")

    def records(self) -> list[str]:
        return sorted(path.name for path in (self.testbed.state / "owed").iterdir())

    def tables(self) -> set[str]:
        text = self.testbed.net.ruleset()
        return {name for name in ("postern", "postern_guard") if f'"name": "{name}"' in text}


@pytest.fixture
def host():
    """What firewalld has on disk, and what it lists and the kernel enforces, is afterwards as before."""
    with Testbed("") as testbed, Firewalld(testbed) as firewalld, Host(testbed, firewalld) as host:
        files, rules = firewalld.files(), testbed.net.ruleset()
        yield host
        assert firewalld.files() == files
        assert firewalld.ports() == []
        assert testbed.net.ruleset() == rules
        assert not let_in()


@pytest.mark.parametrize("kind", TYPES)
def test_window(host, kind):
    renewal = host.profile(TYPES[kind])
    host.assert_shut()
    with host.daemon():
        window = renewal.request()
        assert state(host.testbed, window, "Gate") == "firewalld: public"
        assert host.firewalld.ports() == ["80/tcp"]
        host.assert_open()
        strangers = host.strangers()
        assert len(host.records()) == 1
        renewal.finish()
        wait_state(host.testbed, window, "closed")
        event = now()
        assert host.firewalld.ports() == []
        host.assert_shut(event)
        assert all(connection.state() != "alive" for connection in strangers)
        assert state(host.testbed, window, "Result") == "success"
        assert state(host.testbed, window, "AdmittedConnections") >= len(strangers)
        assert host.records() == [] and host.owed() == 0
        wait_until(lambda: not host.tables(), "our tables to be gone")


def test_deadline(host):
    """Shut by the kernel's own timer while posternd and firewalld are both stopped."""
    with host.daemon() as daemon:
        window = host.renewal.request(8)
        host.assert_open()
        deadline = state(host.testbed, window, "DeadlineBoottime") * 1000
        daemon.stop()
        host.firewalld.stop()
        try:
            wait_until(lambda: now() > deadline, "the deadline")
            host.assert_shut(deadline)
        finally:
            host.firewalld.cont()
            daemon.cont()
        wait_state(host.testbed, window, "closed")
        assert host.firewalld.ports() == []


def test_zone(host):
    """Zone= is the only one in which it opens."""
    host.firewalld.command("--zone=dmz", "--add-interface=uplink")
    rightly, wrongly = (host.profile(f"[Gate]\nType=firewalld\nZone={zone}", zone) for zone in ("dmz", "work"))
    with host.daemon():
        window = wrongly.request()
        assert state(host.testbed, window, "Gate") == "firewalld: work"
        assert (host.firewalld.ports("dmz"), host.firewalld.ports("work")) == ([], ["80/tcp"])
        host.assert_shut()
        wrongly.finish()
        wait_state(host.testbed, window, "closed")

        window = rightly.request()
        assert (host.firewalld.ports("dmz"), host.firewalld.ports("work")) == (["80/tcp"], [])
        host.assert_open()
        rightly.finish()
        wait_state(host.testbed, window, "closed")
        assert host.firewalld.ports("dmz") == []
        with pytest.raises(BusError, match="firewalld has no zone nowhere: "):
            host.profile("[Gate]\nType=firewalld\nZone=nowhere", "bad").request()
    host.firewalld.command("--zone=dmz", "--remove-interface=uplink")
    host.firewalld.command("--reload")  # it leaves the chains of a zone that is not used any more


@pytest.mark.parametrize("how", ["port=80/tcp", "service=http"])
def test_already_open(host, how):
    """What the admin has open is left alone: nothing is opened, nobody is cut, and nothing is closed, not
    even when posternd is killed."""
    host.firewalld.command(f"--add-{how}")
    before = host.testbed.net.ruleset()
    with host.daemon():
        window = host.renewal.request()
        assert state(host.testbed, window, "Gate") == "none: firewalld has it open already: public"
        strangers = host.strangers()
        assert host.records() == []
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        assert all(connection.state() == "alive" for connection in strangers)
        host.assert_open()
        assert host.testbed.net.ruleset() == before
    daemon = host.daemon().start()
    host.renewal.request()
    daemon.kill9()
    host.assert_open()
    with host.daemon():
        host.assert_open()
        assert host.testbed.net.ruleset() == before
    host.firewalld.command(f"--remove-{how}")


def test_reload(host):
    """The window goes on for the time it had left."""
    with host.daemon():
        window = host.renewal.request()
        until = state(host.testbed, window, "DeadlineBoottime")
        for command in ("--reload", "--complete-reload"):
            host.firewalld.command(command)
            wait_until(lambda: host.firewalld.ports() == ["80/tcp"], "the port to be open again")
            host.assert_open()
        assert state(host.testbed, window, "DeadlineBoottime") == until
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        assert host.firewalld.ports() == []
        host.assert_shut()


def test_restart(host):
    with host.daemon():
        window = host.renewal.request()
        host.firewalld.end()
        host.firewalld.start()
        wait_until(lambda: host.firewalld.ports() == ["80/tcp"], "the port to be open again")
        host.assert_open()
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        assert host.firewalld.ports() == []
        host.assert_shut()


def test_killed_and_started(host):
    """A firewalld that starts after one was killed knows nothing of the rules that it finds in the
    kernel, and leaves them there, the window's port among them."""
    with host.daemon() as daemon:
        window = host.renewal.request()
        host.firewalld.kill9()
        host.firewalld.start()
        wait_until(lambda: host.firewalld.ports() == ["80/tcp"], "the port to be open again")
        host.assert_open()
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        event = now()
        assert host.firewalld.ports() == []
        host.assert_shut(event)
        assert host.owed() == 1 and host.tables() == {"postern_guard"}
        assert "rules of a firewalld that was killed are in the kernel still" in daemon.text()
        host.firewalld.command("--reload")
        wait_until(lambda: host.owed() == 0, "the close", 60)
        host.assert_shut(event)
        wait_until(lambda: not host.tables(), "the ban to end")


def test_killed(host):
    """posternd is: shut at once although firewalld still lists the port; the next one removes it."""
    daemon = host.daemon().start()
    host.renewal.request()
    host.assert_open()
    strangers = host.strangers()
    daemon.kill9()
    event = now()
    host.assert_shut(event)
    assert host.firewalld.ports() == ["80/tcp"] and host.tables() == {"postern_guard"}
    assert all(connection.state() != "alive" for connection in strangers)
    with host.daemon():
        wait_until(lambda: host.owed() == 0, "the close")
        assert host.firewalld.ports() == []
        host.assert_shut(event)
        wait_until(lambda: not host.tables(), "the ban to end")


def test_killed_and_reloaded(host):
    """Nothing is left to remove, and nothing that the admin has opened since is."""
    daemon = host.daemon().start()
    host.renewal.request()
    daemon.kill9()
    host.firewalld.end()
    host.firewalld.start()
    host.firewalld.command("--add-port=80/tcp")
    with host.daemon():
        wait_until(lambda: host.owed() == 0, "the close")
        assert host.firewalld.ports() == ["80/tcp"]
        wait_until(lambda: not host.tables(), "the ban to end")
        host.assert_open()
    host.firewalld.command("--remove-port=80/tcp")


def test_firewalld_killed(host):
    """And does not come back: the window ends, and its port is shut although the kernel still has
    firewalld's rules, which nobody can change."""
    with host.daemon() as daemon:
        window = host.renewal.request()
        host.assert_open()
        strangers = host.strangers()
        host.firewalld.kill9()
        wait_state(host.testbed, window, "closed")
        event = now()
        assert state(host.testbed, window, "Result") == "gate-failed"
        host.assert_shut(event)
        assert all(connection.state() != "alive" for connection in strangers)
        assert host.owed() == 1 and host.tables() == {"postern_guard"}
        assert "firewalld does not run, and its rules are in the kernel still: start it" in daemon.text()
        host.firewalld.start()
        host.assert_shut(event)
        host.firewalld.command("--reload")
        wait_until(lambda: host.owed() == 0, "the close", 60)
        host.assert_shut(event)
        wait_until(lambda: not host.tables(), "the ban to end")


def test_opened_again_while_the_last_close_is_owed(host):
    """A window that opens for each challenge. What the second opening has opened, in another firewalld, is
    written down as well: the next posternd closes it."""
    tokens = host.testbed.directory / "tokens"
    tokens.mkdir()
    tokens.chmod(0o755)
    window = f"Ports=80/tcp\nOpenOn=challenge\nChallengeDirectory={tokens}"
    renewal = Renewal(host.testbed, "challenge", window=window)
    daemon = host.daemon().start()
    window = renewal.request()
    (tokens / "one").write_text("x")
    wait_state(host.testbed, window, "open")
    host.firewalld.kill9()
    host.firewalld.start()
    wait_until(lambda: host.firewalld.ports() == ["80/tcp"], "the port to be open again")
    (tokens / "one").unlink()
    wait_state(host.testbed, window, "armed")
    assert host.owed() == 1 and host.firewalld.ports() == []
    # no attempt to close is under way when firewalld stops, and the next leaves the plan alone that it has not
    # answered
    wait_until(lambda: "tried again in 4 s" in daemon.text(), "two more attempts")
    host.firewalld.stop()
    (tokens / "two").write_text("x")
    since = now()
    wait_until(lambda: now() - since > 6_000_000_000, "time to pass")
    host.firewalld.cont()
    wait_state(host.testbed, window, "open")
    host.assert_open()
    daemon.kill9()
    event = now()
    daemon.wait()
    assert host.firewalld.ports() == ["80/tcp"]
    with host.daemon():
        wait_until(lambda: host.firewalld.ports() == [], "the close")
        assert host.owed() == 1
        host.firewalld.command("--reload")
        wait_until(lambda: host.owed() == 0 and not host.tables(), "nothing to be left", 60)
        host.assert_shut(event)


def test_firewalld_ended(host):
    """In order, and for good: it has taken its rules with it, so nothing is owed."""
    with host.daemon():
        window = host.renewal.request()
        host.firewalld.end()
        wait_state(host.testbed, window, "closed")
        assert state(host.testbed, window, "Result") == "gate-failed"
        assert host.owed() == 0
        with pytest.raises(BusError, match="firewalld does not run: "):
            host.profile(TYPES["firewalld"]).request()
        findings = host.testbed.bus.call("Check", "s", "other")[0]
        assert [text for level, subject, text in findings if (level, subject) == ("error", "firewalld")]
        window = host.renewal.request()
        assert state(host.testbed, window, "Gate").startswith("none: ")
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        host.firewalld.start()


def test_slow(host):
    """firewalld does not answer: refused after 10 s, and nothing is open when it answers at last; a
    window that is open then is shut on time, and what is owed is closed as soon as that is possible."""
    with host.daemon():
        host.firewalld.stop()
        try:
            with pytest.raises(BusError, match="firewalld did not answer .* within 10 s"):
                host.renewal.request()
        finally:
            host.firewalld.cont()
        assert host.firewalld.ports() == []
        host.assert_shut()

        window = host.renewal.request()
        host.assert_open()
        host.firewalld.stop()
        try:
            begun = now()
            host.renewal.finish()
            wait_until(lambda: "postern" not in host.tables(), "the lease to be gone")
            assert now() - begun < 9_000_000_000, "it waited for firewalld"
            host.assert_shut()
            wait_state(host.testbed, window, "closed")
            assert state(host.testbed, window, "Result") == "success"
            assert host.owed() == 1
            host.assert_shut()
        finally:
            host.firewalld.cont()
        wait_until(lambda: host.owed() == 0, "the close", 60)
        assert host.firewalld.ports() == []
        host.assert_shut()


# what firewalld does with addPort, and what the caller is told
REFUSALS = {
    "refuses": ("COMMAND_FAILED: nft", "firewalld refused addPort with COMMAND_FAILED: "),
    "denies": ("org.fedoraproject.FirewallD1.NotAuthorizedException|no", "polkit has to grant"),
    "dies": (Pretender.DIES, "firewalld did not answer addPort "),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name):
    """What was half opened is closed again."""
    answer, problem = REFUSALS[name]
    with Testbed("") as testbed, Pretender(testbed, addPort=answer) as pretender, Host(testbed, None) as host:
        before = testbed.net.ruleset()
        with testbed.daemon():
            with pytest.raises(BusError, match=problem) as caught:
                host.renewal.request()
            assert caught.value.name == "org.postern.Renewal1.Error.GateFailed"
            wait_until(lambda: host.owed() == 0 and not host.tables(), "nothing to be left")
            assert testbed.net.ruleset() == before and host.records() == []
            removed = [call for call in pretender.calls() if call.startswith("removePort")]
            assert removed == ([] if name == "dies" else ["removePort public 80 tcp"])


def test_two_windows(host):
    """The port is closed with the last of them."""
    other = host.profile("")
    with host.daemon():
        first, second = host.renewal.request(), other.request()
        host.renewal.finish()
        wait_state(host.testbed, first, "closed")
        assert host.firewalld.ports() == ["80/tcp"]
        host.assert_open()
        other.finish()
        wait_state(host.testbed, second, "closed")
        assert host.firewalld.ports() == []
        host.assert_shut()


def test_beside_another_firewall(host):
    """A chain of the admin's own that denies as well gets the window's rule; firewalld's get none."""
    host.testbed.net.nft("""table inet filter { chain input { type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    }""")
    with host.daemon():
        host.assert_shut()
        window = host.renewal.request()
        assert state(host.testbed, window, "Gate") == "nftables: inet filter input; firewalld: public"
        findings = host.testbed.bus.call("Check", "s", "web")[0]
        assert [subject for _, subject, _ in findings][1:3] == ["firewalld", "inet filter input"]
        assert "runs, and a window opens its ports in firewalld's zones" in findings[1][2]
        host.assert_open()
        host.renewal.finish()
        wait_state(host.testbed, window, "closed")
        host.assert_shut()
    host.testbed.net.nft("delete table inet filter")
