# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody else's firewall goes on admitting when the window is over, or posternd is dead: the guard
drops it, also on a host whose own rules admit everybody, until that firewall has closed."""

import contextlib
import socket

import pytest
from cloud import Cloud, records
from labels import let_in
from net import HOST4, HOST6, OFFICE4, OFFICE6, STRANGER4
from probe import FAMILIES, HeldConnection, Listener, Outcome, Prober
from process import netns, now, wait_until
from scene import PATIENCE, TOLERANCE, Renewal, wait_state
from testbed import Testbed
from bus import MANAGER, PATH, BusError

# a host without a firewall; one whose own rules admit the port
OPEN = {
    "no-firewall": "",
    "admitted": """
        table inet filter { chain input {
            type filter hook input priority 0; policy drop;
            ct state established,related accept
            iif "lo" accept
            meta l4proto { icmp, ipv6-icmp } accept
            tcp dport 80 accept
        }
        }
    """,
}


@pytest.fixture(params=OPEN)
def host(request):
    with Testbed(OPEN[request.param]) as testbed, Cloud() as testbed.cloud, contextlib.ExitStack() as stack:
        testbed.renewal = Renewal(testbed, gate=testbed.cloud.gate())
        stack.enter_context(Listener())
        testbed.prober = stack.enter_context(Prober())
        testbed.held = lambda address, source=None: stack.enter_context(HeldConnection(address, source=source))
        testbed.before = testbed.net.ruleset()
        yield testbed


def assert_silent(host, since: int) -> None:
    for family in FAMILIES:
        outcomes = host.prober.outcomes(family, since + TOLERANCE, count=50)
        assert outcomes == {Outcome.SILENT}, f"{family}: {outcomes}"


def assert_open(host) -> None:
    for family in FAMILIES:
        host.prober.wait_for(Outcome.OPEN, family)


def local_connection() -> None:
    with netns("host"):
        connection = socket.create_connection(("127.0.0.1", 80), timeout=PATIENCE)
    with connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"


def tables(host) -> set[str]:
    return {name for name in ("postern", "postern_guard") if f'"name": "{name}"' in host.net.ruleset()}


def owed(host) -> int:
    return host.bus.get(PATH, MANAGER, "OwedCloses")


def test_killed(host):
    """Shut at once although the cloud still admits everybody; and shut until that is closed, whoever lives."""
    office = [host.held(HOST4, OFFICE4), host.held(HOST6, OFFICE6)]
    daemon = host.daemon().start()
    host.renewal.request()
    assert_open(host)
    strangers = [host.held(HOST4), host.held(HOST6)]
    assert all(connection.state(PATIENCE) == "alive" for connection in strangers + office)
    daemon.kill9()
    event = now()
    assert_silent(host, event)
    daemon.wait()
    assert host.cloud.is_open() and tables(host) == {"postern_guard"}
    assert all(connection.state() != "alive" for connection in strangers)
    assert all(connection.state(PATIENCE) == "alive" for connection in office), "it had come in before the window"
    local_connection()

    host.cloud.broken.add("close")
    with host.daemon():
        assert_silent(host, event)
        assert host.cloud.is_open() and owed(host) == 1
        assert not let_in()
        host.cloud.broken.clear()
        wait_until(lambda: owed(host) == 0, "the close")
        wait_until(lambda: host.net.ruleset() == host.before, "the ban to end")
        # and the host is as open as it was
        host.cloud.change("open", ["80/tcp"])
        assert_open(host)


def test_closed(host):
    """A window that ends well leaves nothing."""
    with host.daemon():
        window = host.renewal.request()
        assert_open(host)
        stranger = host.held(HOST4)
        assert stranger.state(PATIENCE) == "alive"
        host.renewal.finish()
        wait_state(host, window, "closed")
        host.cloud.change("open", ["80/tcp"])
        assert stranger.state() != "alive"
        assert_open(host)
        assert host.net.ruleset() == host.before and records(host.state) == []


def test_owed_close(host):
    """The ban stands beside posternd, goes with nobody's `flush ruleset`, and outlives an end in order."""
    host.cloud.broken.add("close")
    with host.daemon() as daemon:
        window = host.renewal.request()
        assert_open(host)
        host.renewal.finish()
        wait_state(host, window, "closed")
        event = now()
        assert_silent(host, event)
        local_connection()
        assert owed(host) == 1 and tables(host) == {"postern_guard"}
        host.net.replace(host.net.ruleset_text)
        wait_until(lambda: tables(host) == {"postern_guard"}, "the ban to be back")
        event = now()
        assert_silent(host, event)
        daemon.sigterm()
        assert daemon.wait() == 0
        # not even what is not tracked gets in
        host.net.nft("table inet raw { chain pre { type filter hook prerouting priority -300; notrack; }; }")
        assert_silent(host, now())
        host.net.nft("delete table inet raw")
    host.cloud.broken.clear()
    with host.daemon():
        wait_until(lambda: owed(host) == 0, "the close")
        wait_until(lambda: host.net.ruleset() == host.before, "the ban to end")


