# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bus's policy lets through, and what of us everybody can read."""

import contextlib
import itertools
import os
import signal

import pytest
from bus import BUS, BUS_PATH, Bus, Users
from callers import PROFILE, WINDOW, error_of, profile, renew
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from testbed import MANAGER, NAME, PATH, installed

DBUS = "org.freedesktop.DBus."
ACCESS_DENIED = DBUS + "Error.AccessDenied"
# What is documented to be told and read, and no more.
WINDOW_PROPERTIES = {
    "Id", "Profile", "State", "Result", "ExitStatus", "OpenedBy", "Ports", "Gate", "OpenedAt", "Deadline",
    "DeadlineBoottime", "ClosedAt", "AdmittedConnections", "SourceNetworks", "SourceNetworksComplete", "Hint",
    "SerialNumberBefore", "NotAfterBefore", "SerialNumber", "NotBefore", "NotAfter",
}  # fmt: skip
PROFILE_PROPERTIES = {
    "Name", "Description", "Ports", "MaxDuration", "LastResult", "LastClosedAt", "NotAfter", "NotBefore", "SerialNumber",
    "Names", "NamesLeftOut", "CloseOwed",
}  # fmt: skip
PROPERTIES = {MANAGER: {"Version", "OpenWindows", "OwedCloses"}, WINDOW: WINDOW_PROPERTIES, PROFILE: PROFILE_PROPERTIES}
STANDARD = {DBUS + name for name in ("Properties", "Introspectable", "ObjectManager", "Peer")}


@pytest.mark.parametrize("user", ["nobody", "visitor", "deploy"])
def test_nobody_takes_the_name(testbed, user):
    def try_to_take() -> None:
        """With and without the wish to replace who has it."""
        for name, flags in itertools.product((NAME, f"{NAME}.Manager", "org.postern"), (0, 3, 7)):
            about = dict(destination=BUS, path=BUS_PATH, interface=BUS, user=user)
            assert error_of(testbed.bus.call, "RequestName", "su", name, flags, **about).name == ACCESS_DENIED

    try_to_take()
    with testbed.daemon():
        owner = testbed.bus.owner()
        try_to_take()
        assert testbed.bus.owner() == owner


# --- other services ---------------------------------------------------------------------------

OTHER = "org.freedesktop.hostname1"  # one whose policy systemd installs


