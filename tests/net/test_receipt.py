# SPDX-License-Identifier: GPL-2.0-or-later
"""How many came and from how many networks, and what the hint makes of that when a renewal has failed."""

import contextlib

import pytest
from net import HOST4, HOST6, STRANGER4, STRANGER6
from probe import HeldConnection, Listener
from process import Process, as_user, run, wait_until
from scene import PATIENCE, Renewal, state, wait_state
from testbed import build_directory

# of other networks than the strangers'
FAR4, FURTHER4, FAR6 = "198.51.100.1", "192.0.2.1", "2001:db8:2::1"
# of the same ones as FAR4 and FAR6
NEAR_FAR4, NEAR_FAR6 = "198.51.100.254", "2001:db8:2:ffff::1"
ALL = [STRANGER4, STRANGER4, FAR4, NEAR_FAR4, FURTHER4, STRANGER6, STRANGER6, FAR6, NEAR_FAR6]


@pytest.fixture
def host(testbed):
    for prefix in ("198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32"):
        run(["ip", "-n", "host", "route", "add", prefix, "dev", "uplink"])
    with testbed.daemon() as daemon, Listener():
        testbed.posternd = daemon
        yield testbed


class Visitors:
    """Connections that came in, each from an address; held until the end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._known = {STRANGER4, STRANGER6}

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def come(self, *sources: str) -> None:
        for source in sources:
            is_ipv6 = ":" in source
            if source not in self._known:
                self._known.add(source)
                run(["ip", "-n", "internet", "address", "add", source, "dev", "uplink", *(["nodad"] if is_ipv6 else [])])
            connection = HeldConnection(HOST6 if is_ipv6 else HOST4, source=source)
            assert self._stack.enter_context(connection).state(PATIENCE) == "alive"


def end(host, renewal: Renewal, window: str, status: int = 1) -> tuple[int, int, bool, str]:
    """What is told of the window when it is closed."""
    renewal.finish(status)
    wait_state(host, window, "closed")
    names = ("AdmittedConnections", "SourceNetworks", "SourceNetworksComplete", "Hint")
    return tuple(state(host, window, name) for name in names)


def test_networks(host):
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        assert (state(host, window, "SourceNetworks"), state(host, window, "SourceNetworksComplete")) == (0, False)
        visitors.come(*ALL)
        admitted, networks, complete, hint = end(host, renewal, window)
    assert (admitted, networks, complete) == (len(ALL), 5, True)
    assert f"{len(ALL)} connections came in, from 5 networks, so the port was reached" in hint and "All came" not in hint
    # neither here nor anywhere else is it told who that was
    objects = repr(host.bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager"))
    assert not any(address.rpartition(":" if ":" in address else ".")[0] in objects for address in ALL)


def test_connections_that_have_ended(host):
    renewal = Renewal(host)
    window = renewal.request()
    with Visitors() as visitors:
        visitors.come(*ALL)
    assert end(host, renewal, window)[:3] == (len(ALL), 5, True)


@pytest.mark.parametrize("sources, words", [
    ([STRANGER4, FAR4], "from 2 networks, so the port was reached: look at what answered there. All came over IPv4: if"),
    ([STRANGER6, STRANGER6], "2 connections came in, from 1 network, so the port was reached: look at what answered "
                             "there. All came over IPv6, which authorities prefer"),
], ids=["v4", "v6"])  # fmt: skip
def test_one_family(host, sources, words):
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        visitors.come(*sources)
        assert words in end(host, renewal, window)[3]


def test_other_family_is_open_anyway(host):
    """Then those of it are not the window's, and that none came by it means nothing."""
    host.net.nft("add rule inet filter input meta nfproto ipv6 tcp dport 80 accept")
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        visitors.come(STRANGER4, STRANGER6)
        admitted, networks, complete, hint = end(host, renewal, window)
    assert (admitted, networks, complete) == (1, 1, True)
    assert "1 connection came in, from 1 network," in hint and "All came" not in hint


