# SPDX-License-Identifier: GPL-2.0-or-later
"""What Check says of the host besides its firewall (tests/net/test_check_ports.py)."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from bus import USERS
from callers import Call, profile
from dead_mount import DeadMount
from probe import Listener
from process import netns, new_directory, now, run, wait_until
from systemd_standin import SystemdStandIn
from testbed import build_directory

POLKIT = "org.freedesktop.PolicyKit1"


@pytest.fixture
def host(testbed):
    """Nothing on it renews by itself, whatever the machine does. units, jobs: where that would be named."""
    testbed.profile("web", profile("/bin/true", ports="80/tcp"))
    with contextlib.ExitStack() as stack:
        for place in ("/etc/systemd/system", "/etc/cron.d"):
            run(["mount", "--bind", str(new_directory("empty")), place])
            stack.callback(run, ["umount", place])
        testbed.units, testbed.jobs = Path("/etc/systemd/system"), Path("/etc/cron.d")
        testbed.posternd = stack.enter_context(testbed.daemon())
        yield testbed


def findings(host, name: str = "web", user: str = "root") -> dict[str, tuple[str, str]]:
    """subject: (level, message)"""
    found = host.bus.call("Check", "s", name, user=user)[0]
    answer = {subject: (level, message) for level, subject, message in found}
    assert len(answer) == len(found), f"a subject stands twice: {found}"
    return answer


# --- who listens ----------------------------------------------------------------------------------


def test_nobody_listens(host):
    level, text = findings(host, user="visitor")["80/tcp"]
    assert level == "ok" and "nobody listens on it now: right for a renewal that listens itself (certbot --standalone), wrong for one" in text


def test_a_listener_is_named(host):
    with Listener(80):
        level, text = findings(host)["80/tcp"]
    assert level == "note"
    assert text.startswith("listening now: python3 (IPv4 and IPv6). During a window")


@pytest.mark.parametrize(("address", "words"), [
    ("0.0.0.0", "(IPv4). During a window"),
    ("203.0.113.10", "(IPv4). During a window"),
    ("127.0.0.1", "(IPv4, loopback alone). Nobody from outside"),
    ("::1", "(IPv6, loopback alone). Nobody from outside"),
    ("2001:db8:1::10", "(IPv6). During a window"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_where_it_listens(host, kind, address, words):
    host.profile("dns", profile("/bin/true", ports="53/udp 80/tcp"))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port, subject = (80, "80/tcp") if kind == "tcp" else (53, "53/udp")
    with netns("host"):
        listener = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    with listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        if kind == "tcp":
            listener.listen()
        answer = findings(host, "dns")
    assert words in answer[subject][1]
    assert "nobody listens" in answer["80/tcp" if kind == "udp" else "53/udp"][1]


def test_listeners_of_one_program_are_one(host):
    with contextlib.ExitStack() as stack, netns("host"):
        for address in ("203.0.113.10", "2001:db8:1::10", "127.0.0.1"):
            listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
            listener.bind((address, 80))
            listener.listen()
        text = findings(host)["80/tcp"][1]
    assert "listening now: python3 (IPv4, loopback alone), python3 (IPv4 and IPv6). During" in text or (
        "listening now: python3 (IPv4 and IPv6), python3 (IPv4, loopback alone). During" in text)


def test_many_listeners_are_cut_short(host):
    with contextlib.ExitStack() as stack, netns("host"):
        for number in range(30):
            listener = stack.enter_context(socket.socket())
            listener.bind((f"127.0.1.{number + 1}", 80))
            listener.listen()
        text = findings(host)["80/tcp"][1]
    assert text.startswith("listening now: python3 (IPv4, loopback alone), and others.")


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def program():
    """A directory and a program in it that nobody but root can change."""
    directory = new_directory("program")
    path = directory / "renew"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def exec_finding(host, path: Path, **options) -> tuple[str, str]:
    host.profile("web", profile(str(path), ports="80/tcp", **options))
    return findings(host)["Exec"]


def test_only_root_is_told_what_the_profile_names(host, program):
    """It may be for root's eyes alone."""
    said = set()
    for path in (program, program.with_name("other"), program.parent):
        text = profile(str(path), ports="80/tcp", more=f"Certificate={program.parent}s/other")
        host.profile("web", text.replace("[Window]", "User=nosuch\n[Window]"))
        for user, told in (("root", True), ("deploy", False), ("nobody", False)):
            found = findings(host, user=user)
            assert {"Exec", "User", "Certificate"} <= set(found)
            text = repr({key: found[key] for key in ("Exec", "User", "Certificate")})
            assert ("nosuch" in text, str(program.parent) in text) == (told, told), text
            said |= set() if told else {found[key][1] for key in ("Exec", "User", "Certificate")}
    assert said == {
        "the program is there, and nobody else can change it",
        "the program does not exist: install it, or write the path that `command -v` says",
        "the program is not a file: name the program",
        "the profile's user is not in /etc/passwd: where a directory service knows it, postern-run finds it; otherwise a renewal cannot start",
        "the directory of the certificate does not exist: right if the first renewal makes it, otherwise see the path in Certificate=",
    }
    program.chmod(0o777)
    host.profile("web", profile(str(program), ports="80/tcp", more=f"Certificate={program}"))
    found = findings(host, user="visitor")
    assert "the program is run, but it, or what leads to it, can be written by others: take that away" in found["Exec"][1]
    assert found["Certificate"] == ("ok", "the certificate is there")


