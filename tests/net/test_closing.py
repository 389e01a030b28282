# SPDX-License-Identifier: GPL-2.0-or-later
"""However a window ends: shut for new connections when it is said to have ended, dead for held ones at
their next packet and after the next start, and nothing of the host's own is touched. How soon it ends
is test_death.py's."""

import os
import signal

import pytest
from net import DEFAULT_DENY
from probe import Outcome
from process import Process, now, run, wait_until
from scene import WINDOW, Renewal, Scene, state, wait_state
from testbed import leftovers


def succeeded(testbed, renewal, window, daemon):
    renewal.finish(0)
    wait_state(testbed, window, "closed")
    assert state(testbed, window, "Result") == "success"
    return now()


def failed(testbed, renewal, window, daemon):
    renewal.finish(3)
    wait_state(testbed, window, "closed")
    assert (state(testbed, window, "Result"), state(testbed, window, "ExitStatus")) == ("failed", 3)
    return now()


def deadline(testbed, renewal, window, daemon):
    event = state(testbed, window, "DeadlineBoottime") * 1000
    wait_state(testbed, window, "closed", patience=80)
    assert state(testbed, window, "Result") == "timeout"
    assert now() - event < 20_000_000_000
    return event


def close(testbed, renewal, window, daemon):
    testbed.bus.call("Close", interface=WINDOW, path=window, user="deploy")
    wait_state(testbed, window, "closed")
    assert state(testbed, window, "Result") == "canceled"
    return now()


def sigterm(testbed, renewal, window, daemon):
    daemon.sigterm()
    assert daemon.wait() == 0
    return now()


def sigkill(testbed, renewal, window, daemon):
    daemon.kill9()
    return now()


def sigstop(testbed, renewal, window, daemon):
    event = state(testbed, window, "DeadlineBoottime") * 1000
    daemon.stop()
    wait_until(lambda: now() > event, "the deadline", patience=80)
    return event


def sigstop_and_flush(testbed, renewal, window, daemon):
    event = state(testbed, window, "DeadlineBoottime") * 1000
    daemon.stop()
    testbed.net.replace(DEFAULT_DENY)
    wait_until(lambda: now() > event, "the deadline")
    return event


ENDS = [succeeded, failed, deadline, close, sigterm, sigkill, sigstop, sigstop_and_flush]
SHORT = {deadline, sigstop, sigstop_and_flush}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_end(testbed, end):
    renewal = Renewal(testbed)
    before = leftovers()
    with Scene(testbed) as scene:
        daemon = testbed.daemon().start()
        window = renewal.request(8 if end in SHORT else 600)
        scene.connect()
        wait_until(renewal.tree, "the renewal to run")
        event = end(testbed, renewal, window, daemon)
        scene.assert_shut(event)
        if daemon.alive():
            daemon.cont()
        wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone", patience=10)
        assert daemon.end() == ""
        with testbed.daemon():
            scene.assert_swept()
    wait_until(lambda: leftovers() == before, "its helper to be gone")


def test_killed_after_a_flush(testbed):
    """Hung, its tables wiped, then killed: nothing in the kernel knows of the window any more, but the
    next start does."""
    renewal = Renewal(testbed)
    with Scene(testbed) as scene:
        daemon = testbed.daemon().start()
        renewal.request()
        scene.connect()
        daemon.stop()
        testbed.net.replace(DEFAULT_DENY)
        daemon.kill9()
        with testbed.daemon():
            scene.assert_shut(now())
            scene.assert_swept()


def test_caller_gone_with_flag_1(testbed):
    renewal = Renewal(testbed)
    with Scene(testbed) as scene, testbed.daemon():
        caller = testbed.bus.busctl_start("deploy", *testbed.renew_arguments(renewal.name, 600_000_000, 1))
        scene.connect()
        window = testbed.bus.call("ListWindows")[0][0][4]
        caller.kill9()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "Result") == "canceled"
        scene.assert_shut(now())
        assert not renewal.tree()
        scene.assert_swept()


def test_caller_gone_without_flag_1(testbed):
    """The window is not the caller's to end by dying."""
    renewal = Renewal(testbed)
    with Scene(testbed) as scene, testbed.daemon():
        caller = testbed.bus.busctl_start("deploy", *testbed.renew_arguments(renewal.name, 600_000_000, 0))
        scene.connect()
        window = testbed.bus.call("ListWindows")[0][0][4]
        caller.kill9()
        scene.prober.wait_for(Outcome.OPEN, "v4")
        assert state(testbed, window) == "open"
        succeeded(testbed, renewal, window, None)


def test_a_server_that_speaks_first_does_not_come_back(testbed):
    """The local end of a connection that was cut is destroyed: else its next segment would make it an
    outgoing connection, which the host admits answers to."""
    renewal = Renewal(testbed)
    with testbed.daemon(), Scene(testbed) as scene:
        window = renewal.request()
        scene.connect()
        close(testbed, renewal, window, None)
        sockets = Process(["ss", "-Htn", "state", "established", "sport", "=", ":80"], ns="host")
        sockets.wait()
        assert len(sockets.text().splitlines()) == len(scene.office_before + scene.office_during), sockets.text()


def test_bus_lost(testbed):
    renewal = Renewal(testbed)
    with Scene(testbed) as scene:
        daemon = testbed.daemon().start()
        renewal.request()
        scene.connect()
        testbed.bus.kill9()
        assert daemon.wait() == 1
        scene.assert_shut(now())
        assert not renewal.tree()
        assert "Sanitizer" not in daemon.text()
        assert testbed.net.ruleset() == scene.ruleset


def test_helper_killed(testbed):
    """The renewal's supervisor dies: its tree with it, the window says so."""
    renewal = Renewal(testbed)
    with Scene(testbed) as scene, testbed.daemon():
        window = renewal.request()
        scene.connect()
        wait_until(renewal.tree, "the renewal to run")
        os.kill(int(run(["pgrep", "-x", "postern-run"])), signal.SIGKILL)
        wait_state(testbed, window, "closed")
        scene.assert_shut(now())
        assert not renewal.tree()
