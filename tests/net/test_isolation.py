# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/lib/isolate.py keeps its word: whichever of its layers dies, of whatever, nothing is left."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testbed import leftovers, processes, wait_until

ISOLATE = Path(__file__).parents[2] / "tools/lib/isolate.py"
# a command that leaves a daemon behind it, ignores what it can, and has a namespace made
COMMAND = """
trap '' TERM INT HUP
setsid sleep 1000001 &
ip netns add inner
echo ready
sleep 1000002
sleep 1000003
"""


def start(*before: str) -> subprocess.Popen:
    # a session of its own: Ctrl-C is sent to the whole of it
    started = subprocess.Popen(
        [*before, sys.executable, str(ISOLATE), "postern-nested", "/bin/sh", "-c", COMMAND],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert started.stdout.readline() == b"ready\n"
    return started


def layer(isolate: subprocess.Popen, name: str) -> int:
    """The pid of a layer, as this namespace numbers it."""
    children = {
        "isolate": lambda: isolate.pid,
        "unshare": lambda: child(isolate.pid, "unshare"),
        "init": lambda: child(layer(isolate, "unshare"), "--inside"),
        "command": lambda: child(layer(isolate, "init"), "/bin/sh"),
        "janitor": lambda: child(isolate.pid, "isolate.py postern-nested"),
    }
    return children[name]()


def child(parent: int, text: str) -> int:
    for pid, line in processes().items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if int(fields[1]) == parent and text in line and (text == "unshare") == line.startswith("unshare"):
            return pid
    raise AssertionError(f"no {text} below {parent}: {processes()}")


@pytest.fixture
def nothing_left():
    before = leftovers()
    yield before
    wait_until(lambda: leftovers() == before, f"{leftovers()} to become {before}")


@pytest.mark.parametrize("name", ["isolate", "unshare", "init", "command", "janitor"])
def test_killing_a_layer_leaves_nothing(nothing_left, name):
    isolate = start()
    assert leftovers()["cgroups"] != nothing_left["cgroups"], "no cgroup: is cgroup2 writable here?"
    os.kill(layer(isolate, name), signal.SIGKILL)
    if name == "janitor":
        isolate.terminate()
    assert isolate.wait(20) != 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(nothing_left, signum):
    isolate = start()
    isolate.send_signal(signum)
    assert isolate.wait(20) == 128 + signal.SIGKILL


def test_ctrl_c_ends_even_what_ignores_it(nothing_left):
    isolate = start()
    os.killpg(isolate.pid, signal.SIGINT)
    assert isolate.wait(20) != 0


def test_a_script_that_is_killed_takes_it_along(nothing_left):
    script = start("/bin/sh", "-c", '"$@"; true', "sh")
    script.kill()
    script.wait()


def test_the_status_is_the_commands(nothing_left):
    for script, status in (("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)):
        done = subprocess.run([sys.executable, str(ISOLATE), "postern-nested", "/bin/sh", "-c", script])
        assert done.returncode == status
