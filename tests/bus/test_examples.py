# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples are good as they stand, and the firewall of the testbed could open for each."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from testbed import BusError, new_directory, run

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
PROFILES = sorted(path.stem for path in EXAMPLES.glob("*.conf"))
WAN = "add chain inet filter wan_input\nadd rule inet filter wan_input drop\n"


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to a profile


@pytest.fixture
def host(testbed):
    run(["nft", "-f", "-"], input=WAN, ns="host")
    for name in PROFILES:
        testbed.profile(name, (EXAMPLES / f"{name}.conf").read_text())
    with testbed.daemon():
        yield testbed


def test_every_example_is_accepted(host):
    problems = {row[0]: row[3] for row in host.bus.call("ListProfiles", user="visitor")[0]}
    assert problems == dict.fromkeys(PROFILES, "")


def test_every_example_has_a_description(host):
    rows = host.bus.call("ListProfiles")[0]
    assert len(rows) == len(PROFILES) and all(row[1] for row in rows)


@pytest.mark.parametrize("name", PROFILES)
def test_a_window_could_open(host, name):
    findings = host.bus.call("Check", "s", name, user="visitor")[0]
    # what the machine is like: where a build stands, how its own certbot is started, what it has not yet
    machine = ("postern-run", "certbot.timer", "/etc/cron.d/certbot", "Certificate", "OpenCommand", "CloseCommand")
    # a script that is put there by hand; a chain that here no visitor comes by
    example = {"acme-tiny": ("Exec",), "named-chain": ("IPv4:80/tcp", "IPv6:80/tcp")}.get(name, ())
    if "OpenOn=challenge" in (EXAMPLES / f"{name}.conf").read_text():
        example = (*example, "80/tcp", "ChallengeDirectory")  # here are no web server and no webroot
    others = [finding for finding in findings if finding[0] != "ok" and finding[1] not in (*machine, *example)]
    assert others == []
    assert len(findings) > 1


def test_where_the_chosen_places_are(host):
    def places(name: str) -> dict[str, str]:
        return {subject: message for _, subject, message in host.bus.call("Check", "s", name)[0]}

    assert "at the end" in places("certbot-standalone")["inet filter input"]
    assert "at the head" in places("some-countries")["inet filter input"]
    assert "inet filter wan_input" in places("named-chain")
    assert "nothing is opened" in places("dns-01")["firewall"]


def test_the_profile_of_the_readme_is_accepted(testbed):
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    begin = readme.index("    [Profile]\n", readme.index("## The first profile"))
    block = readme[begin:readme.index("\n\nWithout", begin)]  # fmt: skip
    testbed.profile("example.com", "\n".join(line.strip() for line in block.splitlines()) + "\n")
    with testbed.daemon():
        assert testbed.bus.call("ListProfiles")[0][0][3] == ""


def test_the_rule_of_the_readme_is_obeyed(testbed):
    """For a user whom the group's rule does not let do all of it anyway."""
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    begin = readme.index("    polkit.addRule")
    testbed.polkit.add_rule(readme[begin:readme.index("\n\n", begin)].replace('"deploy"', '"visitor"'))  # fmt: skip
    for name in ("example.com", "other"):
        testbed.profile(name, "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n")

    def renew(name: str, seconds: int) -> str:
        try:
            return testbed.bus.call("Renew", "stt", name, seconds * 1_000_000, 0, user="visitor")[0]
        except BusError as error:
            return error.name

    with testbed.daemon():
        assert renew("example.com", 120) == "success"
        assert renew("example.com", 121) != "success"
        assert renew("other", 120) != "success"


class Due:
    """renew-if-due with a busctl that only notes how it was called."""

    def __init__(self) -> None:
        self.directory = new_directory("due")
        (self.directory / "bin").mkdir()
        self.calls = self.directory / "calls"
        busctl = self.directory / "bin/busctl"
        busctl.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\nexit 7\n')
        busctl.chmod(0o755)

    def certificate(self, days: int) -> list[str]:
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=example.com", "-days", str(days), "-keyout", str(key), "-out", str(certificate)])  # fmt: skip
        return ["-key", str(key), "-cert", str(certificate)]

    def run(self, *arguments: str) -> int:
        environment = {**os.environ, "PATH": f"{self.directory}/bin:{os.environ['PATH']}"}
        return subprocess.run([EXAMPLES / "renew-if-due", *arguments], env=environment).returncode


@pytest.fixture
def due():
    value = Due()
    yield value
    shutil.rmtree(value.directory)


def serve(certificate: list[str]):
    """openssl s_server on a port that the kernel chose: (process, port)."""
    command = ["openssl", "s_server", "-accept", "localhost:0", "-naccept", "1", *certificate]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if line.startswith("ACCEPT"):
            return server, line.rsplit(":", 1)[1].strip()
    raise AssertionError("openssl s_server ended")


@pytest.mark.parametrize("days, asked", [(90, False), (10, True)])
def test_renew_if_due_looks_at_what_is_served(due, days, asked):
    server, port = serve(due.certificate(days))
    with server:
        try:
            assert due.run(f"localhost:{port}", "example.com") == (7 if asked else 0)
        finally:
            server.kill()
    assert due.calls.exists() == asked


def test_renew_if_due_asks_when_nothing_is_served(due):
    assert due.run("localhost:1", "example.com") == 7
    assert due.calls.read_text().endswith("Renew stt example.com 0 0\n")
