# SPDX-License-Identifier: GPL-2.0-or-later
"""Every method and every write of a property that the running daemon offers, found by introspection, for
callers that may nothing, and for callers that may all."""

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import pytest
from callers import ERROR, WINDOW, error_of, interfaces, profile, request_window, windows
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MessageFlag, new_method_call
from testbed import MANAGER, NAME, PATH, processes, run, wait_until

DBUS = "org.freedesktop.DBus."
PROPERTIES = DBUS + "Properties"
# What docs/man/org.postern.Renewal1.5.in and docs/SECURITY.md promise. What is in neither fails the test until it is.
OPEN = {
    (MANAGER, "ListProfiles"), (MANAGER, "ListWindows"), (MANAGER, "Check"), (WINDOW, "Wait"),
    (PROPERTIES, "Get"), (PROPERTIES, "GetAll"), (DBUS + "Introspectable", "Introspect"),
    (DBUS + "ObjectManager", "GetManagedObjects"), (DBUS + "Peer", "Ping"), (DBUS + "Peer", "GetMachineId"),
}  # fmt: skip
ASKED = {(MANAGER, "Renew"), (MANAGER, "RequestWindow"), (WINDOW, "Close"), (WINDOW, "GetLog")}
NEVER = {(PROPERTIES, "Set")}
SENSIBLE = {"s": "good", "t": 0, "u": 10}
WRONG = {"s": ("", "../good", "no-such", "x" * 300), "t": (999_999, 2**63, 2**64 - 1), "u": ()}
# that somebody was refused, and why, is all that is said
REFUSALS = ("asking polkit", "polkit refused", "polkit could not be asked", "polkit: ")
VALUES = {"s": "x", "i": 7, "u": 7, "t": 7, "as": ["x"]}


class Attempt(NamedTuple):
    path: str
    interface: str
    member: str
    signature: str
    arguments: tuple
    sensible: bool  # as the introspection has it, of an object that is there

    @property
    def method(self) -> tuple[str, str]:
        return self.interface, self.member


