# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon says of itself is what dbus/ documents, and what polkit and the bus are given is
what the project promises."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from callers import PROFILE, WINDOW, interfaces, profile, request_window
from testbed import MANAGER, NAME, PATH, installed

SOURCE = Path(__file__).parents[2]
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"


@pytest.fixture
def paths(testbed):
    testbed.profile("a-b.c", profile("/bin/sleep 1000"))
    with testbed.daemon():
        window = request_window(testbed, "deploy", "a-b.c")
        yield testbed, {MANAGER: PATH, WINDOW: window, PROFILE: testbed.bus.call("ListProfiles")[0][0][2]}


def test_introspection_is_what_is_documented(paths):
    testbed, objects = paths
    for interface, path in objects.items():
        documented = interfaces((SOURCE / f"dbus/{interface}.xml").read_text())
        answered = interfaces(testbed.bus.call("Introspect", path=path, interface=INTROSPECTABLE, user="visitor")[0])
        assert {name for name in answered if name.startswith(NAME)} == {interface}
        assert answered[interface] == documented[interface]


def test_every_member_is_documented():
    for path in (SOURCE / "dbus").glob("*.xml"):
        text = path.read_text()
        for members in interfaces(text).values():
            for kind, name in members:
                if kind == "method":
                    assert f"{name}:" in text, f"{name} of {path.name} has no comment"


def test_objects_are_found_by_walking(paths):
    testbed, objects = paths

    def walk(path: str) -> set[str]:
        xml = testbed.bus.call("Introspect", path=path, interface=INTROSPECTABLE, user="visitor")[0]
        below = {f"{path}/{node.get('name')}" for node in ElementTree.fromstring(xml).findall("node")}
        return {path}.union(*map(walk, below))

    assert set(objects.values()) <= walk(PATH)


def test_object_manager_tells_every_object(paths):
    testbed, objects = paths
    managed = testbed.bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager", user="visitor")[0]
    # the root itself is the manager, and not one of the managed
    assert set(managed) == {objects[WINDOW], objects[PROFILE]}
    assert managed[objects[WINDOW]][WINDOW]["Profile"] == ("s", "a-b.c")
    assert managed[objects[PROFILE]][PROFILE]["Name"] == ("s", "a-b.c")


def test_properties_hold_the_documented_values(paths):
    testbed, objects = paths
    get = testbed.bus.get
    window = objects[WINDOW]
    assert get(window, WINDOW, "State", user="visitor") == "open"
    assert get(window, WINDOW, "OpenedBy", user="visitor") == 6001
    assert get(window, WINDOW, "Ports") == []
    assert get(window, WINDOW, "ExitStatus") == -1
    assert get(window, WINDOW, "Result") == ""
    assert get(window, WINDOW, "ClosedAt") == 0
    assert get(window, WINDOW, "AdmittedConnections") == 0
    assert get(window, WINDOW, "Deadline") - get(window, WINDOW, "OpenedAt") == pytest.approx(120e6, abs=1e4)
    assert get(PATH, MANAGER, "OpenWindows", user="visitor") == 1
    assert get(objects[PROFILE], PROFILE, "MaxDuration") == 600_000_000


def test_policy_asks_for_an_administrator_each_time():
    policy = ElementTree.parse(installed() / "usr/share/polkit-1/actions/org.postern.renewal1.policy")
    actions = policy.findall("action")
    assert {a.get("id") for a in actions} == {
        f"org.postern.renewal1.{name}" for name in ("request-window", "close-window", "read-log")
    }
    for action in actions:
        assert [d.text for d in action.find("defaults")] == ["auth_admin"] * 3
        owner = action.find("annotate[@key='org.freedesktop.policykit.owner']")
        assert owner is not None and owner.text == "unix-user:_postern"


def test_bus_policy_names_its_destination_and_type_everywhere():
    policy = ElementTree.parse(installed() / f"usr/share/dbus-1/system.d/{NAME}.conf")
    rules = policy.findall("policy[@context='default']/*")
    assert {rule.tag for rule in rules} == {"allow", "deny"}
    for rule in rules:
        assert rule.get("send_destination") == NAME
        assert rule.get("send_type") == ("method_call" if rule.tag == "allow" else "signal")
    assert {r.get("own") for r in policy.findall("policy/allow[@own]")} == {NAME}