def test_program_that_is_right(host, program):
    level, text = exec_finding(host, program)
    assert level == "ok" and text == f"{program} is there, and nobody else can change it"


def test_program_that_is_not_there(host, program):
    level, text = exec_finding(host, program.with_name("other"))
    assert level == "error" and text.endswith("other does not exist: install it, or write the path that `command -v` says")


def test_program_that_is_a_directory(host, program):
    level, text = exec_finding(host, program.parent)
    assert level == "error" and "is not a file: name the program" in text


def test_program_that_is_not_executable(host, program):
    program.chmod(0o644)
    level, text = exec_finding(host, program)
    assert level == "error" and "is not executable: make it so with chmod +x" in text


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_program_that_others_can_write(host, program, mode):
    program.chmod(mode)
    level, text = exec_finding(host, program)
    assert level == "error" and f"{program} is run, but {program} can be written by others: take that away with chmod go-w." in text
    assert "Till then whoever can replace it decides what is run" in text


def test_directory_that_others_can_write(host, program):
    program.parent.chmod(0o777)
    level, text = exec_finding(host, program)
    assert level == "error" and f"{program.parent} can be written by others" in text


def test_program_of_somebody_else(host, program):
    os.chown(program, USERS["deploy"][0], 0)
    level, text = exec_finding(host, program)
    assert level == "error" and "belongs to somebody else: make it root's with chown root" in text


def test_program_of_a_snap(host, program):
    """By the link that certbot's instructions have one make, too."""
    upper, work = new_directory("upper"), new_directory("work")
    (upper / "snap").write_text("#!/bin/sh\n")
    (upper / "snap").chmod(0o755)
    certbot = program.with_name("certbot")
    certbot.symlink_to("/usr/bin/snap")
    run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/usr/bin,upperdir={upper},workdir={work}", "/usr/bin"])
    try:
        level, text = exec_finding(host, certbot)
    finally:
        run(["umount", "--lazy", "/usr/bin"])
    assert level == "error" and "is of a snap, and snap starts nothing with the few capabilities" in text and "write Unit=" in text


def test_program_where_posternd_may_not_look(testbed, program):
    """postern-run may, and looks when it is run; the daemon has no such power where it is installed."""
    program.parent.chmod(0o700)
    os.chown(program.parent, USERS["deploy"][0], 0)
    text = profile(str(program), ports="80/tcp", more=f"Certificate={program}").replace("[Renewal]\n", "[Renewal]\nUser=deploy\n")
    testbed.profile("web", text)
    drop = "-dac_override,-dac_read_search"
    with testbed.daemon(through=["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}", "--"]):
        found = findings(testbed)
    unseen = f"whether {program} exists cannot be seen from here; postern-run, which is root, "
    assert found["Exec"] == ("note", unseen + "looks when it is run")
    assert found["Certificate"] == ("note", unseen + "reads it")


