# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/migrating.md: what becomes of a hook that opened the firewall, when it was overlooked and when its rule
was."""

import re
import shlex
from pathlib import Path

import pytest
import xtables
from firewalld import Firewalld
from scene import printed
from testbed import MANAGER
from ufw import Ufw

PAGE = Path(__file__).parents[2] / "docs/migrating.md"


def hooks(firewall: str) -> tuple[str, str]:
    """before, after"""
    row = re.search(rf"^ *\| {firewall} \| `(.*?)` \| `(.*?)` \|$", PAGE.read_text(), flags=re.M)
    return row[1], row[2]


@pytest.fixture(params=["nftables", "iptables"])
def firewall(request, testbed):
    if request.param == "iptables":
        testbed.net.nft("flush ruleset")
        xtables.restore_all(xtables.denying())
    return request.param


def test_an_overlooked_hook_fails_and_the_port_shuts_all_the_same(testbed, acme, firewall):
    directory = acme.directory / "letsencrypt"
    profile = acme.profile(force=True)
    testbed.profile("first", profile)
    testbed.profile("web", re.sub(r"^Exec=.*$", f"Exec={shlex.join(acme.certbot_renew(force=True))}", profile, flags=re.M))
    with testbed.daemon():
        assert testbed.renew("deploy", "first").data[:2] == ["renewed", 0]
        for when, line in zip(("pre", "post"), hooks(firewall)):
            hook = directory / "renewal-hooks" / when / "firewall"
            hook.write_text(f"#!/bin/sh\n{line.replace('$HANDLE', '1')}\n")
            hook.chmod(0o755)
        before = testbed.net.ruleset()
        window = testbed.renew("deploy", "web").data
        assert window[:2] == ["renewed", 0]
        log = printed(testbed, window[2])
        denied = [line for line in log.splitlines() if "Operation not permitted" in line or "Permission denied" in line]
        assert len(denied) >= 2, log
        assert testbed.net.ruleset() == before


def run_hook(testbed, command: str) -> str:
    """What it printed, as a renewal."""
    environment = f"Environment=DBUS_SYSTEM_BUS_ADDRESS={testbed.bus.address}"
    testbed.profile("web", f"[Renewal]\nExec=/bin/sh -c '{command} || :'\n{environment}\n[Window]\nPorts=80/tcp\n")
    with testbed.daemon():
        result, _, window = testbed.bus.call("Renew", "stt", "web", 0, 0, user="deploy")
        assert result == "success"
        return printed(testbed, window)


def test_an_overlooked_hook_of_ufw_writes_nothing(testbed):
    testbed.net.nft("flush ruleset")
    with Ufw() as ufw:
        before = ufw.files()
        assert "Permission denied" in run_hook(testbed, hooks("ufw")[0])
        assert ufw.files() == before


def test_an_overlooked_hook_of_firewalld_opens_nothing_for_longer(testbed):
    testbed.net.nft("flush ruleset")
    with Firewalld(testbed) as firewalld:
        before = firewalld.files()
        assert "ALREADY_ENABLED" in run_hook(testbed, hooks("firewalld")[0])
        assert firewalld.ports() == [] and firewalld.files() == before


def test_a_rule_that_a_hook_left_is_seen(testbed):
    testbed.profile("web", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n")
    with testbed.daemon():
        shut = {subject: text for _, subject, text in testbed.bus.call("Check", "s", "web", interface=MANAGER)[0]}
        assert shut["IPv4:80/tcp"].startswith("is shut now")
        testbed.net.nft(hooks("nftables")[0].removeprefix("nft "))
        left = {subject: text for _, subject, text in testbed.bus.call("Check", "s", "web", interface=MANAGER)[0]}
        quoted = re.search(r"`(is open[^`]*)` means", PAGE.read_text())[1]
        for family in ("IPv4", "IPv6"):
            assert quoted in left[f"{family}:80/tcp"]
