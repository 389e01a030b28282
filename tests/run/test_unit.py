# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit=: what the root helper says of a systemd that does not do as it should. One that does is that of
tests/host/test_unit.py."""

import contextlib
import os
import subprocess

import pytest
from bus import Bus
from helper import Helper
from process import new_directory
from sentences import check_text, unheard
from systemd_standin import BadManager
from testbed import SANITIZER_OPTIONS, build_directory

RUNNING = ("s", "active")
ENDED = ("s", "inactive")


class Scene:
    """profile `web` has a Unit=."""

    def __init__(self, profiles, bus: Bus) -> None:
        self.profiles, self.bus = profiles, bus
        self.profiles.path("web").write_text("[Renewal]\nUnit=a.service\n[Window]\nPorts=80/tcp\n")
        self.note = new_directory("runtime") / "unit"
        self.environment = {**bus.environment, "RUNTIME_DIRECTORY": str(self.note.parent)}

    @contextlib.contextmanager
    def started(self, **answers):
        with BadManager(self.bus, **answers), Helper(self.profiles, environment=self.environment) as helper:
            helper.start()
            yield helper

    def failed(self, **answers) -> str:
        with self.started(**answers) as helper:
            return helper.problem("failed")

    def ended(self) -> str:
        """Of one that goes as it should."""
        with self.started() as helper:
            text = helper.output()
            assert helper.ended()["status"] == "0"
        return text

    def without(self, **environment: str) -> str:
        """A bus, or a directory to note it down in."""
        with Helper(self.profiles, environment={**self.environment, **environment}) as helper:
            helper.start()
            return helper.problem("failed")

    def noted(self) -> str:
        """There is a note of another one."""
        self.note.write_text("other.service")
        problem = self.failed()
        assert self.note.read_text() == "other.service"
        self.note.unlink()
        return problem

    def unstoppable(self) -> str:
        """It runs, and nobody can end it: it stays noted down."""
        with self.started(ActiveState=[ENDED, RUNNING], SubState=("s", "running"), StopUnit=None) as helper:
            helper.wait_lines(1)
            helper.hang_up()
            problem = helper.problem("failed")
        assert self.note.read_text() == "a.service"
        return problem

    def left(self) -> str:
        """What is noted down of a helper that was killed cannot be ended."""
        self.note.write_text("a.service")
        with BadManager(self.bus, ActiveState=RUNNING, StopUnit=None):
            done = subprocess.run(
                [str(build_directory() / "src/run/postern-run"), "--end-unit"],
                env={**os.environ, **SANITIZER_OPTIONS, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
        assert done.returncode != 0 and self.note.read_text() == "a.service"
        self.note.unlink()
        return done.stderr


@pytest.fixture
def scene(profiles):
    with Bus() as bus:
        yield Scene(profiles, bus)


def test_each_says_what_is_wrong_and_what_to_do(scene):
    # how it is caused; what is said; what to do
    table = [
        (lambda: scene.without(RUNTIME_DIRECTORY="/nonexistent"), "is not started, as nobody would stop it", "elsewhere write Exec="),
        (lambda: scene.without(DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent"), "cannot be started, as systemd does not answer",
         "see systemctl status"),
        (lambda: scene.failed(LoadUnit=None), "cannot be started, as systemd does not answer", "see systemctl status"),
        (lambda: scene.failed(LoadState=None), "a.service cannot be looked at", "see systemctl status"),
        (lambda: scene.failed(Job=None), "a.service cannot be looked at", "see systemctl status"),
        (lambda: scene.failed(LoadState=("s", "masked")), "systemd cannot start a.service, which is masked", "name another unit in Unit="),
        (lambda: scene.failed(ActiveState=RUNNING), "is running already, or about to", "wait until it has ended"),
        (lambda: scene.failed(RefUnit=None), "a.service cannot be waited for", "see systemctl status, and the journal"),
        (scene.noted, "its name cannot be written down in the runtime directory", "see whether /run is full"),
        (lambda: scene.failed(StartUnit=None), "systemd does not start a.service (no luck)", "see systemctl status a.service"),
        # the first look is at whether it may be started; whoever ends it asks anew
        (lambda: scene.failed(Job=[("(uo)", (0, "/")), None, ("(uo)", (0, "/"))]), "was stopped, as systemd was not heard of any more", "on the bus"),
        (lambda: scene.failed(Result=None), "has ended, and systemd does not answer how", "see its journal"),
        (lambda: scene.failed(ConditionResult=None), "has ended, and systemd does not answer how", "see its journal"),
        (lambda: scene.failed(ConditionResult=("b", False)), "a condition of the unit's does not hold", "systemctl status says which"),
        (scene.unstoppable, "a.service cannot be stopped", "see systemctl stop"),
        (scene.left, "a.service cannot be stopped (", "see systemctl stop a.service"),
        (scene.ended, "a.service has ended: success", "journalctl --unit=a.service"),
    ]  # fmt: skip
    heard = []
    for cause, says, advice in table:
        text = cause()
        check_text(text, says, advice)
        heard.append(text)
        assert not scene.note.exists() or cause == scene.unstoppable, text
        scene.note.unlink(missing_ok=True)
    assert unheard("src/run/unit.c", heard, {}) == []
