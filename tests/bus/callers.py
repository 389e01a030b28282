# SPDX-License-Identifier: GPL-2.0-or-later
"""Callers that wait while the test goes on, what they can be told apart by, and what the bus says
meanwhile."""

import contextlib
import os
import pickle
import select
import signal
import xml.etree.ElementTree as ElementTree
from collections import Counter

from bus import _last_thing_of_child, become
from connections import open_connection
from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageFlag,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from testbed import MANAGER, NAME, PATH, BusError, wait_until

MARK = "org.postern.test.End"
WINDOW = "org.postern.Renewal1.Window"
PROFILE = "org.postern.Renewal1.Profile"
ERROR = "org.postern.Renewal1.Error."
INTERACTION_REQUIRED = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
POLKIT = DBusAddress(
    "/org/freedesktop/PolicyKit1/Authority",
    bus_name="org.freedesktop.PolicyKit1",
    interface="org.freedesktop.PolicyKit1.Authority",
)
AGENT_PATH = "/org/postern/test/agent"


def profile(exec_line: str, *, ports: str = "none", gate: str | None = None, more: str = "", window: str = "") -> str:
    """A profile's text. more: lines of [Profile]; window: lines of [Window]."""
    text = f"[Profile]\n{more}\n[Renewal]\nExec={exec_line}\n[Window]\nPorts={ports}\nRateLimit=100/1h\n{window}\n"
    return text + (f"[Gate]\nType={gate}\n" if gate else "")


