# SPDX-License-Identifier: GPL-2.0-or-later
"""One user who does without pause whatever costs the daemon something, until told to stop."""

import contextlib
import itertools
import os
import random
import select
import signal
import time

from bus import _last_thing_of_child, become
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, new_method_call
from jeepney.io.blocking import open_dbus_connection
from testbed import MANAGER, NAME, PATH

CONNECTIONS, DEPTH = 8, 8  # of who calls
HELD = 0.05  # seconds at most that who asks stays for the answer
MANAGERS = DBusAddress(PATH, bus_name=NAME, interface=MANAGER)
PROPERTIES = DBusAddress(PATH, bus_name=NAME, interface="org.freedesktop.DBus.Properties")
INTROSPECTABLE = DBusAddress(PATH, bus_name=NAME, interface="org.freedesktop.DBus.Introspectable")


def list_windows():
    return new_method_call(MANAGERS, "ListWindows")


def ask(name: str):
    return new_method_call(MANAGERS, "Renew", "stt", (name, 0, 0))


def call(address: str, profiles: list[str]) -> None:
    """Calls that are answered at once, as many as come back."""
    kinds = itertools.cycle((
        list_windows,
        lambda: new_method_call(PROPERTIES, "GetAll", "s", (MANAGER,)),
        lambda: ask("no-such"),
        lambda: new_method_call(INTROSPECTABLE, "Introspect"),
        lambda: new_method_call(MANAGERS, "ListProfiles"),
    ))  # fmt: skip
    connections = {}
    for _ in range(CONNECTIONS):
        connection = open_connection(address)
        connections[connection.sock] = connection
        for _ in range(DEPTH):
            connection.send(next(kinds)())
    while True:
        for sock in select.select(list(connections), [], [])[0]:
            connection = connections[sock]
            connection.parser.add_data(sock.recv(65536))
            while message := connection.parser.get_next_message():
                if HeaderFields.reply_serial in message.header.fields:
                    connection.send(next(kinds)())


def connect(address: str, profiles: list[str]) -> None:
    """Connections that go as soon as they have said something."""
    while True:
        # one that takes too long is given up, and the next one tried
        with contextlib.suppress(OSError), open_dbus_connection(address) as connection:
            connection.send(list_windows())


def ask_and_leave(address: str, profiles: list[str]) -> None:
    """Questions that nobody waits for to the end."""
    while True:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(open_dbus_connection(address)).send(ask(random.choice(profiles)))
            time.sleep(random.uniform(0, HELD))


class Flooder:
    """A process for each of these, of the same user. Stopped at first."""

    def __init__(self, testbed, user: str, profiles: list[str]) -> None:
        self._address, self._user, self._profiles = testbed.bus.address, user, profiles
        self._pids: list[int] = []

    def __enter__(self):
        for work in (call, connect, ask_and_leave):
            pid = os.fork()
            if pid == 0:
                with _last_thing_of_child():
                    become(self._user)
                    os.kill(os.getpid(), signal.SIGSTOP)
                    work(self._address, self._profiles)
            self._pids.append(pid)
            os.waitpid(pid, os.WUNTRACED)
        return self

    def __exit__(self, *_) -> None:
        for pid in self._pids:
            # one that gave up has been waited for
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    @contextlib.contextmanager
    def at_work(self):
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)
        yield
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]), "a flooder gave up"
