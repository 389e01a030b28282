# SPDX-License-Identifier: GPL-2.0-or-later
"""Records reach the journal as records, however posternd was started; the journal here is two sockets."""

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest
from testbed import build_directory

JOURNAL = Path("/run/systemd/journal")


@pytest.fixture
def journal():
    """The sockets that journald has: (for records, for streams)."""
    JOURNAL.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as records, socket.socket(socket.AF_UNIX) as streams:
        records.bind(str(JOURNAL / "socket"))
        records.settimeout(20)
        streams.bind(str(JOURNAL / "stdout"))
        streams.listen()
        yield records, streams
    for path in (JOURNAL / "socket", JOURNAL / "stdout"):
        path.unlink()
    JOURNAL.rmdir()
    with contextlib.suppress(OSError):
        JOURNAL.parent.rmdir()


def complain(stderr: int, **environment: str) -> None:
    """posternd with an error to tell: there is no bus."""
    directory = os.environ["POSTERN_TESTBED"]
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/nobody", **environment}
    command = [str(build_directory() / "src/broker/posternd"),
               f"--state-dir={directory}/state", f"--runtime-dir={directory}/runtime"]  # fmt: skip
    done = subprocess.run(command, stderr=stderr, env=environment)
    assert done.returncode != 0


def record(sender: socket.socket) -> dict[bytes, bytes]:
    return dict(line.split(b"=", 1) for line in sender.recv(65536).splitlines())


def assert_is_ours(fields: dict[bytes, bytes]) -> None:
    assert fields[b"SYSLOG_IDENTIFIER"] == b"posternd"
    assert fields[b"PRIORITY"] == b"3"
    assert b"bus" in fields[b"MESSAGE"] and not fields[b"MESSAGE"].startswith(b"<")


def test_started_by_the_bus(journal):
    # dbus-daemon connects it to the journal and clears the environment
    records, _ = journal
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(JOURNAL / "stdout"))
        complain(stream.fileno())
    assert_is_ours(record(records))


def test_started_by_systemd(journal):
    records, _ = journal
    with socket.socketpair()[0] as stream:
        status = os.fstat(stream.fileno())
        complain(stream.fileno(), JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    assert_is_ours(record(records))


def test_started_from_a_shell_of_a_unit(journal):
    # the variable is inherited, the stream is not
    records, _ = journal
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as pipe:
        with os.fdopen(write_end, "w") as stream:
            complain(stream.fileno(), JOURNAL_STREAM="1:2")
        assert pipe.readline().startswith("<3>")
    records.setblocking(False)
    with pytest.raises(BlockingIOError):
        records.recv(65536)
