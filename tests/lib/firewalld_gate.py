# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of firewalld's hosts by itself, and a firewalld that is none."""

import ast
import contextlib
import os
import re
import signal
import subprocess
import threading

from bus import _last_thing_of_child
from connections import open_connection
from firewalld import NAME, PATH
from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from process import as_user, in_netns, new_directory, wait_until
from testbed import SANITIZER_OPTIONS, build_directory

EXCEPTION = f"{NAME}.Exception"


class Gate:
    """tests/unit/firewalld-driver, in the namespace `host`."""

    def __init__(self, testbed, user: str | None = None) -> None:
        self._testbed, self._user = testbed, user

    def __enter__(self):
        self._process = subprocess.Popen(
            [*in_netns("host"), *(as_user(self._user) if self._user else []),
             str(build_directory() / "tests/unit/firewalld-driver")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
            env={**os.environ, **SANITIZER_OPTIONS, **self._testbed.bus.environment},
        )  # fmt: skip
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        return self

    def _collect(self) -> None:
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))

    def __exit__(self, kind, *_) -> None:
        self._process.stdin.close()
        status = self._process.wait(20)
        self._thread.join(20)
        if kind is None:
            assert status == 0, self._lines

    def say(self, *words: str) -> None:
        self._process.stdin.write(" ".join(words) + "\n")

    def wait(self, beginning: str, patience: float = 20) -> str:
        """What follows this, in the next line that begins with it; nobody gets that line again."""

        def find() -> str | None:
            for index, line in enumerate(self._lines):
                if line.startswith(beginning + " "):
                    del self._lines[index]
                    return line[len(beginning) + 1 :]
            assert self._process.poll() is None, self._lines
            return None

        try:
            return wait_until(find, f"the gate to say {beginning!r}", patience)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; it said {self._lines}") from None

    def plan(self, name: str = "w1", ports: str = "80/tcp", zone: str = "") -> str:
        """What is answered, without the unique name of firewalld."""
        self.say("plan", name, ports, zone)
        return re.sub(r"\[:[0-9.]+ ?", "[", self.wait(f"planned {name}"))

    def open(self, name: str = "w1") -> str:
        self.say("open", name)
        return self.wait(f"opened {name}")

    def shut(self, name: str = "w1", *claims: str) -> str:
        self.say("shut", name, *claims)
        return self.wait(f"shut {name}")


class Pretender:
    """Has firewalld's name on the bus, and answers to each method as told: with values, with an error's
    text, not at all (SILENT), or with its death (DIES)."""

    SILENT, DIES = "silent", "dies"
    ANSWERS = {
        "queryPanicMode": ("b", (False,)),
        "getDefaultZone": ("s", ("public",)),
        "getZoneOfInterface": ("s", ("",)),
        "getZoneSettings2": ("a{sv}", ({"target": ("s", "default")},)),
        "getActivePolicies": ("a{sa{sas}}", ({},)),
        "addPort": ("s", ("public",)),
        "removePort": ("s", ("public",)),
    }

    def __init__(self, testbed, **answers) -> None:
        self._bus, self._answers = testbed.bus, {**self.ANSWERS, **answers}

    def __enter__(self):
        self._book = new_directory("pretender") / "book"
        self._book.touch()
        read_end, self._orders = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            with _last_thing_of_child():
                os.close(self._orders)
                self._serve(os.fdopen(read_end))
        os.close(read_end)
        self.instance = wait_until(lambda: self._bus.owner(NAME), "the pretender to have firewalld's name")
        return self

    def __exit__(self, *_) -> None:
        os.close(self._orders)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        wait_until(lambda: self._bus.owner(NAME) != self.instance, "the pretender's name to be free")

    def calls(self) -> list[str]:
        """What it was asked, in order."""
        return self._book.read_text().splitlines()

    def answer(self, member: str, answer) -> None:
        """From now on; what is told here takes effect in the order in which it is told."""
        os.write(self._orders, f"{(member, answer)!r}\n".encode())

    def reload(self) -> None:
        """Says that it has been reloaded."""
        self.answer("Reloaded", None)

    def _serve(self, orders) -> None:
        with open_connection(self._bus.address) as connection, open(self._book, "a", buffering=1) as book:
            assert connection.send_and_get_reply(message_bus.RequestName(NAME)).body[0] == 1
            threading.Thread(target=self._listen, args=(connection, orders), daemon=True).start()
            while True:
                message = connection.receive()
                if message.header.message_type is not MessageType.method_call:
                    continue
                member = message.header.fields[HeaderFields.member]
                book.write(" ".join([member, *map(str, message.body)]) + "\n")
                answer = self._answers.get(member, "UNKNOWN: method")
                if answer == self.DIES:
                    os._exit(0)
                elif isinstance(answer, tuple):
                    connection.send(new_method_return(message, *answer))
                elif answer != self.SILENT:
                    name, _, text = answer.rpartition("|")
                    connection.send(new_error(message, name or EXCEPTION, "s", (text,)))

    def _listen(self, connection, orders) -> None:
        for order in orders:
            member, answer = ast.literal_eval(order)
            if member == "Reloaded":
                connection.send(new_signal(DBusAddress(PATH, interface=NAME), "Reloaded"))
            else:
                self._answers[member] = answer