def test_what_lies_on_a_dead_mount_is_not_looked_at(host):
    with DeadMount() as dead:
        text = profile(f"{dead.path}/renew", ports="80/tcp", more=f"Certificate={dead.path}/fullchain.pem")
        host.profile("web", text + f"OpenOn=challenge\nChallengeDirectory={dead.path}/www\n")
        found = findings(host)
    assert found["Exec"][0] == "note" and "lies on a file system of another host or of a program, which is not looked at" in found["Exec"][1]
    assert found["Certificate"][0] == "note" and "exists cannot be seen from here; postern-run, which is root, reads it" in found["Certificate"][1]
    level, text = found["ChallengeDirectory"]
    assert level == "error" and "lies on a file system of another host or of a program (NFS, SMB, FUSE), which tells of no changes" in text


def challenge_finding(host, directory: Path, user: str = "root") -> tuple[str, str]:
    text = profile("/bin/true", ports="80/tcp")
    host.profile("web", text + f"OpenOn=challenge\nChallengeDirectory={directory}\n")
    found = findings(host, user=user)
    assert found["IPv4:80/tcp"][1].endswith("a window opens it to everybody while a token is there")
    assert found["80/tcp"][0] == "note" and "a web server is to" in found["80/tcp"][1]
    return found["ChallengeDirectory"]


def test_challenge_directory(host):
    directory = new_directory("www")
    directory.chmod(0o755)
    level, text = challenge_finding(host, directory)
    assert level == "ok" and text == f"{directory} is there: while a token lies in it, the ports are open"
    assert str(directory) not in challenge_finding(host, directory, "visitor")[1]
    level, text = challenge_finding(host, directory / "missing")
    assert level == "note" and "does not exist, as far as posternd sees: right if the client makes it" in text
    directory.chmod(0o700)
    level, text = challenge_finding(host, directory)
    assert level == "note" and "the web server's may" in text
    (directory / "file").touch()
    level, text = challenge_finding(host, directory / "file")
    assert level == "error" and "is not a directory: name the one where the client puts its tokens" in text
    # by a way that would take long to go, even to mounts and back
    fro = directory / "fro"
    fro.symlink_to("/" + "proc/../" * 200 + str(directory).removeprefix("/"))
    level, text = challenge_finding(host, fro)
    assert level == "note" and "does not exist, as far as posternd sees" in text


EXCEPT = ", except for whom rules about addresses, interfaces or rates say otherwise"


def test_window_that_leads_to_the_renewal(host):
    host.profile("web", profile("/bin/true", ports="80/tcp") + "Reach=renewal\n")
    found = findings(host)
    assert found["80/tcp"] == ("ok", "nobody listens on it now: right for Reach=renewal, where the renewal listens itself")
    for family in ("IPv4", "IPv6"):
        level, text = found[f"{family}:80/tcp"]
        assert level == "ok"
        assert text.removeprefix("is shut now").removeprefix(EXCEPT) == "; a window leads everybody to sockets of the renewal's own, and to nobody else's"
    with Listener(80):
        level, text = findings(host)["80/tcp"]
    assert level == "note" and "A window with Reach=renewal does not lead there, and a renewal that is to listen" in text
    host.net.replace("")
    found = findings(host)
    for family in ("IPv4", "IPv6"):
        assert found[f"{family}:80/tcp"] == ("note", "is open to everybody already, so that Reach=renewal keeps nobody out")


def test_nothing_or_nowhere(host):
    host.profile("web", profile("/bin/true"))
    assert findings(host)["firewall"] == ("ok", "nothing is opened: the renewal runs as it is")
    host.profile("web", profile("/bin/true", ports="80/tcp", gate="firewalld"))
    assert findings(host)["firewalld"] == ("error", "does not run: `systemctl start firewalld`, or write Type=auto")
    host.net.replace("")
    nobody_denies = "no chain on the input hook denies by default, so "
    host.profile("web", profile("/bin/true", ports="80/tcp"))
    assert findings(host)["nftables"] == ("note", nobody_denies + "a window would open nothing")
    gate = "command\nOpenCommand=/bin/true\nCloseCommand=/bin/true"
    host.profile("web", profile("/bin/true", ports="80/tcp", gate=gate))
    assert findings(host)["nftables"][1].startswith(nobody_denies + "it is the firewall elsewhere alone that keeps these ports shut")


def test_program_of_the_user_it_runs_as(host, program):
    os.chown(program, USERS["deploy"][0], 0)
    text = profile(str(program), ports="80/tcp").replace("[Renewal]\n", "[Renewal]\nUser=deploy\n")
    host.profile("web", text)
    answer = findings(host)
    assert answer["Exec"][0] == "ok" and answer["User"] == ("ok", "deploy is a user of this host")


