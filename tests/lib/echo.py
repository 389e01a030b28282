#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that echoes, over IPv4 and IPv6: echo.py PORT. A program of its own, so that thousands of
knocks do not slow the test."""

import contextlib
import select
import socket
import sys


def main() -> None:
    server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    server.setblocking(False)
    poll = select.epoll()
    poll.register(server, select.EPOLLIN)
    clients = {}
    print("listening", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == server.fileno():
                # who knocks and leaves at once may be gone by now
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    client, _ = server.accept()
                    client.setblocking(False)
                    clients[client.fileno()] = client
                    poll.register(client, select.EPOLLIN)
                continue
            data = b""
            with contextlib.suppress(OSError):
                data = clients[fd].recv(4096)
                clients[fd].send(data)
            if not data:
                clients.pop(fd).close()


if __name__ == "__main__":
    main()
