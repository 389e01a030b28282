# SPDX-License-Identifier: GPL-2.0-or-later
"""A polkit that answers as it likes and when it likes, and keeps a book of what it was asked."""

import heapq
import os
import pickle
import random
import select
import time
from typing import NamedTuple

from bus import _last_thing_of_child, become
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_error, new_method_call, new_method_return
from jeepney.bus_messages import message_bus
from process import wait_until

POLKIT = "org.freedesktop.PolicyKit1"
ANSWERS = {"yes": (True, False, {}), "no": (False, False, {}), "challenge": (False, True, {})}


class Question(NamedTuple):
    sender: str
    action: str
    profile: str
    ports: str
    duration: int
    gate: str
    interactive: bool
    asked_at: float  # monotonic
    answer: str
    left: bool  # the bus had told us before the answer that the sender was gone


class StandIn:
    """Takes polkit's name on the bus. Answers after up to `delay` seconds: yes mostly, and else no, that a
    person would have to be asked, or an error; whether or not the question has been taken back."""

    def __init__(self, testbed, luck: str, delay: float, yes: float = 0.6) -> None:
        self._bus, self._random, self._delay, self._yes = testbed.bus, random.Random(luck), delay, yes

    def __enter__(self):
        read_end, write_end = os.pipe()
        end_read, self._end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            with _last_thing_of_child():
                os.close(read_end)
                os.close(self._end)
                become("polkitd")
                book, canceled = self._serve(end_read)
                with os.fdopen(write_end, "wb") as stream:
                    pickle.dump((book, canceled), stream)
        os.close(write_end)
        os.close(end_read)
        self._read = read_end
        wait_until(lambda: self._bus.owner(POLKIT), "the stand-in to have polkit's name")
        return self

    def end(self) -> None:
        """The book is complete then."""
        os.close(self._end)
        with os.fdopen(self._read, "rb") as stream:
            data = stream.read()
        os.waitpid(self._pid, 0)
        self._pid = 0
        assert data, "the stand-in died"
        self.book, self.canceled = pickle.loads(data)

    def __exit__(self, *_) -> None:
        if self._pid:
            self.end()

    # --- its own process -------------------------------------------------------------------------

    def _serve(self, end: int) -> tuple[list[Question], int]:
        self._gone: set[str] = set()
        self._due: list[tuple] = []
        self._book: list[Question] = []
        self._canceled = 0
        with open_connection(self._bus.address) as self._connection:
            rule = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"
            self._connection.send_and_get_reply(message_bus.AddMatch(rule))
            assert self._connection.send_and_get_reply(message_bus.RequestName(POLKIT)).body[0] == 1
            while True:
                patience = max(0, self._due[0][0] - time.monotonic()) if self._due else None
                readable = select.select([self._connection.sock, end], [], [], patience)[0]
                if end in readable:
                    return self._book, self._canceled
                if readable:
                    self._read_all()
                while self._due and self._due[0][0] <= time.monotonic():
                    self._answer(*heapq.heappop(self._due)[2:])

    def _read_all(self) -> None:
        self._connection.parser.add_data(self._connection.sock.recv(1 << 16))
        while (message := self._connection.parser.get_next_message()) is not None:
            member = message.header.fields.get(HeaderFields.member)
            if member == "NameOwnerChanged" and not message.body[2]:
                self._gone.add(message.body[0])
            elif member == "CancelCheckAuthorization":
                self._canceled += 1
            elif member == "CheckAuthorization":
                delay = self._random.uniform(0, self._delay)
                heapq.heappush(self._due, (time.monotonic() + delay, len(self._book) + self._random.random(),
                                           message, time.monotonic()))  # fmt: skip

    def _answer(self, message, asked_at: float) -> None:
        subject, action, details, flags, _ = message.body
        assert subject[0] == "system-bus-name" and set(details) == {"profile", "ports", "duration", "gate"}
        sender = subject[1]["name"][1]
        roll = self._random.random()
        rest = (roll - self._yes) / (1 - self._yes)
        answer = "yes" if rest < 0 else "no" if rest < 0.5 else "challenge" if rest < 0.8 else "error"
        if answer == "error":
            reply = new_error(message, f"{POLKIT}.Error.Failed", "s", ("no luck",))
        else:
            reply = new_method_return(message, "(bba{ss})", (ANSWERS[answer],))
        self._book.append(Question(sender, action, details["profile"], details["ports"], int(details["duration"]),
                                   details["gate"], bool(flags), asked_at, answer, sender in self._gone))  # fmt: skip
        self._connection.send(reply)


class Caller:
    """A connection of a user's, made from a process that is root. call() returns the serial."""

    def __init__(self, testbed, uid: int) -> None:
        os.seteuid(uid)
        try:
            self._connection = open_connection(testbed.bus.address)
        finally:
            os.seteuid(0)
        self.name, self.uid = self._connection.unique_name, uid
        self._kept: dict[int, object] = {}

    def call(self, address: DBusAddress, member: str, signature: str = "", *body, interactive: bool = False) -> int:
        message = new_method_call(address, member, signature or None, body)
        if interactive:
            message.header.flags |= MessageFlag.allow_interactive_authorization
        serial = next(self._connection.outgoing_serial)
        self._connection.send(message, serial=serial)
        return serial

    def result(self, serial: int, patience: float = 60) -> tuple[str, tuple]:
        """("", values) or (name of the error, values)."""
        while serial not in self._kept:
            message = self._connection.receive(timeout=patience)
            answered = message.header.fields.get(HeaderFields.reply_serial)
            if answered is not None:
                assert answered not in self._kept, "answered twice"
                self._kept[answered] = message
        message = self._kept.pop(serial)
        if message.header.message_type is MessageType.error:
            return message.header.fields[HeaderFields.error_name], message.body
        return "", message.body

    def close(self) -> None:
        self._connection.close()
