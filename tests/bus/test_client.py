# SPDX-License-Identifier: GPL-2.0-or-later
"""postern, as people and scripts use it."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from bus import BUS, BUS_PATH
from certificates import DAY, make_certificate
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, new_signal
from process import Process, as_user, new_directory, processes, run, wait_until
from scene import Renewal
from terminal import Terminal
from testbed import build_directory

PASSWORD = "open sesame"


def profile(command: str) -> str:
    return f"[Renewal]\nExec={command}\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"


@pytest.fixture
def host(testbed):
    testbed.profile("good", "[Profile]\nDescription=all is well\n" + profile("/bin/sh -c 'echo said; exit 0'"))
    testbed.profile("bad", profile("/bin/sh -c 'echo why it failed; exit 3'"))
    testbed.profile("broken", "[Window]\nPorts=80/tcp\nPort=1\n")
    with testbed.daemon():
        yield testbed


def command(*arguments: str, user: str = "deploy") -> list[str]:
    return [*as_user(user), str(build_directory() / "src/client/postern"), *arguments]


def postern(host, *arguments: str, user: str = "deploy", status: int = 0, **environment: str):
    done = subprocess.run(
        command(*arguments, user=user),
        env={**os.environ, **host.bus.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done
    return done


def test_renew(host):
    """What was asked for on standard output, how it goes on standard error."""
    done = postern(host, "renew", "good")
    assert done.stdout.startswith("good: success\n")
    assert "let in    0 connections" in done.stdout and "80/tcp" in done.stdout
    assert "\033" not in done.stdout + done.stderr and "\r" not in done.stderr


def test_progress(host):
    """A line for each state, on standard error."""
    renewal = Renewal(host, "slow")
    with Process(command("renew", "slow"), environment=host.bus.environment) as client:
        client.wait_ready(lambda: "slow: open, 80/tcp, " in client.text(), "its window")
        renewal.finish()
        assert client.wait() == 0
    shown = re.findall(r"^slow: (open|closing|closed)\b", client.text(), re.MULTILINE)
    assert shown == [state for state in ("open", "closing", "closed") if state in shown] and "open" in shown


def test_renew_json(host):
    done = postern(host, "renew", "good", "--json")
    receipt = json.loads(done.stdout)
    assert receipt["result"] == "success" and receipt["exit_status"] == 0
    assert receipt["profile"] == "good" and receipt["window"].startswith("w")
    assert receipt["closed_at"] >= receipt["opened_at"] > 0
    assert receipt["admitted_connections"] == 0 and receipt["hint"] == ""


def test_renew_fails(host):
    done = postern(host, "renew", "bad", status=1)
    assert "bad: failed, exit status 3" in done.stdout
    assert "postern log bad" in done.stdout
    assert "why it failed" in postern(host, "log", "bad").stdout
    assert json.loads(postern(host, "renew", "bad", "--json", status=1).stdout)["result"] == "failed"
    assert "why it failed" in postern(host, "renew", "bad", "--verbose", status=1).stderr


def test_renew_times_out(host):
    host.profile("long", profile("/bin/sleep 1000"))
    done = postern(host, "renew", "long", "--duration=8s", status=4)
    assert "long: timeout" in done.stdout


def test_no_wait(host):
    renewal = Renewal(host, "slow")
    window = postern(host, "renew", "slow", "--no-wait").stdout.strip()
    assert window.startswith("w")
    listed = json.loads(postern(host, "status", "--json").stdout)
    assert [(item["id"], item["profile"], item["state"]) for item in listed] == [(window, "slow", "open")]
    assert "slow" in postern(host, "status").stdout
    assert "is closed" in postern(host, "close", "slow").stderr
    assert "No window of slow is open" in postern(host, "close", "slow").stderr
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["renew", "good", "--duration=5h"], "600 s"),
        (["renew", "absent"], "absent"),
        (["renew", "broken"], "Port="),
        (["status", "absent"], "postern list"),
        (["close", "absent"], "postern list"),
        (["check", "absent"], "absent"),
    ],
)
def test_mistakes(host, arguments, words):
    """That the service sees; those that postern sees itself are in test_client_errors.py."""
    done = postern(host, *arguments, status=2)
    assert words in done.stderr and done.stdout == ""


def test_refused(host):
    done = postern(host, "renew", "good", user="visitor", status=3)
    assert done.stdout == "" and done.stderr.startswith("postern: ")


def test_too_often(host):
    host.profile("rare", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\nRateLimit=1/1h\n")
    postern(host, "renew", "rare")
    assert "again in" in postern(host, "renew", "rare", status=6).stderr


def test_no_service(host):
    done = postern(host, "list", status=5, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent")
    assert "systemctl status" in done.stderr


def test_another_host(host):
    """With what stands for ssh here; tests/host has a real one."""
    directory = new_directory("bin")
    ssh = directory / "ssh"
    ssh.write_text(f"""#!/bin/sh
