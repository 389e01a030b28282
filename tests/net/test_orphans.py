# SPDX-License-Identifier: GPL-2.0-or-later
"""posternd and its helpers are killed together: what the renewals have started then lives on, deaf and with
nobody's eye on it, until the next start."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from bus import Bus, Polkit
from process import Process, cgroups, new_directory, processes, wait_until
from scene import Renewal
from testbed import SANITIZER_OPTIONS, installed

SAID = "outlived the posternd"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_together(daemon) -> None:
    """The helpers have no moment to see that posternd is gone."""
    helpers = children(daemon.pid)
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    for pid in helpers:
        stat = Path(f"/proc/{pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the helper to stop")
    daemon.kill9()
    for pid in helpers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(helpers) & set(processes()), "the helpers to be gone")


def notes(directory: Path) -> set[str]:
    return {path.name.removeprefix("run-") for path in directory.glob("run-*")}


def windows() -> set[str]:
    """Those that have a cgroup."""
    return {name.removeprefix("postern-") for name in cgroups()}


@contextlib.contextmanager
def neighbour(testbed, runtime: Path):
    """Another posternd, of another network, in the same cgroup; a window is open, and something runs."""
    renewal = Renewal(testbed, "neighbour")
    with Bus(installed()) as bus, Polkit(bus, installed()):
        command = testbed.command(f"--state-dir={new_directory('state')}", f"--runtime-dir={runtime}")
        with Process(command, ns="internet", environment={**SANITIZER_OPTIONS, **bus.environment}) as process:
            process.wait_ready(lambda: bus.owner_pid() == process.pid, "its bus name")
            bus.call("RequestWindow", "stt", "neighbour", 600_000_000, 0)
            wait_until(renewal.tree, "the neighbour's renewal to run")
            yield
            assert renewal.tree() and process.alive(), process.text()
            assert bus.call("ListWindows")[0][0][1] == "neighbour"
        assert process.popen.returncode == 0, process.text()
        assert not renewal.tree() and not notes(runtime)


@pytest.mark.parametrize("shared", [False, True], ids=["own-directory", "shared-directory"])
def test_ended_by_the_next_start(testbed, shared):
    """And nothing of a posternd that lives is, even if it was given the same directory."""
    testbed.runtime.mkdir(mode=0o711)
    renewals = [Renewal(testbed, name) for name in ("web", "mail")]
    with neighbour(testbed, testbed.runtime if shared else new_directory("neighbour")):
        living = windows()
        assert len(living) == 1
        expected = living if shared else set()
        daemon = testbed.daemon().start()
        for renewal in renewals:
            renewal.request()
            wait_until(renewal.tree, "the renewal to run")
        orphans = windows() - living
        assert len(orphans) == 2 and notes(testbed.runtime) == orphans | expected
        assert SAID not in daemon.text()
        kill_together(daemon)
        assert all(renewal.tree() for renewal in renewals), "what this is about did not live on"
        assert windows() == orphans | living and notes(testbed.runtime) == orphans | expected

        with testbed.daemon() as daemon:
            wait_until(lambda: not any(renewal.tree() for renewal in renewals), "the orphans to be gone")
            wait_until(lambda: windows() == living, "their cgroups to be gone")
            wait_until(lambda: notes(testbed.runtime) == expected, "their notes to be gone")
            said = [line for line in daemon.text().splitlines() if SAID in line]
            assert len(said) == 2 and all(any(f"POSTERN_WINDOW={id}" in line for line in said) for id in orphans), said
            renewals[0].request()
        with testbed.daemon() as daemon:
            assert SAID not in daemon.text()


def test_nothing_lives_on(testbed):
    """The renewal itself dies with its helper: what it leaves is empty, and worth no word."""
    testbed.profile("web", "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n")
    daemon = testbed.daemon().start()
    testbed.bus.call("RequestWindow", "stt", "web", 600_000_000, 0)
    wait_until(lambda: any(line.startswith("/bin/sleep") for line in processes().values()), "the renewal to run")
    kill_together(daemon)
    assert len(windows()) == 1 and notes(testbed.runtime) == windows()
    wait_until(lambda: not any(line.startswith("/bin/sleep") for line in processes().values()), "it to be gone")
    with testbed.daemon() as daemon:
        assert not windows() and not notes(testbed.runtime)
        assert SAID not in daemon.text()


@pytest.mark.parametrize("text", ["", "/", "postern-wbad", "/../postern-wbad", "/postern-wbad\n", "/" + 5000 * "x"])
def test_a_note_that_says_nothing(testbed, text):
    """It is nobody's, and goes."""
    testbed.runtime.mkdir(mode=0o711)
    (testbed.runtime / "run-wbad").write_text(text)
    with testbed.daemon() as daemon:
        assert not notes(testbed.runtime)
        assert SAID not in daemon.text()
