# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of docs/policies.md as they stand, with the real polkitd: who may, and everybody else may not."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from callers import ERROR, INTERACTION_REQUIRED, WINDOW, error_of, profile, request_window
from process import as_user
from testbed import BusError, build_directory

RULES = Path(__file__).parents[2] / "docs/examples/polkit"
PAGE = (RULES.parents[1] / "policies.md").read_text()
REFUSED = (INTERACTION_REQUIRED, ERROR + "NotAuthorized")
# whom the rules name, and who that is here
PEOPLE = {"alice": "visitor", "webmasters": "guest0", "renew-example": "guest1"}


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # polkit decides, and the bus does not


@pytest.fixture
def host(testbed):
    for name in ("example.com", "other"):
        testbed.profile(name, profile("/bin/true"))
    testbed.profile("long", profile("/bin/sh -c 'echo said; exec sleep 1000'"))
    with testbed.daemon():
        yield testbed


def follow(host, name: str) -> None:
    text = (RULES / name).read_text()
    for theirs, ours in PEOPLE.items():
        text = text.replace(f'"{theirs}"', f'"{ours}"')
    host.polkit.add_rule(text, f"40-postern-{Path(name).stem}")


def may(host, user: str, name: str, seconds: int = 0) -> bool:
    try:
        return host.bus.call("Renew", "stt", name, seconds * 1_000_000, 0, user=user)[0] == "success"
    except BusError as error:
        assert error.name in REFUSED, error
        return False


def test_one_user(host):
    assert not may(host, "visitor", "other")
    follow(host, "one-user.rules")
    assert may(host, "visitor", "example.com") and may(host, "visitor", "other", 120)
    assert not may(host, "visitor", "other", 121)
    assert not may(host, "guest0", "other")
    assert may(host, "deploy", "other", 121), "the group's rule is another"


def test_one_group(host):
    follow(host, "one-group.rules")
    assert may(host, "guest0", "other", 600)
    assert not may(host, "visitor", "other")
    window = request_window(host, "deploy", "long")
    for user in ("visitor", "_postern"):
        for member, signature, arguments in (("GetLog", "u", (0,)), ("Close", "", ())):
            error = error_of(host.bus.call, member, signature, *arguments, interface=WINDOW, path=window, user=user)
            assert error.name in REFUSED
    host.bus.call("GetLog", "u", 0, interface=WINDOW, path=window, user="guest0")
    host.bus.call("Close", interface=WINDOW, path=window, user="guest0")
    assert host.bus.get(window, WINDOW, "Result") == "canceled"


def test_one_profile(host):
    assert may(host, "deploy", "other")
    follow(host, "one-profile.rules")
    assert may(host, "deploy", "example.com")
    assert not may(host, "deploy", "other")
    assert not may(host, "visitor", "example.com")
    assert may(host, "root", "other")


def test_one_unit(host):
    """By its user; tests/host has a unit."""
    follow(host, "one-unit.rules")
    assert may(host, "guest1", "example.com")
    assert not may(host, "guest1", "other")
    assert not may(host, "visitor", "example.com")


def test_two_rules_beside_each_other(host):
    for name in ("one-user.rules", "one-unit.rules"):
        follow(host, name)
    assert may(host, "visitor", "other") and may(host, "guest1", "example.com")


def test_the_rule_is_put_where_polkit_looks():
    source, place = re.search(r"^    sudo install -m 644 (\S+) (\S+)$", PAGE, flags=re.M).groups()
    assert place == f"/etc/polkit-1/rules.d/40-postern-{source}" and (RULES / source).exists()


def test_trial(host):
    """As the page says to try: a no with the action's name, then a yes that opens nothing."""
    (trial,) = re.findall(r"^    \[Renewal\]\n(?:    .+\n)+", PAGE, flags=re.M)
    (command,) = re.findall(r"^    (postern renew trial .*)$", PAGE, flags=re.M)
    host.profile("trial", re.sub("^    ", "", trial, flags=re.M))

    def attempt() -> subprocess.CompletedProcess:
        environment = {**os.environ, **host.bus.environment}
        environment["PATH"] = f"{build_directory() / 'src/client'}:{environment['PATH']}"
        return subprocess.run([*as_user("visitor"), "sh", "-c", command], env=environment, capture_output=True, text=True)

    refused = attempt()
    assert refused.returncode == 3 and "org.postern.renewal1.request-window" in refused.stderr, refused
    follow(host, "one-user.rules")
    granted = attempt()
    assert granted.returncode == 0 and granted.stdout.startswith("trial: success"), granted


@pytest.mark.parametrize("path", sorted(RULES.iterdir()), ids=lambda path: path.stem)
def test_rules_are_written_as_the_page_says(path):
    text = path.read_text()
    assert "_KEEP" not in text and "==" not in text.replace("===", "").replace("!==", "")
    assert path.name in PAGE
    assert f"def test_{path.stem.replace('-', '_')}(" in Path(__file__).read_text()