@contextlib.contextmanager
def other_service(bus):
    """Answers every call, and counts the signals that it gets."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException), open_connection(bus.address) as connection:
            connection.send_and_get_reply(message_bus.RequestName(OTHER))
            os.write(write_end, b"x")
            n_signals = 0
            while True:
                message = connection.receive()
                if message.header.message_type is MessageType.signal:
                    n_signals += 1
                elif message.header.message_type is MessageType.method_call:
                    connection.send(new_method_return(message, "u", (n_signals,)))
        os._exit(0)
    os.read(read_end, 1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_end)
        os.close(write_end)


def treatment(bus) -> list:
    """What becomes of all kinds of messages to another service, and of wishes for other names."""
    interfaces = (OTHER, MANAGER, WINDOW, PROFILE, *sorted(STANDARD), "org.example.Any", None)

    def ask() -> list:
        found = []
        with open_connection(bus.address) as connection:
            for interface, path in itertools.product(interfaces, (PATH, "/org/freedesktop/hostname1")):
                address = DBusAddress(path, bus_name=OTHER, interface=interface)
                if interface:
                    message = new_signal(address, "Any", "s", ("x",))
                    message.header.fields[HeaderFields.destination] = OTHER
                    message.header.flags = 0
                    connection.send(message)
                reply = connection.send_and_get_reply(new_method_call(address, "Any"))
                found.append((interface, path, reply.header.fields.get(HeaderFields.error_name), reply.body))
            for name in (OTHER, "org.postern", "org.example.Any"):
                reply = connection.send_and_get_reply(message_bus.RequestName(name))
                found.append((name, reply.header.fields.get(HeaderFields.error_name)))
        return found

    return [bus.do_as(user, ask) for user in ("nobody", "deploy", "_postern", "root")]


def test_other_services_are_treated_as_without_us(bus_kind):
    seen = []
    with Users():
        for policy in (None, "<busconfig></busconfig>"):
            with Bus(installed(), bus_kind, policy) as bus, other_service(bus):
                seen.append(treatment(bus))
    assert seen[0] == seen[1]
    nobody, *_, root = seen[0]
    assert (OTHER, ACCESS_DENIED) in nobody and (OTHER, None) in root
    assert nobody[0] == (OTHER, PATH, None, (1,))  # the call and the signal before it have arrived


# --- what everybody can read ------------------------------------------------------------------


@contextlib.contextmanager
def listener(testbed, user: int = 65534):
    """A connection of that uid that wants every signal there is."""
    os.setresuid(user, user, 0)
    try:
        connection = open_connection(testbed.bus.address)
    finally:
        os.setresuid(0, 0, 0)
    with connection:
        connection.send_and_get_reply(message_bus.AddMatch("type='signal'"))
        yield connection


def signals_until(connection, member: str, times: int, owner: str) -> list:
    found = []
    while sum(message.header.fields[HeaderFields.member] == member for message in found) < times:
        message = connection.receive(timeout=30)
        if message.header.fields.get(HeaderFields.sender) == owner:
            assert message.header.message_type is MessageType.signal
            found.append(message)
    return found


def check_signal(message) -> None:
    """Nothing in it but what is documented."""
    fields, body = message.header.fields, message.body
    what = fields[HeaderFields.interface].rpartition(".")[2] + "." + fields[HeaderFields.member]
    if what == "Manager.WindowOpened":
        assert fields[HeaderFields.signature] == "sos" and body[2] == "secret"
    elif what == "Manager.WindowClosed":
        assert fields[HeaderFields.signature] == "soss" and body[2] == "secret"
    elif what == "Properties.PropertiesChanged":
        interface, changed, invalidated = body
        assert set(changed) | set(invalidated) <= PROPERTIES[interface]
    elif what == "ObjectManager.InterfacesAdded":
        assert all(set(values) <= PROPERTIES.get(name, set()) for name, values in body[1].items())
    elif what == "ObjectManager.InterfacesRemoved":
        assert set(body[1]) <= {WINDOW, *STANDARD}
    else:
        raise AssertionError(f"not documented: {what}")


def test_what_everybody_reads_is_what_is_documented(testbed):
    script = testbed.directory / "hush-script.sh"
    script.write_text("#!/bin/sh\necho hush-output\necho hush-error >&2\nexit 3\n")
    script.chmod(0o755)
    text = profile(f"{script} hush-argument", ports="80/tcp", more="Description=told to everybody")
    path = testbed.profile("secret", text.replace("[Window]", "Environment=KEY=hush-value\n[Window]"))
    path.chmod(0o600)
    with testbed.daemon(), listener(testbed) as connection:
        owner = testbed.bus.owner()
        for _ in range(5):
            with renew(testbed, "deploy", "secret") as call:
                call.error()
        signals = signals_until(connection, "WindowClosed", 5, owner)
        for message in signals:
            check_signal(message)
        members = {message.header.fields[HeaderFields.member] for message in signals}
        assert members == {"WindowOpened", "WindowClosed", "PropertiesChanged", "InterfacesAdded"}

        def read(member: str, signature: str = "", *arguments, path: str = PATH, interface: str = MANAGER):
            return testbed.bus.call(member, signature, *arguments, path=path, interface=interface, user="nobody")

        managed = read("GetManagedObjects", interface=DBUS + "ObjectManager")[0]
        assert len(managed) == 6
        everything = [signals, managed, read("ListProfiles"), read("ListWindows"), read("Check", "s", "secret")]
        for path, objects in {**managed, PATH: {MANAGER: None}}.items():
            everything.append(read("Introspect", path=path, interface=DBUS + "Introspectable"))
            for interface in set(objects) - STANDARD:
                values = read("GetAll", "s", interface, path=path, interface=DBUS + "Properties")[0]
                everything.append(values)
                assert set(values) == PROPERTIES[interface]
        assert "told to everybody" in repr(everything) and "hush" not in repr(everything)
