# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows for UDP, which has no connections to end: what came in is silenced until it is forgotten."""

import socket

import pytest
from labels import let_in
from net import HOST4
from process import netns, run, wait_until
from scene import Renewal, state, wait_state

PORT = 5300


@pytest.fixture
def ends():
    """A server in `host` and a stranger."""
    with netns("host"):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((HOST4, PORT))
    with netns("internet"):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((HOST4, PORT))
    with server, client:
        server.settimeout(1)
        client.settimeout(1)
        yield server, client


def talk(server, client) -> tuple:
    client.send(b"hello")
    data, peer = server.recvfrom(100)
    assert data == b"hello"
    server.sendto(b"welcome", peer)
    assert client.recv(100) == b"welcome"
    return peer


def assert_silent(server, client, peer) -> None:
    """In both directions, whoever speaks first."""
    for _ in range(3):
        with pytest.raises(PermissionError):  # what the guard drops on its way out
            server.sendto(b"still there?", peer)
        client.send(b"hello?")
        with pytest.raises(TimeoutError):
            client.recv(100)
    with pytest.raises(TimeoutError):
        server.recv(100)


def test_window(testbed, ends):
    server, client = ends
    renewal = Renewal(testbed, window=f"Ports={PORT}/udp")
    with testbed.daemon():
        window = renewal.request()
        peer = talk(server, client)
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "AdmittedConnections") == 1
        assert_silent(server, client, peer)


def test_after_a_restart(testbed, ends):
    """Killed: the guard cuts; the next start goes on silencing it, and windows open as ever."""
    server, client = ends
    renewal = Renewal(testbed, window=f"Ports={PORT}/udp")
    daemon = testbed.daemon().start()
    renewal.request()
    peer = talk(server, client)
    daemon.kill9()
    client.send(b"hello?")
    with pytest.raises(TimeoutError):
        server.recv(100)
    wait_until(lambda: not renewal.tree(), "the renewal's tree to be gone")
    with testbed.daemon():
        assert_silent(server, client, peer)
        assert let_in()
        window = renewal.request()
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert_silent(server, client, peer)


def test_guard_goes_when_it_is_forgotten(testbed, ends):
    server, client = ends
    renewal = Renewal(testbed, window=f"Ports={PORT}/udp")
    before = testbed.net.ruleset()
    with testbed.daemon():
        window = renewal.request()
        talk(server, client)
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert testbed.net.ruleset() != before
        run(["conntrack", "-D", "-p", "udp"], ns="host")  # as its timeout does
        wait_until(lambda: testbed.net.ruleset() == before, "the guard to be taken away")
