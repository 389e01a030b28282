# SPDX-License-Identifier: GPL-2.0-or-later
"""The broker's end of a conversation with the root helper, spoken by a test (run-protocol.h)."""

import array
import contextlib
import fcntl
import os
import socket
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from process import PATIENCE, new_directory, wait_until
from testbed import SANITIZER_OPTIONS, SANITIZER_REPORT, build_directory

# another cgroup2 cannot be mounted over: what is below the mount is hidden
WITHOUT_CGROUP = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]


@contextlib.contextmanager
def effective_user(uid: int) -> Iterator[None]:
    """A socketpair made in here is that user's, for SO_PEERCRED tells who made it."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def all_processes() -> set[int]:
    """Zombies too."""
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}


def cgroup_mount() -> str:
    return next(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")


class Profiles:
    """A configuration directory."""

    def __init__(self) -> None:
        self.directory = new_directory("run")
        (self.directory / "profiles").mkdir()

    def path(self, name: str) -> Path:
        return self.directory / "profiles" / f"{name}.conf"

    def write(self, execute: str, *, name: str = "web", user: str = "root", extra: str = "", certificate="",
              gate: str = "") -> str:  # fmt: skip
        """A profile that runs this: its name."""
        head = f"[Profile]\nCertificate={certificate}\n" if certificate else ""
        self.path(name).write_text(f"{head}[Renewal]\nExec={execute}\nUser={user}\n{extra}\n[Window]\nPorts=80/tcp\n{gate}")
        self.path(name).chmod(0o644)
        return name

    def script(self, text: str, name: str = "renewal", mode: int = 0o755) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def version(self, name: str) -> str:
        """What tells one state of the file from another, to the broker and to the helper."""
        try:
            st = self.path(name).stat()
        except FileNotFoundError:
            return "none"
        return f"{st.st_dev}:{st.st_ino}:{st.st_size}:{st.st_mtime_ns}:{st.st_ctime_ns}"


class Helper:
    """A running postern-run. Leaving the context hangs up, waits for its end, and complains about what
    the sanitizers found."""

    def __init__(
        self,
        profiles: Profiles,
        *,
        cgroup: bool = True,
        owner: int = 0,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **popen,
    ) -> None:
        self.profiles = profiles
        with effective_user(owner):
            self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.log = profiles.directory / "postern-run.log"
        with theirs, open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [*(() if cgroup else WITHOUT_CGROUP), *prefix,
                 str(build_directory() / "src/run/postern-run"),
                 f"--config-dir={profiles.directory}", "--allow-sticky-parents"],
                stdin=theirs, stdout=log, stderr=log,
                env={**os.environ, **SANITIZER_OPTIONS, **(environment or {})}, **popen,
            )  # fmt: skip
        self.output_fd, self._output = -1, b""

    def send(self, word: str, *fds: int, **fields: object) -> None:
        self.send_raw("".join([word, "\n", *(f"{key}={value}\n" for key, value in fields.items())]).encode(), *fds)

    def send_raw(self, data: bytes, *fds: int) -> None:
        socket.send_fds(self.socket, [data], list(fds))

    def receive(self) -> tuple[str, dict[str, str]]:
        """One packet; ("", {}) when it hung up."""
        try:
            data = self.socket.recv(8192)
        except ConnectionResetError:  # it went without reading everything; what it said is still there
            data = self.socket.recv(8192)
        text = data.decode("ascii")
        word, *lines = text.split("\n")
        return word, dict(line.split("=", 1) for line in lines if line)

    def renew(self, profile: str = "web", *, window: str = "w0123456789ab", version: str | None = None) -> None:
        """Sends the request, with the writing end of a new pipe for the output."""
        self.output_fd, write_end = os.pipe()
        version = self.profiles.version(profile) if version is None else version
        self.send("renew", write_end, profile=profile, version=version, window=window)
        os.close(write_end)

    def gate(self, verb: str, ports: str = "80/tcp", profile: str = "web", *, window: str = "w0123456789ab") -> None:
        """The same for a gate command."""
        self.output_fd, write_end = os.pipe()
        version = self.profiles.version(profile)
        self.send(verb, write_end, profile=profile, version=version, window=window, ports=ports)
        os.close(write_end)

    def start(self, profile: str = "web", *, deadline: int = 2_000_000_000) -> dict[str, str]:
        """Until the renewal was told to go: what `ready` said."""
        self.renew(profile)
        return self.go(deadline)

    def go(self, deadline: int = 2_000_000_000) -> dict[str, str]:
        word, fields = self.receive()
        assert word == "ready", (word, fields)
        self.send("go", deadline=deadline)
        return fields

    def run(self, profile: str = "web") -> tuple[dict[str, str], str]:
        """From beginning to end: what `ended` said, and what the renewal printed."""
        self.start(profile)
        text = self.output()
        return self.ended(), text

    def ended(self) -> dict[str, str]:
        word, fields = self.receive()
        assert word == "ended", (word, fields)
        return fields

    def problem(self, expected: str) -> str:
        """The problem of the packet that is expected to come, after which the helper ends."""
        word, fields = self.receive()
        assert (word, list(fields)) == (expected, ["problem"]), (word, fields)
        assert self.receive() == ("", {})
        assert self.wait() == 0
        return fields["problem"]

    def output(self) -> str:
        """All of it, to the end."""
        while data := os.read(self.output_fd, 65536):
            self._output += data
        return self._output.decode()

    def wait_lines(self, count: int) -> None:
        """Until so many lines have come."""
        while self._output.count(b"\n") < count:
            data = os.read(self.output_fd, 65536)
            assert data, f"the output ended: {self._output!r}"
            self._output += data

    def output_waiting(self) -> int:
        """How many bytes stand in the pipe."""
        number = array.array("i", [0])
        fcntl.ioctl(self.output_fd, termios.FIONREAD, number)
        return number[0]

    def hang_up(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        return self.popen.wait(PATIENCE)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def stop(self) -> None:
        """SIGSTOP, and does not return before it has stopped."""
        os.kill(self.pid, 19)
        stat = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the helper to stop")

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.socket.close()
        if self.output_fd >= 0:
            os.close(self.output_fd)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        text = self.log.read_text(errors="replace")
        assert kind or not SANITIZER_REPORT.search(text), text