@pytest.fixture
def host(testbed):
    testbed.profile("good", profile("/bin/true"))
    testbed.profile("door", profile("/bin/sleep 1000", ports="80/tcp"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        testbed.window = request_window(testbed, "deploy", "door")
        wait_until(lambda: "/bin/sleep 1000" in processes().values(), "the renewal")
        yield testbed


def decide(host, result: str) -> None:
    host.polkit.add_rule(f"""polkit.addRule(function(action, subject) {{
        if (action.id.indexOf("org.postern.") === 0)
            return polkit.Result.{result};
    }});""")


def objects(host, path: str = PATH) -> dict[str, str]:
    """path: introspection, of all that is there."""
    xml = host.bus.call("Introspect", path=path, interface=DBUS + "Introspectable", user="nobody")[0]
    found = {path: xml}
    for node in ElementTree.fromstring(xml).findall("node"):
        found.update(objects(host, f"{path}/{node.get('name')}"))
    return found


def attempts(host) -> list[Attempt]:
    described = {path: interfaces(xml) for path, xml in objects(host).items()}
    found = []
    methods = {
        (interface, member): "".join(t for _, t, direction in arguments if direction == "in")
        for interface, members in itertools.chain(*(d.items() for d in described.values()))
        for (kind, member), (arguments, *_) in members.items()
        if kind == "method"
    }
    assert set(methods) == OPEN | ASKED | NEVER
    for (path, offered), ((interface, member), signature) in itertools.product(described.items(), methods.items()):
        is_there = interface in offered
        if interface == PROPERTIES:
            continue
        values = tuple(SENSIBLE[t] for t in signature)
        found.append(Attempt(path, interface, member, signature, values, is_there))
        found.append(Attempt(path, interface, member, signature + "s", (*values, "more"), False))
        for place, kind in enumerate(signature):
            for wrong in WRONG[kind]:
                arguments = (*values[:place], wrong, *values[place + 1 :])
                found.append(Attempt(path, interface, member, signature, arguments, False))
    for path, offered in described.items():
        for interface, members in offered.items():
            for (kind, name), (_, of_type, access, _) in members.items():
                if kind != "property":
                    continue
                assert access == "read", f"{interface}.{name} can be written"
                # its own type first, and then the others
                for signature in sorted(VALUES, key=lambda other: other != of_type):
                    value = (interface, name, (signature, VALUES[signature]))
                    found.append(Attempt(path, PROPERTIES, "Set", "ssv", value, True))
    return found


def make(host, user: str, todo: list[Attempt]) -> list[tuple[Attempt, str | None]]:
    """With the flag that allows a prompt and without. The errors' names; None for a reply, and for Wait,
    which is not waited for."""

    def send() -> list:
        answers = []
        with open_connection(host.bus.address) as connection:
            for attempt, prompt in itertools.product(todo, (False, True)):
                address = DBusAddress(attempt.path, bus_name=NAME, interface=attempt.interface)
                message = new_method_call(address, attempt.member, attempt.signature or None, attempt.arguments)
                if prompt:
                    message.header.flags |= MessageFlag.allow_interactive_authorization
                if attempt.method == (WINDOW, "Wait") and attempt.sensible:
                    connection.send(message)
                    answers.append((attempt, None))
                else:
                    reply = connection.send_and_get_reply(message, timeout=30)
                    answers.append((attempt, reply.header.fields.get(HeaderFields.error_name)))
        return answers

    return host.bus.do_as(user, send)


def everything(host) -> dict:
    """What must not change: rules, windows and all that is told of them, files, processes, decisions."""
    return {
        "rules": host.net.ruleset(),
        "windows": windows(host),
        "objects": host.bus.call("GetManagedObjects", interface=DBUS + "ObjectManager"),
        "files": {
            str(path): path.read_bytes() if path.is_file() else None
            for directory in (host.state, host.runtime, host.config)
            for path in sorted(directory.rglob("*"))
        },
        "processes": sorted(processes().items()),
        "log": [line for line in host.posternd.text().splitlines() if not any(word in line for word in REFUSALS)],
    }


def count(answers: list, least: int) -> None:
    counts = {}
    for _, error in answers:
        counts[error] = counts.get(error, 0) + 1
    print(f"{len(answers)} attempts: {counts}")
    assert len(answers) >= least


def may_fail(attempt: Attempt) -> tuple:
    """What a call that is for everybody can be answered with. Pre-flights are bounded."""
    return (None, ERROR + "RateLimited") if attempt.member == "Check" else (None,)


@pytest.mark.parametrize("polkit, user", [("says no", "nobody"), ("is absent", "nobody"), ("is absent", "root")])
def test_nothing_is_done_for_who_may_not(host, polkit, user):
    decide(host, "NO") if polkit == "says no" else host.polkit.kill9()
    todo = attempts(host)
    before = everything(host)
    answers = make(host, user, todo)
    assert everything(host) == before
    count(answers, 500)
    for attempt, error in answers:
        if attempt.method in OPEN:
            assert not attempt.sensible or error in may_fail(attempt), (attempt, error)
        elif attempt.method in ASKED and attempt.sensible:
            assert error == ERROR + "NotAuthorized", (attempt, error)
        else:
            assert error, attempt


def test_who_may_all_can_still_not_say_what(host):
    """With every action granted: no argument reaches past the profiles, and no property is written."""
    decide(host, "YES")
    todo = [attempt for attempt in attempts(host) if attempt.method in NEVER or not attempt.sensible]
    before = everything(host)
    answers = make(host, "nobody", todo)
    assert everything(host) == before
    count(answers, 400)
    for attempt, error in answers:
        assert error or attempt.method in OPEN, attempt


def test_who_may_all_gets_what_the_profile_says(host):
    """The same run, ports and time as anybody else, and no more often."""
    host.bus.call("Close", interface=WINDOW, path=host.window, user="deploy")
    decide(host, "YES")
    said, end = host.directory / "said", host.directory / "end"
    script = host.directory / "renewal.sh"
    script.write_text(
        f"#!/bin/sh\n(id; pwd; umask; ulimit -a; env | sort; echo $# \"$@\"; grep -E 'Cap|Priv|Groups' /proc/self/status)"
        f" >{said}.partial\nmv {said}.partial {said}\nwhile ! [ -e {end} ]; do sleep 0.02; done\n"
    )
    script.chmod(0o755)
    limits = "DefaultDuration=30s\nMaxDuration=40s"
    text = profile(f"{script} one 'two three'", ports="8080/tcp 443/tcp", window=limits).replace("100/1h", "2/1h")
    host.profile("exact", text.replace("[Window]", "Environment=KEY=value\n[Window]"))
    for duration in (999_999, 40_000_001, 2**64 - 1):
        assert error_of(request_window, host, "nobody", "exact", duration).name == ERROR + "BadDuration"

    seen = []
    for user in ("deploy", "nobody"):
        rules = host.net.ruleset()
        window = request_window(host, user, "exact")
        wait_until(said.exists, "the renewal to run")
        lent = lent_ports(host)
        assert set(lent) == {("tcp", 443), ("tcp", 8080)} and max(lent.values()) <= 30
        assert host.bus.get(window, WINDOW, "Ports") == ["443/tcp", "8080/tcp"]
        # of each window: its name, and when it ends
        seen.append(re.sub(r"w[0-9a-f]{12}\b|(?<=^POSTERN_DEADLINE=)\d+$", "ITS", said.read_text(), flags=re.M))
        said.unlink()
        end.touch()
        assert host.bus.call("Wait", interface=WINDOW, path=window) == ("success", 0)
        end.unlink()
        assert host.net.ruleset() == rules
    assert seen[0] == seen[1] and "KEY=value" in seen[0] and "2 one two three" in seen[0]
    assert error_of(request_window, host, "nobody", "exact").name == ERROR + "RateLimited"


def lent_ports(host) -> dict[tuple, int]:
    """The elements that expire, and when, in the kernel's sets."""
    found = json.loads(run(["nft", "-j", "list", "ruleset"], ns="host"))["nftables"]
    elements = itertools.chain(*(item["set"].get("elem", []) for item in found if "set" in item))
    timed = [item["elem"] for item in elements if "expires" in item.get("elem", {})]
    return {tuple(element["val"]["concat"]): element["expires"] for element in timed}