test "$*" = "-xT -- deploy@mail systemd-stdio-bridge" || exit 255
exec systemd-stdio-bridge --bus-path={host.bus.address}
""")
    ssh.chmod(0o755)
    path = f"{directory}:/usr/bin:/bin"
    assert "postern -H deploy@mail renew good" in postern(host, "-H", "deploy@mail", "check", "good", PATH=path).stdout
    assert "postern -H deploy@mail renew PROFILE (postern -H deploy@mail list" in postern(host, "-H", "deploy@mail", "status", PATH=path).stdout
    assert "see postern -H deploy@mail list" in postern(host, "-H", "deploy@mail", "close", "absent", status=2, PATH=path).stderr
    assert postern(host, "-H", "deploy@mail", "renew", "good", PATH=path).stdout.startswith("good: success\n")
    refused = postern(host, "-H", "deploy@mail", "renew", "good", user="visitor", status=3, PATH=path)
    assert "Nobody can be asked for a password over ssh" in refused.stderr
    assert "could not be reached" in postern(host, "-H", "nobody@mail", "list", status=5, PATH=path).stderr


def test_what_is_over_is_not_shown(host):
    """A window that has ended before its state could be asked for, on the way to a slow host: the answer
    is shown, and not what was told before it."""
    renewal = Renewal(host, "slow")
    directory = new_directory("bin")
    directory.chmod(0o777)
    ssh, held, go = directory / "ssh", directory / "held", directory / "go"
    ssh.write_text(f"""#!/usr/bin/python3
import os, pathlib, select, subprocess, time
bridge = subprocess.Popen(["systemd-stdio-bridge", "--bus-path={host.bus.address}"], stdin=subprocess.PIPE)
while select.select([0], [], []) and (said := os.read(0, 65536)):
    if b"GetAll" in said:
        pathlib.Path("{held}").touch()
        while not os.path.exists("{go}"):
            time.sleep(0.01)
    os.write(bridge.stdin.fileno(), said)
