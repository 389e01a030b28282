# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of the testbed: started in a namespace or as a user, ended for certain, and waited for by
condition, not by the clock."""

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
PATIENCE = 20.0  # for what should take milliseconds: sanitizers and a busy machine are slow

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def now() -> int:
    """CLOCK_BOOTTIME in nanoseconds: the clock of every time in the testbed."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def root() -> Path:
    """Where the testbed keeps what it makes: on a tmpfs that goes with the namespace."""
    try:
        return Path(os.environ["POSTERN_TESTBED"])
    except KeyError:
        raise RuntimeError("not isolated: run this with tools/test or tools/demo") from None


def new_directory(name: str) -> Path:
    directory = root() / f"{name}-{next(_numbers)}"
    directory.mkdir(mode=0o755)
    return directory


def wait_until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The condition's first true value; an AssertionError that says `what` when patience ends."""
    until = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {patience:g} s in vain: {what}")
        time.sleep(0.005)
    return value


@contextlib.contextmanager
def netns(name: str) -> Iterator[None]:
    """The calling thread is in the namespace: sockets made here belong to it for good."""
    with open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as home:
        with open(f"/run/netns/{name}") as there:
            _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def in_netns(name: str) -> list[str]:
    # not `ip netns exec`, which puts another /sys over ours and so hides the cgroups
    return ["nsenter", f"--net=/run/netns/{name}", "--"]


def as_user(name: str) -> list[str]:
    # --regid wants the group by name or number, and ours have the user's name
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--"]


def run(arguments: Sequence[str], *, input: str | None = None, ns: str | None = None) -> str:
    """Standard output; raises with everything it said when it fails."""
    command = [*(in_netns(ns) if ns else []), *arguments]
    done = subprocess.run(command, input=input, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Process:
    """One background process; its output goes to a file. Leaving the context ends it for certain."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        ns: str | None = None,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
        error: Path | None = None,
    ) -> None:
        """output: a file for standard output; error: likewise (the same file when left out)."""
        self.name = Path(arguments[0]).name
        self.output = output or root() / f"{self.name}-{next(_numbers)}.log"
        self.error = error or self.output
        command = [*(in_netns(ns) if ns else []), *(as_user(user) if user else []), *arguments]
        with open(self.output, "ab") as out, open(self.error, "ab") as err:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
                process_group=0,  # Ctrl-C is for us, who then end it in order
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def signal(self, signum: int) -> None:
        self.popen.send_signal(signum)

    def sigterm(self) -> None:
        self.signal(signal.SIGTERM)

    def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> None:
        """SIGSTOP, and does not return before every thread has stopped."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: set(self._thread_states()) == {"T"}, f"{self.name} to stop")

    def cont(self) -> None:
        self.signal(signal.SIGCONT)

    def _thread_states(self) -> Iterator[str]:
        for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has ended
                yield stat.read_text().rpartition(")")[2].split()[0]

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status, or minus the signal."""
        return self.popen.wait(patience)

    def wait_ready(self, condition: Callable[[], T], what: str, patience: float = 20) -> T:
        """Like wait_until, but says at once when the process is gone."""

        def check() -> T:
            if not self.alive():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.text()}")
            return condition()

        try:
            return wait_until(check, f"{self.name}: {what}", patience)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.text()}") from None

    def close(self) -> None:
        if self.alive():
            self.cont()
            self.sigterm()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill9()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()


def processes() -> dict[int, str]:
    """Everything that runs in the PID namespace, but the init and this process: pid → command line."""
    found = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal() or int(directory.name) in (1, os.getpid()):
            continue
        with contextlib.suppress(OSError):
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
            text = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state != "Z":
                found[int(directory.name)] = text.strip() or (directory / "comm").read_text().strip()
    return found


def own_cgroup() -> Path | None:
    """The cgroup2 directory of this process; None where there is none."""
    line = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].splitlines()
    mount = next(
        (m.split()[1] for m in Path("/proc/self/mounts").read_text().splitlines() if m.split()[2] == "cgroup2"),
        None,
    )
    return None if mount is None or not line else Path(mount + line[0])


def cgroups() -> list[str]:
    """The cgroups below this process's own."""
    here = own_cgroup()
    # one that goes meanwhile is left out
    return sorted(os.path.relpath(path, here) for path, _, _ in os.walk(here) if path != str(here)) if here else []


def descriptors(pid: int) -> list[str]:
    """What kinds of things it has open; numbers that change are left out."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry).split(":[")[0])
    return sorted(found)
