# SPDX-License-Identifier: GPL-2.0-or-later
"""A posternd that the bus starts, and that leaves when it is idle: nobody who calls notices."""

import os
import random
import time

import pytest
from bus import _last_thing_of_child, become
from callers import ERROR, profile
from connections import open_connection
from jeepney import DBusAddress, MessageType, new_method_call
from rounds import number, seed
from testbed import MANAGER, NAME, PATH, wait_until

CALLS = number("POSTERN_TEST_EDGE_CALLS", 400)
IDLE_MSEC = 30


@pytest.fixture
def bus_kind():
    """dbus-broker leaves starting to systemd."""
    return "dbus-daemon"


@pytest.fixture
def host(testbed):
    testbed.profile("true", profile("/bin/true"))
    return testbed


def test_the_first_call_starts_it(host):
    with host.activatable() as log:
        assert not host.bus.owner()
        assert host.bus.call("Renew", "stt", "true", 0, 0, user="deploy")[0] == "success"
        assert "it leaves after 60 s without work" in log.read_text()


def test_it_leaves_and_is_started_again(host):
    with host.activatable("--idle-exit=50ms") as log:
        for times in range(1, 4):
            assert host.bus.call("ListWindows", user="visitor") == ([],)
            wait_until(lambda: not host.bus.owner(), "it to leave")
            assert log.read_text().count("is ready") == times


def call_at_the_edge(address: str, luck: int) -> None:
    """Calls of three kinds: one that is answered at once, one after the bus was asked who calls, one
    after polkit was asked. Each comes about when the daemon has had enough of waiting."""
    chance = random.Random(luck)
    kinds = [("ListWindows", None, (), None), ("Check", "s", ("true",), None),
             ("Renew", "stt", ("true", 0, 0), "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")]  # fmt: skip
    with open_connection(address) as connection:
        for index in range(CALLS):
            member, signature, body, error = kinds[index % len(kinds)]
            message = new_method_call(
                DBusAddress(PATH, bus_name=NAME, interface=MANAGER), member, signature, body
            )
            reply = connection.send_and_get_reply(message, timeout=30)
            fields = {field.name: value for field, value in reply.header.fields.items()}
            # pre-flights are limited, which is an answer like any other
            if fields.get("error_name") not in (error, ERROR + "RateLimited"):
                raise AssertionError(f"call {index}, {member}: {fields} {reply.body}")
            if reply.header.message_type is MessageType.error:
                assert index % len(kinds) > 0, reply.body
            time.sleep(chance.uniform(0.7, 1.3) * IDLE_MSEC / 1000)


def test_no_call_is_lost_at_the_edge(host):
    luck = seed()
    with host.activatable(f"--idle-exit={IDLE_MSEC}ms") as log:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _last_thing_of_child():
                become("visitor")
                call_at_the_edge(host.bus.address, luck)
                os.write(write_end, b"done")
        os.close(write_end)
        with os.fdopen(read_end, "rb") as stream:
            done = stream.read()
        os.waitpid(pid, 0)
        assert done == b"done", "see the caller's own words above"
        text = log.read_text()
    print(f"{CALLS} calls, {text.count('is ready')} starts, {text.count('taken over')} taken over")
    # it did leave, and often came back, or the edge was not met
    assert text.count("is ready") > CALLS / 20