""")
    ssh.chmod(0o755)
    environment = {**host.bus.environment, "PATH": f"{directory}:/usr/bin:/bin"}
    with Process(command("-H", "mail", "renew", "slow"), environment=environment) as client:
        client.wait_ready(held.exists, "the question for its state")
        renewal.finish()
        wait_until(lambda: "success" in postern(host, "status", "slow").stdout, "its end")
        go.touch()
        assert client.wait() == 0
    assert re.findall(r"^slow: (\w+)", client.text(), re.MULTILINE) == ["closed", "success"]


@pytest.mark.parametrize("arguments", [("list",), ("renew", "good")])
def test_another_host_that_does_not_answer(host, arguments):
    """Ctrl-C ends it, once or twice, and the ssh with it."""
    directory = new_directory("bin")
    ssh = directory / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 4242\n")
    ssh.chmod(0o755)
    environment = {**host.bus.environment, "PATH": f"{directory}:/usr/bin:/bin"}
    with Process(command("-H", "mail", *arguments), environment=environment) as client:
        client.wait_ready(lambda: "sleep 4242" in processes().values(), "ssh")
        if arguments[0] == "renew":
            status = Path(f"/proc/{client.pid}/status")
            client.wait_ready(lambda: int(re.search(r"SigBlk:\s*(\w+)", status.read_text())[1], 16) & 2, "its signals")
        client.signal(signal.SIGINT)
        if arguments[0] == "renew":
            client.wait_ready(lambda: "Closing" in client.text(), "the first order to be taken")
            client.signal(signal.SIGINT)
        client.wait()
    wait_until(lambda: "sleep 4242" not in processes().values(), "ssh to be gone")


def test_another_host_without_ssh(host):
    arguments = ["/usr/bin/env", "PATH=/nonexistent", *command("-H", "mail", "list")[-4:]]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 5 and "openssh-client" in done.stderr and done.stdout == ""


def test_list(host):
    long_name = "a-name-that-is-as-long-as-names-of-profiles-may-be-at-the-most-x"
    host.profile(long_name, "[Profile]\nDescription=" + "very " * 30 + "long\n" + profile("/bin/true"))
    postern(host, "renew", "good")
    lines = postern(host, "list").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines), lines
    assert lines[0].split() == ["PROFILE", "EXPIRES", "LAST", "DESCRIPTION"]
    assert any(line.startswith("good") and "success" in line and "all is well" in line for line in lines)
    assert any("broken" in line and "bad: " in line for line in lines)
    listed = {item["name"]: item for item in json.loads(postern(host, "list", "--json").stdout)}
    assert listed["good"]["last_result"] == "success" and listed["good"]["problem"] == ""
    assert listed["good"]["description"] == "all is well" and listed["good"]["not_after"] == 0
    assert "Port=" in listed["broken"]["problem"]


def test_certificate(host):
    path = host.directory / "certificate.pem"
    begin, end = make_certificate(path, serial="0a", names="DNS:example.com, IP:192.0.2.1, URI:http://x")
    host.profile("web", f"[Profile]\nCertificate={path}\n" + profile("/bin/true"))
    receipt = json.loads(postern(host, "renew", "web", "--json").stdout)
    assert receipt["certificate"] == {
        "serial_number": "0a", "not_before": begin * 10**6, "not_after": end * 10**6,
        "serial_number_before": "0a", "not_after_before": end * 10**6,
    }  # fmt: skip
    assert receipt["not_after"] == end * 10**6
    status = [line.strip() for line in postern(host, "status", "web").stdout.splitlines()]
    assert {"serial    0a", "names     example.com", "192.0.2.1", "and 1 more"} <= set(status)
    facts = json.loads(postern(host, "status", "web", "--json").stdout)
    assert (facts["names"], facts["names_left_out"]) == (["example.com", "192.0.2.1"], 1)
    listed = {item["name"]: item for item in json.loads(postern(host, "list", "--json").stdout)}
    for told in (facts, listed["web"]):
        assert (told["serial_number"], told["not_before"], told["not_after"]) == ("0a", begin * 10**6, end * 10**6)


def test_receipt_names_both_certificates(host):
    path, serials = host.directory / "certificate.pem", ("04" * 18, "05" * 18)  # as long as Let's Encrypt's
    make_certificate(path, serial=serials[0])
    make_certificate(host.directory / "next.pem", serial=serials[1])
    host.profile("web", f"[Profile]\nCertificate={path}\n" + profile(f"/bin/mv {host.directory}/next.pem {path}"))
    said = postern(host, "renew", "web").stdout
    assert all(len(line) <= 80 for line in said.splitlines()), said
    assert f"  serial    {serials[1]}, before {serials[0]}\n" in re.sub(r"\n {12}", " ", said)


@pytest.mark.parametrize("begin, end, colour", [(-61, 29, 33), (-91, -1, 31), (-59, 31, None)])
def test_certificate_that_ends_soon_is_coloured(host, begin, end, colour):
    path, now = host.directory / "certificate.pem", int(time.time())
    make_certificate(path, begin=now + begin * DAY, end=now + end * DAY)
    host.profile("web", f"[Profile]\nCertificate={path}\n" + profile("/bin/true"))
    postern(host, "renew", "web")
    for arguments in (["list"], ["status", "web"]):
        with Terminal(command(*arguments), host.bus.environment) as terminal:
            assert terminal.wait() == 0
        coloured = re.search(r"\033\[(\d+)m20\d\d-", terminal.text)
        assert (int(coloured[1]) if coloured else None) == colour


def test_nothing_there_yet(testbed):
    with testbed.daemon():
        assert "postern check" in postern(testbed, "list").stdout
        assert "postern list" in postern(testbed, "check").stderr
        assert "postern renew" in postern(testbed, "status").stdout


def test_status_of_a_profile(host):
    assert "postern renew good" in postern(host, "status", "good").stdout
    postern(host, "renew", "good")
    assert "success" in postern(host, "status", "good").stdout
    assert json.loads(postern(host, "status", "good", "--json").stdout)["last_result"] == "success"


def test_check(host):
    good = postern(host, "check", "good")
    assert "postern renew good" in good.stdout
    findings = json.loads(postern(host, "check", "good", "--json").stdout)
    assert {finding["level"] for finding in findings} <= {"ok", "note"}
    assert "Port=" in postern(host, "check", "broken", status=1).stdout
    everything = postern(host, "check", status=1)
    assert "broken" in everything.stdout and "mend" in everything.stdout
    assert set(json.loads(postern(host, "check", "--json", status=1).stdout)) == {"good", "bad", "broken"}


def test_forgotten_log_names_the_journal(host):
    assert "journalctl -t posternd POSTERN_PROFILE=good" in postern(host, "log", "good", status=1).stderr


def test_monitor(host):
    with Process(command("monitor", "--json"), environment=host.bus.environment) as monitor:
        monitor.wait_ready(lambda: "Waiting" in monitor.text(), "the monitor")
        postern(host, "renew", "good")

        def events():
            return [json.loads(line) for line in monitor.text().splitlines() if line.startswith("{")]

        wait_until(lambda: any(event["event"] == "closed" for event in events()), "the window's end")
        kinds = [event["event"] for event in events()]
        assert kinds.index("opened") < kinds.index("closed") and "changed" in kinds
        closed = next(event for event in events() if event["event"] == "closed")
        assert (closed["profile"], closed["result"]) == ("good", "success")


# --- at a terminal -----------------------------------------------------------------------------------


def test_live_line_and_colours(host):
    renewal = Renewal(host, "slow")
    with Terminal(command("renew", "slow"), host.bus.environment) as terminal:
        terminal.wait_for("slow: open, 80/tcp, ")
        terminal.wait_for(" left")
        renewal.finish()
        assert terminal.wait() == 0
    assert "\r\033[K" in terminal.text and "\033[32msuccess" in terminal.text
    with Terminal(command("renew", "good"), {**host.bus.environment, "NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
    assert "\033[32m" not in terminal.text


def test_live_line_is_one_line(host):
    """However long the profile's name is, and however narrow the terminal."""
    name = "a-name-that-is-as-long-as-names-of-profiles-may-be-at-the-most-x"
    renewal = Renewal(host, name)
    with Terminal(command("renew", name), host.bus.environment, columns=60) as terminal:
        terminal.wait_for(" left")
        renewal.finish()
        assert terminal.wait() == 0
    *live, receipt = terminal.text.split("\r\033[K")
    assert any(": open, 80/tcp, " in line and " left" in line for line in live)
    assert all(len(line) < 60 and "\n" not in line for line in live), live
    assert receipt.startswith(f"{name}: ")


