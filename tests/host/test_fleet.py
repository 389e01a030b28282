# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/fleet.md: `postern -H` over a real sshd, by hand, in a loop and by Ansible. One host is the
administrator's and, by two names, those of the fleet."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from booted import Host
from process import wait_until
from terminal import Terminal

DOCS = Path(__file__).parents[2] / "docs"
FLEET = ("mail.example.com", "vpn.example.com")
SSHD = "Port 2222\nListenAddress 127.0.0.1\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
SSH = f"""Host {' '.join(FLEET)} nobody.example.com
    HostName 127.0.0.1
    HostKeyAlias fleet
    Port 2222
    User deploy
"""
GOOD = "[Profile]\nDescription=all is well\n[Renewal]\nExec=/bin/echo it said so\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"


@pytest.fixture
def bus_kind():
    return "dbus-daemon"


def key(host, user: str, options: str) -> None:
    """The administrator's key is that user's as well."""
    public = host.run("cat", "/home/admin/.ssh/id_ed25519.pub")
    host.write(f"/home/{user}/.ssh/authorized_keys", f"{options} {public}")
    host.run("chown", "--recursive", f"{user}:{user}", f"/home/{user}/.ssh")


@pytest.fixture
def fleet(host):
    host.run("useradd", "--create-home", "--shell", "/bin/bash", "admin")
    host.write("/etc/ssh/sshd_config.d/fleet.conf", SSHD)
    host.write("/home/admin/.ssh/config", SSH)
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/admin/.ssh/id_ed25519")
    public = host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    host.write("/home/admin/.ssh/known_hosts", f"fleet {public[0]} {public[1]}\n")
    host.run("chown", "--recursive", "admin:admin", "/home/admin/.ssh")
    restrict = re.search(r'^ *(restrict,command="[^"]+") ssh-', (DOCS / "fleet.md").read_text(), flags=re.M)[1]
    key(host, "deploy", restrict)
    key(host, "visitor", "")
    host.run("systemctl", "start", "ssh.service")
    for name in FLEET:
        host.profile(name, GOOD)
    return host


def postern(host: Host, *arguments: str, status: int = 0):
    done = host.tried("postern", *arguments, user="admin")
    assert done.returncode == status, done
    return done


def typed(host: Host, *command: str) -> Terminal:
    """At a terminal of the host's own: on ours Ctrl-C would end what leads there."""
    inner = ["script", "--quiet", "--return", "--command", f"exec {shlex.join(command)}", "/dev/null"]
    return Terminal(host.inside("env", "HOME=/home/admin", "TERM=xterm", *inner, user="admin"), {})


def test_every_command(fleet):
    mail = ("-H", FLEET[0])
    assert json.loads(postern(fleet, *mail, "renew", FLEET[0], "--json").stdout)["result"] == "success"
    assert "it said so" in postern(fleet, *mail, "log", FLEET[0]).stdout
    assert f"To renew: postern -H {FLEET[0]} renew {FLEET[0]}" in postern(fleet, *mail, "check", FLEET[0]).stdout
    listed = {item["name"]: item for item in json.loads(postern(fleet, *mail, "list", "--json").stdout)}
    assert listed[FLEET[0]]["last_result"] == "success" and listed[FLEET[1]]["last_result"] == ""
    assert "No window" in postern(fleet, *mail, "status").stdout
    uid = fleet.run("id", "--user", "deploy").strip()
    asked = fleet.journal("--identifier=posternd", f"POSTERN_PROFILE={FLEET[0]}")
    assert {entry["POSTERN_UID"] for entry in asked if "POSTERN_UID" in entry} == {uid}


def test_the_key_is_for_nothing_else(fleet):
    done = fleet.tried("ssh", FLEET[0], "touch", "/tmp/here", user="admin")
    assert not (fleet.root / "tmp/here").exists() and not done.stdout.strip(), done


