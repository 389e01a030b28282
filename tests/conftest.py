# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures. See lib/testbed.py for what they give."""

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name("lib")))
sys.dont_write_bytecode = True

TEST_SECONDS = 240


def pytest_configure(config: pytest.Config) -> None:
    # PID 1 is ours inside, and nobody else's
    if "isolate.py" not in Path("/proc/1/cmdline").read_text() or "POSTERN_TESTBED" not in os.environ:
        pytest.exit("these tests change firewalls, users and buses: start them with tools/test", returncode=2)


@pytest.fixture(autouse=True)
def time_limit():
    """A test that hangs fails by itself, and the others still run."""

    def ring(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)


@pytest.fixture
def net():
    from testbed import Net

    with Net() as value:
        yield value


@pytest.fixture
def testbed():
    from testbed import Testbed, leftovers, wait_until

    before = leftovers()
    with Testbed() as value:
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
    for log in sorted(Path(os.environ["POSTERN_TESTBED"]).glob("postern-*/posternd-*.log")):
        if log.stat().st_mtime_ns >= call.start * 1e9:
            report.sections.append((log.name, log.read_text(errors="replace")))
