# SPDX-License-Identifier: GPL-2.0-or-later
"""The service on a booted host: who it is, what it cannot do, and that its promise holds there."""

import os
import re
import signal
import time

import pytest
from booted import BUSES
from bus import MANAGER, NAME, PATH
from connections import open_connection
from jeepney import DBusAddress, new_method_call
from probe import FAMILIES, Outcome, Prober
from process import now, wait_until
from story import IDS

# a tree that hears no SIGTERM and whose parents are gone
DEAF = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "for _ in range(3):\n"
    "    if os.fork() == 0:\n"
    "        os.setsid()\n"
    "        if os.fork(): os._exit(0)\n"
    "        break\n"
    "time.sleep(1000)\n"
)
LONG = "[Renewal]\nExec=/usr/bin/python3 /srv/deaf\n[Window]\nPorts=80/tcp\nRateLimit=100/1h\n"

# Calls each of which comes about when the service has had enough of waiting, a second here. What it is told
# comes from busctl, as there is no D-Bus for Python on a host; its own time to start is part of the luck.
EDGE = """
import random, subprocess, sys, time
chance = random.Random(1)
NAME, PATH = "org.postern.Renewal1", "/org/postern/Renewal1"
base = ["busctl", "--timeout=60", "--quiet", "call", NAME, PATH, NAME + ".Manager"]
for index in range(int(sys.argv[1])):
    done = subprocess.run([*base, "ListWindows"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"call {index}: {done.stderr}")
    time.sleep(chance.uniform(0.96, 1.02))
"""


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


@pytest.fixture
def deaf(host):
    host.write("/srv/deaf", DEAF)
    host.profile("long", LONG)
    return host


def status(pid: int) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", open(f"/proc/{pid}/status").read(), flags=re.M))


def test_the_broker_is_nobody_but_may_change_the_firewall(host):
    (pid,) = host.matching("/usr/libexec/posternd")
    found = status(pid)
    uid = host.run("id", "--user", "_postern").strip()
    assert found["Uid"].split() == [uid] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name], 16) == 1 << 12, name  # CAP_NET_ADMIN
    assert found["NoNewPrivs"] == "1" and found["Seccomp"] == "2"


