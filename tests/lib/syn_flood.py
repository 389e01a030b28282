#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""SYNs from senders that do not exist, as fast as one process sends them: raw frames, so that neither
routes nor the senders' own connection tracking have a say. The program sends; SynFlood runs it.

    syn_flood.py FILE SEED PORT DEVICE HOST-MAC OWN-MAC

FILE tells the number of frames sent so far, of each family.
"""

import errno
import ipaddress
import os
import random
import signal
import socket
import struct
import sys

from net import HOST4, HOST6, STRANGER4, STRANGER6
from process import Process, new_directory, run, wait_until

# for documentation, like the wire's own networks, and not among these
SENDERS4, SENDERS6 = ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8:2::/64")
COUNTS = struct.Struct("=QQ")
DIFFERENT = 100_000  # frames of each family; then from the first again
ROUND = 50


class SynFlood:
    """Floods a port of `host` from `internet`, over IPv4 and IPv6 by turns, from begin() on while the
    context lasts."""

    def __init__(self, seed: int, port: int = 80) -> None:
        self._seed, self._port = seed, port

    def __enter__(self):
        for network, gateway in ((SENDERS4, STRANGER4), (SENDERS6, STRANGER6)):
            # answers leave the host, and reach nobody; one neighbour is asked for, not one for each sender
            run(["ip", "-n", "host", "route", "replace", str(network), "via", gateway])
        macs = [
            run(["ip", "-n", ns, "-o", "link", "show", "uplink"]).split("link/ether ")[1].split()[0]
            for ns in ("host", "internet")
        ]
        self._file = new_directory("flood") / "counts"
        self._process = Process(
            ["/usr/bin/python3", __file__, str(self._file), str(self._seed), str(self._port), "uplink", *macs],
            ns="internet",
        )
        self._process.wait_ready(self._file.exists, "its frames", 60)
        return self

    def __exit__(self, *_) -> None:
        self._process.close()

    def begin(self) -> None:
        self._process.signal(signal.SIGUSR1)

    def sent(self) -> int:
        """Frames, of the family of which there are fewer."""
        assert self._process.alive(), self._process.text()
        return min(COUNTS.unpack(self._file.read_bytes()))

    def wait_more(self, frames: int) -> None:
        target = self.sent() + frames
        wait_until(lambda: self.sent() >= target, f"{frames} more SYNs of each family", patience=60)


def words(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def checksum(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(generator: random.Random, port: int, source: bytes, target: bytes) -> bytes:
    head = struct.pack("!HHIIBBH", generator.randrange(1024, 65536), port, generator.getrandbits(32), 0, 5 << 4, 2, 65535)
    return head + struct.pack("!HH", checksum(words(source + target + head) + socket.IPPROTO_TCP + 20), 0)


def packet4(generator: random.Random, port: int) -> bytes:
    source = SENDERS4[generator.randrange(1, 255)].packed
    target = ipaddress.ip_address(HOST4).packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 40, generator.getrandbits(16), 0, 64, socket.IPPROTO_TCP)
    total = words(head + source + target)
    return head + struct.pack("!H", checksum(total)) + source + target + syn(generator, port, source, target)


def packet6(generator: random.Random, port: int) -> bytes:
    source = SENDERS6[generator.getrandbits(64)].packed
    target = ipaddress.ip_address(HOST6).packed
    head = struct.pack("!IHBB", 6 << 28, 20, socket.IPPROTO_TCP, 64)
    return head + source + target + syn(generator, port, source, target)


def main() -> None:
    file, seed, port, device, *macs = sys.argv[1:]
    generator = random.Random(int(seed))
    ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in macs)
    kinds = [(b"\x08\x00", packet4), (b"\x86\xdd", packet6)]
    pools = [[ethernet + kind + make(generator, int(port)) for _ in range(DIFFERENT)] for kind, make in kinds]
    stopping: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((device, 0))
    sent, at = [0] * len(pools), 0
    with open(f"{file}.new", "wb", buffering=0) as counts:
        counts.write(COUNTS.pack(*sent))
        os.rename(f"{file}.new", file)
        if signal.sigwait({signal.SIGUSR1, signal.SIGTERM}) == signal.SIGTERM:
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        while not stopping:
            for family, pool in enumerate(pools):
                for frame in pool[at : at + ROUND]:
                    try:
                        wire.send(frame)
                        sent[family] += 1
                    except OSError as error:
                        if error.errno != errno.ENOBUFS:  # the host's queue is full
                            raise
            at = (at + ROUND) % DIFFERENT
            os.pwrite(counts.fileno(), COUNTS.pack(*sent), 0)


if __name__ == "__main__":
    main()
