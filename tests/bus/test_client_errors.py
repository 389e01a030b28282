# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error of postern's own, caused: what it says, what to do next, and its exit status. What the
service says, which postern passes on, is in test_errors.py."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from callers import profile, request_window
from process import Process, as_user, wait_until
from sentences import check_text, unheard
from testbed import build_directory

POSTERN = str(build_directory() / "src/client/postern")
HELP = "see postern --help"
NOWHERE = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
# what was typed; exit status; what is said; what to do; what is otherwise in the environment
TEXTS = [
    ([], 2, "A command is missing", HELP, {}),
    (["renew"], 2, "The profile's name is missing", HELP, {}),
    (["renwe", "good"], 2, "There is no such command", HELP, {}),
    (["list", "good"], 2, "That is more than the command takes", HELP, {}),
    (["renew", "a/b"], 2, "A profile's name is letters, digits", HELP, {}),
    (["list", "--duration=1s"], 2, "--duration= and --no-wait go with renew", HELP, {}),
    (["renew", "good", "--duration=soon"], 2, "--duration= is no time", "write one such as 90s or 2min", {}),
    (["renew", "--now", "good"], 2, "That is not understood", HELP, {}),
    (["-H", "-oProxyCommand=x", "list"], 2, "--host= is no host's name", HELP, {}),
    (["status", "absent"], 2, "There is no profile absent", "see postern list", {}),
    (["close", "absent"], 2, "There is no profile absent", "see postern list", {}),
    (["status", "bad"], 2, "bad.conf:2: [Renewal] has no key Exce=", "write Exec=", {}),
    (["log", "good"], 1, "The last window of good is forgotten", "journalctl -t posternd POSTERN_PROFILE=good", {}),
    (["list"], 5, "The service could not be reached", "systemctl status dbus posternd", NOWHERE),
    (["-H", "host.example", "list"], 5, "ssh cannot be started", "is it installed (openssh-client)", {"PATH": "/nonexistent"}),
    (["-H", "host.example", "list"], 5, "The service on host.example could not be reached", "See that ssh host.example works", {"PATH": "/nonexistent"}),
    (["list", ">/dev/full"], 1, "could not be written: No space left", "See where the output leads", {}),
    (["list", "--json", ">/dev/full"], 1, "could not be written: No space left", "See where the output leads", {}),
    (["monitor", "--help", ">/dev/full"], 1, "could not be written: No space left", "See where the output leads", {}),
]  # fmt: skip


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to what postern says


def environment_of(testbed) -> dict[str, str]:
    """With something that stands for ssh, and can be killed."""
    return {**os.environ, **testbed.bus.environment, "PATH": f"{testbed.directory}/bin:{os.environ['PATH']}"}