def test_refused_without_a_question(fleet):
    """visitor is in no group. At a terminal, too, nobody is asked."""
    refused = postern(fleet, "-H", f"visitor@{FLEET[0]}", "renew", FLEET[0], status=3)
    assert "Nobody can be asked for a password over ssh" in refused.stderr
    with typed(fleet, "postern", "-H", f"visitor@{FLEET[0]}", "renew", FLEET[0]) as terminal:
        assert terminal.wait(60) == 3
    assert "Nobody can be asked for a password over ssh" in terminal.text and "Password" not in terminal.text
    assert fleet.is_shut()


def test_a_host_that_cannot_be_reached(fleet):
    """ssh says why, and postern what to look at."""
    for name, reason in (("nobody@nobody.example.com", "Permission denied"), ("absent.invalid", "Could not resolve")):
        done = postern(fleet, "-H", name, "list", status=5)
        assert reason in done.stderr and f"See that ssh {name} works without a question" in done.stderr
    fleet.run("systemctl", "stop", "ssh.service")
    assert "Connection refused" in postern(fleet, "-H", FLEET[0], "renew", FLEET[0], status=5).stderr


def test_ctrl_c_closes_the_window_there(fleet):
    fleet.profile("long", "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\n")
    with typed(fleet, "postern", "-H", FLEET[0], "renew", "long") as terminal:
        terminal.wait_for("long: open", 60)
        terminal.type("\x03")
        terminal.wait_for("Closing the window of long", 60)
        assert terminal.wait(60) == 4
    assert fleet.is_shut()


def test_a_connection_that_breaks(fleet):
    fleet.profile("long", "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\nDefaultDuration=1h\nMaxDuration=1h\n")
    with typed(fleet, "postern", "-H", FLEET[0], "renew", "long") as terminal:
        terminal.wait_for("long: open", 60)
        fleet.run("pkill", "--exact", "systemd-stdio-b")
        assert terminal.wait(60) == 5
    assert f"to close it: postern -H {FLEET[0]} close long" in terminal.text
    assert [row[1] for row in fleet.windows()] == ["long"]
    postern(fleet, "-H", FLEET[0], "close", "long")
    wait_until(fleet.is_shut, "the port to be shut", 60)


def test_loop(fleet):
    section = re.search(r"^## A loop$(.*?)^## ", (DOCS / "fleet.md").read_text(), flags=re.M | re.S)[1]
    script = "\n".join(re.findall(r"^    (.*)$", section, flags=re.M))
    (fleet.root / f"etc/postern/profiles/{FLEET[1]}.conf").unlink()
    done = fleet.tried("sh", "-c", script, user="admin")
    assert f"{FLEET[0]}: success" in done.stdout and f"{FLEET[1]}: exit status 2" in done.stderr, done


@pytest.mark.seconds(480)
def test_ansible(fleet):
    shutil.copytree(DOCS / "examples/fleet", fleet.root / "home/admin/fleet")
    fleet.profile(FLEET[1], GOOD.replace("/bin/echo", "/bin/false"))
    play = ["ansible-playbook", "-i", "/home/admin/fleet/hosts.ini", "/home/admin/fleet/renew.yml"]
    done = fleet.tried("env", "HOME=/home/admin", *play, user="admin")
    assert done.returncode == 2, done
    recap = dict(re.findall(r"^(\S+) +: (.*)$", done.stdout.partition("PLAY RECAP")[2], flags=re.M))
    assert "ok=2 " in recap[FLEET[0]] and "failed=0" in recap[FLEET[0]], done.stdout
    assert "ok=1 " in recap[FLEET[1]] and "failed=1" in recap[FLEET[1]], done.stdout
    assert '\\"result\\":\\"failed\\"' in done.stdout

    # who is refused gets no JSON, and is told why all the same
    fleet.write("/home/admin/.ssh/config", SSH.replace("User deploy", "User visitor"))
    done = fleet.tried("env", "HOME=/home/admin", *play, user="admin")
    assert done.returncode == 2, done
    assert "Nobody can be asked for a password over ssh" in done.stdout and "changed_when" not in done.stdout
