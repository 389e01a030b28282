# SPDX-License-Identifier: GPL-2.0-or-later
"""Systemds for hosts of tests, which have none: one that has nothing but states of units to tell, and one
that can be asked for a unit and does not do as it should."""

import os

from bus import _last_thing_of_child
from connections import open_connection
from jeepney import HeaderFields, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from process import wait_until

SYSTEMD = "org.freedesktop.systemd1"


class _StandIn:
    def __init__(self, bus) -> None:
        self._bus = bus

    def __enter__(self):
        self._pid = os.fork()
        if self._pid == 0:
            with _last_thing_of_child():
                self._serve()
        wait_until(lambda: self._bus.owner(SYSTEMD), "the stand-in to have systemd's name")
        return self

    def __exit__(self, *_) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        wait_until(lambda: not self._bus.owner(SYSTEMD), "the stand-in's name to be free")

    def _serve(self) -> None:
        with open_connection(self._bus.address) as connection:
            assert connection.send_and_get_reply(message_bus.RequestName(SYSTEMD)).body[0] == 1
            while True:
                message = connection.receive()
                if message.header.message_type is MessageType.method_call:
                    self._heard(connection, message)


class SystemdStandIn(_StandIn):
    """active: units whose ActiveState is "active"; every other one is "inactive". silent: it takes
    questions and never answers."""

    def __init__(self, testbed, *active: str, silent: bool = False) -> None:
        super().__init__(testbed.bus)
        self._silent = silent
        self._active = {f"/org/freedesktop/systemd1/unit/{self._encode(unit)}" for unit in active}

    @staticmethod
    def _encode(unit: str) -> str:
        return "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in unit)

    def _heard(self, connection, message) -> None:
        if self._silent or message.header.fields.get(HeaderFields.member) != "Get":
            return
        if message.body != (f"{SYSTEMD}.Unit", "ActiveState"):
            connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownProperty", "s", ("no",)))
            return
        path = message.header.fields[HeaderFields.path]
        state = "active" if path in self._active else "inactive"
        connection.send(new_method_return(message, "v", (("s", state),)))


class BadManager(_StandIn):
    """It has a unit, and answers as told to each method and for each property: with a value, with an error
    (None), or with one after the other of a list, whose last one stays. Where nothing is told, the unit has
    ended as soon as it is started."""

    UNIT = "/org/freedesktop/systemd1/unit/a"
    METHODS = {
        "LoadUnit": ("o", UNIT), "Subscribe": (), "RefUnit": (), "StartUnit": ("o", "/org/freedesktop/systemd1/job/1"),
        "StopUnit": ("o", "/org/freedesktop/systemd1/job/2"), "KillUnit": (),
    }  # fmt: skip
    PROPERTIES = {
        "LoadState": ("s", "loaded"), "Job": ("(uo)", (0, "/")), "ActiveState": ("s", "inactive"), "SubState": ("s", "dead"),
        "ConditionResult": ("b", True), "AssertResult": ("b", True), "Result": ("s", "success"), "ExecMainCode": ("i", 1),
        "ExecMainStatus": ("i", 0),
    }  # fmt: skip

    def __init__(self, bus, **answers) -> None:
        super().__init__(bus)
        self._answers = {**self.METHODS, **self.PROPERTIES, **answers}

    def _answer(self, what: str) -> tuple | None:
        answer = self._answers[what]
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    def _heard(self, connection, message) -> None:
        member = message.header.fields[HeaderFields.member]
        answer = self._answer(message.body[1] if member == "Get" else member)
        if answer is None:
            reply = new_error(message, "org.freedesktop.DBus.Error.Failed", "s", ("no luck",))
        elif member == "Get":
            reply = new_method_return(message, "v", (answer,))
        elif answer:
            reply = new_method_return(message, answer[0], answer[1:])
        else:
            reply = new_method_return(message)
        connection.send(reply)
