# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything a test of the daemon stands on, put together: two hosts, a bus, a polkit, users, and a
posternd with directories of its own. The parts are in the modules beside this one."""

import contextlib
import os
import re
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from acme import Acme
from bus import MANAGER, NAME, PATH, Bus, BusError, Called, Polkit, Users
from net import DEFAULT_DENY, HOST4, HOST6, OFFICE4, OFFICE6, STRANGER4, STRANGER6, Net, conntrack, ruleset
from probe import FAMILIES, HeldConnection, Knock, Listener, Outcome, Prober
from process import Process, cgroups, in_netns, netns, new_directory, now, processes, root, run, wait_until

SANITIZER_REPORT = re.compile(
    r"ERROR: \w*Sanitizer|WARNING: \w*Sanitizer|SUMMARY: \w*Sanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL"
)
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


def build_directory() -> Path:
    """The build that is tested."""
    try:
        return Path(os.environ["POSTERN_BUILD"]).resolve()
    except KeyError:
        raise RuntimeError("POSTERN_BUILD names no build: run this with tools/test or tools/demo") from None


_installed: Path | None = None


def installed() -> Path:
    """What `meson install` puts on a machine, in a directory of its own; made once."""
    global _installed
    if _installed is None:
        directory = new_directory("installed")
        run(["meson", "install", "--quiet", "--no-rebuild", "-C", str(build_directory()), "--destdir", str(directory)])
        _installed = directory
    return _installed


class Daemon:
    """posternd in the namespace `host`. Leaving the context ends it, and complains about what the
    sanitizers found and about an end that was not a clean one."""

    def __init__(self, testbed: "Testbed", options: Sequence[str] = (), through: Sequence[str] = ()) -> None:
        self._testbed, self._options, self._through = testbed, options, through

    def start(self):
        self.log = self._testbed.directory / f"posternd-{now()}.log"
        self._process = Process(
            [*self._through, *self._testbed.command(*self._options)],
            ns="host",
            environment={**SANITIZER_OPTIONS, **self._testbed.bus.environment},
            output=self.log,
        )
        # not just any owner: an earlier daemon's name may not have left the bus yet
        self._process.wait_ready(lambda: self._testbed.bus.owner_pid() == self.pid, "its bus name")
        return self

    __enter__ = start

    def __exit__(self, kind, *_) -> None:
        problems = self.end()
        if problems and kind is None:
            raise AssertionError(problems)
        if problems:
            print(problems)

    def end(self) -> str:
        """Ends it; what there is to complain about, or ""."""
        was_alive = self._process.alive()
        self._process.close()
        status, text = self._process.popen.returncode, self.text()
        if SANITIZER_REPORT.search(text):
            return f"a sanitizer complained:\n{text}"
        if was_alive and status != 0:
            return f"posternd ended with {status} on SIGTERM:\n{text}"
        if not was_alive and status not in (0, -9):
            return f"posternd had ended by itself with {status}:\n{text}"
        return ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.alive()

    def text(self) -> str:
        return self._process.text()

    def wait(self, patience: float = 20) -> int:
        return self._process.wait(patience)

    def sigterm(self) -> None:
        self._process.sigterm()

    def kill9(self) -> None:
        self._process.kill9()

    def stop(self) -> None:
        self._process.stop()

    def cont(self) -> None:
        self._process.cont()


class Testbed:
    """A fresh host. Inside the context: net, bus, polkit, and the directories config, state, runtime;
    the daemon is started by the test (`with testbed.daemon(): ...`)."""

    __test__ = False  # pytest: not a class of tests

    def __init__(self, ruleset: str = DEFAULT_DENY, *, polkit: bool = True, bus: str = "dbus-daemon",
                 bus_policy: str | None = None) -> None:  # fmt: skip
        self._ruleset, self._with_polkit, self._bus = ruleset, polkit, (bus, bus_policy)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory = new_directory("postern")
            self.config, self.state, self.runtime = (self.directory / n for n in ("etc", "lib", "run"))
            (self.config / "profiles").mkdir(parents=True)
            stack.enter_context(Users())
            self.net = stack.enter_context(Net(self._ruleset))
            self.bus = stack.enter_context(Bus(installed(), *self._bus))
            self.polkit = stack.enter_context(Polkit(self.bus, installed())) if self._with_polkit else None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, *exception) -> None:
        self._stack.__exit__(kind, *exception)
        # a helper ends a moment after its posternd: the next test counts what runs before it
        mine = f"{self.directory}/"
        if kind is None:
            wait_until(lambda: not any(mine in line for line in processes().values()), "every helper to end")

    def profile(self, name: str, text: str) -> Path:
        path = self.config / "profiles" / f"{name}.conf"
        path.write_text(text)
        path.chmod(0o644)
        return path

    def command(self, *options: str) -> list[str]:
        build = build_directory()
        return [str(build / "src/broker/posternd"), f"--config-dir={self.config}", f"--state-dir={self.state}",
                f"--runtime-dir={self.runtime}", f"--run-path={build}/src/run/postern-run", *options]  # fmt: skip

    def daemon(self, *options: str, through: Sequence[str] = ()) -> Daemon:
        """through: a command that executes another, such as setpriv."""
        return Daemon(self, options, through)

    @contextlib.contextmanager
    def activatable(self, *options: str):
        """Whoever calls posternd starts it, as often as it takes; dbus-daemon does that. Gives the log of
        all of them. The last is ended with the context, and what a sanitizer said is complained about."""
        log, script = self.directory / f"posternd-{now()}.log", self.directory / "activated"
        settings = [f"{name}={value}" for name, value in {**SANITIZER_OPTIONS, **self.bus.environment}.items()]
        # the launch helper leaves nothing of the environment
        command = ["env", *settings, *in_netns("host"), *self.command(*options)]
        script.write_text(f"#!/bin/sh\nexec {shlex.join(command)} >>{log} 2>&1\n")
        script.chmod(0o755)
        log.touch()
        self.bus.activate(script)
        try:
            yield log
        finally:
            if pid := self.bus.owner_pid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            # also one that has given its name back, but has not said its last word
            mine = f"--config-dir={self.config} "
            wait_until(lambda: not any(mine in line for line in processes().values()), "every posternd to end")
        if SANITIZER_REPORT.search(log.read_text()):
            raise AssertionError(f"a sanitizer complained:\n{log.read_text()}")

    def renew(self, user: str, profile: str, duration_usec: int = 0, flags: int = 0) -> Called:
        """What a person types to renew."""
        return self.bus.busctl(user, *self.renew_arguments(profile, duration_usec, flags))

    @staticmethod
    def renew_arguments(profile: str, duration_usec: int = 0, flags: int = 0) -> list[str]:
        return ["call", NAME, PATH, MANAGER, "Renew", "stt", profile, str(duration_usec), str(flags)]


def leftovers() -> dict[str, list[str]]:
    """What runs or stands in the namespace now; equal before and after what cleans up after itself."""
    return {
        "processes": sorted(processes().values()),
        "cgroups": cgroups(),
        "namespaces": sorted(path.name for path in Path("/run/netns").iterdir()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
    }
