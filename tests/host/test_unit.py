# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit= on a booted host: the admin's own service is the renewal, and is gone with the window."""

import os
import signal

import pytest
from probe import FAMILIES, Outcome, Prober
from process import now, wait_until
from test_service import DEAF, ended_renewal, kill_both, kill_broker, kill_helper, restart, stop

PROFILE = "[Renewal]\nUnit={}\n[Window]\nPorts=80/tcp\nRateLimit=100/1h\n{}"


@pytest.fixture(params=["dbus-daemon"])
def bus_kind(request):
    return request.param


def service(host, name: str, text: str, extra: str = "", unit: str = "") -> None:
    """A unit, and a profile of the same name."""
    host.write(f"/etc/systemd/system/{name}.service", f"[Unit]\n{unit}\n[Service]\nType=oneshot\n{text}\n")
    host.run("systemctl", "daemon-reload")
    host.profile(name, PROFILE.format(f"{name}.service", extra))


@pytest.fixture
def deaf(host):
    host.write("/srv/deaf", DEAF)
    # its TimeoutStopSec= is the default: 90 s
    service(host, "long", "ExecStart=/usr/bin/python3 /srv/deaf")
    return host


def clean(host) -> None:
    """No helper, nothing that a helper left in /run, nothing of the unit."""
    wait_until(lambda: host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "postern-run@*") == "",
               "no helper to be left")  # fmt: skip
    assert host.run("sh", "-c", "ls -A /run/postern-run 2>/dev/null || true") == ""


ENDS = {
    "good": ("ExecStart=/bin/true", ["success", 0]),
    "bad": ("ExecStart=/bin/sh -c 'exit 3'", ["failed", 3]),
    "killed": ("ExecStart=/bin/sh -c 'kill -KILL $$$$'", ["failed", 137]),
    "dumped": ("ExecStart=/bin/sh -c 'kill -ABRT $$$$'", ["failed", 134]),
    "ended": ("Type=simple\nExecStart=/bin/sh -c 'kill -TERM $$$$'", ["failed", 143]),
    # what the manager calls a success is one where it came to an end by itself
    "unclean": ("ExecStart=/bin/sh -c 'exit 2'\nSuccessExitStatus=2", ["success", 0]),
    "before": ("ExecStartPre=/bin/false\nExecStart=/bin/true", ["failed", 1]),
    "after": ("ExecStart=/bin/true\nExecStartPost=/bin/false", ["failed", 1]),
    "late": ("ExecStart=/bin/sleep 1000\nTimeoutStartSec=500ms", ["failed", 143]),
    "missing": ("ExecStart=/nonexistent", ["failed", 203]),
    "several": ("ExecStart=/bin/true\nExecStart=/bin/sh -c 'exit 4'\nExecStart=/bin/true", ["failed", 4]),
    # forgotten at once, but for the reference
    "collected": ("ExecStart=/bin/sh -c 'exit 5'\n[Unit]\nCollectMode=inactive-or-failed", ["failed", 5]),
    # the process has ended; the unit would stay
    "remains": ("ExecStart=/bin/true\nRemainAfterExit=yes", ["success", 0]),
    "simple": ("Type=simple\nExecStart=/bin/sh -c 'sleep 0.3; exit 6'", ["failed", 6]),
}


def test_how_a_unit_ends(host):
    for name, (text, wanted) in ENDS.items():
        service(host, name, text)
        said = f"Window of profile {name} is closed: {wanted[0]}, exit status {wanted[1]},"
        for count in (1, 2):  # a failure before is none of the next
            called = host.renew("deploy", name)
            assert called.ok == (wanted[0] == "success"), (name, called.text)
            wait_until(lambda: host.messages("--identifier=posternd").count(said) == count, said)
        assert host.show(f"{name}.service", "ActiveState") in ("inactive", "failed"), name
    clean(host)


def test_what_is_not_run(host):
    service(host, "conditional", "ExecStart=/bin/touch /srv/ran", unit="ConditionPathExists=/nonexistent")
    service(host, "asserted", "ExecStart=/bin/touch /srv/ran", unit="AssertPathExists=/nonexistent")
    (host.root / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    host.profile("masked", PROFILE.format("masked.service", ""))
    service(host, "broken", "")
    service(host, "needy", "ExecStart=/bin/touch /srv/ran", unit="Requires=nosuch.service")
    host.profile("nosuch", PROFILE.format("nosuch.service", ""))
    for name, words in {
        "conditional": "a condition of the unit",
        "asserted": "a condition of the unit",
        "masked": "masked",
        "broken": "bad-setting",
        "needy": "nosuch.service",
        "nosuch": "not-found",
    }.items():
        called = host.renew("deploy", name)
        assert not called.ok and words in called.text and f"{name}.service" in called.text, (name, called.text)
    assert not (host.root / "srv/ran").exists()
    clean(host)
    # and Check says which one there is
    for name, level in {"conditional": "ok", "nosuch": "note"}.items():
        found = {row[1]: row[0] for row in host.call("root", "Check", "s", name).data[0]}
        assert found["Unit"] == level and "Exec" not in found


def test_a_unit_that_runs_already_is_left_alone(deaf):
    deaf.run("systemctl", "start", "--no-block", "long.service")
    wait_until(lambda: len(deaf.matching("/srv/deaf")) == 4, "the whole tree")
    before = deaf.show("long.service", "MainPID")
    called = deaf.renew("deploy", "long")
    assert not called.ok and "long.service is running already" in called.text, called.text
    clean(deaf)
    assert deaf.show("long.service", "MainPID") == before and len(deaf.matching("/srv/deaf")) == 4
    deaf.run("systemctl", "kill", "--signal=KILL", "long.service")
    wait_until(lambda: not deaf.matching("/srv/deaf"), "it to be gone")


def close(host):
    (window,) = host.windows()
    assert host.busctl("root", "call", "org.postern.Renewal1", window[4], "org.postern.Renewal1.Window", "Close").ok


def end_helper(host):
    (pid,) = host.matching("/usr/libexec/postern-run")
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("what", [close, kill_broker, kill_helper, kill_both, end_helper, stop, restart],
                         ids=lambda what: what.__name__)  # fmt: skip
def test_the_unit_is_gone_with_its_window(deaf, what):
    before = deaf.net.ruleset()
    with Prober() as prober:
        ended_renewal(deaf, prober, what)
        wait_until(lambda: not deaf.matching("/srv/deaf"), "the whole unit to be gone")
        wait_until(lambda: deaf.show("long.service", "ActiveState") in ("inactive", "failed"), "it to be over")
        wait_until(lambda: deaf.net.ruleset() == before, "the rules to be as before")
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
    clean(deaf)
    # the next caller finds it in order
    service(deaf, "good", "ExecStart=/bin/true")
    assert deaf.renew("deploy", "good").data[:2] == ["success", 0]


def test_a_service_that_stays_is_stopped_in_time(host):
    service(host, "stays", "Type=simple\nExecStart=/bin/sleep 1000", extra="MaxDuration=2s\n")
    called = host.renew("deploy", "stays")
    assert not called.ok and "time" in called.text, called.text
    assert host.show("stays.service", "ActiveState") == "inactive"
    clean(host)


def test_certbots_own_unit(host):
    """As the package brings it: nothing is due where nothing was ever issued."""
    host.profile("certbot", PROFILE.format("certbot.service", ""))
    called = host.renew("deploy", "certbot")
    assert called.data[:2] == ["success", 0], called.text
    assert "certbot.service" in host.messages("--identifier=posternd")
    clean(host)