def test_who_may_ask(host):
    host.profile("true", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n")
    assert host.renew("deploy", "true").data[:2] == ["success", 0]
    refused = host.renew("visitor", "true")
    assert not refused.ok and "nteractive" in refused.text, refused.text


def test_nobody_else_gets_a_helper(host):
    connect = ("import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
               " s.connect('/run/postern-run.socket')")  # fmt: skip
    for user in ("deploy", "visitor"):
        tried = host.tried("python3", "-c", connect, user=user)
        assert tried.returncode == 1 and "PermissionError" in tried.stderr, tried.stderr
    # the broker's user, for comparison
    host.run("python3", "-c", connect, user="_postern")


@pytest.mark.parametrize("verb", [
    ("StartUnit", "ss", "nginx.service", "replace"),
    ("StartTransientUnit", "ssa(sv)a(sa(sv))", "x.service", "replace", "0", "0"),
    ("SetUnitProperties", "sba(sv)", "posternd.service", "true", "0"),
    ("LinkUnitFiles", "asbb", "1", "/tmp/x.service", "true", "true"),
], ids=lambda verb: verb[0])  # fmt: skip
def test_the_brokers_user_cannot_run_anything(host, verb):
    member, *arguments = verb
    called = host.busctl("_postern", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                         "org.freedesktop.systemd1.Manager", member, *arguments)  # fmt: skip
    assert not called.ok and re.search("denied|nteractive|required", called.text), called.text


def assert_shut(host, prober, before) -> None:
    for family in FAMILIES:
        assert prober.outcomes(family, now()) == {Outcome.SILENT}
    wait_until(lambda: not host.matching("/srv/deaf"), "the whole renewal to be gone")
    wait_until(lambda: host.net.ruleset() == before, "the rules to be as before")


def ended_renewal(deaf, prober, what) -> str:
    """A renewal with its window, until what(deaf) has ended both: what its caller was told."""
    call = deaf.start_renewing("deploy", "long")
    deaf.wait_window("long")
    wait_until(lambda: len(deaf.matching("/srv/deaf")) == 4, "the whole tree")
    prober.wait_for(Outcome.REFUSED, "v4")
    what(deaf)
    text, _ = call.communicate(timeout=20)
    assert call.returncode == 1, text
    return text


def kill_broker(host):
    host.kill(signal.SIGKILL, host.main_pid())


def kill_helper(host):
    (pid,) = host.matching("/usr/libexec/postern-run")
    os.kill(pid, signal.SIGKILL)


def kill_both(host):
    (helper,) = host.matching("/usr/libexec/postern-run")
    (broker,) = host.matching("/usr/libexec/posternd")
    # or it might see the helper's end before its own
    os.kill(broker, signal.SIGSTOP)
    os.kill(helper, signal.SIGKILL)
    os.kill(broker, signal.SIGKILL)


def stop(host):
    host.run("systemctl", "stop", "posternd.service")


def restart(host):
    host.run("systemctl", "restart", "posternd.service")


def stop_socket(host):
    host.run("systemctl", "stop", "postern-run.socket")


@pytest.mark.parametrize("what, said", [
    (kill_broker, "NoReply"),
    (kill_helper, "run-failed"),
    (kill_both, "NoReply"),
    (stop, "stopped"),
    (restart, "stopped"),
    (stop_socket, "stopped"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_a_window_ends_with_what_it_stands_on(deaf, what, said):
    before = deaf.net.ruleset()
    with Prober() as prober:
        text = ended_renewal(deaf, prober, what)
        assert said in text or (said == "NoReply" and re.search("disconnected|no reply|NoReply", text, re.I)), text
        assert_shut(deaf, prober, before)
        # the next caller finds it in order
        deaf.profile("true", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n")
        assert deaf.renew("deploy", "true").data[:2] == ["success", 0]
    wait_until(lambda: deaf.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "postern-run@*") == "",
               "no helper to be left")  # fmt: skip


def test_a_broker_that_hangs_is_killed(deaf):
    before = deaf.net.ruleset()
    deaf.run("mkdir", "-p", "/run/systemd/system/posternd.service.d")
    deaf.run("sh", "-c", "printf '[Service]\\nWatchdogSec=5s\\n' >/run/systemd/system/posternd.service.d/test.conf")
    deaf.run("systemctl", "daemon-reload")
    deaf.run("systemctl", "restart", "posternd.service")
    with Prober() as prober:
        call = deaf.start_renewing("deploy", "long")
        deaf.wait_window("long")
        deaf.kill(signal.SIGSTOP, deaf.main_pid())
        call.communicate(timeout=60)
        assert_shut(deaf, prober, before)
        assert "watchdog" in deaf.messages("--unit=posternd.service").lower()


def test_power_cut(deaf):
    call = deaf.start_renewing("deploy", "long")
    deaf.wait_window("long")
    with Prober() as prober:
        prober.wait_for(Outcome.REFUSED, "v4")
    deaf.cut_power()
    call.communicate(timeout=20)

    deaf.boot()
    with Prober() as prober:
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
    assert deaf.is_shut()
    # it was started at boot, and is well
    wait_until(lambda: deaf.main_pid(), "the service to be up")
    assert deaf.show("posternd.service", "NRestarts") == "0"
    deaf.profile("true", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n")
    assert deaf.renew("deploy", "true").data[:2] == ["success", 0]


def ask_at_the_last_moment(host) -> None:
    """A call that the bus has read before posternd's word that it leaves: it stays, in a unit that its manager
    is stopping. What comes first is the machine's luck, so it is tried until it has come about."""
    for _ in range(10):
        host.run("systemctl", "restart", "posternd.service")
        (bus,) = (pid for pid, line in host.matching("dbus-daemon").items() if "--system" in line)
        with open_connection(host.system_bus) as caller:
            os.kill(bus, signal.SIGSTOP)
            try:
                caller.send(new_method_call(DBusAddress(PATH, NAME, MANAGER), "RequestWindow", "stt", ("long", 0, 0)))
                time.sleep(1.5)  # time itself: it has enough of waiting now
            finally:
                os.kill(bus, signal.SIGCONT)
            host.wait_window("long")
        if host.show("posternd.service", "ActiveState") == "deactivating":
            return
    raise AssertionError("no call came at the last moment")


@pytest.mark.parametrize("bus_kind", ["dbus-daemon"])
@pytest.mark.parametrize("what", [stop, restart], ids=lambda what: what.__name__)
def test_an_order_to_one_that_stayed_at_the_last_moment(deaf, what):
    """It is obeyed, and not when the window would have ended by itself and a minute more has gone."""
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/libexec/posternd --idle-exit=1s\n"
    deaf.write("/etc/systemd/system/posternd.service.d/edge.conf", drop_in)
    deaf.run("systemctl", "daemon-reload")
    # or its own start is what the call waits for
    deaf.run("systemctl", "start", "polkit.service")
    before = deaf.net.ruleset()
    ask_at_the_last_moment(deaf)
    what(deaf)
    wait_until(lambda: not deaf.matching("/srv/deaf"), "the whole renewal to be gone")
    wait_until(lambda: deaf.net.ruleset() == before, "the rules to be as before")
    closed = f"MESSAGE_ID={IDS['closed']}"
    wait_until(lambda: deaf.journal("--identifier=posternd", closed), "the record of the end")
    results = {entry["POSTERN_RESULT"] for entry in deaf.journal("--identifier=posternd", closed)}
    # of those that did not come at the last moment as well
    assert results == {"stopped"}


def test_calls_at_the_edge_of_idleness(host):
    """It leaves after a second here, and each call comes about then. None may be lost. So long, because a
    service that leaves before a busy manager has seen it start takes the next start for the one that is under
    way: no value that anybody would want."""
    host.write("/srv/edge", EDGE)
    host.profile("true", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\nRateLimit=100/1s\n")
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/libexec/posternd --idle-exit=1s\n"
    host.write("/etc/systemd/system/posternd.service.d/edge.conf", drop_in)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "posternd.service")
    said = host.run("python3", "/srv/edge", "60")
    starts = host.messages("--identifier=posternd").count("is ready")
    print(f"60 calls, {starts} starts; {said}")
    # it did leave, or the edge was not met
    assert starts > 5
    wait_until(lambda: host.main_pid() == 0, "it to leave")
    assert host.show("posternd.service", "Result") == "success"
