# SPDX-License-Identifier: GPL-2.0-or-later
"""Reach=renewal: a window leads to sockets of the renewal's own, and is shut where it has none."""

import collections
import ctypes
import os
import socket
import struct
from pathlib import Path

import pytest
from bus import BusError
from net import HOST4, HOST6
from probe import FAMILIES, SELDOM, Listener, Outcome, Prober
from process import netns, now, processes, run, wait_until
from scene import state, wait_state

PROGRAM = Path(__file__).parents[1] / "lib/reach.py"
WINDOW = "Ports=80/tcp\nReach=renewal\nRateLimit=100/1h"


class Renewal:
    """Of a profile with Reach=renewal; what it does, the test says."""

    def __init__(self, testbed, name: str = "web", window: str = WINDOW) -> None:
        self._testbed, self._name = testbed, name
        self._fifo, self._log = testbed.directory / f"{name}.fifo", testbed.directory / f"{name}.log"
        os.mkfifo(self._fifo)
        testbed.profile(
            name, f"[Renewal]\nExec=/usr/bin/python3 {PROGRAM} {name} {self._fifo} {self._log}\n[Window]\n{window}\n"
        )

    def request(self) -> str:
        return self._testbed.bus.call("RequestWindow", "stt", self._name, 0, 0, user="deploy")[0]

    def tell(self, command: str, done: bool = True) -> None:
        """Returns when it is done."""
        before = self._done()
        with open(self._fifo, "w") as fifo:
            fifo.write(f"{command}\n")
        if done:
            wait_until(lambda: self._done() > before, f"the renewal to {command}")

    def _done(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


def settled(prober: Prober, family: str) -> set[Outcome]:
    return prober.outcomes(family, now())


def answers(address: str, tries: int, patience: float = 20) -> collections.Counter:
    """Who answered so many strangers; "" for a visit that ended with nothing, or took longer."""
    found: collections.Counter[str] = collections.Counter()
    with netns("internet"):
        for _ in range(tries):
            try:
                with socket.create_connection((address, 80), timeout=patience) as visit:
                    found[visit.recv(100).decode()] += 1
            except OSError:
                found[""] += 1
    return found


def test_only_while_it_listens(testbed):
    """No listener, listener, none again; and a second run, whose cgroup is another one."""
    renewal = Renewal(testbed)
    before = testbed.net.ruleset()
    with testbed.daemon(), Prober(interval=SELDOM) as prober:
        for _ in range(2):
            window = renewal.request()
            for family in FAMILIES:
                assert settled(prober, family) == {Outcome.SILENT}, "nobody listens"
            renewal.tell("listen")
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family, since=now())
            assert answers(HOST4, 20) == answers(HOST6, 20) == {"web": 20}
            renewal.tell("shut")
            for family in FAMILIES:
                assert settled(prober, family) == {Outcome.SILENT}, "it listens no more"
            renewal.tell("exit 0", done=False)
            wait_state(testbed, window, "closed")
            assert state(testbed, window, "Result") == "success"
            assert state(testbed, window, "AdmittedConnections") >= 40
            assert testbed.net.ruleset() == before


def test_somebody_else_listens(testbed):
    """A server of the host's own on the same port: strangers do not see it during the window either."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Listener(80), Prober() as prober:
        window = renewal.request()
        for family in FAMILIES:
            assert settled(prober, family) == {Outcome.SILENT}
        renewal.tell("exit 0", done=False)
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "AdmittedConnections") == 0


def always_first(server: socket.socket) -> None:
    """The program that picks among those who share the port: always the first."""
    code = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0
    buffer = ctypes.create_string_buffer(code)
    server.setsockopt(socket.SOL_SOCKET, 51, struct.pack("HP", 1, ctypes.addressof(buffer)))  # SO_ATTACH_REUSEPORT_CBPF


@pytest.mark.parametrize("selector", ["hash", "program"])
def test_port_is_shared(testbed, selector):
    """Two listeners with SO_REUSEPORT, one of them somebody else's: that one never answers a stranger."""
    renewal = Renewal(testbed)
    with testbed.daemon(), netns("host"):
        other = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if selector == "program":
            always_first(other)
        other.bind(("::", 80))
        other.listen(512)
        other.setblocking(False)
        window = renewal.request()
        renewal.tell("reuse")
        # a visit that leads to the other one gets no answer, however long it waits
        found = answers(HOST4, 15, 0.5) + answers(HOST6, 15, 0.5)
        print(dict(found))
        with pytest.raises(BlockingIOError):
            other.accept()
        other.close()
        assert found["web"] + found[""] == 30
        if selector == "hash":
            assert found["web"] > 0
            # alone, it gets all of them
            assert answers(HOST4, 10) == {"web": 10}
        renewal.tell("exit 0", done=False)
        wait_state(testbed, window, "closed")


