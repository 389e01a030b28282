# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/troubleshooting.md: each symptom is produced, and what the page quotes (`> ...`) is what is said."""

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xtables
from certificates import DAY, make_certificate
from firewalld import Firewalld
from probe import HeldConnection, Listener
from process import as_user, run, wait_until
from scene import Renewal, state, wait_state
from systemd_standin import SystemdStandIn
from testbed import SANITIZER_REPORT, build_directory

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
SYMPTOMS: dict[str, Callable] = {}
NAME = "example.com"


def sections() -> dict[str, str]:
    """heading: what stands below it"""
    parts = re.split(r"^### (.*)$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def quotes(section: str) -> list[str]:
    """A quotation goes on over lines that begin with > as well."""
    return [words("\n".join(line[1:] for line in block.splitlines()))
            for block in re.findall(r"(?:^>.*\n)+", section, flags=re.M)]  # fmt: skip


def words(text: str) -> str:
    """The client breaks lines where a terminal ends."""
    return " ".join(text.split())


def symptom(heading: str):
    def note(function: Callable) -> Callable:
        SYMPTOMS[heading] = function
        return function

    return note


def ask(testbed, *arguments: str, user: str = "deploy", **environment: str) -> str:
    """Everything that `postern ARGUMENTS` says."""
    done = subprocess.run(
        [*as_user(user), str(build_directory() / "src/client/postern"), *arguments],
        env={**os.environ, **testbed.bus.environment, **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert not SANITIZER_REPORT.search(done.stdout), done.stdout
    return done.stdout


def profile(testbed, command: str, *, ports: str = "80/tcp", more: str = "", window: str = "", gate: str = "") -> Path:
    return testbed.profile(NAME, f"[Profile]\n{more}\n[Renewal]\nExec={command}\n[Window]\nPorts={ports}\n{window}\n{gate}")


# --- asking -----------------------------------------------------------------------------------------


@symptom("The service cannot be reached")
def no_service(testbed, _) -> str:
    return ask(testbed, "list", DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent")


@symptom("You are refused")
def refused(testbed, _) -> str:
    profile(testbed, "/bin/true")
    with testbed.daemon():
        return ask(testbed, "renew", NAME, user="visitor")


@symptom("Everybody is refused, root too")
def no_polkit(testbed, _) -> str:
    profile(testbed, "/bin/true")
    with testbed.daemon():
        testbed.polkit.kill9()
        return ask(testbed, "renew", NAME, user="root")


@symptom("There is no such profile")
def no_profile(testbed, _) -> str:
    profile(testbed, "/bin/true")
    with testbed.daemon():
        assert NAME in ask(testbed, "list")
        return ask(testbed, "renew", "example")


@symptom("The profile has an error")
def bad_profile(testbed, _) -> str:
    profile(testbed, "/bin/true", window="Port=80/tcp")
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("The profile is not trusted")
def writable_profile(testbed, _) -> str:
    profile(testbed, "/bin/true").chmod(0o664)
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("Too often")
def too_often(testbed, _) -> str:
    profile(testbed, "/bin/true", window="RateLimit=1/1h")
    with testbed.daemon():
        ask(testbed, "renew", NAME)
        return ask(testbed, "renew", NAME)


@symptom("Too many at once")
def too_many(testbed, _) -> str:
    names = [NAME, *(f"{number}.example" for number in range(4))]
    renewals = [Renewal(testbed, name, window="Ports=none") for name in names]
    with testbed.daemon():
        for renewal in renewals[1:]:
            renewal.request()
        said = ask(testbed, "renew", NAME)
        ask(testbed, "close", names[1])
        renewals[0].request()
        return said


@symptom("busctl gives up, and the window goes on")
def busctl_gives_up(testbed, _) -> str:
    renewal = Renewal(testbed, NAME)
    with testbed.daemon():
        command = ["busctl", "--timeout=8", *testbed.renew_arguments(NAME)]
        done = subprocess.run([*as_user("deploy"), *command], env={**os.environ, **testbed.bus.environment},
                              capture_output=True, text=True)  # fmt: skip
        wait_until(renewal.tree, "the renewal, which nobody waits for")
        renewal.finish()
        wait_until(lambda: testbed.bus.call("ListWindows")[0] == [], "its end")
        return done.stderr


# --- the renewal ------------------------------------------------------------------------------------


@symptom("It failed, and nobody came in")
def nobody_came(testbed, acme) -> str:
    acme().dns(v4="203.0.113.99", v6=None)
    testbed.profile(NAME, acme().profile())
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("It failed, and somebody came in")
def somebody_came(testbed, _) -> str:
    renewal = Renewal(testbed, NAME)
    with testbed.daemon(), Listener(80):
        window = renewal.request()
        with HeldConnection():
            renewal.finish(1)
            wait_state(testbed, window, "closed")
        return state(testbed, window, "Hint")


@symptom("The journal warns of a certificate")
def expires_soon(testbed, _) -> str:
    path, now = testbed.directory / "certificate.pem", int(time.time())
    make_certificate(path, begin=now - 70 * DAY, end=now + 20 * DAY)
    profile(testbed, "/bin/true", more=f"Certificate={path}")
    with testbed.daemon() as daemon:
        ask(testbed, "renew", NAME)
        return daemon.text()


@symptom("certbot cannot have port 80")
def port_taken(testbed, acme) -> str:
    testbed.profile(NAME, acme().profile())
    with testbed.daemon(), Listener(80):
        return ask(testbed, "check", NAME) + ask(testbed, "renew", NAME, "--verbose")


@symptom("Another certbot runs")
def another_certbot(testbed, acme) -> str:
    testbed.profile(NAME, acme().profile())
    directory = acme().directory / "letsencrypt"
    directory.mkdir()
    with testbed.daemon(), open(directory / ".certbot.lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        return ask(testbed, "renew", NAME, "--verbose")


@symptom("It ends with `timeout`")
def timeout(testbed, _) -> str:
    profile(testbed, "/bin/sleep 1000")
    with testbed.daemon():
        return ask(testbed, "renew", NAME, "--duration=12s")


@symptom("It says `unchanged`")
def unchanged(testbed, acme) -> str:
    testbed.profile(NAME, acme().profile(force=False))
    with testbed.daemon():
        ask(testbed, "renew", NAME)
        return ask(testbed, "renew", NAME)


@symptom("It says `success`, and neither `renewed` nor `unchanged`")
def no_certificate(testbed, _) -> str:
    profile(testbed, "/bin/true", more="Certificate=/etc/ssl/nowhere.pem")
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("The command cannot be started")
def no_command(testbed, _) -> str:
    profile(testbed, "/usr/bin/nowhere")
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("A hook may not do what root may")
def no_capability(testbed, _) -> str:
    profile(testbed, "/usr/sbin/ip link add example type dummy")
    with testbed.daemon():
        return ask(testbed, "renew", NAME, "--verbose")


@symptom("What it printed is gone")
def forgotten(testbed, _) -> str:
    profile(testbed, "/bin/true")
    with testbed.daemon():
        return ask(testbed, "log", NAME)


@symptom("certbot's own timer renews as well")
def own_timer(testbed, _) -> str:
    profile(testbed, "/bin/true")
    with testbed.daemon(), SystemdStandIn(testbed, "certbot.timer"):
        return ask(testbed, "check", NAME)


# --- the firewall -----------------------------------------------------------------------------------


@symptom("It opens nothing")
def nothing_denies(testbed, _) -> str:
    testbed.net.nft("flush ruleset")
    profile(testbed, "/bin/true")
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("A rule keeps visitors out during the window, too")
def denied(testbed, _) -> str:
    profile(testbed, "/bin/true")
    testbed.net.nft("add rule inet filter input tcp dport 80 drop")
    with testbed.daemon():
        return ask(testbed, "check", NAME)


@symptom("The firewall cannot be opened")
def published(testbed, _) -> str:
    profile(testbed, "/bin/true")
    testbed.net.nft("table ip nat { chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to 192.0.2.7; }; }")
    with testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("A firewall elsewhere, on a host with firewalld")
def command_beside_firewalld(testbed, _) -> str:
    testbed.net.nft("flush ruleset")
    profile(testbed, "/bin/true", gate="[Gate]\nType=command\nOpenCommand=/bin/true\nCloseCommand=/bin/true\n")
    with Firewalld(testbed), testbed.daemon():
        return ask(testbed, "renew", NAME)


@symptom("A firewall elsewhere stays open")
def close_owed(testbed, _) -> str:
    profile(testbed, "/bin/true", gate="[Gate]\nType=command\nOpenCommand=/bin/true\nCloseCommand=/bin/false\n")
    with testbed.daemon() as daemon:
        ask(testbed, "renew", NAME)
        assert '"close_owed":true' in ask(testbed, "status", NAME, "--json")
        return daemon.text() + ask(testbed, "status", NAME)


@symptom("iptables warns of connlabel.conf")
def connlabel(testbed, _) -> str:
    testbed.net.nft("flush ruleset")
    xtables.restore_all(xtables.denying())
    renewal = Renewal(testbed, NAME)
    with testbed.daemon():
        renewal.request()
        done = subprocess.run(["nsenter", "--net=/run/netns/host", "iptables-save"], capture_output=True, text=True)
        renewal.finish()
        return done.stdout + done.stderr


@symptom("A rule `postern:gate` stands there with no window open")
def left_rule(testbed, _) -> str:
    renewal = Renewal(testbed, NAME)
    with testbed.daemon() as daemon:
        renewal.request()
        daemon.kill9()
        said = run(["nft", "list", "ruleset"], ns="host")
    with testbed.daemon():
        assert "postern" not in run(["nft", "list", "ruleset"], ns="host"), "the page says that the next start removes it"
    return said


# ----------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(request):
    """One that is started when it is asked for."""
    return lambda: request.getfixturevalue("acme")


@pytest.mark.parametrize("heading", SYMPTOMS)
def test_symptom(testbed, authority, heading):
    said = words(SYMPTOMS[heading](testbed, authority))
    quoted = quotes(sections()[heading])
    assert quoted
    for quotation in quoted:
        assert quotation in said, said


def test_every_symptom_is_produced():
    assert set(sections()) == set(SYMPTOMS)
