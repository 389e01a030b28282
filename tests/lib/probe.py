# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stranger sees: a prober that knocks a thousand times a second, a listener to knock at, and
connections that are held to see how they end."""

import contextlib
import enum
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

from net import HOST4, HOST6, STRANGER4, STRANGER6
from process import Process, netns, new_directory, now, wait_until
from prober import RECORD

FAMILIES = ("v4", "v6")
# seconds between two knocks that leave room below what a window lets in of strangers, and in a listener's queue
SELDOM = 0.02


class Outcome(enum.IntEnum):
    OPEN = 1  # the handshake was answered
    REFUSED = 2  # a reset: the firewall let it through, but nobody listened (or the firewall reset it)
    SILENT = 3  # nothing came back: what a dropping firewall looks like
    OTHER = 4


class Knock(NamedTuple):
    begun: int  # ns, CLOCK_BOOTTIME
    ended: int
    outcome: Outcome


class Prober:
    """Knocks at one port of the host, over IPv4 and IPv6, from `internet`."""

    def __init__(
        self, port: int = 80, *, source4: str = STRANGER4, source6: str = STRANGER6, interval: float = 0.001,
        patience: float = 0.05,
    ) -> None:  # fmt: skip
        """interval: seconds between two knocks of one family. A small server (certbot's own takes five
        connections at a time) wants 0.05. patience: seconds after which no answer is silence."""
        self._targets = [HOST4, str(port), source4, HOST6, str(port), source6]
        self._interval, self._patience = interval, patience

    def __enter__(self):
        self._file = new_directory("prober") / "knocks"
        self._file.touch()
        self._process = Process(
            ["/usr/bin/python3", str(Path(__file__).with_name("prober.py")),
             str(int(self._interval * 1e6)), str(int(self._patience * 1e6)), str(self._file), *self._targets],
            ns="internet",
        )  # fmt: skip
        self._process.wait_ready(lambda: self._file.stat().st_size > 0, "its first knock")
        return self

    def __exit__(self, *_) -> None:
        self._process.close()

    def pause(self) -> None:
        self._process.stop()

    def resume(self) -> None:
        self._process.cont()

    def data(self, offset: int = 0) -> bytes:
        """Whole records, as they were written, from `offset` on."""
        with open(self._file, "rb") as file:
            file.seek(offset)
            data = file.read()
        return data[: len(data) // RECORD.size * RECORD.size]

    def knocks(self, family: str, since: int = 0) -> list[Knock]:
        """Every finished knock that began at or after `since`, in order."""
        data = self.data()
        wanted = FAMILIES.index(family)
        return sorted(
            Knock(begun, ended, Outcome(outcome))
            for target, outcome, begun, ended in RECORD.iter_unpack(data)
            if target == wanted and begun >= since
        )

    def first_success(self, family: str, since: int = 0) -> Knock | None:
        return next((knock for knock in self.knocks(family, since) if knock.outcome == Outcome.OPEN), None)

    def last_success(self, family: str, since: int = 0) -> Knock | None:
        return next((k for k in reversed(self.knocks(family, since)) if k.outcome == Outcome.OPEN), None)

    def transitions(self, family: str, since: int = 0) -> list[Knock]:
        """The first knock, and each whose outcome is not the one before's."""
        changes: list[Knock] = []
        for knock in self.knocks(family, since):
            if not changes or changes[-1].outcome != knock.outcome:
                changes.append(knock)
        return changes

    def wait_for(self, outcome: Outcome, family: str, *, since: int | None = None, patience: float = 20) -> Knock:
        """The first knock with this outcome that began at or after `since` (default: from now on)."""
        since = now() if since is None else since

        def found() -> Knock | None:
            self._check()
            return next((k for k in self.knocks(family, since) if k.outcome == outcome), None)

        return wait_until(found, f"{family} to be {outcome.name}", patience)

    def outcomes(self, family: str, since: int, count: int = 20) -> set[Outcome]:
        """The outcomes of at least `count` knocks from `since` on."""

        def enough() -> list[Knock] | None:
            self._check()
            knocks = self.knocks(family, since)
            return knocks if len(knocks) >= count else None

        return {knock.outcome for knock in wait_until(enough, f"{family}: {count} knocks")}

    def _check(self) -> None:
        if not self._process.alive():
            raise AssertionError(f"the prober died:\n{self._process.text()}")


class Listener:
    """A program of somebody else's that serves the port: echoes, over IPv4 and IPv6."""

    def __init__(self, port: int = 80, *, ns: str = "host") -> None:
        self._port, self._ns = port, ns

    def __enter__(self):
        with netns(self._ns):
            self._socket = socket.create_server(
                ("::", self._port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
            )
        self._stopping = False
        self._clients: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._socket.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        self._clients.add(client)
        with client, contextlib.suppress(OSError):
            while data := client.recv(4096):
                client.sendall(data)
        self._clients.discard(client)


class HeldConnection:
    """A connection from `internet` that stays open, to see what becomes of it."""

    def __init__(self, address: str = HOST4, port: int = 80, *, source: str | None = None) -> None:
        self._to = (address, port)
        self._from = source or (STRANGER6 if ":" in address else STRANGER4)

    def __enter__(self):
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        with netns("internet"):
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(20)
        self._socket.bind((self._from, 0))
        self._socket.connect(self._to)
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def ports(self) -> tuple[int, int]:
        """This end's, the other end's."""
        return self._socket.getsockname()[1], self._socket.getpeername()[1]

    def state(self, patience: float = 5.0) -> str:
        """Sends, and says what came of it: "alive" (echoed), "reset", "closed" or "silent"."""
        token = time.monotonic_ns().to_bytes(8, "big")
        self._socket.settimeout(patience)
        received = b""
        try:
            self._socket.sendall(token)
            while token not in received:
                data = self._socket.recv(4096)
                if not data:
                    return "closed"
                received += data
        except TimeoutError:
            return "silent"
        except (ConnectionResetError, BrokenPipeError, ConnectionAbortedError):
            return "reset"
        return "alive"