def test_the_client_dies(testbed):
    """Killed, with the window open: shut, and nothing of the run is left."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Prober() as prober:
        window = renewal.request()
        renewal.tell("listen")
        prober.wait_for(Outcome.OPEN, "v4", since=now())
        renewal.tell("exit 9", done=False)
        # its name is gone before its socket is
        wait_until(lambda: not run(["ss", "-Htln", "sport", "=", ":80"], ns="host"), "nobody to listen")
        event = now()
        wait_state(testbed, window, "closed")
        assert not any(str(PROGRAM) in line for line in processes().values())
        for family in FAMILIES:
            assert prober.outcomes(family, event + 100_000_000) == {Outcome.SILENT}


def test_another_window_of_the_same_port(testbed):
    """One leads to its renewal, the other to everybody: neither takes from the other."""
    narrow = Renewal(testbed)
    wide = Renewal(testbed, "wide", "Ports=80/tcp\nRateLimit=100/1h")
    with testbed.daemon(), Prober(interval=SELDOM) as prober:
        windows = [narrow.request(), wide.request()]
        wide.tell("listen")
        assert answers(HOST4, 10) == answers(HOST6, 10) == {"wide": 10}
        wide.tell("exit 0", done=False)
        wait_state(testbed, windows[1], "closed")
        for family in FAMILIES:
            assert settled(prober, family) == {Outcome.SILENT}
        narrow.tell("listen")
        assert answers(HOST4, 10) == {"web": 10}
        narrow.tell("exit 0", done=False)
        wait_state(testbed, windows[0], "closed")


def test_certbot(testbed, acme):
    """certbot --standalone renews, and the port answers for a part of its run; with nothing due, never."""
    testbed.profile("due", acme.profile(force=True, extra="Reach=renewal\n"))
    testbed.profile("idle", acme.profile(force=False, extra="Reach=renewal\n"))
    with testbed.daemon(), Prober(interval=0.05) as prober:
        begun = now()
        due = testbed.renew("deploy", "due")
        ended = now()
        assert due.ok, due.text
        assert due.data[:2] == ["renewed", 0]
        reached = [knock.begun for family in FAMILIES for knock in prober.knocks(family, begun)
                   if knock.outcome != Outcome.SILENT]  # fmt: skip
        assert reached, "nobody got through"
        print(f"reachable for {(max(reached) - min(reached)) / 1e9:.3f} s of {(ended - begun) / 1e9:.3f} s")
        begun = now()
        idle = testbed.renew("deploy", "idle")
        assert idle.data[:2] == ["unchanged", 0]
        for family in FAMILIES:
            assert prober.outcomes(family, begun) == {Outcome.SILENT}


def test_no_control_groups(testbed):
    """A host with version 1 only: refused, with the reason, before anything is opened."""
    Renewal(testbed)
    mount = next(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()
                 if line.split()[2] == "cgroup2")  # fmt: skip
    through = ["unshare", "--mount", "sh", "-c", f'umount -l {mount} && exec "$@"', "sh"]
    before = testbed.net.ruleset()
    with testbed.daemon(through=through):
        with pytest.raises(BusError, match="control groups of version 2.*leave it out"):
            testbed.bus.call("RequestWindow", "stt", "web", 0, 0, user="deploy")
        assert testbed.net.ruleset() == before