def test_link_on_the_way(host, program):
    """Each directory counts on the way of a link to a link: the last that leads there, too."""
    links = [new_directory("links") for _ in range(2)]
    (links[0] / "renew").symlink_to(links[1] / "there")
    (links[1] / "there").symlink_to(f"../{program.parent.name}/renew")
    assert exec_finding(host, links[0] / "renew")[0] == "ok"
    links[1].chmod(0o777)
    level, text = exec_finding(host, links[0] / "renew")
    assert level == "error" and f"{links[1]} can be written by others" in text


def test_link_to_itself(host, program):
    loop = program.with_name("loop")
    loop.symlink_to(loop)
    level, text = exec_finding(host, loop)
    assert level == "error" and "does not exist" in text


def test_commands_of_a_gate(host, program):
    gate = f"command\nOpenCommand={program}\nCloseCommand={program}s"
    host.profile("web", profile("/bin/true", ports="80/tcp", gate=gate))
    answer = findings(host)
    assert answer["OpenCommand"][0] == "ok"
    assert answer["CloseCommand"][0] == "error" and "does not exist" in answer["CloseCommand"][1]


def test_user_that_is_not_there(host):
    host.profile("web", profile("/bin/true", ports="80/tcp").replace("[Renewal]\n", "[Renewal]\nUser=nosuch\n"))
    level, text = findings(host)["User"]
    assert level == "note" and "nosuch is not in /etc/passwd: where a directory service knows it, postern-run finds it" in text


def test_unit(host):
    """There may be no systemd, no file, one, or one for many of a kind; who is told the name is as with programs."""
    units = {"one": ("mine.service", "mine.service"), "many": ("mine@1.service", "mine@.service")}
    for name, (unit, _) in units.items():
        host.profile(name, f"[Renewal]\nUnit={unit}\n[Window]\nPorts=80/tcp\n")
        assert findings(host, name)["Unit"] == ("error", f"systemd does not run here, which is to start {unit}: write Exec= instead")
    booted = Path("/run/systemd/system")
    booted.mkdir(parents=True)
    try:
        for name, (unit, file) in units.items():
            found = findings(host, name)
            assert found["Unit"] == ("note", f"no file of {unit} is seen here: see whether systemctl cat finds it")
            assert "Exec" not in found and "User" not in found
            assert findings(host, name, "visitor")["Unit"][1].startswith("no file of the unit is seen here")
            (host.units / file).touch()
            assert findings(host, name)["Unit"] == ("ok", f"{unit} is there; what it runs, as whom, is its own to say")
            assert findings(host, name, "visitor")["Unit"][1].startswith("the unit is there; what it runs")
    finally:
        booted.rmdir()


def test_certificate(host, program):
    host.profile("web", profile("/bin/true", ports="80/tcp", more=f"Certificate={program}"))
    assert findings(host)["Certificate"][0] == "ok"
    host.profile("web", profile("/bin/true", ports="80/tcp", more=f"Certificate={program}s"))
    assert "does not exist yet, though its directory does: right if" in findings(host)["Certificate"][1]
    host.profile("web", profile("/bin/true", ports="80/tcp", more=f"Certificate={program.parent}s/cert.pem"))
    level, text = findings(host)["Certificate"]
    assert level == "note" and f"the directory {program.parent}s does not exist" in text


def test_directory_of_profiles(host):
    profiles = host.config / "profiles"
    host.profile("good", profile("/bin/true"))
    host.profile("open", profile("/bin/true")).chmod(0o666)
    (profiles / "linked.conf").symlink_to("good.conf")
    for name in ("web.conf~", "web.conf.dpkg-old", ".web.conf.swp", "notes\n\x1b[31m"):
        (profiles / name).write_text("")
    answer = findings(host, user="visitor")
    for name in ("web.conf~", "web.conf.dpkg-old", ".web.conf.swp", "notes??[31m"):
        assert answer[name][0] == "note" and "is no profile, by its name, and not read: move it away" in answer[name][1]
    assert "chmod go-w" in answer["open.conf"][1]
    assert "is not a file, so it is no profile: put the file itself there" in answer["linked.conf"][1]
    assert "good.conf" not in answer and "web.conf" not in answer
    # the one that is asked about is said once
    assert "chmod go-w" in findings(host, "open")["profile"][1]
    assert "open.conf" not in findings(host, "open")