def test_next_window_while_a_close_is_owed(host):
    """What is banned for the last one is open for this one, and banned again afterwards."""
    host.cloud.broken.add("close")
    with host.daemon():
        for _ in range(2):
            window = host.renewal.request()
            assert_open(host)
            host.renewal.finish()
            wait_state(host, window, "closed")
            event = now()
            assert_silent(host, event)
        assert owed(host) == 2
        host.cloud.broken.clear()
        wait_until(lambda: owed(host) == 0, "both closes")
        wait_until(lambda: host.net.ruleset() == host.before, "the ban to end")


def test_more_ports_than_can_be_banned():
    """Where the guard could not drop all that is to be closed elsewhere, nothing more is opened there."""
    gate = "[Gate]\nType=command\nOpenCommand=/bin/true\nCloseCommand=/bin/false\n"
    with Testbed("") as testbed, testbed.daemon():
        for number in range(9):  # 16 of 128 each time, and 16 more
            ports = " ".join(f"{8000 + 16 * number + n}/tcp" for n in range(16))
            testbed.profile(f"p{number}", f"[Renewal]\nExec=/bin/true\n[Window]\nPorts={ports}\n{gate}")
        for number in range(8):
            assert testbed.bus.call("Renew", "stt", f"p{number}", 0, 0, user="deploy")[0] == "success"
        assert owed(testbed) == 8
        with pytest.raises(BusError, match="too many ports are still to be closed in other firewalls: see why") as refusal:
            testbed.bus.call("Renew", "stt", "p8", 0, 0, user="deploy")
        assert refusal.value.name.endswith(".GateFailed")
        assert owed(testbed) == 8


def test_udp():
    """A datagram of a stranger's, and the answers to this host's own."""
    with Testbed("") as testbed, Cloud() as cloud, contextlib.ExitStack() as stack:
        renewal = Renewal(testbed, window="Ports=443/udp", gate=cloud.gate())

        def udp(ns: str, address: str, port: int) -> socket.socket:
            with netns(ns):
                made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.bind((address, port))
            made.settimeout(1)
            return made

        server, stranger, resolver = udp("host", HOST4, 443), udp("internet", STRANGER4, 0), udp("internet", OFFICE4, 53)
        daemon = testbed.daemon().start()
        renewal.request()
        stranger.sendto(b"1", (HOST4, 443))
        assert server.recv(10) == b"1"
        daemon.kill9()
        daemon.wait()
        assert cloud.is_open()
        for data in (b"2", b"3"):
            stranger.sendto(data, (HOST4, 443))
        with pytest.raises(TimeoutError):
            server.recv(10)
        server.sendto(b"question", (OFFICE4, 53))
        _, asker = resolver.recvfrom(10)
        resolver.sendto(b"answer", asker)
        assert server.recv(10) == b"answer"
        with testbed.daemon():
            wait_until(lambda: owed(testbed) == 0, "the close")
