#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Knocks at (address, port) over and over, each time with a new socket, and writes down what came of
it. A program of its own, so that nothing a test does slows it.

    prober.py INTERVAL_USEC PATIENCE_USEC FILE ADDRESS PORT SOURCE [ADDRESS PORT SOURCE]...

A record per knock: target, outcome, when it began and ended (CLOCK_BOOTTIME, ns); see probe.py.
"""

import errno
import select
import signal
import socket
import struct
import sys
import time

RECORD = struct.Struct("=BBxxxxxxqq")
OPEN, REFUSED, SILENT, OTHER = 1, 2, 3, 4
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # no TIME_WAIT: a thousand a second would use up the ports


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def outcome_of(error: int) -> int:
    if error == 0:
        return OPEN
    return REFUSED if error in (errno.ECONNREFUSED, errno.ECONNRESET) else OTHER


def main() -> None:
    interval, patience = int(sys.argv[1]) * 1000, int(sys.argv[2]) * 1000
    log = open(sys.argv[3], "ab", buffering=0)
    targets = []
    for address, port, source in zip(sys.argv[4::3], sys.argv[5::3], sys.argv[6::3]):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        targets.append((family, (address, int(port)), (source, 0)))

    order = list(range(len(targets)))

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

    poll = select.epoll()
    waiting = {}  # fd → (socket, target, begun), oldest first
    next_knock = now()
    while not stopping:
        records = []

        def finish(knock: socket.socket, target: int, begun: int, outcome: int) -> None:
            records.append(RECORD.pack(target, outcome, begun, now()))
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            knock.close()

        if now() >= next_knock:
            # a late start is not made up for with a burst
            next_knock = max(next_knock + interval, now())
            order.reverse()  # who comes first at a limit
            for target in order:
                family, address, source = targets[target]
                knock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                # the source port is chosen at connect(), so that any of them can be used
                knock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
                knock.bind(source)
                begun = now()
                error = knock.connect_ex(address)
                if error == errno.EINPROGRESS:
                    waiting[knock.fileno()] = (knock, target, begun)
                    poll.register(knock, select.EPOLLOUT)
                else:
                    finish(knock, target, begun, outcome_of(error))

        # epoll itself would round up to milliseconds
        select.select([poll], [], [], max(0, next_knock - now()) / 1e9)
        for fd, _ in poll.poll(0):
            knock, target, begun = waiting.pop(fd)
            finish(knock, target, begun, outcome_of(knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))

        too_old = now() - patience
        while waiting and (oldest := next(iter(waiting.values())))[2] < too_old:
            del waiting[oldest[0].fileno()]
            finish(*oldest, SILENT)

        if records:
            log.write(b"".join(records))


if __name__ == "__main__":
    main()
