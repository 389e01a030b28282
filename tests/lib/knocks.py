# SPDX-License-Identifier: GPL-2.0-or-later
"""Who can come in, in one look and without waiting: a SYN each from many addresses to many ports, and
a fence behind them. When the fence is answered, so has every SYN been that will be."""

import contextlib
import itertools
import json
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from net import HOST4, HOST6, OFFICE4, OFFICE6, STRANGER4, STRANGER6
from probe import FAMILIES, Listener
from process import netns, run

# whom rulesets may tell apart: name → (IPv4, IPv6)
VISITORS = {
    "stranger": (STRANGER4, STRANGER6),
    "office": (OFFICE4, OFFICE6),
    "banned": ("198.51.100.66", "2001:db8:66::66"),
    "abroad": ("192.0.2.7", "2001:db8:7::7"),
}
PORTS = (80, 22, 443, 8080)
ROUTES = ("198.51.100.0/24", "192.0.2.0/24", "2001:db8:66::/64", "2001:db8:7::/64")
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
FENCE_PATIENCE = 10.0  # only where something is broken: the answer comes with the last of the SYNs'


class Knock(NamedTuple):
    visitor: str
    family: str
    port: int


def everything() -> list[Knock]:
    return [Knock(visitor, family, port) for visitor in VISITORS for family in FAMILIES for port in PORTS]


class Visitors:
    """The addresses, on `internet`, and somebody who listens at every port of `host`.

    A wire between two namespaces is a queue of the sending CPU's, served in order. So everything is sent
    from one CPU, and last an ARP request, which no input hook sees: with its answer, which was queued
    behind them, come the answers to all that went before."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for addresses in list(VISITORS.values())[2:]:
                for address, length in zip(addresses, ("32", "128")):
                    more = ["nodad", "preferred_lft", "0"] if ":" in address else []
                    run(["ip", "-n", "internet", "address", "add", f"{address}/{length}", "dev", "uplink", *more])
            for route in ROUTES:
                run(["ip", "-n", "host", "route", "add", route, "dev", "uplink"])
            self._uplink_is_known = False
            self.set_uplink(True)
            # known neighbours: rulesets need not admit their discovery, and no answer waits for it
            everybody = [address for addresses in VISITORS.values() for address in addresses]
            for ns, other, addresses in (("host", "internet", everybody), ("internet", "host", [HOST4, HOST6])):
                for address in addresses:
                    run(["ip", "-n", ns, "neighbour", "replace", address, "lladdr", mac(other), "dev", "uplink",
                         "nud", "permanent"])  # fmt: skip
            for port in PORTS:
                stack.enter_context(Listener(port))
            with netns("internet"):
                self._fence = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)))
            self._fence.bind(("uplink", 0x0806))
            self._fence.settimeout(FENCE_PATIENCE)
            self._macs = bytes.fromhex(mac("internet").replace(":", ""))
            self._cpus = os.sched_getaffinity(0)
            self._source_ports = itertools.cycle(range(20_000, 60_000))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def set_uplink(self, known: bool) -> None:
        """Whether the host's default routes tell by which interface strangers come."""
        if known == self._uplink_is_known:
            return
        self._uplink_is_known = known
        for option, via in (("-4", STRANGER4), ("-6", STRANGER6)):
            command = ["ip", option, "-n", "host", "route"]
            if known:
                run([*command, "replace", "default", "via", via, "dev", "uplink"])
            else:
                run([*command, "flush", "default"])

    def who_comes_in(self, knocks: list[Knock] | None = None) -> set[Knock]:
        """Those whose handshake is answered, each once."""
        sockets: dict[int, Knock] = {}
        poll = select.poll()
        # another one each time: where a ruleset drops what follows the handshake, the host remembers
        source_port = next(self._source_ports)
        with self._one_cpu(), netns("internet"), contextlib.ExitStack() as stack:
            for knock in knocks or everything():
                s = stack.enter_context(start(knock, source_port))
                sockets[s.fileno()] = knock
                poll.register(s, select.POLLOUT)
            self._pass_fence()
            came_in = set()
            for fd, events in poll.poll(0):
                # not SO_ERROR: that also tells of packets after the handshake that were rejected
                if events == select.POLLOUT:
                    came_in.add(sockets[fd])
        return came_in

    @contextlib.contextmanager
    def _one_cpu(self) -> Iterator[None]:
        os.sched_setaffinity(0, {min(self._cpus)})
        try:
            yield
        finally:
            os.sched_setaffinity(0, self._cpus)

    def _pass_fence(self) -> None:
        question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self._macs + socket.inet_aton(STRANGER4)
        question += bytes(6) + socket.inet_aton(HOST4)
        self._fence.send(b"\xff" * 6 + self._macs + struct.pack("!H", 0x0806) + question)
        answered = False
        while not answered:
            packet = self._fence.recv(2048)
            answered = packet[20:22] == b"\0\2" and packet[28:32] == socket.inet_aton(HOST4)


def start(knock: Knock, source_port: int) -> socket.socket:
    v6 = knock.family == "v6"
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((VISITORS[knock.visitor][v6], source_port))
    s.connect_ex((HOST6 if v6 else HOST4, knock.port))
    return s


def mac(ns: str) -> str:
    return json.loads(run(["ip", "-j", "-n", ns, "link", "show", "uplink"]))[0]["address"]
