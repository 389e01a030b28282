# SPDX-License-Identifier: GPL-2.0-or-later
"""A posternd that dies at a chosen moment (sudden.c is preloaded into it), and what it was doing then."""

import mmap
import os
import select
import signal
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from process import Process, new_directory, now, run
from testbed import SANITIZER_OPTIONS, Testbed, build_directory

PUT_UP, SILENCE, TAKE_DOWN, READ, CUT, SOCKETS = (1 << bit for bit in range(6))
BATCHES = PUT_UP | SILENCE | TAKE_DOWN
OTHERS = READ | CUT | SOCKETS
KINDS = {PUT_UP: "put up", SILENCE: "silence", TAKE_DOWN: "take down", READ: "read", CUT: "cut", SOCKETS: "sockets"}
BEFORE, WITHIN, AFTER, ANSWER = range(4)
PAGE = struct.Struct("=9I")


class Aim(NamedTuple):
    """Where to die: at the count-th netlink exchange of one of these kinds, or so long after the start."""

    kinds: int = 0
    count: int = 0
    moment: int = BEFORE
    signal: int = signal.SIGKILL
    delay_nsec: int = 0
    life_usec: int = 0


class Death(NamedTuple):
    """What the process was doing, as its last words tell."""

    at: int  # ns, when it was known to be over
    killed: bool  # and not told to end
    kind: int  # the netlink exchange that it was in the middle of, or 0
    in_kernel: bool
    batch_nsec: int  # how long its last batch took

    @property
    def in_batch(self) -> bool:
        return bool(self.kind & BATCHES)


class Mortal:
    """Starts one posternd after another in the namespace `host`, each with an aim."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        directory = new_directory("sudden")
        library = directory / "sudden.so"
        run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library),
             str(Path(__file__).with_name("sudden.c"))])  # fmt: skip
        (directory / "page").write_bytes(bytes(mmap.PAGESIZE))
        with open(directory / "page", "r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)
        self._pidfd: int | None = None
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._ready.bind(str(directory / "notify"))
        self._ready.setblocking(False)
        self.log = testbed.directory / f"posternd-{now()}.log"
        options = dict(SANITIZER_OPTIONS)
        # it need not be first: it calls on to the sanitizer's functions
        options["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        self._environment = {
            **options,
            "LD_PRELOAD": str(library),
            "POSTERN_TEST_SUDDEN": str(directory / "page"),
            "NOTIFY_SOCKET": str(directory / "notify"),
        }

    def start(self, aim: Aim = Aim()) -> bool:
        """False: it died before it was ready."""
        self._page[: PAGE.size] = PAGE.pack(*aim, 0, 0, 0)
        while self._heard():
            pass
        build, testbed = build_directory(), self._testbed
        environment = {**self._environment, **testbed.bus.environment}
        self._process = Process(
            # not into nsenter itself, which would die in its stead
            ["/usr/bin/env", *(f"{key}={value}" for key, value in environment.items()),
             str(build / "src/broker/posternd"), f"--config-dir={testbed.config}", f"--state-dir={testbed.state}",
             f"--runtime-dir={testbed.runtime}", f"--run-path={build}/src/run/postern-run"],
            ns="host",
            output=self.log,
        )  # fmt: skip
        self._pidfd = os.pidfd_open(self._process.pid)
        while True:
            readable = select.select([self._ready, self._pidfd], [], [], 20)[0]
            assert readable, f"posternd is not ready:\n{self.text()}"
            if self._ready in readable and b"READY=1" in self._heard():
                return True
            if self._pidfd in readable:
                return False

    def _heard(self) -> bytes:
        try:
            return self._ready.recv(4096)
        except BlockingIOError:
            return b""

    def aim(self, aim: Aim) -> None:
        """From now on."""
        struct.pack_into("=5I", self._page, 0, aim.kinds, 0, *aim[2:5])
        struct.pack_into("=I", self._page, 4, aim.count)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        """Started, and its end not waited for."""
        return self._pidfd is not None

    def has_died(self) -> bool:
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def stop(self) -> None:
        self._process.stop()

    def cont(self) -> None:
        self._process.cont()

    def is_stopped(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def sigterm(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def end(self, *, clean: int | None = None, patience: float = 20) -> Death:
        """Waits for its end. clean: the exit status that it may have instead of being killed."""
        assert select.select([self._pidfd], [], [], patience)[0], f"posternd does not end:\n{self.text()[-4000:]}"
        at = now()
        status = self._process.wait()
        os.close(self._pidfd)
        self._pidfd = None
        assert status in (-signal.SIGKILL, clean), f"posternd ended with {status}:\n{self.text()[-4000:]}"
        values = PAGE.unpack(self._page[: PAGE.size])
        return Death(at, status == -signal.SIGKILL, values[6], bool(values[7]), values[8])

    def close(self) -> None:
        if self.alive():
            self._process.close()
        self._page.close()
        self._ready.close()

    def text(self) -> str:
        return self.log.read_text(errors="replace")
