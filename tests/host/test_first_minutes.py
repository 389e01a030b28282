# SPDX-License-Identifier: GPL-2.0-or-later
"""The five minutes of README, typed as they stand there on a host that has never heard of Postern; and what
else of the documents wants a whole host."""

import re
from pathlib import Path

import pytest
from acme import Acme
from booted import BUSES, PACKAGE
from net import STRANGER4
from probe import FAMILIES, Outcome, Prober
from process import now, wait_until

ROOT = Path(__file__).parents[2]
NAME = "example.com"


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


def five_minutes() -> str:
    section = re.search(r"^## Five minutes$(.*?)^## ", (ROOT / "README.md").read_text(), flags=re.M | re.S)[1]
    return "".join(re.findall(r"^    (.*\n)", section, flags=re.M))


@pytest.fixture
def authority(fresh):
    """The one that certbot asks by itself."""
    with Acme() as acme:
        bundle = fresh.root / "etc/ssl/certs/ca-certificates.crt"
        fresh.write("/etc/ssl/certs/ca-certificates.crt", bundle.read_text() + acme.ca.read_text())
        fresh.write("/etc/letsencrypt/cli.ini", f"server = https://{STRANGER4}:14000/dir\n")
        yield acme


def as_debian_has_it(fresh) -> None:
    """certbot's timer is on. sudo is there, and apt is not asked whether it may."""
    (fresh.root / "etc/systemd/system/certbot.timer").unlink()
    fresh.run("systemctl", "daemon-reload")
    fresh.run("systemctl", "enable", "--now", "certbot.timer")
    fresh.write("/usr/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
    fresh.write("/etc/apt/apt.conf.d/yes", 'APT::Get::Assume-Yes "true";\n')


@pytest.mark.seconds(480)
def test_five_minutes(fresh, authority):
    as_debian_has_it(fresh)
    before, text = fresh.net.ruleset(), five_minutes()
    # the package has been built; the same way
    builds = ["sudo apt build-dep .\n", "dpkg-buildpackage -us -uc -b\n"]
    assert all(text.count(line) == 1 for line in builds)
    assert builds[1].strip() in (ROOT / "tests/host/prepare").read_text()
    for line in builds:
        text = text.replace(line, "")
    commands = [line for line in re.sub(r"<<END.*?^END$", "", text, flags=re.M | re.S).splitlines() if line]
    assert len(commands) == 6, commands

    fresh.run("mkdir", "/srv/clone")
    fresh.run("mv", PACKAGE, "/srv/postern_0.1.0_amd64.deb")
    with Prober(interval=0.05) as prober:
        done = fresh.tried("sh", "-euc", f"cd /srv/clone\n{text}")
        assert done.returncode == 0, done.stdout + done.stderr
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
    assert f"{NAME}: renewed\n" in done.stdout and "It cannot renew" not in done.stdout, done.stdout
    assert not re.search(r"^ *error\b", done.stdout, flags=re.M), done.stdout
    # the one thing that check found to be done is what the next line does
    notes = set(re.findall(r"^ +note +(\S+):", done.stdout, flags=re.M))
    assert notes - {"iptables"} == {"certbot.timer", "Certificate"}, done.stdout

    assert fresh.tried("systemctl", "is-enabled", "certbot.timer").stdout.strip() == "disabled"
    assert fresh.run("systemctl", "is-active", f"postern@{NAME}.timer").strip() == "active"
    fresh.run("systemctl", "start", f"postern@{NAME}.service")
    wait_until(lambda: f"{NAME}: unchanged" in fresh.messages(f"--unit=postern@{NAME}.service"), "what it said", 60)
    wait_until(fresh.is_shut, "the port to be shut", 60)
    assert fresh.net.ruleset() == before


def test_one_unit_may_and_others_may_not(host):
    """docs/policies.md, with the unit that it shows."""
    page = (ROOT / "docs/policies.md").read_text()
    unit = re.search(r"^    # /etc/systemd/system/renew-example.service\n((?:    .*\n)+)", page, flags=re.M)[1]
    unit = re.sub(r"^    ", "", unit, flags=re.M)
    make_user = re.search(r"^    sudo (useradd .* renew-example)$", page, flags=re.M)[1].split()
    host.run(*make_user)
    host.run(*make_user[:-1], "another")
    host.write("/etc/systemd/system/renew-example.service", unit)
    host.write("/etc/systemd/system/another.service", unit.replace("User=renew-example\n", "User=another\n"))
    host.write("/etc/systemd/system/renew-other.service", unit.replace(f"renew {NAME}", "renew other"))
    for name in (NAME, "other"):
        host.profile(name, "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n")
    host.run("systemctl", "daemon-reload")
    assert host.tried("systemctl", "start", "renew-example.service").returncode == 1
    host.write("/etc/polkit-1/rules.d/40-postern-one-unit.rules", (ROOT / "docs/examples/polkit/one-unit.rules").read_text())
    host.run("systemctl", "restart", "polkit.service")
    host.run("systemctl", "start", "renew-example.service")
    for unit in ("another.service", "renew-other.service"):
        assert host.tried("systemctl", "start", unit).returncode == 1
        assert host.show(unit, "ExecMainStatus") == "3", "refused"
