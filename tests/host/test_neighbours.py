# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service stands beside on a host, and what it does when that dies, starts anew or wants to
sleep: polkit, the bus, the host's own firewall, logind."""

import pytest
from booted import BUSES
from bus import NAME
from probe import FAMILIES, Outcome, Prober
from process import now, wait_until
from scene import TOLERANCE
from story import IDS

SLEEP = "/bin/sleep 1000"
LONG = f"[Renewal]\nExec={SLEEP}\n[Window]\nPorts=80/tcp\n"
SHORT = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n"
ASKED = f"MESSAGE_ID={IDS['asked']}"


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


@pytest.fixture
def ready(host):
    host.profile("long", LONG)
    host.profile("short", SHORT)
    return host


def assert_shut(host, prober, before) -> None:
    for family in FAMILIES:
        assert prober.outcomes(family, now()) == {Outcome.SILENT}
    wait_until(lambda: not host.matching(SLEEP), "the renewal to be gone")
    wait_until(lambda: host.net.ruleset() == before, "the rules to be as before")


def test_sigkill_of_polkitd_during_a_question(ready):
    """A refusal that says whom to look at; the bus starts the next polkitd, which is asked the next time."""
    before = ready.net.ruleset()
    ready.run("systemctl", "start", "polkit.service")
    ready.run("systemctl", "kill", "--signal=SIGSTOP", "polkit.service")
    with Prober() as prober:
        call = ready.start_renewing("deploy", "long")
        wait_until(lambda: ready.journal("--identifier=posternd", ASKED), "the question")
        ready.run("systemctl", "kill", "--signal=SIGKILL", "polkit.service")
        text, _ = call.communicate(timeout=20)
        assert call.returncode == 1 and "systemctl status polkit" in text, text
        for family in FAMILIES:
            prober.outcomes(family, now())
            assert {knock.outcome for knock in prober.knocks(family)} == {Outcome.SILENT}
    assert not ready.matching(SLEEP)
    assert ready.net.ruleset() == before
    assert ready.renew("deploy", "short").data[:2] == ["success", 0]


def test_sigkill_of_the_bus_during_a_window(ready):
    """Nobody could close the window any more, so it closes; the service comes back by itself."""
    before = ready.net.ruleset()
    with Prober() as prober, ready.session("deploy", "postern renew long") as terminal:
        ready.wait_window("long")
        wait_until(lambda: ready.matching(SLEEP), "the renewal to run")
        prober.wait_for(Outcome.REFUSED, "v4")
        broker = ready.main_pid()
        # dbus-broker is two processes
        ready.run("systemctl", "kill", "--signal=SIGKILL", "dbus.service")
        assert terminal.wait() == 5, terminal.text
        assert "the port is shut" in terminal.text and "goes on" not in terminal.text, terminal.text
        wait_until(lambda: ready.main_pid() not in (0, broker), "the next broker")
        assert_shut(ready, prober, before)
        wait_until(lambda: ready.show("posternd.service", "ActiveState") == "active", "it to be ready")
        assert "The bus is gone" in ready.messages("--identifier=posternd")
        assert ready.renew("deploy", "short").data[:2] == ["success", 0]
        assert_shut(ready, prober, before)


def locks(host) -> str:
    return host.run("systemd-inhibit", "--list", "--no-legend")


def test_logind_delays_sleep_during_a_window_and_no_longer(ready):
    assert "Postern" not in locks(ready)
    call = ready.start_renewing("deploy", "long")
    ready.wait_window("long")
    wait_until(lambda: "Postern" in locks(ready), "the lock")
    (lock,) = [line.split() for line in locks(ready).splitlines() if "Postern" in line]
    assert lock[1:3] == [ready.run("id", "--user", "_postern").strip(), "_postern"], lock
    assert "sleep" in lock and lock[-1] == "delay", lock
    assert ready.busctl("deploy", "call", NAME, ready.windows()[0][4], f"{NAME}.Window", "Close").ok
    call.communicate(timeout=20)
    wait_until(lambda: "Postern" not in locks(ready), "the lock to be let go")


# in place of what would put this machine to sleep
ASLEEP = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'nft list ruleset >/srv/rules; mv /srv/rules /srv/asleep'\n"
CAN_SLEEP = "mount -o remount,rw /sys; mkdir -p /sys/power; echo mem >/sys/power/state; echo deep >/sys/power/mem_sleep"


def test_logind_puts_the_host_to_sleep_with_every_window_closed(ready):
    before = ready.net.ruleset()
    ready.write("/etc/systemd/system/systemd-suspend.service.d/asleep.conf", ASLEEP)
    ready.run("sh", "-ec", CAN_SLEEP)
    ready.run("systemctl", "daemon-reload")
    ready.run("systemctl", "restart", "systemd-logind.service")
    with Prober() as prober:
        call = ready.start_renewing("deploy", "long")
        ready.wait_window("long")
        wait_until(lambda: "Postern" in locks(ready), "the lock")
        prober.wait_for(Outcome.REFUSED, "v4")
        ready.run("systemctl", "suspend")
        text, _ = call.communicate(timeout=20)
        assert call.returncode == 1 and "stopped" in text and "This host went to sleep" in text, text
        wait_until(lambda: ready.tried("test", "-e", "/srv/asleep").returncode == 0, "sleep")
        assert ready.run("cat", "/srv/asleep").strip() and "postern" not in ready.run("cat", "/srv/asleep")
        assert_shut(ready, prober, before)
        wait_until(lambda: "Postern" not in locks(ready), "the lock to be let go")
        # awake
        assert ready.renew("deploy", "short").data[:2] == ["success", 0]


@pytest.mark.parametrize("bus_kind", ["dbus-daemon"])  # which one, makes no difference to nftables
def test_restart_of_nftables_during_a_window(host):
    """Its stop takes every rule away and its start puts the host's back: the window is put back, too, ends
    when it would have ended, and leaves what /etc/nftables.conf says."""
    host.profile("timed", LONG + "DefaultDuration=20s\n")
    before = host.net.ruleset()
    with Prober() as prober:
        call = host.start_renewing("deploy", "timed")
        host.wait_window("timed")
        prober.wait_for(Outcome.REFUSED, "v4")
        path = host.windows()[0][4]

        def deadline() -> int:
            return host.busctl("root", "get-property", NAME, path, f"{NAME}.Window", "DeadlineBoottime").data

        until = deadline()
        host.run("systemctl", "restart", "nftables.service")
        restarted = now()
        for family in FAMILIES:
            prober.wait_for(Outcome.REFUSED, family, since=restarted)
        assert deadline() == until
        text, _ = call.communicate(timeout=60)
        assert call.returncode == 1 and "timeout" in text, text
        assert_shut(host, prober, before)
        for family in FAMILIES:
            last = max(knock.begun for knock in prober.knocks(family) if knock.outcome == Outcome.REFUSED)
            assert -2e9 < last - until * 1000 < TOLERANCE, (last, until)
        # what it says, and not merely what was there
        host.run("nft", "--file", "/etc/nftables.conf")
        assert host.net.ruleset() == before
    assert "put back" in host.messages("--identifier=posternd")
