# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections with their labels, as the kernel has them: conntrack(8) shows only labels that a file
gives names to."""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from process import netns

NETLINK_NETFILTER = 12
CT_GET = 1 << 8 | 1
CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM, CTA_PROTO_DST_PORT, CTA_LABELS = 1, 2, 1, 3, 22
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE = 3


class Connection(NamedTuple):
    protocol: int
    port: int  # the original direction's destination
    labels: int  # a bit each


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[length + 3 & ~3 :]


def connections(ns: str = "host") -> list[Connection]:
    with netns(ns):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    found = []
    with kernel:
        kernel.send(struct.pack("=IHHIIBBH", 20, CT_GET, DUMP, 1, 0, 0, 0, 0))
        while True:
            data = kernel.recv(1 << 20)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == DONE:
                    return found
                found.append(read(data[20:length]))
                data = data[length + 3 & ~3 :]


def read(data: bytes) -> Connection:
    fields = dict(attributes(data))
    protocol = dict(attributes(dict(attributes(fields[CTA_TUPLE_ORIG]))[CTA_TUPLE_PROTO]))
    port = int.from_bytes(protocol.get(CTA_PROTO_DST_PORT, b"\0\0"), "big")
    labels = int.from_bytes(fields.get(CTA_LABELS, b""), "little")
    return Connection(protocol[CTA_PROTO_NUM][0], port, labels)


def let_in() -> list[Connection]:
    """Those that came in through a window: they carry two labels, W and G, or more; who was wanted, but
    admitted by the host's own rules, carries W alone."""
    return [connection for connection in connections() if connection.labels.bit_count() >= 2]
