# SPDX-License-Identifier: GPL-2.0-or-later
"""Records reach the journal as records, however posternd was started, and tell what it has decided; the
journal here is two sockets."""

import contextlib
import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest
from callers import Call, error_of, profile
from journal import THROUGH, Journal
from probe import FAMILIES, HeldConnection, Listener, Outcome, Prober
from process import wait_until
from scene import WINDOW, Renewal, wait_state
from story import kind, of_window, tell
from testbed import build_directory

JOURNAL = Path("/run/systemd/journal")
DECISIONS = ["asked", "granted", "opened", "asked", "granted", "joined", "run_ended", "closed"]


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


def test_the_whole_story_of_a_window(testbed):
    """From its records alone: the same as its properties say. Somebody joins it, a stranger comes in, and
    the renewal fails."""
    renewal = Renewal(testbed)
    with Journal() as journal, testbed.daemon(through=THROUGH):
        with Listener(), Prober() as prober:
            window = renewal.request(120)
            prober.wait_for(Outcome.OPEN, FAMILIES[0])
            prober.pause()  # or whoever comes now waits with its knocks for the limit on new connections
            with Call(testbed, "root", "Renew", "stt", "web", 0, 0) as joiner:
                wait_until(lambda: [record for record in journal.fields() if kind(record) == "joined"], "it to join")
                with HeldConnection() as stranger:
                    assert stranger.state() == "alive"
                renewal.finish(3)
                assert "RenewalFailed" in joiner.error().name
        wait_state(testbed, window, "closed")
        (shown,) = testbed.bus.call("GetAll", "s", WINDOW, path=window, interface="org.freedesktop.DBus.Properties")
        shown = {name: value for name, (_, value) in shown.items()}
    told = tell(journal.fields(), window.rsplit("/", 1)[1])
    assert told.kinds == DECISIONS
    assert told.profile == "web" and told.asked_for_usec == 120_000_000
    assert told.asked_by == shown["OpenedBy"] == pwd.getpwnam("deploy").pw_uid
    assert told.joined_by == [0]
    assert [told.ports] == shown["Ports"] == ["80/tcp"]
    assert told.gate == shown["Gate"] == "nftables: inet filter input"
    assert (told.opened_at, told.deadline, told.closed_at) == (shown["OpenedAt"], shown["Deadline"], shown["ClosedAt"])
    assert told.opened_at < told.closed_at < told.deadline
    assert (told.result, told.exit_status) == (shown["Result"], shown["ExitStatus"]) == ("failed", 3)
    assert told.admitted == shown["AdmittedConnections"] > 0
    assert told.hint == shown["Hint"]


def test_the_story_of_a_refusal(testbed):
    """What was asked of polkit is recorded with its answer, and what was not asked is not: nobody can have
    more written by calling faster."""
    testbed.profile("good", profile("/bin/true"))
    with Journal() as journal, testbed.daemon(through=THROUGH):
        error_of(testbed.bus.call, "Renew", "stt", "good", 0, 0, user="visitor")
        error_of(testbed.bus.call, "Renew", "stt", "good", 1, 0, user="visitor")
        error_of(testbed.bus.call, "Renew", "stt", "missing", 0, 0, user="visitor")
    asked, refused = [record for record in journal.fields() if kind(record)]
    assert (kind(asked), kind(refused)) == ("asked", "refused")
    for name in ("PROFILE", "REQUEST", "UID", "ACTION", "PORTS", "DURATION_USEC"):
        assert asked[f"POSTERN_{name}"] == refused[f"POSTERN_{name}"], name
    assert refused["POSTERN_UID"] == str(pwd.getpwnam("visitor").pw_uid)
    assert "POSTERN_WINDOW" not in refused


def test_who_closed_it(testbed):
    """Its opener, who need not ask polkit; and the service's end."""
    renewal = Renewal(testbed)
    with Journal() as journal, testbed.daemon(through=THROUGH):
        window = renewal.request()
        testbed.bus.call("Close", path=window, interface=WINDOW, user="deploy")
        again = renewal.request()
        assert again != window
    ended = {path: of_window(journal.fields(), path.rsplit("/", 1)[1]) for path in (window, again)}
    for path, result in ((window, "canceled"), (again, "stopped")):
        assert [kind(record) for record in ended[path] if kind(record)] == ["asked", "granted", "opened", "run_ended", "closed"]
        assert ended[path][-1]["POSTERN_RESULT"] == result
    (by,) = [record for record in ended[window] if record["MESSAGE"].endswith("closes the window")]
    assert by["POSTERN_UID"] == str(pwd.getpwnam("deploy").pw_uid)
