# SPDX-License-Identifier: GPL-2.0-or-later
"""Why posternd does not start, each caused: what it says, what to do next, and its exit status."""

import os
import subprocess

import pytest
from bus import Bus, BusError
from process import in_netns
from sentences import check_text, unheard
from testbed import SANITIZER_OPTIONS, build_directory, installed

POSTERND = str(build_directory() / "src/broker/posternd")
VISITOR = ["setpriv", "--reuid=visitor", "--regid=visitor", "--init-groups", "--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--"]


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to what it says


def start(testbed, *options: str, through: list[str] = (), **environment: str) -> tuple[int, str]:
    """Of one that ends by itself: exit status, and what it said."""
    done = subprocess.run(
        in_netns("host") + [*through, *testbed.command(*options)],
        env={**os.environ, **SANITIZER_OPTIONS, **testbed.bus.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def test_each_says_what_is_wrong_and_what_to_do(testbed):
    heard = []

    def fails(status: int, says: str, advice: str, *options: str, **more) -> None:
        returned, text = start(testbed, *options, **more)
        assert returned == status, text
        check_text(text, says, advice)
        heard.append(text)

    here, file = testbed.directory, testbed.directory / "file"
    file.write_text("")
    fails(2, '"soon" is not a time', "--idle-exit takes 90, 1min or 0", "--idle-exit=soon")
    fails(2, '"now" is not an option', "see --help", "now")
    fails(2, '"lib" must be an absolute path', "absolute", "--state-dir=lib")
    fails(0, "", "--idle-exit=TIME", "--help")
    fails(1, "Cannot make the directory", "Make its parent, or name another place", f"--state-dir={here}/a/b")
    fails(1, "Cannot look at the directory", "Remove what stands there, and it is made anew", f"--state-dir={file}")
    (here / "open").mkdir()
    (here / "open").chmod(0o777)
    fails(1, "must belong to this user and be writable by nobody else", "remove it, and it is made anew", f"--state-dir={here}/open")
    fails(1, "Cannot reach the system bus (unix:path=/nonexistent)", "Is it running (systemctl status dbus)?",
          DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent")  # fmt: skip
    other = [f"--state-dir={here}/lib2", f"--runtime-dir={here}/run2"]
    for name in ("lib2", "run2"):
        (here / name).mkdir()
        os.chown(here / name, 6002, 6002)
    fails(1, "The bus does not grant the name", "Is its policy installed", *other, through=VISITOR)
    with testbed.daemon() as daemon:
        fails(1, "is taken: another posternd is running", "End that one first", f"--state-dir={here}/lib3", f"--runtime-dir={here}/run3")
        # it has its table while a window is open
        testbed.profile("long", "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n")
        testbed.bus.call("RequestWindow", "stt", "long", 0, 0, user="deploy")
        with Bus(installed()) as another:
            fails(1, "Another posternd is running: it holds the table inet postern", "Stop that one first",
                  f"--state-dir={here}/lib3", f"--runtime-dir={here}/run3", **another.environment)  # fmt: skip
    heard.append(daemon.text())
    with testbed.daemon(through=["setpriv", "--bounding-set=-net_admin", "--"]) as daemon:
        check_text(daemon.text(), "Cannot see the firewall (", "It needs root or the capability CAP_NET_ADMIN")
        with pytest.raises(BusError) as refused:
            testbed.bus.call("RequestWindow", "stt", "long", 0, 0, user="deploy")
        check_text(refused.value.text, "posternd lacks CAP_NET_ADMIN, without which", "run it as root or with AmbientCapabilities=")
    heard.append(daemon.text())

    lacking = "for want of memory or descriptors, or of a broken bus"
    assert unheard("src/broker/main.c", heard, {
        "Not everything could be closed in time": "what it does about it is in the sentence; nothing is left to do",
        "Told to end a second time": "no error",
        "it leaves after": "no error",
        "The bus is gone": "tests/bus/test_service.py",
        "Cannot set up the event loop": lacking,
        "Cannot set up the broker": lacking,
        "Cannot remove what an earlier posternd": "of a firewall that its kernel does not let go",
        "Cannot serve on the bus": lacking,
    }, records=True) == []  # fmt: skip
    assert unheard("src/broker/bus.c", heard, {
        "There is no such method": "tests/bus/test_errors.py",
        "Profiles are being asked about too much": "tests/bus/test_flood.py",
        "The bus did not give the name ": lacking,
        ": %s. See systemctl status dbus": lacking,
        "The service could not do that": lacking,
        "Cannot answer a call": lacking,
    }, records=True) == []  # fmt: skip
