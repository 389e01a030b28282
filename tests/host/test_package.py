# SPDX-License-Identifier: GPL-2.0-or-later
"""The package: put on a host that runs, put on again, taken off in the middle of a window, purged."""

import pytest
from booted import BUSES, PACKAGE
from probe import Outcome, Prober
from process import now, wait_until

TIMER = "/etc/systemd/system/timers.target.wants/postern@true.timer"
LONG = "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n"
TRUE = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n"


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


def assert_in_order(host) -> None:
    assert host.run("systemctl", "is-active", "posternd.service", "postern-run.socket").split() == ["active"] * 2
    # a restart or two would be hidden by the one that worked
    assert host.show("posternd.service", "NRestarts") == "0"
    assert host.run("systemctl", "is-enabled", "posternd.service", "postern-run.socket").split() == ["enabled"] * 2
    assert host.run("systemctl", "--failed", "--quiet", "--plain", "--no-legend") == ""


def test_installed_twice_removed_purged(fresh):
    said = fresh.install()
    assert "rror" not in said, said
    assert_in_order(fresh)
    fresh.profile("true", TRUE)
    assert fresh.renew("deploy", "true").data[:2] == ["success", 0]
    for path, expected in {
        "/run/postern-run.socket": "_postern _postern 600",
        "/run/postern": "_postern _postern 711",
        "/var/lib/postern": "_postern _postern 700",
        "/etc/postern/profiles": "root root 755",
    }.items():
        assert fresh.run("stat", "--format=%U %G %a", path).strip() == expected, path

    fresh.install()
    assert_in_order(fresh)
    assert fresh.renew("deploy", "true").data[:2] == ["success", 0]
    fresh.run("systemctl", "enable", "--quiet", "postern@true.timer")

    fresh.run("dpkg", "--remove", "postern")
    assert not fresh.call("root", "ListProfiles").ok
    assert fresh.tried("test", "-e", "/run/postern-run.socket").returncode == 1
    assert fresh.run("cat", "/etc/postern/profiles/true.conf") == TRUE

    assert fresh.tried("test", "-L", TIMER).returncode == 0
    fresh.run("dpkg", "--purge", "postern")
    assert fresh.tried("test", "-L", TIMER).returncode == 1
    # a profile is its writer's
    assert fresh.run("cat", "/etc/postern/profiles/true.conf") == TRUE
    assert fresh.tried("test", "-e", "/var/lib/postern").returncode == 1
    fresh.run("dpkg", "--purge", "postern")

    fresh.install()
    assert_in_order(fresh)
    assert fresh.renew("deploy", "true").data[:2] == ["success", 0]


@pytest.mark.parametrize("how", ["upgrade", "remove"])
def test_in_the_middle_of_a_window(host, how):
    host.profile("long", LONG)
    before = host.net.ruleset()
    with Prober() as prober:
        call = host.start_renewing("deploy", "long")
        host.wait_window("long")
        prober.wait_for(Outcome.REFUSED, "v4")
        if how == "upgrade":
            host.run("dpkg", "--install", PACKAGE)
        else:
            host.run("dpkg", "--remove", "postern")
        for family in ("v4", "v6"):
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
        said, _ = call.communicate(timeout=20)
        assert call.returncode == 1 and "stopped" in said, said
        wait_until(lambda: not host.matching("sleep 1000"), "the renewal to be gone")
        assert host.net.ruleset() == before
    if how == "upgrade":
        assert_in_order(host)