class Call:
    """One method call by a process of its own; made, it is with the bus. unique: its name there."""

    def __init__(self, testbed, user: str, member: str, signature: str = "", *arguments, interface: str = MANAGER,
                 path: str = PATH, interactive: bool = False, agent: bool = False, person: str = "absent",
                 copies: int = 1) -> None:  # fmt: skip
        """agent: the process is polkit's agent for itself as well. person: what is done with a prompt:
        "absent", "dismisses" or "knows" (the password). copies: how many times the call is made."""
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with _last_thing_of_child():
                os.close(self._read)
                root = open_connection(testbed.bus.address) if person == "knows" else None
                become(user)
                with open_connection(testbed.bus.address) as connection:
                    if agent:
                        self._register(connection)
                    message = new_method_call(
                        DBusAddress(path, bus_name=NAME, interface=interface), member, signature or None, arguments
                    )
                    if interactive:
                        message.header.flags |= MessageFlag.allow_interactive_authorization
                    self._serve(connection, message, write, root, person, copies)
        os.close(write)
        self._buffer, self._events, self._waited = b"", [], False
        self.unique = self._wait_for("unique")

    @staticmethod
    def _register(connection) -> None:
        start_time = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
        subject = ("unix-process", {"pid": ("u", os.getpid()), "start-time": ("t", start_time)})
        reply = connection.send_and_get_reply(
            new_method_call(POLKIT, "RegisterAuthenticationAgent", "(sa{sv})ss", (subject, "C", AGENT_PATH))
        )
        assert reply.header.message_type is MessageType.method_return, reply.body

    @staticmethod
    def _serve(connection, message, write: int, root, person: str, copies: int) -> None:
        def tell(kind, value) -> None:
            data = pickle.dumps((kind, value))
            os.write(write, len(data).to_bytes(4, "big") + data)

        serials = {next(connection.outgoing_serial) for _ in range(copies)}
        waiting = sorted(serials)

        def send(number: int) -> None:
            for serial in waiting[:number]:
                connection.send(message, serial=serial)
            del waiting[:number]

        # the bus allows 128 of a connection to be under way
        send(100)
        # not before: whoever calls after this one comes after it
        tell("unique", connection.unique_name)
        while True:
            received = connection.receive()
            fields = {field.name: value for field, value in received.header.fields.items()}
            if received.header.message_type is MessageType.method_call:
                tell(fields["member"], received.body)
                if fields["member"] == "CancelAuthentication":
                    connection.send(new_method_return(received))
                elif person == "dismisses":
                    connection.send(new_error(received, "org.freedesktop.PolicyKit1.Error.Cancelled"))
                elif person == "knows":
                    # what polkit's helper does, which is set-uid root, when the password was right
                    cookie, identities = received.body[4:6]
                    answer = (os.getuid(), cookie, identities[0])
                    reply = root.send_and_get_reply(
                        new_method_call(POLKIT, "AuthenticationAgentResponse2", "us(sa{sv})", answer)
                    )
                    assert reply.header.message_type is MessageType.method_return, reply.body
                    connection.send(new_method_return(received))
            elif fields.get("reply_serial") in serials:
                send(1)
                if received.header.message_type is MessageType.error:
                    tell("error", (fields["error_name"], received.body[0] if received.body else ""))
                else:
                    tell("reply", received.body)

    def _pump(self, patience: float) -> bool:
        if not select.select([self._read], [], [], patience)[0]:
            return False
        data = os.read(self._read, 65536)
        if not data:
            raise AssertionError("the caller died")
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= 4 + (size := int.from_bytes(self._buffer[:4], "big")):
            self._events.append(pickle.loads(self._buffer[4 : 4 + size]))
            self._buffer = self._buffer[4 + size :]
        return True

    def _find(self, *kinds: str):
        return next(((kind, value) for kind, value in self._events if kind in kinds), None)

    def _wait_for(self, *kinds: str):
        while not (found := self._find(*kinds)):
            assert self._pump(30), f"waited 30 s in vain for {kinds}"
        return found[1] if len(kinds) == 1 else found

    def wait_prompt(self) -> tuple:
        """What polkit asked this process's agent: action, message, icon, details, cookie, identities."""
        return self._wait_for("BeginAuthentication")

    def wait_prompt_gone(self) -> None:
        self._wait_for("CancelAuthentication")

    def prompted(self) -> bool:
        return self._find("BeginAuthentication") is not None

    def prompts(self) -> int:
        while self._pump(0):
            pass
        return sum(kind == "BeginAuthentication" for kind, _ in self._events)

    def results(self, number: int) -> list[tuple]:
        """The values of so many replies."""
        while len(found := [value for kind, value in self._events if kind == "reply"]) < number:
            assert not self._find("error") and self._pump(30), f"{self._events} in 30 s"
        return found

    def outcomes(self, number: int) -> Counter:
        """How often each answer came, of so many: "reply", or an error's name."""
        while len(found := [(kind, value) for kind, value in self._events if kind in ("reply", "error")]) < number:
            assert self._pump(30), f"{len(found)} of {number} answers in 30 s"
        return Counter(kind if kind == "reply" else value[0] for kind, value in found)

    def errors(self) -> list[BusError]:
        """Those that have come so far."""
        return [BusError(*value) for kind, value in self._events if kind == "error"]

    def first_error(self) -> BusError:
        """Of several answers, some of which may be replies and some not come."""
        return BusError(*self._wait_for("error"))

    def answered(self) -> bool:
        while self._pump(0):
            pass
        return self._find("reply", "error") is not None

    def result(self) -> tuple:
        """The reply's values; a BusError if it is one."""
        kind, value = self._wait_for("reply", "error")
        if kind == "error":
            raise BusError(*value)
        return value

    def error(self) -> BusError:
        kind, value = self._wait_for("reply", "error")
        assert kind == "error", f"no error, but {value}"
        return BusError(*value)

    def kill(self) -> None:
        if not self._waited:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._waited = True

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.kill()
        os.close(self._read)


class Flood:
    """Many connections of one user, each with calls that it does not wait for. Entered when all of these
    have reached the daemon, or wait for it."""

    def __init__(self, testbed, user: str, member: str, signature: str = "", *arguments, interface: str = MANAGER,
                 path: str = PATH, connections: int = 4, calls: int = 4) -> None:  # fmt: skip
        self._bus, self._user, self._connections, self._calls = testbed.bus, user, connections, calls
        address = DBusAddress(path, bus_name=NAME, interface=interface)
        self._message = lambda: new_method_call(address, member, signature or None, arguments)

    def __enter__(self):
        read_end, write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            with _last_thing_of_child():
                become(self._user)
                self._flood(write_end)
        os.close(write_end)
        with os.fdopen(read_end) as stream:
            assert stream.read() == "sent", "the flood did not come"
        return self

    def _flood(self, write_end: int) -> None:
        connections = [open_connection(self._bus.address) for _ in range(self._connections)]
        for connection in connections:
            for _ in range(self._calls):
                connection.send(self._message())
        for connection in connections:
            # the bus keeps a connection's messages in order
            connection.send_and_get_reply(message_bus.GetId())
        os.write(write_end, b"sent")
        os.close(write_end)
        signal.pause()

    def __exit__(self, *_) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def renew(testbed, user: str, name: str, duration_usec: int = 0, flags: int = 0, **options) -> Call:
    return Call(testbed, user, "Renew", "stt", name, duration_usec, flags, **options)