def postern(testbed, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    output = subprocess.PIPE
    if arguments and arguments[-1].startswith(">"):
        output = os.open(arguments[-1][1:], os.O_WRONLY)
        arguments = arguments[:-1]
    settings = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run(
        [*as_user("deploy"), "/usr/bin/env", *settings, POSTERN, *arguments],
        env=environment_of(testbed),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )
    if output != subprocess.PIPE:
        os.close(output)
    return done


def interrupted(testbed, *arguments: str, cause: Callable[[Process], None]) -> Process:
    """A renewal that something happens to when it has said that its window is open: what it says then."""
    with Process([POSTERN, *arguments], user="deploy", environment=environment_of(testbed)) as client:
        client.wait_ready(lambda: ": open" in client.text(), "its window")
        cause(client)
        client.wait()
    return client


def twice(client: Process) -> None:
    client.sigterm()
    wait_until(lambda: "Closing the window" in client.text(), "the first to be heard")
    client.sigterm()


def test_each_says_what_is_wrong_and_what_to_do(testbed):
    heard = []
    note, ssh = testbed.directory / "ssh.pid", testbed.directory / "bin/ssh"
    note.touch()
    note.chmod(0o666)
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\necho $$ >{note}\nexec systemd-stdio-bridge --bus-path={testbed.bus.address}\n")
    ssh.chmod(0o755)
    with testbed.daemon() as daemon:
        said = postern(testbed, ["check"], {}).stderr
        check_text(said, "There is no profile to check", "postern list says how to begin")
        heard += [said, postern(testbed, ["list"], {}).stdout]
        testbed.profile("good", profile("/bin/true"))
        for name in ("long", "mine"):
            testbed.profile(name, profile("/bin/sleep 1000"))
        close = f"CloseCommand=/bin/sh -c 'while ! test -e {testbed.directory}/close; do sleep 0.05; done'\n"
        testbed.profile("closes", profile("/bin/sleep 1000", ports="80/tcp", gate="command") + f"OpenCommand=/bin/true\n{close}")
        testbed.profile("bad", "[Renewal]\nExce=/bin/true\n")
        for arguments, status, says, advice, environment in TEXTS:
            done = postern(testbed, arguments, environment)
            assert done.returncode == status, (arguments, done)
            assert done.stderr.startswith(("postern: ", "/")), done.stderr  # the latter is getopt's
            assert not done.stdout, done
            check_text(done.stderr, says, advice)
            heard.append(done.stderr)

        # in the middle of a renewal
        def ends(status: int, says: str, advice: str, *arguments, **options) -> None:
            client = interrupted(testbed, *arguments, **options)
            check_text(client.text(), says, advice)
            assert client.popen.returncode == status, client.text()
            heard.append(client.text())

        ends(4, "Not waiting any longer", "To see whether: postern status closes", "renew", "closes", cause=twice)
        (testbed.directory / "close").touch()
        request_window(testbed, "root", "long")
        ends(3, "The window goes on without you: ", "allow interactive", "renew", "long", cause=Process.sigterm)
        cut = lambda _: os.kill(int(note.read_text()), signal.SIGKILL)  # noqa: E731
        ends(5, "The window goes on until", "to close it: postern -H host.example close mine", "-H", "host.example",
             "renew", "mine", cause=cut)  # fmt: skip
        ends(1, "The service ended during the window", "journalctl -t posternd says more", "renew", "mine",
             cause=lambda _: daemon.kill9())  # fmt: skip

    # which ends with the bus as well
    daemon = testbed.daemon().start()
    for options in ([], ["--json"]):
        error = testbed.directory / f"monitor{len(options)}"
        with Process([POSTERN, "monitor", *options], environment=environment_of(testbed), output=Path("/dev/full"),
                     error=error) as monitor:  # fmt: skip
            wait_until(lambda: "Waiting" in error.read_text(), "the monitor")
            assert postern(testbed, ["renew", "good"], {}).returncode == 0
            assert monitor.wait() == 1
        check_text(error.read_text(), "could not be written: No space left", "See where the output leads")
    ends(5, "If the bus has ended, the window has, too", "To see whether: postern status mine", "renew", "mine",
         cause=lambda _: testbed.bus.kill9())  # fmt: skip
    assert daemon.wait() == 1
    daemon.end()

    heard.append(postern(testbed, ["--help"], {}).stdout)
    assert unheard("src/client/main.c", heard, {}) == []
    assert unheard("src/client/client-say.c", heard, {
        "Memory ran out": "where there is none even for the text",
        "That could not be done": "for want of memory or descriptors",
    }) == []  # fmt: skip
    assert unheard("src/client/client-bus.c", heard, {
        "Nobody can be asked for a password over ssh": "tests/bus/test_client.py",
    }) == []  # fmt: skip
    assert unheard("src/client/client-remote.c", heard, {}) == []
    assert unheard("src/client/client-renew.c", heard, {
        " while a challenge is pending": "of the live line, and no error",
        "connection%s let in": "of the live line, and no error",
        ", closing as you asked": "of the live line, and no error",
    }) == []  # fmt: skip
    assert unheard("src/client/client-window.c", heard, {
        "is closed": "tests/bus/test_client.py",
        "No window of ": "tests/bus/test_client.py",
    }) == []  # fmt: skip
    assert unheard("src/client/client-check.c", heard, {
        "It cannot renew like this": "of a pre-flight, and no error",
        "To renew: ": "of a pre-flight, and no error",
    }) == []  # fmt: skip
