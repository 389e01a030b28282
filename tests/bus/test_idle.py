# SPDX-License-Identifier: GPL-2.0-or-later
"""When the daemon leaves by itself."""

import os
import signal
import socket
import time

import pytest
from callers import WINDOW, profile, renew, request_window, wait_log
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MatchRule, new_method_call
from jeepney.bus_messages import message_bus
from testbed import MANAGER, NAME, PATH


@pytest.fixture
def host(testbed):
    testbed.profile("true", profile("/bin/true"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    return testbed


def test_leaves_when_there_is_nothing_to_do(host):
    with host.daemon("--idle-exit=4s") as daemon:
        assert daemon.wait() == 0
        assert not host.bus.owner()
        assert "Nothing to do" in daemon.text()


def test_stays_when_it_was_started_by_hand(host):
    with host.daemon() as daemon:
        wait_log(daemon, "stays until it is told to end")


def test_leaves_after_a_minute_when_the_bus_started_it(host):
    os.environ["DBUS_STARTER_BUS_TYPE"] = "system"
    try:
        with host.daemon() as daemon:
            wait_log(daemon, "leaves after 60 s without work")
        with host.daemon("--idle-exit=0") as daemon:
            wait_log(daemon, "stays until it is told to end")
    finally:
        del os.environ["DBUS_STARTER_BUS_TYPE"]


def test_stays_with_a_window_and_while_one_can_be_read(host):
    """The closed window is readable for a minute, which the daemon waits for."""
    with host.daemon("--idle-exit=4s") as daemon:
        path = request_window(host, "deploy", "long")
        # here time itself is what is tested
        time.sleep(5)
        host.bus.call("Close", interface=WINDOW, path=path, user="deploy")
        time.sleep(5)
        assert daemon.alive() and host.bus.get(path, WINDOW, "Result") == "canceled"


def test_stays_with_an_open_question(host):
    with host.daemon("--idle-exit=4s") as daemon:
        host.polkit.stop()
        with renew(host, "deploy", "true") as call:
            wait_log(daemon, "asking polkit")
            time.sleep(5)
            host.polkit.cont()
            assert call.result()[0] == "success"


def test_every_call_puts_it_off(host):
    call = new_method_call(DBusAddress(PATH, NAME, MANAGER), "ListWindows")
    with host.daemon("--idle-exit=3s") as daemon, open_connection(host.bus.address) as connection:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert connection.send_and_get_reply(call).body == ([],)
        assert daemon.alive()
        assert daemon.wait() == 0


def test_a_call_at_the_last_moment_outlives_the_service_managers_sigterm(host, bus_kind, monkeypatch):
    """It has given its name back, which a service manager answers with SIGTERM; but there was a call before."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(20)
    manager.bind(str(host.directory / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(host.directory / "notify"))
    host.profile("short", profile("/bin/sleep 1"))
    renewal = new_method_call(DBusAddress(PATH, NAME, MANAGER), "Renew", "stt", ("short", 0, 0))
    changes = MatchRule(type="signal", sender=message_bus.bus_name, member="NameOwnerChanged")
    changes.add_arg_condition(0, NAME)
    with manager, host.daemon("--idle-exit=3s") as daemon, host.bus.connect() as caller, host.bus.connect() as watcher:
        watcher.send_and_get_reply(message_bus.AddMatch(changes))
        with watcher.filter(changes, bufsize=9) as queue:
            # when it goes on, one bus reads first who has written first, the other who has written last
            host.bus.stop()
            serial = next(caller.outgoing_serial)
            if bus_kind == "dbus-daemon":
                caller.send(renewal, serial=serial)
            time.sleep(6)  # time itself: the daemon has enough of waiting now, and gives its name back
            if bus_kind == "dbus-broker":
                caller.send(renewal, serial=serial)
            host.bus.cont()
            assert watcher.recv_until_filtered(queue, timeout=20).body[2] == ""
            os.kill(daemon.pid, signal.SIGTERM)
            assert watcher.recv_until_filtered(queue, timeout=20).body[2] != ""
        while not (said := manager.recv(4096).decode()).startswith("EXTEND_TIMEOUT_USEC="):
            pass
        assert said == "EXTEND_TIMEOUT_USEC=60000000"
        while (reply := caller.receive(timeout=20)).header.fields.get(HeaderFields.reply_serial) != serial:
            pass
        assert reply.body[:2] == ("success", 0)
        # the next one is an order
        daemon.sigterm()
        assert daemon.wait() == 0
