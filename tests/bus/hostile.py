# SPDX-License-Identifier: GPL-2.0-or-later
"""A caller that makes whatever calls a generator has for it, and looks at every answer."""

import contextlib
import itertools
import random
import select
from collections import Counter

from bus import become
from callers import ERROR, INTERACTION_REQUIRED
from connections import open_connection
from generate import TOKEN, Generator, is_clean, is_printable, reply_to
from jeepney import HeaderFields, MessageFlag, MessageType

CONNECTIONS, DEPTH = 6, 4
STANDARD = "org.freedesktop.DBus.Error."
DOCUMENTED = {ERROR + name for name in (
    "NotAuthorized", "NoSuchProfile", "BadProfile", "BadDuration", "BadFlags", "RateLimited", "TooManyWindows",
    "NoSuchWindow", "GateFailed", "RunFailed", "RenewalFailed", "TimedOut", "Canceled", "Stopped",
)} | {INTERACTION_REQUIRED} | {STANDARD + name for name in (
    "UnknownMethod", "UnknownObject", "UnknownInterface", "UnknownProperty", "InvalidArgs", "PropertyReadOnly",
)}  # fmt: skip
TEXT_MAX = 600
BUS_REFUSES = STANDARD + "AccessDenied"
READERS = ("GetLog", "ListProfiles", "ListWindows", "Check", "GetAll", "Get", "GetManagedObjects")


class Connection:
    """One of a caller's; sees to it that each call has its one answer."""

    def __init__(self, address: str, generator: Generator, counts: Counter, complaints: list) -> None:
        self._address, self._generator, self._counts, self._complaints = address, generator, counts, complaints
        self._connect()

    def _connect(self) -> None:
        self._connection = open_connection(self._address, enable_fds=True)
        self.sock = self._connection.sock
        self.waiting: dict[int, tuple] = {}
        self._silent: set[int] = set()

    def send(self, message, kind: str) -> None:
        serial = next(self._connection.outgoing_serial)
        if message.header.flags & MessageFlag.no_reply_expected:
            self._silent.add(serial)
            self._counts["no reply wanted"] += 1
        else:
            self.waiting[serial] = (kind, message)
        self._counts[f"kind: {kind}"] += 1
        self._connection.send(message, serial=serial)

    def poison(self) -> None:
        """Only with nothing to wait for; the bus hangs up, and the caller comes again."""
        self.sock.sendall(self._generator.poison(next(self._connection.outgoing_serial)))
        self.sock.settimeout(1)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while self.sock.recv(65536):
                pass
        self._counts["poisoned"] += 1
        self._connection.close()
        self._connect()

    def receive(self) -> None:
        data = self.sock.recv(1 << 18)
        if not data:
            # what asked last is known
            self._complaints.append(f"the bus hung up on {list(self.waiting.values())[-3:]}"[:2000])
            self._connection.close()
            self._connect()
            return
        self._connection.parser.add_data(data)
        while (message := self._connection.parser.get_next_message()) is not None:
            self._look_at(message)

    def _look_at(self, message) -> None:
        serial = reply_to(message)
        if serial is None:  # a signal to us alone, such as NameAcquired
            return
        if message.header.fields[HeaderFields.sender] == "org.freedesktop.DBus":
            self._look_at_the_bus_s(self.waiting.pop(serial, None), message)
            return
        if serial in self._silent or serial not in self.waiting:
            self._complaints.append(f"an answer too many: {message}"[:1000])
            return
        kind, call = self.waiting.pop(serial)
        if message.header.message_type is MessageType.error:
            self._look_at_error(kind, call, message)
            return
        self._counts["reply"] += 1
        member = call.header.fields[HeaderFields.member]
        if member in ("Renew", "RequestWindow"):
            self._generator.windows.append(message.body[-1])
            self._counts["window"] += 1
        # str() would write control bytes as escapes
        texts = "".join(self._texts(message.body)) if member in READERS else ""
        if not (is_printable(texts) if member == "GetLog" else is_clean(texts)):
            self._complaints.append(f"{member}: not clean: {message.body!a}"[:2000])
        self._counts["printed"] += member == "GetLog" and "MESSAGE=x" in texts

    def _texts(self, value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            for item in itertools.chain(value, value.values() if isinstance(value, dict) else ()):
                yield from self._texts(item)

    def _look_at_the_bus_s(self, waiting: tuple | None, message) -> None:
        """The daemon has not seen that call. The bus answers even who wants no answer."""
        name = message.header.fields[HeaderFields.error_name]
        self._counts[f"the bus: {name}"] += 1
        if waiting and (name != BUS_REFUSES or waiting[0] not in ("interface", "no interface")):
            self._complaints.append(f"the bus refused {waiting}: {message.body}"[:2000])

    def _look_at_error(self, kind: str, call, message) -> None:
        name = message.header.fields[HeaderFields.error_name]
        text = message.body[0] if message.body else ""
        self._counts[name] += 1
        path = call.header.fields[HeaderFields.path]
        what = f"{kind}, {call.header}, answered with {name}: {text!a}"[:3000]
        if name not in DOCUMENTED:
            self._complaints.append(f"no documented error: {what}")
        elif not is_clean(text):
            self._complaints.append(f"not clean: {what}")
        elif TOKEN in text or len(text) > TEXT_MAX:
            self._complaints.append(f"says what the caller said: {what}")
        elif len(path) > 200 and path in text:
            self._complaints.append(f"says the path: {what}")

    def close(self) -> None:
        self._connection.close()


def behave(user: str, address: str, generator: Generator, source: random.Random, calls: int) -> tuple:
    """Makes so many calls: what came of them, and complaints."""
    counts, complaints = Counter(), []
    become(user)
    connections = [Connection(address, generator, counts, complaints) for _ in range(CONNECTIONS)]
    left = calls
    while left or any(connection.waiting for connection in connections):
        for connection in connections:
            if left and not connection.waiting and source.random() < 0.03:
                connection.poison()
                left -= 1
            while left and len(connection.waiting) < DEPTH:
                connection.send(*reversed(generator.message()))
                left -= 1
        waiting = {connection.sock: connection for connection in connections if connection.waiting}
        readable = select.select(list(waiting), [], [], 30)[0]
        if not readable:
            asked = [call for connection in connections for call in connection.waiting.values()]
            complaints.append(f"{len(asked)} without an answer: {asked[:5]}"[:3000])
            break
        for sock in readable:
            waiting[sock].receive()
    for connection in connections:
        connection.close()
    return counts, complaints