def test_more_connections_than_are_remembered(host):
    renewal = Renewal(host)
    window = renewal.request()
    for _ in range(257):
        with HeldConnection():
            pass
    admitted, networks, complete, hint = end(host, renewal, window)
    # a SYN that is sent again may be another one by then
    assert admitted >= 257 and (networks, complete) == (1, False)
    assert "from at least 1 network," in hint and "All came" not in hint


def test_connections_that_the_kernel_has_forgotten(host):
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        # nobody looks meanwhile
        host.posternd.stop()
        visitors.come(STRANGER4, FAR4)
        run(["conntrack", "-D", "-p", "tcp", "-s", FAR4], ns="host")
        host.posternd.cont()
        admitted, networks, complete, hint = end(host, renewal, window)
    assert (admitted, networks, complete) == (2, 1, False)
    assert "from at least 1 network," in hint and "All came" not in hint


def test_looked_at_before_the_kernel_forgets(host):
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        for number, source in enumerate((STRANGER4, FAR4), 1):
            visitors.come(source)
            wait_until(lambda: state(host, window, "SourceNetworks") == number, "the visitor to be seen")
        assert not state(host, window, "SourceNetworksComplete"), "there may be more yet"
        for source in (STRANGER4, FAR4):
            run(["conntrack", "-D", "-p", "tcp", "-s", source], ns="host")
        assert end(host, renewal, window)[:3] == (2, 2, True)


@pytest.mark.parametrize("visitors", [[], [STRANGER4]], ids=["nobody", "somebody"])
def test_success_is_no_problem(host, visitors):
    """An authority that remembers an earlier proof sends nobody."""
    renewal = Renewal(host)
    with Visitors() as come:
        window = renewal.request()
        come.come(*visitors)
        assert end(host, renewal, window, 0) == (len(visitors), len(visitors), True, "")


def test_two_windows_on_one_port(host):
    first, second = Renewal(host, "web"), Renewal(host, "mail")
    with Visitors() as visitors:
        windows = first.request(), second.request()
        visitors.come(STRANGER4)
        assert end(host, first, windows[0])[:3] == (1, 1, True)
        visitors.come(FAR4)
        assert end(host, second, windows[1])[:3] == (2, 2, True)


def test_window_that_opens_twice(host):
    directory = host.directory / "challenges"
    directory.mkdir()
    directory.chmod(0o755)
    renewal = Renewal(host, window=f"Ports=80/tcp\nOpenOn=challenge\nChallengeDirectory={directory}")
    with Visitors() as visitors:
        window = renewal.request()
        for source in (STRANGER4, FAR6):
            (directory / "token").touch()
            wait_state(host, window, "open")
            visitors.come(source)
            (directory / "token").unlink()
            wait_state(host, window, "armed")
        assert end(host, renewal, window)[:3] == (2, 2, True)


def test_door_that_is_lost(host):
    """Who came is known, too, where the window ends since the firewall does not let it stay."""
    renewal = Renewal(host)
    with Visitors() as visitors:
        window = renewal.request()
        visitors.come(STRANGER4, FAR6)
        # a denial on an earlier hook, which no rule of a window's can do anything about
        host.net.nft("table inet early { chain pre { type filter hook prerouting priority -400; policy drop; }; }")
        wait_state(host, window, "closed")
        assert state(host, window, "Result") == "gate-failed"
        told = [state(host, window, name) for name in ("AdmittedConnections", "SourceNetworks", "SourceNetworksComplete")]
    assert told == [2, 2, True]


def test_receipt_of_the_client(host):
    renewal = Renewal(host)
    command = [*as_user("deploy"), str(build_directory() / "src/client/postern"), "renew", "web"]
    with Visitors() as visitors, Process(command, environment=host.bus.environment) as client:
        client.wait_ready(lambda: "web: open" in client.text(), "the window")
        visitors.come(STRANGER4, STRANGER4, FAR6)
        renewal.finish(3)
        assert client.wait(PATIENCE) == 1
    assert "web: failed, exit status 3" in client.text()
    assert "let in    3 connections from 2 networks" in client.text()