def request_window(testbed, user: str, name: str, duration_usec: int = 0, flags: int = 0) -> str:
    """The window's path."""
    return testbed.bus.call("RequestWindow", "stt", name, duration_usec, flags, user=user)[0]


def error_of(function, *arguments, **options) -> BusError:
    try:
        value = function(*arguments, **options)
    except BusError as error:
        return error
    raise AssertionError(f"no error, but {value}")


def send_signal(testbed, user: str, path: str, interface: str, member: str, signature: str, body: tuple) -> None:
    """Sends a signal to the daemon alone, as anybody can try to. Returns when the daemon has handled
    whatever came from this connection."""
    owner = testbed.bus.owner()
    message = new_signal(DBusAddress(path, interface=interface), member, signature, body)
    message.header.fields[HeaderFields.destination] = owner
    pid = os.fork()
    if pid == 0:
        with _last_thing_of_child():
            become(user)
            with open_connection(testbed.bus.address) as connection:
                connection.send(message)
                address = DBusAddress(PATH, bus_name=NAME, interface=MANAGER)
                connection.send_and_get_reply(new_method_call(address, "ListWindows"))
    os.waitpid(pid, 0)


def windows(testbed) -> list[tuple]:
    return testbed.bus.call("ListWindows")[0]


def wait_no_window(testbed) -> None:
    wait_until(lambda: not windows(testbed), "every window to close")


def wait_log(daemon, text: str, times: int = 1) -> None:
    wait_until(lambda: daemon.text().count(text) >= times, f"{text!r} in the log {times} times")


class Signals:
    """The signals of an interface and member below /org/postern/Renewal1, as one listener sees them."""

    def __init__(self, testbed, user: str = "visitor") -> None:
        self._testbed, self._user = testbed, user

    def __enter__(self):
        self._connection = open_connection(self._testbed.bus.address)
        self._connection.send_and_get_reply(message_bus.AddMatch(f"type='signal',sender='{NAME}'"))
        self._seen: list[tuple] = []
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()

    def until(self, member: str) -> list[tuple[str, str, tuple]]:
        """(member, path, body) of all that came, up to the first of this member from here on."""
        while True:
            message = self._connection.receive(timeout=30)
            if message.header.message_type is not MessageType.signal:
                continue
            fields = {field.name: value for field, value in message.header.fields.items()}
            self._seen.append((fields["member"], fields["path"], message.body))
            if fields["member"] == member:
                return self._seen


@contextlib.contextmanager
def monitor(testbed, rule: str):
    """A function that gives the members of the calls that the bus has carried and the rule matches."""
    connection = open_connection(testbed.bus.address)
    address = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus",
                          interface="org.freedesktop.DBus.Monitoring")  # fmt: skip
    connection.send_and_get_reply(new_method_call(address, "BecomeMonitor", "asu", ([rule, f"interface='{MARK}'"], 0)))
    seen: list[str] = []

    def members() -> list[str]:
        # what the bus carried before this mark comes before it
        with open_connection(testbed.bus.address) as other:
            other.send(new_method_call(DBusAddress("/", NAME, MARK), "End"))
            while True:
                message = connection.receive(timeout=20)
                fields = {field.name: value for field, value in message.header.fields.items()}
                if fields.get("interface") == MARK:
                    break
                # becoming a monitor is itself told by a signal
                if message.header.message_type is MessageType.method_call:
                    seen.append(fields["member"])
        return seen

    try:
        yield members
    finally:
        connection.close()


def interfaces(xml: str) -> dict:
    """What an introspection says, in a form that can be compared."""
    found = {}
    for interface in ElementTree.fromstring(xml).findall("interface"):
        members = {}
        for member in interface:
            arguments = [
                (a.get("name"), a.get("type"), a.get("direction", "out" if member.tag == "signal" else "in"))
                for a in member.findall("arg")
            ]
            notes = {a.get("name"): a.get("value") for a in member.findall("annotation")}
            members[member.tag, member.get("name")] = (arguments, member.get("type"), member.get("access"), notes)
        found[interface.get("name")] = members
    return found