def test_times_are_the_reader_s(host):
    certificate = host.directory / "certificate.pem"
    begin, end = 1_800_000_000, 1_900_000_000  # 2030-03-17 17:46:40 UTC
    make_certificate(certificate, begin=begin, end=end)
    host.profile("web", f"[Profile]\nCertificate={certificate}\n{profile('/bin/true')}")
    postern(host, "renew", "web", TZ="UTC")
    for zone, shown in (("UTC", "2030-03-17 17:46"), ("Asia/Tokyo", "2030-03-18 02:46"), ("America/New_York", "2030-03-17 13:46")):
        for arguments in (["list"], ["status", "web"], ["renew", "web"]):
            assert shown in postern(host, *arguments, TZ=zone).stdout, (zone, arguments)


def test_everything_fits_80_columns(host):
    long_name = "a-name-that-is-as-long-as-names-of-profiles-may-be-at-the-most-x"
    host.profile(long_name, "[Profile]\nDescription=" + "very " * 30 + "long\n" + profile("/bin/sleep 1000"))
    postern(host, "renew", long_name, "--no-wait")
    for arguments in (["list"], ["status"], ["status", long_name], ["check", long_name], ["renew", "good"], ["log", "good"]):
        lines = postern(host, *arguments).stdout.splitlines()
        assert lines, arguments
        # a command to copy stays in one piece
        assert [line for line in lines if len(line) > 80 and "postern renew" not in line] == [], arguments
    postern(host, "close", long_name)


def test_ctrl_c_closes_the_window(host):
    renewal = Renewal(host, "slow")
    with Terminal(command("renew", "slow"), host.bus.environment) as terminal:
        terminal.wait_for("slow: open")
        terminal.type("\x03")
        terminal.wait_for("Closing the window of slow")
        assert terminal.wait() == 4
    assert "slow: \033[31mcanceled" in terminal.text
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


@pytest.fixture
def administrator(testbed):
    """root has a password, as seen here alone; and polkit's setuid helper, which takes nothing from the
    environment, finds the bus."""
    socket = Path("/run/dbus/system_bus_socket")
    socket.parent.mkdir(exist_ok=True)
    socket.symlink_to(testbed.bus.environment["DBUS_SYSTEM_BUS_ADDRESS"].removeprefix("unix:path="))
    shadow = testbed.directory / "shadow"
    hashed = run(["openssl", "passwd", "-6", PASSWORD]).strip()
    lines = [line for line in open("/etc/shadow").read().splitlines() if not line.startswith("root:")]
    shadow.write_text("\n".join([f"root:{hashed}:19000:0:99999:7:::", *lines]) + "\n")
    shadow.chmod(0o600)
    run(["mount", "--bind", str(shadow), "/etc/shadow"])
    yield
    run(["umount", "/etc/shadow"])
    socket.unlink()


