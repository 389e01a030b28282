# SPDX-License-Identifier: GPL-2.0-or-later
"""What anybody can send to the daemon alone: signals as if from the bus, polkit or systemd, and answers
to questions that the daemon asked others. A match for a sender does not keep such signals out: the bus's
policy does, and where that is missing the daemon itself has to know better."""

import pytest
from bus import BUS, BUS_PATH
from callers import ERROR, WINDOW, Call, profile, renew, wait_log, wait_no_window, windows
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call, new_signal
from rounds import number
from testbed import MANAGER, NAME, PATH, wait_until

# Ours without the denial, as if it were not there.
WITHOUT_DENIAL = f"""<busconfig>
  <policy user="root"><allow own="{NAME}"/></policy>
  <policy context="default"><allow send_destination="{NAME}"/></policy>
</busconfig>"""
ROUNDS = number("POSTERN_TEST_FORGED", 1000)
BATCH = 50  # what is sent before the daemon is known to have read it: less than any queue holds

DRIVER = DBusAddress(BUS_PATH, interface=BUS)
SYSTEMD = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")
AUTHORITY = DBusAddress("/org/freedesktop/PolicyKit1/Authority", interface="org.freedesktop.PolicyKit1.Authority")
ANSWERS = ("yes", "nobody is there")
JOB = "/org/freedesktop/systemd1/job/1"


def properties_changed(path: str, interface: str, properties: dict):
    address = DBusAddress(path, interface="org.freedesktop.DBus.Properties")
    return new_signal(address, "PropertiesChanged", "sa{sv}as", (interface, properties, []))


def gone(name: str, owner: str):
    return new_signal(DRIVER, "NameOwnerChanged", "sss", (name, owner, ""))


def signed(message):
    """With the bus for its sender: both buses write the true one over it."""
    message.header.fields[HeaderFields.sender] = BUS
    return message


def answer(serial: int, error: str | None = None):
    """To the daemon's call of that number: polkit's yes, or that somebody is not there."""
    signature, body = ("s", ("no such name",)) if error else ("(bba{ss})", ((True, False, {}),))
    message = new_signal(DRIVER, "unused", signature, body)
    message.header.message_type = MessageType.error if error else MessageType.method_return
    message.header.fields = {HeaderFields.reply_serial: serial, HeaderFields.signature: signature}
    if error:
        message.header.fields[HeaderFields.error_name] = error
    return message


def forge(host, make) -> int:
    """Sends make(0), make(1)... as nobody, half of it by the daemon's unique name. How many of them the
    bus refused, once the daemon has handled the rest."""
    owner = host.bus.owner()

    def send() -> int:
        refused = 0
        with open_connection(host.bus.address) as connection:
            for first in range(0, ROUNDS, BATCH):
                for index in range(first, min(first + BATCH, ROUNDS)):
                    message = make(index)
                    message.header.fields[HeaderFields.destination] = owner if index % 2 else NAME
                    # a refusal is told
                    message.header.flags = 0
                    connection.send(message)
                last = next(connection.outgoing_serial)
                question = new_method_call(DBusAddress(PATH, bus_name=NAME, interface=MANAGER), "ListWindows")
                connection.send(question, serial=last)
                while (reply := connection.receive(timeout=30)).header.fields.get(HeaderFields.reply_serial) != last:
                    refused += reply.header.message_type is MessageType.error
                assert reply.header.message_type is MessageType.method_return, reply.body
        return refused

    return host.bus.do_as("nobody", send)


@pytest.fixture(params=["with our policy", "without our policy"])
def bus_policy(request):
    return None if request.param.startswith("with ") else WITHOUT_DENIAL


@pytest.fixture
def host(testbed):
    end = testbed.directory / "end"
    testbed.profile("job", profile(f"/bin/sh -c 'while ! [ -e {end} ]; do sleep 0.02; done; exit 3'"))
    testbed.profile("good", profile("/bin/true"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd, testbed.end = daemon, end
        yield testbed


def kinds(host, holder: str, asker: str, window: str) -> dict:
    polkit = host.bus.owner("org.freedesktop.PolicyKit1")
    return {
        "the holder left": lambda _: gone(holder, holder),
        "the holder left, says the bus": lambda _: signed(gone(holder, holder)),
        "the asker left": lambda _: gone(asker, asker),
        "polkit left": lambda _: gone("org.freedesktop.PolicyKit1", polkit),
        "systemd left": lambda _: gone("org.freedesktop.systemd1", ":1.0"),
        "the name is lost": lambda _: new_signal(DRIVER, "NameLost", "s", (NAME,)),
        "the job is done": lambda i: new_signal(SYSTEMD, "JobRemoved", "uoss", (i, JOB, "renewal.service", "done")),
        "the unit ended": lambda _: properties_changed(
            "/org/freedesktop/systemd1/unit/renewal_2eservice", "org.freedesktop.systemd1.Unit",
            {"ActiveState": ("s", "inactive")}),
        "the window closed": lambda _: properties_changed(window, WINDOW, {"State": ("s", "closed")}),
        "polkit changed": lambda _: new_signal(AUTHORITY, "Changed"),
        "yes": lambda i: answer(i + 1),
        "nobody is there": lambda i: answer(i + 1, "org.freedesktop.DBus.Error.NameHasNoOwner"),
    }  # fmt: skip


def test_forgeries_change_nothing(host, bus_policy):
    with (
        renew(host, "deploy", "job", flags=1) as holding,
        Call(host, "visitor", "Wait", interface=WINDOW, path=opened(host)) as waiting,
    ):
        host.polkit.stop()
        with renew(host, "deploy", "good", flags=1) as asking:
            wait_log(host.posternd, "asking polkit", 2)
            before, log = windows(host), host.posternd.text()
            refused = {}
            for what, make in kinds(host, holding.unique, asking.unique, before[0][4]).items():
                refused[what] = forge(host, make)
                assert windows(host) == before and host.posternd.text() == log, what
                assert not holding.answered() and not asking.answered() and not waiting.answered(), what
            what_the_bus_did(host, refused, denies=bus_policy is None)
            host.polkit.cont()
            assert asking.result()[0] == "success"
        host.end.touch()
        assert holding.error().name == ERROR + "RenewalFailed"
        assert waiting.result() == ("failed", 3)
    leaving_still_counts(host)


def opened(host) -> str:
    return wait_until(lambda: windows(host) and windows(host)[0][3] and windows(host)[0][4], "the window to open")


def what_the_bus_did(host, refused: dict, denies: bool) -> None:
    """That the forgeries came as far as they should."""
    print(f"refused by {host.bus.kind}: {refused}")
    if host.bus.kind == "dbus-daemon":
        # an answer that nobody asked for is refused in any case
        assert refused == {what: ROUNDS if denies or what in ANSWERS else 0 for what in refused}
    elif denies:
        # it says so to its log alone, and not each time
        wait_until(lambda: "\nMESSAGE=A security policy denied" in host.bus.text(), "the bus to tell of a denial")
    else:
        assert "denied" not in host.bus.text()


def leaving_still_counts(host) -> None:
    """The bus's own word is believed, after all that."""
    with renew(host, "deploy", "long", flags=1) as holding:
        window = opened(host)
        holding.kill()
        wait_no_window(host)
    assert host.bus.get(window, WINDOW, "Result") == "canceled"
    host.polkit.stop()
    with renew(host, "deploy", "good") as asking:
        wait_log(host.posternd, "asking polkit", 4)
        asking.kill()
        wait_log(host.posternd, "the caller left before the answer")
    host.polkit.cont()
