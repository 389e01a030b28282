# SPDX-License-Identifier: GPL-2.0-or-later
"""A host during a window: who knocks, who is connected, and what must have become of them afterwards."""

import contextlib
import os
from collections.abc import Set

from labels import let_in
from net import HOST4, HOST6, OFFICE4, OFFICE6
from probe import FAMILIES, HeldConnection, Listener, Outcome, Prober
from process import now, processes, run, wait_until
from testbed import Testbed, leftovers

WINDOW = "org.postern.Renewal1.Window"
ADDRESSES = {"v4": HOST4, "v6": HOST6}
OFFICES = {"v4": OFFICE4, "v6": OFFICE6}
PATIENCE = 20  # seconds for an answer that has to come
TOLERANCE = 100_000_000  # ns from the event until no new connection may be let in

# The renewal of these tests: leaves a process behind that ignores TERM in a session of its own, then
# ends when it is told how.
RENEWAL = """#!/bin/sh
setsid sh -c 'trap "" TERM; : stubborn-{name}; while :; do sleep 1; done' &
read status < {fifo}
exit "$status"
"""


class Renewal:
    """A profile whose run ends when the test says so."""

    def __init__(self, testbed: Testbed, name: str = "web", *, window: str = "Ports=80/tcp", gate: str = "") -> None:
        self.testbed, self.name = testbed, name
        self._fifo = testbed.directory / f"{name}.fifo"
        os.mkfifo(self._fifo)
        script = testbed.directory / f"{name}.sh"
        script.write_text(RENEWAL.format(name=name, fifo=self._fifo))
        script.chmod(0o755)
        testbed.profile(name, f"[Renewal]\nExec={script}\n[Window]\n{window}\n{gate}")

    def request(self, seconds: int = 600, *, user: str = "deploy") -> str:
        """Asks for a window: its path. Returns when it is open."""
        return self.testbed.bus.call("RequestWindow", "stt", self.name, seconds * 1_000_000, 0, user=user)[0]

    def finish(self, status: int = 0) -> None:
        with open(self._fifo, "w") as fifo:
            fifo.write(f"{status}\n")

    def tree(self) -> list[str]:
        """What still runs of it."""
        return [line for line in processes().values() if f"stubborn-{self.name}" in line]


def state(testbed: Testbed, window: str, name: str = "State"):
    return testbed.bus.get(window, WINDOW, name)


def wait_state(testbed: Testbed, window: str, wanted: str, patience: float = 20) -> None:
    wait_until(lambda: state(testbed, window) == wanted, f"{window} to be {wanted}", patience)


def printed(testbed: Testbed, told: str) -> str:
    """By a window's renewal. told: its path, or a text that names it to who is to read on there."""
    path = "/org/postern/Renewal1/window/" + told.split("/window/")[1].split()[0]
    return "\n".join(testbed.bus.call("GetLog", "u", 0, path=path, interface=WINDOW, user="deploy")[0])


class Scene:
    """Strangers and the office, connected to a program of somebody else's on port 80; a second port
    that nobody ever may reach."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.ruleset = self.testbed.net.ruleset()
            self.leftovers = leftovers()
            stack.enter_context(Listener(80))
            stack.enter_context(Listener(8080))
            self.prober = stack.enter_context(Prober(80))
            self._other = stack.enter_context(Prober(8080))
            self.office_before = self._connect(stack, OFFICES)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    @staticmethod
    def _connect(stack: contextlib.ExitStack, sources: dict | None = None) -> list[HeldConnection]:
        return [
            stack.enter_context(HeldConnection(ADDRESSES[family], source=sources and sources[family]))
            for family in FAMILIES
        ]

    def connect(self) -> None:
        """During the window: strangers who will speak again at once, strangers who keep silent, the
        office."""
        for family in FAMILIES:
            self.prober.wait_for(Outcome.OPEN, family)
        # or these wait with its knocks for the limit on new connections
        self.prober.pause()
        self.strangers = self._connect(self._stack)
        self.idle = self._connect(self._stack)
        self.office_during = self._connect(self._stack, OFFICES)
        self.prober.resume()
        for connection in self.strangers + self.idle + self.office_before + self.office_during:
            assert connection.state(PATIENCE) == "alive"
        assert len(let_in()) >= len(self.strangers + self.idle)

    def assert_shut(self, event: int, lawful: Set[Outcome] = frozenset({Outcome.SILENT})) -> None:
        """No new connection from the event on (ns), none held past its next packet, the office untouched."""
        for family in FAMILIES:
            outcomes = self.prober.outcomes(family, max(event + TOLERANCE, 0), count=50)
            assert outcomes and outcomes <= lawful, f"{family} after the window: {outcomes}"
        for connection in self.strangers:
            assert connection.state() != "alive", "a stranger's connection outlived the window"
        self._assert_office()

    def assert_swept(self) -> None:
        """After a restart: the silent ones are dead too, and everything is as before."""
        for connection in self.strangers + self.idle:
            assert connection.state() != "alive", "a connection came back to life"
        self._assert_office()
        for family in FAMILIES:
            assert self.prober.outcomes(family, now()) == {Outcome.SILENT}
            if not self.testbed.net.host_was_open:
                reached = [knock for knock in self._other.knocks(family) if knock.outcome != Outcome.SILENT]
                assert not reached, f"port 8080 was reached, of {len(self._other.knocks(family))} knocks: {reached[:5]}"
        assert self.testbed.net.ruleset() == self.ruleset
        assert not let_in(), "connections that a window let in are still known"
        wait_until(lambda: not list(self.testbed.runtime.iterdir()), "the files to be gone")

    def _assert_office(self) -> None:
        for family in FAMILIES:
            with HeldConnection(ADDRESSES[family], source=OFFICES[family]) as new:
                assert new.state(PATIENCE) == "alive", "the office cannot come in any more"
        for connection in self.office_before + self.office_during:
            assert connection.state(PATIENCE) == "alive", "a connection that the host's own rule admitted was cut"


def saved_ruleset(testbed: Testbed) -> str:
    return run(["nft", "list", "ruleset"], ns="host")

