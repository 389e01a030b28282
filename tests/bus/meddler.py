# SPDX-License-Identifier: GPL-2.0-or-later
"""Two callers and an editor who get into each other's way, and a book of what each of them did."""

import random
import time
from collections import Counter
from typing import NamedTuple

from bus import GUESTS, USERS
from callers import WINDOW, profile
from jeepney import DBusAddress
from standin import Caller
from testbed import MANAGER, NAME, PATH

WITH_HOLDER = "h"  # profiles whose windows may be closed by their holder's leaving begin with it
ADDRESS = DBusAddress(PATH, NAME, MANAGER)
PORTS = ["none", "80/tcp", "80/tcp 443/tcp", "53/udp"]


class Version(NamedTuple):
    """One text of a profile: its number is what its command writes down."""

    number: int
    ports: str
    written_at: float
    replaced_at: float


class Request(NamedTuple):
    sender: str
    uid: int
    profile: str
    seconds: int
    sent_at: float
    path: str  # of the window it was answered with, or ""
    result: str


class Closing(NamedTuple):
    sender: str
    uid: int
    window: str
    result: str


class Meddler:
    """One worker: a profile of its own for each round, two callers, and what they do to each other."""

    def __init__(self, testbed, worker: int, source: random.Random) -> None:
        self._testbed, self._worker, self._random = testbed, worker, source
        self._users = [USERS[GUESTS[2 * worker + n]][0] for n in range(2)]
        self.versions: dict[str, list[Version]] = {}
        self.requests: list[Request] = []
        self.closings: list[Closing] = []
        self.done: Counter = Counter()

    def _write(self) -> None:
        """The next version, as a whole and at once."""
        versions = self.versions.setdefault(self._name, [])
        ports = self._random.choice(PORTS)
        mark = f"echo {self._name} {len(versions)} $POSTERN_WINDOW >>{self._testbed.directory}/marks"
        wait = self._random.choice(["", f"; sleep {self._random.uniform(0, 0.3):.3f}"])
        text = profile(f"/bin/sh -c '{mark}{wait}'", ports=ports, gate="none", window="MaxDuration=1h")
        directory = self._testbed.config / "profiles"
        partial = directory / f"{self._name}.partial"
        partial.write_text(text)
        partial.chmod(0o644)
        before = time.monotonic()
        partial.rename(directory / f"{self._name}.conf")
        self._replace(time.monotonic())
        versions.append(Version(len(versions), ports, before, float("inf")))

    def _replace(self, at: float) -> None:
        versions = self.versions[self._name]
        if versions and versions[-1].replaced_at > at:
            versions[-1] = versions[-1]._replace(replaced_at=at)

    def _remove(self) -> None:
        (self._testbed.config / "profiles" / f"{self._name}.conf").unlink(missing_ok=True)
        self._replace(time.monotonic())

    def _request(self, caller: Caller, seconds: int | None = None) -> None:
        seconds = seconds or self._random.randrange(30, 3600)  # no run takes that long
        member = self._random.choice(["Renew", "RequestWindow", "RequestWindow"])
        sent_at = time.monotonic()
        flags = self._random.randrange(2) if self._name.startswith(WITH_HOLDER) else 0
        serial = caller.call(ADDRESS, member, "stt", self._name, seconds * 1_000_000, flags)
        self._open.append((caller, serial, seconds, sent_at))

    def _close(self, caller: Caller) -> None:
        rows = [row for row in windows_of(caller) if row[1] == self._name]
        for window, _, opened_by, _, path in rows:
            result, _ = caller.result(caller.call(DBusAddress(path, NAME, WINDOW), "Close"))
            self.closings.append(Closing(caller.name, caller.uid, window, result))
            self.done["closed own" if opened_by == caller.uid else "closed other's"] += 1

    def round(self, count: int) -> None:
        self._name = f"{WITH_HOLDER if count % 4 == 0 else 'w'}{self._worker}-{count % 50}"
        self._open: list[tuple] = []
        callers = [Caller(self._testbed, uid) for uid in self._users]
        left: set[str] = set()
        self._write()
        self._request(callers[0])
        for _ in range(self._random.randrange(1, 6)):
            if self._random.random() < 0.6:
                time.sleep(self._random.uniform(0, 0.015))
            what = self._random.choice(["edit", "edit", "remove", "join", "same", "again", "close", "leave"])
            caller = callers[1] if what == "join" else self._random.choice(callers)
            if caller.name in left:
                continue
            self.done[what] += 1
            if what == "edit":
                self._write()
            elif what == "remove":
                self._remove()
            elif what == "same":
                self._request(caller, self._open[0][2])
            elif what in ("join", "again"):
                self._request(caller)
            elif what == "close":
                self._close(caller)
            else:
                caller.close()
                left.add(caller.name)
        for caller, serial, seconds, sent_at in self._open:
            result, path = "left", ""
            if caller.name not in left:
                result, values = caller.result(serial)
                path = values[-1] if not result else ""
            self.requests.append(Request(caller.name, caller.uid, self._name, seconds, sent_at, path, result))
        there = [caller for caller in callers if caller.name not in left]
        if there and self._random.random() < 0.5:
            self._close(self._random.choice(there))
        for caller in callers:
            caller.close()


def windows_of(caller: Caller) -> list[tuple]:
    error, values = caller.result(caller.call(ADDRESS, "ListWindows"))
    assert not error
    return values[0]


class Meddled(NamedTuple):
    versions: dict[str, list[Version]]
    requests: list[Request]
    closings: list[Closing]
    done: Counter


def meddle(worker: int, source: random.Random, testbed, rounds: int) -> Meddled:
    meddler = Meddler(testbed, worker, source)
    for count in range(rounds):
        meddler.round(count)
    return Meddled(meddler.versions, meddler.requests, meddler.closings, meddler.done)
