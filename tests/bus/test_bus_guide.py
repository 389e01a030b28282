# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/bus.md: its shell lines and its programs, as they stand."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from callers import profile
from process import Process, as_user, wait_until
from scene import Renewal

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 60


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # it is about programs, not about what carries their messages


@pytest.fixture
def host(testbed):
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def start(host, program: str, *arguments: str, user: str = "deploy") -> Process:
    command = ["/usr/bin/python3", str(DOCS / "examples/bus" / program), *arguments]
    return Process(command, user=user, environment=host.bus.environment)


def test_shell(host):
    host.profile("example.com", profile("/bin/echo what it printed", ports="80/tcp"))
    section = re.search(r"^## With busctl$(.*?)^## ", (DOCS / "bus.md").read_text(), flags=re.M | re.S)[1]
    script = "\n".join(re.findall(r"^    (.*)$", section, flags=re.M))
    assert script.count("busctl") == 7
    done = subprocess.run(
        [*as_user("deploy"), "sh", "-eux", "-c", script],
        env={**os.environ, **host.bus.environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[1] == 'as 1 "80/tcp"' and re.fullmatch("t [0-9]{16}", lines[2])
    assert lines[4:6] == ['si "success" 0', 'as 1 "what it printed"'] and lines[6] == 's "success"'
    assert lines[8].startswith("a(sss) ") and lines[9].startswith("a{oa{sa{sv}}} ")


def test_button(host):
    renewal = Renewal(host, "example.com")
    with start(host, "renew.py", "example.com") as program:
        line = re.compile(r"^open, [1-9]\d* s left, 0 connections$", flags=re.M)
        program.wait_ready(lambda: line.search(program.text()), "the window", PATIENCE)
        renewal.finish()
        assert program.wait(PATIENCE) == 0
        assert "success, exit status 0\n0 connections from 0 networks, through nftables: inet filter input\n" in program.text()


def test_button_of_a_renewal_that_fails(host):
    host.profile("example.com", profile("/bin/false", ports="80/tcp"))
    with start(host, "renew.py", "example.com") as program:
        assert program.wait(PATIENCE) == 1
        assert "failed, exit status 1" in program.text()


def test_button_that_is_thought_better_of(host):
    renewal = Renewal(host, "example.com")
    with start(host, "renew.py", "example.com") as program:
        program.wait_ready(lambda: "open, " in program.text(), "the window", PATIENCE)
        program.signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 1
        assert "canceled" in program.text()
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


def test_button_of_a_service_that_dies(host):
    renewal = Renewal(host, "example.com")
    with start(host, "renew.py", "example.com") as program:
        program.wait_ready(lambda: "open, " in program.text(), "the window", PATIENCE)
        host.posternd.kill9()
        assert program.wait(PATIENCE) == 1
        # which one, depends on whether the bus had passed Wait on by then
        assert re.search(r"^org\.freedesktop\.DBus\.Error\.(NoReply|ServiceUnknown): ", program.text(), flags=re.M)
        assert "Traceback" not in program.text()
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


@pytest.mark.parametrize(
    ("user", "name", "kind"),
    [("visitor", "example.com", "NotAuthorized"), ("deploy", "absent", "NoSuchProfile")],
)
def test_button_that_may_not(host, user, name, kind):
    host.profile("example.com", profile("/bin/true"))
    with start(host, "renew.py", name, user=user) as program:
        assert program.wait(PATIENCE) == 1
        assert program.text().startswith(f"{kind}: ")


def test_live_list(host):
    renewal = Renewal(host, "example.com")
    with start(host, "watch.py", user="visitor") as program:

        def told(what: str, **wanted) -> list[dict]:
            events = [json.loads(line) for line in program.text().splitlines(keepends=True) if line.endswith("\n")]
            return [e for e in events if e["what"] == what and wanted.items() <= e.get("row", {}).items()]

        program.wait_ready(lambda: told("ready"), "the first list", PATIENCE)
        (listed,) = told("added", Name="example.com")
        assert listed["row"]["Ports"] == ["80/tcp"] and listed["row"]["LastResult"] == ""

        window = renewal.request()
        wanted = {"Profile": "example.com", "State": "open"}
        shown = wait_until(lambda: told("changed", **wanted) or told("added", **wanted), "the window", PATIENCE)[-1]
        assert shown["path"] == window and 0 < shown["row"]["SecondsLeft"] <= 600
        renewal.finish()
        wait_until(lambda: told("changed", Profile="example.com", State="closed", Result="success"), "its end", PATIENCE)
        wait_until(lambda: told("changed", Name="example.com", LastResult="success"), "the profile's part of it", PATIENCE)

        host.posternd.sigterm()
        wait_until(lambda: told("resting"), "the service's end", PATIENCE)
        assert listed["path"] not in [event["path"] for event in told("removed")], "what is on disk is there all the same"
        with host.daemon():
            wait_until(lambda: len(told("added", Name="example.com", LastResult="success")) == 1, "the list anew", PATIENCE)