def test_password_at_the_terminal(host, administrator):
    """polkit's own text agent asks, and only where somebody has to be asked."""
    with Terminal(command("renew", "good", user="visitor"), host.bus.environment) as terminal:
        terminal.wait_for("Password:")
        wait_until(lambda: not terminal.echoes(), "the question to be in earnest")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.wait(60) == 0, terminal.text
    assert "good: " in terminal.text and "success" in terminal.text


def test_wrong_password_at_the_terminal(host, administrator):
    with Terminal(command("renew", "good", user="visitor"), host.bus.environment) as terminal:
        terminal.wait_for("Password:")
        wait_until(lambda: not terminal.echoes(), "the question to be in earnest")
        terminal.type("wrong\n")
        assert terminal.wait(60) == 3
    assert "postern: " in terminal.text


def test_no_password_is_asked_of_who_may(host):
    with Terminal(command("renew", "good"), host.bus.environment) as terminal:
        assert terminal.wait() == 0
    assert "AUTHENTICATING" not in terminal.text


def test_service_dies_in_the_middle(testbed):
    renewal = Renewal(testbed, "slow")
    with testbed.daemon() as daemon:
        with Process(command("renew", "slow"), environment=testbed.bus.environment) as client:
            client.wait_ready(lambda: "slow: open" in client.text(), "the window")
            daemon.kill9()
            assert client.wait() == 1
            assert "The port is shut all the same" in client.text()
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


# --- what others do ----------------------------------------------------------------------------------


def forge(host, unique_name: str, member: str, signature: str, *body, interface: str, path: str) -> None:
    """A signal of a visitor's, sent to one connection alone: the bus lets that through."""

    def send() -> None:
        with open_connection(host.bus.address) as connection:
            signal = new_signal(DBusAddress(path, interface=interface), member, signature, body)
            signal.header.fields[HeaderFields.destination] = unique_name
            connection.send(signal)

    host.bus.do_as("visitor", send)


def test_forged_signals_are_nothing_to_the_monitor(host):
    with Process(command("monitor", "--json"), environment=host.bus.environment) as monitor:
        monitor.wait_ready(lambda: "Waiting" in monitor.text(), "the monitor")
        names = host.bus.call("ListNames", destination=BUS, path=BUS_PATH, interface=BUS)[0]
        names = [name for name in names if name.startswith(":")]
        for name in names:
            forge(host, name, "WindowClosed", "soss", "w1\033[2J", "/x", "good", "\033[31mrenewed",
                  interface="org.postern.Renewal1.Manager", path="/org/postern/Renewal1")  # fmt: skip
        postern(host, "renew", "good")
        wait_until(lambda: '"event":"closed"' in monitor.text(), "the true end")
        assert "[2J" not in monitor.text() and "\\u001b" not in monitor.text()


def test_profile_that_goes_during_its_run(host):
    """Its window can be closed, and its end has an exit status of its own."""
    renewal = Renewal(host, "slow")
    with Process(command("renew", "slow"), environment=host.bus.environment) as client:
        client.wait_ready(lambda: "slow: open" in client.text(), "the window")
        (host.config / "profiles/slow.conf").unlink()
        assert "is closed" in postern(host, "close", "slow").stderr
        assert client.wait() == 4
        assert "slow: canceled" in client.text()
    wait_until(lambda: not renewal.tree(), "the renewal to be gone")


def test_sigterm_before_the_window_is_open(host):
    """The request is on its way: what comes of it is closed again."""
    opening = "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n[Gate]\nType=command\n"
    flag = host.directory / "go"
    wait = f"/bin/sh -c 'while ! test -e {flag}; do sleep 0.05; done'"
    host.profile("slow", f"{opening}OpenCommand={wait}\nCloseCommand=/bin/true\n")
    with Process(command("renew", "slow"), environment=host.bus.environment) as client:
        wait_until(lambda: json.loads(postern(host, "status", "--json").stdout), "the window to be opening")
        client.sigterm()
        wait_until(lambda: "Closing" in client.text(), "the order to be taken")
        flag.touch()
        assert client.wait() == 4
        assert "slow: canceled" in client.text()


def test_all_are_checked_however_many(host):
    for number in range(25):
        host.profile(f"more{number}", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n")
    found = json.loads(postern(host, "check", "--json", status=1).stdout)
    assert len(found) == 28
