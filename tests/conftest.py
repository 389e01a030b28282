# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures. See lib/testbed.py for what they give."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name("lib")))
sys.dont_write_bytecode = True

TEST_SECONDS = 240
CLAIMS = os.environ.get("POSTERN_TEST_CLAIMS")  # a directory; see pytest_runtestloop()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "seconds(n): how long it may take, where that is not the usual")
    # PID 1 is ours inside, and nobody else's
    if "isolate.py" not in Path("/proc/1/cmdline").read_text() or "POSTERN_TESTBED" not in os.environ:
        pytest.exit("these tests change firewalls, users and buses: start them with tools/test", returncode=2)


def seconds_for(item: pytest.Item) -> int:
    marker = item.get_closest_marker("seconds")
    return marker.args[0] if marker else TEST_SECONDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: at the end no lane waits for another's."""
    if CLAIMS:
        items.sort(key=seconds_for, reverse=True)


def claim(number: int) -> bool:
    """Is this test ours? Only one of the lanes can make the file."""
    with contextlib.suppress(FileExistsError), open(Path(CLAIMS) / str(number), "x"):
        return True
    return False


def pytest_runtestloop(session: pytest.Session):
    """tools/test runs the tests in lanes side by side, each in an isolation of its own: whichever is free
    takes the next one."""
    if not CLAIMS or session.testsfailed:
        return None
    for number, item in enumerate(session.items):
        if claim(number):
            # no next one: that may be another's by then
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return True


@pytest.fixture(autouse=True)
def time_limit(request):
    """A test that hangs fails by itself, and the others still run."""
    seconds = seconds_for(request.node)

    def ring(*_):
        raise TimeoutError(f"the test took more than {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    yield
    signal.alarm(0)


@pytest.fixture
def net():
    from testbed import Net

    with Net() as value:
        yield value


@pytest.fixture
def bus_kind():
    """The program that is the bus; tests/bus has each test on both."""
    return "dbus-daemon"


@pytest.fixture
def bus_policy():
    """None: the one that is installed. Or the text of another."""
    return None


@pytest.fixture
def testbed(bus_kind, bus_policy):
    from testbed import Testbed, leftovers, wait_until

    before = leftovers()
    with Testbed(bus=bus_kind, bus_policy=bus_policy) as value:
        yield value
    wait_until(lambda: leftovers() == before, f"everything to be gone but {before}")


@pytest.fixture
def acme(request):
    """Needs a network: name it after `net` or `testbed`."""
    from testbed import Acme

    request.getfixturevalue("testbed" if "testbed" in request.fixturenames else "net")
    with Acme() as value:
        yield value


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """What the daemons of a failed test said."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed or call.when != "call":
        return
    root = Path(os.environ["POSTERN_TESTBED"])
    for log in sorted([*root.glob("postern-*/posternd-*.log"), *root.glob("polkitd-*.log")]):
        status = log.stat()
        if status.st_size and status.st_mtime_ns >= call.start * 1e9:
            report.sections.append((log.name, log.read_text(errors="replace")))
