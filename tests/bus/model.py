# SPDX-License-Identifier: GPL-2.0-or-later
"""What windows can do, held against what the daemon says that they did."""

import threading
from collections import Counter

from callers import WINDOW
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, new_signal
from jeepney.bus_messages import message_bus
from testbed import NAME

NEXT = {
    "opening": {"armed", "open", "closing", "closed"},
    "armed": {"open", "closing", "closed"},
    "open": {"armed", "closing", "closed"},
    "closing": {"closed"},
    "closed": set(),
}


class Model:
    """What the windows' signals say, one after the other, held against what a window can do."""

    def __init__(self, testbed) -> None:
        self._address = testbed.bus.address
        self.problems: list[str] = []
        self._states: dict[str, str] = {}
        self._live: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self.seen = 0

    def __enter__(self):
        self._connection = open_connection(self._address)
        self._connection.send_and_get_reply(message_bus.AddMatch(f"type='signal',sender='{NAME}'"))
        self._connection.send_and_get_reply(message_bus.AddMatch("type='signal',interface='org.postern.test.End'"))
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        return self

    def _follow(self) -> None:
        while True:
            message = self._connection.receive()
            member, path = (message.header.fields.get(f) for f in (HeaderFields.member, HeaderFields.path))
            if member == "TestEnds":
                return
            if member == "InterfacesAdded" and WINDOW in message.body[1]:
                values = message.body[1][WINDOW]
                self._added(message.body[0], values["Profile"][1], values["State"][1])
            elif member == "PropertiesChanged" and message.body[0] == WINDOW and "State" in message.body[1]:
                self._changed(path, message.body[1]["State"][1])

    def _added(self, path: str, name: str, state: str) -> None:
        self.seen += 1
        if path in self._states:
            self.problems.append(f"{path} came twice")
        if name in self._live:
            self.problems.append(f"{path} opened while {self._live[name]} was there, both of {name}")
        self._states[path], self._names[path] = state, name
        if state != "closed":
            self._live[name] = path

    def _changed(self, path: str, state: str) -> None:
        before = self._states.get(path)
        if before is None or state not in NEXT[before] | {before}:
            self.problems.append(f"{path} went from {before} to {state}")
        self._states[path] = state
        if state == "closed" and self._live.get(self._names.get(path)) == path:
            del self._live[self._names[path]]

    def __exit__(self, *_) -> None:
        with open_connection(self._address) as connection:
            connection.send(new_signal(DBusAddress("/", interface="org.postern.test.End"), "TestEnds"))
            self._thread.join()
        self._connection.close()

    def states(self) -> Counter:
        return Counter(self._states.values())