def test_crowded_directory_is_cut_short(host):
    for number in range(1000):
        (host.config / f"profiles/backup-{number}").write_text("")
    answer = findings(host)
    assert len([subject for subject in answer if subject.startswith("backup-")]) == 8


def test_helper(testbed):
    helper = new_directory("helper") / "postern-run"
    shutil.copy(build_directory() / "src/run/postern-run", helper)
    testbed.profile("web", profile("/bin/true", ports="80/tcp"))
    with testbed.daemon(f"--run-path={helper}"):
        assert findings(testbed)["postern-run"][0] == "ok"
        helper.chmod(0o775)
        level, text = findings(testbed)["postern-run"]
        assert level == "error" and "can be written by others" in text
        helper.unlink()
        level, text = findings(testbed)["postern-run"]
        assert level == "error" and text == f"{helper} does not exist: install Postern whole, or see --run-path"


def test_helper_behind_a_socket(testbed):
    path = new_directory("helper") / "socket"
    testbed.profile("web", profile("/bin/true", ports="80/tcp"))
    with testbed.daemon(f"--run-socket={path}"):
        level, text = findings(testbed)["postern-run"]
        assert level == "error" and f"nobody listens at {path}" in text
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            assert findings(testbed)["postern-run"] == ("ok", f"is started by who listens at {path}")


# --- what the bus knows ---------------------------------------------------------------------------


def test_polkit(host):
    assert findings(host)["polkit"] == ("ok", "polkitd runs")
    host.polkit.kill9()
    wait_until(lambda: not host.bus.owner(POLKIT), "polkit to be gone")
    level, text = findings(host)["polkit"]
    assert level == "error" and "polkitd does not run and the bus cannot start it, so every request is refused" in text
    host.bus.activate(Path("/bin/false"), POLKIT)
    assert findings(host)["polkit"] == ("ok", "the bus starts polkitd when asked")


def test_certbot_timer_is_active(host):
    host.profile("dns", profile("/bin/true"))
    with SystemdStandIn(host, "certbot.timer"):
        level, text = findings(host)["certbot.timer"]
        assert level == "note" and text.startswith("is active beside this: it renews behind a shut port, fails, and uses up")
        assert text.endswith(". Turn it off: systemctl disable --now certbot.timer")
        assert "snap.certbot.renew.timer" not in findings(host)
        # it harms nobody where no port is shut
        assert "certbot.timer" not in findings(host, "dns")
    with SystemdStandIn(host, "snap.certbot.renew.timer"):
        assert findings(host)["snap.certbot.renew.timer"][0] == "note"
        assert "certbot.timer" not in findings(host)


def test_certbot_timer_is_enabled(host):
    """Where systemd does not answer, and where it has not started the timer, its links tell."""
    link = host.units / "timers.target.wants/certbot.timer"
    link.parent.mkdir()
    link.symlink_to("/nowhere/certbot.timer")
    assert findings(host)["certbot.timer"][1].startswith("is enabled: where systemd runs it, it renews behind a shut port")
    with SystemdStandIn(host):
        assert findings(host)["certbot.timer"][1].startswith("is enabled, though not active now: ")
    link.unlink()
    assert "certbot.timer" not in findings(host)


def test_certbot_in_cron(host):
    """The job of Debian's package, which runs where systemd does not."""
    assert "/etc/cron.d/certbot" not in findings(host)
    (host.jobs / "certbot").write_text("")
    level, text = findings(host)["/etc/cron.d/certbot"]
    assert level == "note" and "cron runs certbot beside this, behind a shut port" in text
    booted = Path("/run/systemd/system")
    booted.mkdir(parents=True)
    try:
        assert "/etc/cron.d/certbot" not in findings(host)
    finally:
        booted.rmdir()


def test_a_silent_systemd_keeps_nobody_waiting(host):
    with SystemdStandIn(host, silent=True):
        waiting = Call(host, "visitor", "Check", "s", "web")
        left = Call(host, "visitor", "Check", "s", "web")
        begun = now()
        assert host.bus.call("ListWindows")[0] == []
        assert now() - begun < 1_500_000_000, "somebody else had to wait for the pre-flight"
        left.kill()  # whom the answer does not reach
        subjects = [subject for _, subject, _ in waiting.result()[0]]
    assert "profile" in subjects and "certbot.timer" not in subjects
    assert findings(host)["profile"] == ("ok", "The profile has no error.")
