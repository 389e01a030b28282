# SPDX-License-Identifier: GPL-2.0-or-later
"""The command of a renewal that listens on port 80 when it is told to: one command a line on its
standard input, which the test writes into a fifo. What it answers visitors is its name.

    reach.py NAME FIFO LOG       commands: listen, reuse, shut, exit STATUS

reuse: as listen, but shares the port with others who do (SO_REUSEPORT)."""

import contextlib
import os
import selectors
import socket
import sys


def listener(reuse: bool) -> socket.socket:
    server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind(("::", 80))
    server.listen(512)
    return server


def main() -> None:
    name, fifo, log = sys.argv[1:]
    selector, server = selectors.DefaultSelector(), None
    # for writing, too: else it is at its end whenever the test does not write
    with os.fdopen(os.open(fifo, os.O_RDWR), "r") as commands, open(log, "a", buffering=1) as book:
        selector.register(commands, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not commands:
                    with contextlib.suppress(OSError):
                        visitor, _ = key.fileobj.accept()
                        with visitor:
                            visitor.sendall(name.encode())
                    continue
                word, _, rest = commands.readline().strip().partition(" ")
                if word in ("listen", "reuse"):
                    server = listener(word == "reuse")
                    selector.register(server, selectors.EVENT_READ)
                elif word == "shut":
                    selector.unregister(server)
                    server.close()
                elif word == "exit":
                    sys.exit(int(rest))
                book.write(f"{word}\n")


main()
