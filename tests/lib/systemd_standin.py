# SPDX-License-Identifier: GPL-2.0-or-later
"""A systemd that has nothing but states of units to tell, for hosts of tests, which have none."""

import os

from bus import _last_thing_of_child
from jeepney import HeaderFields, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
from process import wait_until

SYSTEMD = "org.freedesktop.systemd1"


class SystemdStandIn:
    """active: units whose ActiveState is "active"; every other one is "inactive". silent: it takes
    questions and never answers."""

    def __init__(self, testbed, *active: str, silent: bool = False) -> None:
        self._bus, self._silent = testbed.bus, silent
        self._active = {f"/org/freedesktop/systemd1/unit/{self._encode(unit)}" for unit in active}

    @staticmethod
    def _encode(unit: str) -> str:
        return "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in unit)

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

    def _serve(self) -> None:
        with open_dbus_connection(self._bus.address) as connection:
            assert connection.send_and_get_reply(message_bus.RequestName(SYSTEMD)).body[0] == 1
            while True:
                message = connection.receive()
                if self._silent or message.header.fields.get(HeaderFields.member) != "Get":
                    continue
                if message.body != (f"{SYSTEMD}.Unit", "ActiveState"):
                    connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownProperty", "s", ("no",)))
                    continue
                path = message.header.fields[HeaderFields.path]
                state = "active" if path in self._active else "inactive"
                connection.send(new_method_return(message, "v", (("s", state),)))
