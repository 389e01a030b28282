# SPDX-License-Identifier: GPL-2.0-or-later
"""A long watch at the port: when it may have been open, and every knock and every held connection
held against that."""

import bisect
import contextlib
import random
import socket
from collections import Counter
from pathlib import Path

from net import HOST4, HOST6, STRANGER4, STRANGER6
from probe import FAMILIES, Outcome, Prober
from process import Process, netns, now, wait_until
from prober import RECORD

TOLERANCE = 50_000_000  # ns from the end of a window until no new connection may be let in
ENOUGH = 5  # knocks of each family at a port that must be shut, before it may be open again
FOR_EVER = 1 << 62


class Vigil:
    """The port is shut, but from may_open() until what end() is told."""

    def __init__(self, port: int = 80) -> None:
        self._port = port
        self._starts, self._ends = [0], [0]
        self._begun = now()
        self._offset, self._pending = 0, []
        self.outcomes: Counter = Counter()
        self.latest = {family: -FOR_EVER for family in FAMILIES}  # of the last ones let in, ns after an end

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                Process(["/usr/bin/python3", str(Path(__file__).with_name("echo.py")), str(self._port)], ns="host")
            )
            server.wait_ready(lambda: "listening" in server.text(), "its port")
            self._prober = stack.enter_context(Prober(self._port, patience=0.01))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def may_open(self) -> None:
        """From now on, if enough knocks have shown that it is shut."""
        until_shut = self._ends[-1] + TOLERANCE
        assert until_shut < FOR_EVER, "the window before has no end"
        seen: Counter = Counter()

        def enough() -> bool:
            for family, begun, _ in self._read():
                seen[family] += begun > until_shut
            return all(seen[family] >= ENOUGH for family in FAMILIES)

        for family, begun, *_ in self._pending:
            seen[family] += begun > until_shut
        wait_until(enough, "knocks at a port that is shut")
        self._settle()
        self._starts.append(now())
        self._ends.append(FOR_EVER)

    def end(self, event: int) -> None:
        """The window was over at this time (ns)."""
        self._ends[-1] = event

    def wait_visited(self) -> None:
        """The window is open: until somebody has come in over each family."""
        seen: set[str] = set()

        def visited() -> bool:
            self._read()
            seen.update(
                family
                for family, begun, _, outcome in self._pending
                if outcome is Outcome.OPEN and begun >= self._starts[-1]
            )
            return seen.issuperset(FAMILIES)

        wait_until(visited, "somebody to come in over each family")

    def _read(self) -> list:
        """What has come since the last time."""
        data = self._prober.data(self._offset)
        self._offset += len(data)
        new = [
            (FAMILIES[target], begun, ended, Outcome(outcome))
            for target, outcome, begun, ended in RECORD.iter_unpack(data)
        ]
        self._pending += new
        return [(family, begun, ended) for family, begun, ended, _ in new]

    def _settle(self) -> None:
        for family, begun, ended, outcome in self._pending:
            window = bisect.bisect_right(self._starts, begun) - 1
            late = begun - self._ends[window]
            soon = window + 1 < len(self._starts) and ended >= self._starts[window + 1]
            self.outcomes[family, "in time" if late <= TOLERANCE or soon else "shut", outcome.name] += 1
            if outcome is Outcome.SILENT or soon:
                continue
            assert late <= TOLERANCE, f"{family}: {outcome.name}, {late / 1e6:.3f} ms after window {window} was over"
            if outcome is Outcome.OPEN and late < FOR_EVER / 2:
                self.latest[family] = max(self.latest[family], late)
        self._pending = []

    def check(self) -> None:
        """Everything up to now; the last window is over."""
        self.may_open()
        self.end(self._starts[-1])

    def report(self) -> str:
        latest = ", ".join(f"{family} {late / 1e6:.3f} ms" for family, late in self.latest.items())
        counts = ", ".join(f"{' '.join(key)} {count}" for key, count in sorted(self.outcomes.items()))
        rate = self.outcomes.total() * 1e9 / len(FAMILIES) / (now() - self._begun)
        return f"latest let in after the end of a window: {latest}\nknocks, {rate:.0f} a second and family: {counts}"


class Held:
    """A stranger's connection, established or None: `Held.connect`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def connect(cls, family: str, port: int = 80) -> "Held | None":
        with netns("internet"):
            connection = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET, socket.SOCK_STREAM)
        connection.bind((STRANGER6 if family == "v6" else STRANGER4, 0))
        connection.settimeout(0.05)
        try:
            connection.connect((HOST6 if family == "v6" else HOST4, port))
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def speak(self, patience: float) -> str:
        """alive (echoed), reset, closed or silent."""
        token = random.randbytes(8)
        self._socket.settimeout(patience)
        received = b""
        try:
            self._socket.sendall(token)
            while not received.endswith(token):
                data = self._socket.recv(4096)
                if not data:
                    return "closed"
                received += data
        except TimeoutError:
            return "silent"
        except OSError:
            return "reset"
        return "alive"

    def close(self) -> None:
        self._socket.close()
