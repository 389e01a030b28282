# SPDX-License-Identifier: GPL-2.0-or-later
"""A firewall elsewhere on a booted host: what was opened there is closed, however the service ends."""

import signal

import pytest
from process import wait_until

PROFILE = (
    "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n[Gate]\nType=command\n"
    "OpenCommand=/bin/sh -c 'echo opened >>/srv/cloud'\nCloseCommand=/bin/sh -c 'echo closed >>/srv/cloud'\n"
)


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to a helper


@pytest.fixture
def opened(host):
    """A window that is open here and there; who asked for it still waits."""
    host.profile("cloud", PROFILE)
    call = host.start_renewing("deploy", "cloud")
    host.wait_window("cloud")
    wait_until(lambda: host.matching("/bin/sleep 1000"), "the renewal to run")
    assert said(host) == ["opened"]
    yield host
    call.kill()
    call.communicate()


def said(host) -> list[str]:
    return host.tried("cat", "/srv/cloud").stdout.split()


def test_stop(opened):
    """The order to stop is not lost on the way, either: a helper that starts now does not start it."""
    opened.run("systemctl", "stop", "posternd.service")
    assert opened.show("posternd.service", "ActiveState") == "inactive"
    assert said(opened) == ["opened", "closed"]


def test_sigkill(opened):
    """The next one, which the service manager starts at once, does what is owed."""
    opened.kill(signal.SIGKILL, opened.main_pid())
    wait_until(lambda: said(opened) == ["opened", "closed"], "the close to be carried out")


def test_power_cut(opened):
    """At the next boot, without anybody having to call."""
    opened.cut_power()
    opened.boot()
    wait_until(lambda: said(opened) == ["opened", "closed"], "the close to be carried out", 60)
