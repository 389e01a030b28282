# SPDX-License-Identifier: GPL-2.0-or-later
"""Coming up and going down: what posternd tells systemd, people and callers."""

import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from callers import ERROR, WINDOW, Call, profile, renew, request_window, wait_log, windows
from testbed import Bus, Process, build_directory, installed, new_directory, root

POSTERND = "src/broker/posternd"


@pytest.fixture
def host(testbed):
    testbed.profile("long", profile("/bin/sleep 1000"))
    testbed.profile("door", profile("/bin/sleep 1000", ports="80/tcp"))
    # ends neither by itself nor by SIGTERM
    testbed.profile("stubborn", profile("/bin/sh -c \"trap '' TERM; while :; do sleep 1; done\""))
    return testbed


def run(*arguments: str, environment=None):
    return subprocess.run([str(build_directory() / POSTERND), *arguments], capture_output=True, text=True,
                          env={**os.environ, **(environment or {})})  # fmt: skip


def directories(host) -> list[str]:
    return [f"--config-dir={host.config}", f"--state-dir={host.state}", f"--runtime-dir={host.runtime}"]


def test_sigterm_closes_answers_and_ends(host):
    with host.daemon() as daemon:
        with renew(host, "deploy", "door") as renewing, renew(host, "deploy", "long") as joining:
            wait_log(daemon, "is open for", 2)
            path = windows(host)[0][4]
            with Call(host, "visitor", "Wait", interface=WINDOW, path=path) as waiting:
                # its place in the daemon: the reply to a later call has come
                host.bus.call("ListWindows", user="visitor")
                daemon.sigterm()
                assert renewing.error().name == ERROR + "Stopped"
                assert joining.error().name == ERROR + "Stopped"
                assert waiting.result()[0] == "stopped"
        assert daemon.wait() == 0
    assert not host.bus.owner()


def test_sigint_is_the_same(host):
    with host.daemon() as daemon:
        request_window(host, "deploy", "long")
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.wait() == 0


def test_sigterm_in_the_middle_of_a_question(host):
    host.polkit.stop()
    with host.daemon() as daemon, renew(host, "deploy", "long") as call:
        wait_log(daemon, "asking polkit")
        daemon.sigterm()
        assert call.error().name == ERROR + "Stopped"
        assert daemon.wait() == 0
    host.polkit.cont()


def test_bus_that_dies_closes_everything(host):
    daemon = host.daemon().start()
    request_window(host, "deploy", "door")
    request_window(host, "deploy", "stubborn")
    host.bus.kill9()
    assert daemon.wait() == 1
    assert daemon.text().count("closed: stopped") == 2
    assert "The bus is gone" in daemon.text()
    # not a clean end, but an orderly one
    assert "ended by itself with 1" in daemon.end()


def test_no_bus_says_what_to_do(host):
    done = run(*directories(host), environment={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"})
    assert done.returncode == 1
    assert "/nonexistent" in done.stderr and "systemctl status dbus" in done.stderr


def test_second_daemon_says_that_the_name_is_taken(host):
    with host.daemon() as daemon:
        other = host.directory / "other"
        other.mkdir()
        second = Process(
            [str(build_directory() / POSTERND), f"--config-dir={host.config}", f"--state-dir={other}/lib",
             f"--runtime-dir={other}/run"], ns="host", environment=host.bus.environment,
        )  # fmt: skip
        assert second.wait() == 1
        assert "is taken" in second.text()
        assert daemon.alive() and host.bus.call("ListWindows") == ([],)


def test_name_that_the_bus_does_not_grant(host):
    for path in (host.state, host.runtime):
        path.mkdir()
        os.chown(path, 6002, 6002)
    visitor = Process(
        ["setpriv", "--reuid=visitor", "--regid=visitor", "--init-groups", "--inh-caps=+net_admin",
         "--ambient-caps=+net_admin", "--", str(build_directory() / POSTERND), *directories(host)],
        ns="host", environment=host.bus.environment,
    )  # fmt: skip
    assert visitor.wait() == 1
    assert "policy" in visitor.text() and not host.bus.owner()


def test_host_without_the_services_user_still_has_a_bus(net, bus_kind):
    """A user that the policy names and the host has not must not keep the bus from starting."""
    with pytest.raises(KeyError):
        pwd.getpwnam("_postern")
    with Bus(installed(), bus_kind) as bus:
        directory = new_directory("postern")
        (directory / "profiles").mkdir()
        daemon = Process(
            [str(build_directory() / POSTERND), f"--config-dir={directory}", f"--state-dir={directory}/lib",
             f"--runtime-dir={directory}/run"], ns="host", environment=bus.environment,
        )  # fmt: skip
        daemon.wait_ready(bus.owner, "its bus name")
        daemon.sigterm()
        assert daemon.wait() == 0


def test_systemd_is_told_when_it_is_ready_and_when_it_ends(host):
    path = f"{root()}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(30)
        os.environ["NOTIFY_SOCKET"] = path
        try:
            with host.daemon() as daemon:
                assert listener.recv(4096) == b"READY=1"
                assert host.bus.owner()
                daemon.sigterm()
                assert listener.recv(4096) == b"STOPPING=1"
                # a second order to end, while LeakSanitizer looks at what is left, would stop that for good
                assert daemon.wait() == 0
        finally:
            del os.environ["NOTIFY_SOCKET"]
            os.unlink(path)


def test_directories_are_made_for_it_alone(host):
    with host.daemon() as daemon:
        assert host.state.stat().st_mode & 0o7777 == 0o700
        assert host.runtime.stat().st_mode & 0o7777 == 0o711
        # and so is what it makes in them
        assert "\nUmask:\t0077\n" in Path(f"/proc/{daemon.pid}/status").read_text()


@pytest.mark.parametrize("fault", ["writable", "foreign", "link"])
def test_directories_of_others_are_refused(host, fault):
    if fault == "link":
        host.state.symlink_to(host.config)
    else:
        host.state.mkdir()
        host.state.chmod(0o777) if fault == "writable" else os.chown(host.state, 6002, 6002)
    done = run(*directories(host), environment=host.bus.environment)
    assert done.returncode == 1 and str(host.state) in done.stderr


def test_options():
    assert run("--version").stdout.startswith("posternd ")
    assert "--config-dir" in run("--help").stdout
    for bad in (["--nonsense"], ["word"], ["--config-dir=relative"], ["--config-dir"]):
        done = run(*bad)
        assert done.returncode == 2 and done.stderr


def test_idle_daemon_sleeps(host):
    """Nothing keeps it busy: neither a closed window, nor callers that came and went, nor an open one
    whose connections are counted once a second."""
    with host.daemon() as daemon:
        window = request_window(host, "deploy", "long")
        host.bus.call("Close", interface=WINDOW, path=window, user="deploy")
        request_window(host, "deploy", "door")
        with renew(host, "deploy", "long", flags=1) as call:
            wait_log(daemon, "is open for", 3)
            call.kill()
        wait_log(daemon, "closed: canceled", 2)

        def switches() -> int:
            text = open(f"/proc/{daemon.pid}/status").read()
            return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)

        # here time itself is what is tested
        before = switches()
        time.sleep(3)
        assert switches() - before < 30
