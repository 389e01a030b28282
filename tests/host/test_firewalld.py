# SPDX-License-Identifier: GPL-2.0-or-later
"""A host whose firewall is firewalld, as Debian installs it: posternd as installed, confined and nobody in
particular, opens and shuts through it by the leave of the rule for polkit that it brings."""

import contextlib
import signal

import pytest
from bus import NAME
from probe import FAMILIES, SELDOM, Listener, Outcome, Prober
from process import now, wait_until
from scene import TOLERANCE

SLEEP = "/bin/sleep 1000"
LONG = f"[Renewal]\nExec={SLEEP}\n[Window]\nPorts=80/tcp\n"
# so that what lies between two of them can be looked at
STAYS_DEAD = "[Service]\nRestart=no\n"


@pytest.fixture
def bus_kind():
    return "dbus-daemon"


class Site:
    """Somebody else's program serves the port; strangers knock."""

    def __init__(self, host) -> None:
        self.host = host

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(Listener())
            self.prober = stack.enter_context(Prober(interval=SELDOM))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def open_window(self):
        """Until strangers come in; who asked for it still waits."""
        call = self.host.start_renewing("deploy", "long")
        self.host.wait_window("long")
        since = now()
        for family in FAMILIES:
            self.prober.wait_for(Outcome.OPEN, family, since=since)
        assert self.ports() == ["80/tcp"]
        return call

    def ports(self) -> list[str]:
        return self.host.run("firewall-cmd", "--zone=public", "--list-ports").split()

    def assert_shut(self, event: int) -> None:
        """firewalld itself rejects; the guard drops."""
        for family in FAMILIES:
            outcomes = self.prober.outcomes(family, event + TOLERANCE, count=50)
            assert outcomes and Outcome.OPEN not in outcomes, f"{family}: {outcomes}"


@pytest.fixture
def site(host):
    host.run("systemctl", "disable", "--now", "nftables.service")
    host.run("systemctl", "start", "firewalld.service")
    # its unit counts as started before its rules are in the kernel
    assert host.run("firewall-cmd", "--state").strip() == "running"
    host.profile("long", LONG)
    rules = host.net.ruleset()
    with Site(host) as value:
        yield value
    assert host.show("firewalld.service", "ActiveState") == "active"
    assert value.ports() == []
    wait_until(lambda: host.net.ruleset() == rules, "the rules to be as before")
    # nothing was made to last
    assert host.run("firewall-cmd", "--permanent", "--zone=public", "--list-ports").split() == []


def test_window(site):
    host = site.host
    site.assert_shut(now())
    call = site.open_window()
    path = host.windows()[0][4]
    assert host.busctl("root", "get-property", NAME, path, f"{NAME}.Window", "Gate").data == "firewalld: public"
    assert host.busctl("deploy", "call", NAME, path, f"{NAME}.Window", "Close").ok
    event = now()
    site.assert_shut(event)
    text, _ = call.communicate(timeout=60)
    assert "canceled" in text, text
    assert site.ports() == []
    # another user may not do what the rule lets the broker's do
    refused = host.tried("busctl", "--system", "--allow-interactive-authorization=no", "call",
                         "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1",
                         "org.fedoraproject.FirewallD1.zone", "addPort", "sssi", "public", "8080", "tcp", "0",
                         user="deploy")  # fmt: skip
    assert refused.returncode != 0 and site.ports() == []


def test_sigkill_in_a_window(site):
    """Shut at once although firewalld still lists the port; the next start takes it away there."""
    host = site.host
    host.write("/etc/systemd/system/posternd.service.d/test.conf", STAYS_DEAD)
    host.run("systemctl", "daemon-reload")
    call = site.open_window()
    host.kill(signal.SIGKILL, host.main_pid())
    wait_until(lambda: host.main_pid() == 0, "posternd to be dead")
    event = now()
    site.assert_shut(event)
    call.communicate(timeout=60)
    wait_until(lambda: not host.matching(SLEEP), "the renewal to be gone")
    assert host.main_pid() == 0
    assert site.ports() == ["80/tcp"]
    host.run("systemctl", "start", "posternd.service")
    wait_until(lambda: site.ports() == [], "the close")
    site.assert_shut(event)
    wait_until(lambda: "postern" not in host.run("nft", "list", "tables"), "the guard to be gone")
