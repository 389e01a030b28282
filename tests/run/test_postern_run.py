# SPDX-License-Identifier: GPL-2.0-or-later
"""The root helper: what a renewal finds around it, that nothing of it stays behind, and to whom the
helper says no. The broker's side is spoken by the test."""

import os
import resource
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
from helper import Helper, Profiles, all_processes, cgroup_mount
from process import cgroups, processes, run, wait_until
from testbed import build_directory

NOBODY = 65534
WINDOW = "w0123456789ab"
# seconds from SIGTERM to SIGKILL at the least: RUN_GRACE_MSEC, which is counted in whole milliseconds
GRACE = 0.499
# what `ended` says where no Certificate= is named
NO_CERTIFICATES = {
    "serial_before": "", "not_after_before": "0", "serial_after": "", "not_after_after": "0", "not_before": "0",
    "names": "", "names_left_out": "0",
}  # fmt: skip


# What the renewal sees


# bit numbers of linux/capability.h: what a renewal of root's may do
KEPT = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6,
    "SETUID": 7, "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18, "AUDIT_WRITE": 29,
}  # fmt: skip
# No script, which would be open in the shell; and signals as a child has them, for a shell that waits
# blocks them.
LOOK = (
    "cat /proc/self/status; echo ==; ls -l /proc/$$/fd; echo ==; tr '\\\\0' '\\\\n' </proc/$$/environ; echo ==;"
    " readlink /proc/$$/cwd; echo ==; cat /proc/$$/limits; echo ==; cat /proc/$$/stat; echo ==;"
    " cat /proc/$$/cgroup; echo ==; id"
)
# what whoever starts the helper may have around it: none of it may arrive
DIRT = {
    "NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "LISTEN_PID": "1", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x",
    "JOURNAL_STREAM": "1:2", "WATCHDOG_USEC": "1", "LC_ALL": "de_DE.UTF-8", "HOME": "/elsewhere", "PYTHONPATH": "/x",
    "PATH": "/nowhere:/usr/bin:/bin", "IFS": "x",
}  # fmt: skip


def capabilities(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1], 16)


class Sight:
    """What LOOK printed."""

    def __init__(self, text: str) -> None:
        status, fds, environ, self.cwd, limits, stat_line, groups, self.id = (
            part.strip() for part in text.split("==\n")
        )
        self.status = dict(line.split(":\t", 1) for line in status.splitlines())
        self.fds = {line.split()[-3]: line.split()[-1] for line in fds.splitlines() if "->" in line}
        self.environ = sorted(environ.splitlines())
        self.limits = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
        self.pid, after = int(stat_line.split()[0]), stat_line.rpartition(")")[2].split()
        self.ppid, self.group, self.session = (int(number) for number in after[1:4])
        self.cgroup = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)


def look(profiles: Profiles, *, user: str = "root", extra: str = "", cgroup: bool = True, clean: bool = False) -> tuple:
    """What the renewal sees when the helper itself was started in a mess."""
    profiles.write(f"/bin/sh -c '{LOOK}'".replace("tr '\\\\0' '\\\\n'", "tr \"\\\\0\" \"\\\\n\""), user=user, extra=extra)
    leak = os.open("/etc/passwd", os.O_RDONLY)

    def make_a_mess() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD, signal.SIGRTMIN})
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR2, signal.SIGRTMAX):
            signal.signal(number, signal.SIG_IGN)
        os.umask(0o000)
        os.chdir("/run")
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 4096))

    with Helper(
        profiles,
        cgroup=cgroup,
        prefix=["setpriv", "--inh-caps=+chown,+kill", "--ambient-caps=+chown,+kill", "--groups=1,2,3"],
        environment=DIRT,
        preexec_fn=make_a_mess,
        restore_signals=False,
        pass_fds=(leak,),
    ) as helper:
        os.close(leak)
        ready = helper.start(deadline=1_234_567_890)
        text = helper.output()
        assert helper.ended()["status"] == "0", text
        pipe = f"pipe:[{os.fstat(helper.output_fd).st_ino}]"
        return Sight(text), ready, pipe, helper


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("privileges", ["no", "default"])
@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
def test_surroundings(profiles, user, privileges, cgroup):
    sight, ready, pipe, helper = look(
        profiles,
        user=user,
        cgroup=cgroup,
        extra="Environment=MINE=a b\n" + ("NoNewPrivileges=no" if privileges == "no" else ""),
    )
    status = sight.status
    bounds = sum(1 << bit for bit in KEPT.values()) & capabilities("CapBnd")
    held = bounds if user == "root" else 0
    assert {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "CapInh": 0, "CapPrm": held, "CapEff": held, "CapBnd": bounds, "CapAmb": 0,
    }  # fmt: skip
    assert status["NoNewPrivs"] == ("0" if privileges == "no" else "1")
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd")] == [0, 0, 0, 0]
    number = 0 if user == "root" else NOBODY
    assert status["Uid"].split() == status["Gid"].split() == [str(number)] * 4
    assert status["Groups"].split() == [str(number)]
    assert status["Umask"] == "0022"
    assert status["Seccomp"] == "0"

    assert sight.fds == {"0": "/dev/null", "1": pipe, "2": pipe}
    assert sight.cwd == "/"
    assert sight.limits["Max core file size"] == ["0", "0"]
    assert sight.limits["Max open files"] == ["1024", "4096"]
    assert sight.pid == sight.group == sight.session
    assert sight.ppid == helper.pid

    home, shell = ("/root", "/bin/bash") if user == "root" else ("/nonexistent", "/usr/sbin/nologin")
    assert sight.environ == sorted([
        "MINE=a b",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        f"HOME={home}",
        f"USER={user}",
        f"LOGNAME={user}",
        f"SHELL={shell}",
        "POSTERN_PROFILE=web",
        f"POSTERN_WINDOW={WINDOW}",
        "POSTERN_DEADLINE=1234567890",
    ])  # fmt: skip

    if cgroup:
        assert ready["cgroup"].endswith(f"/postern-{WINDOW}")
        assert sight.cgroup == ready["cgroup"]
    else:
        assert ready["cgroup"] == ""
        assert WINDOW not in sight.cgroup


def test_the_profile_s_environment_goes_first(profiles):
    profiles.write("/usr/bin/env", extra="Environment=PATH=/opt\nEnvironment=HOME=/srv\nEnvironment=EMPTY=\nEnvironment=LANG=C")
    with Helper(profiles) as helper:
        lines = helper.run()[1].splitlines()
    names = [line.split("=")[0] for line in lines]
    assert len(names) == len(set(names))
    assert {"PATH=/opt", "HOME=/srv", "EMPTY=", "LANG=C"} <= set(lines)


def test_output_may_be_opened_anew(profiles):
    """By a user other than root, as programs do that write to /dev/stderr."""
    profiles.write("/bin/sh -c 'echo one >/dev/stdout; echo two >/dev/stderr; echo three'", user="nobody")
    with Helper(profiles) as helper:
        ended, text = helper.run()
    assert (ended["status"], text) == ("0", "one\ntwo\nthree\n")


@pytest.mark.parametrize("command, status", [
    ("exit 0", 0), ("exit 1", 1), ("exit 255", 255),
    ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -SEGV $$", 139),
])  # fmt: skip
def test_status(profiles, command, status):
    profiles.write(f"/bin/sh -c '{command}'")
    with Helper(profiles) as helper:
        assert helper.run() == (
            {"status": str(status), **NO_CERTIFICATES},
            "",
        )
        assert helper.receive() == ("", {})
        assert helper.wait() == 0


# Nothing stays behind


# name: what the renewal starts, and how many lines it prints once all of it is there. It runs as root.
TREES = {
    "alone": ("echo up", 1),
    "double fork": ("( (echo up; exec sleep 1000) & ) & ", 1),
    "own session": ("setsid sh -c 'echo up; sleep 1000 & exec sleep 1000' &", 1),
    "deaf": ("setsid sh -c 'trap \"\" TERM HUP INT QUIT; echo up; while :; do sleep 1000; done' &", 1),
    "deaf itself": ("trap '' TERM HUP; echo up", 1),
    "stopped": ("sleep 1000 & kill -STOP $!; echo up", 1),
    "orphans of orphans": ("setsid sh -c '(setsid sh -c \"sleep 1000 & sleep 1000 & echo up; wait\" &) ; exit' &", 1),
    "two hundred": ("for i in $(seq 200); do sleep 1000 & done; echo up", 1),
    "two hundred, deaf": ("trap '' TERM; for i in $(seq 200); do setsid sleep 1000 & done; echo up", 1),
    "fast forks": ("setsid sh -c 'trap \"\" TERM; echo up; while :; do /bin/true & done' &", 1),
    "cgroups of its own": (
        "mkdir -p $group/a/b/c $group/d; for sub in a/b/c d; do sh -c"
        ' \'echo 0 >"$0/cgroup.procs"; trap "" TERM; sleep 1000 & echo up; exec sleep 1000\' $group/$sub & done',
        2,
    ),
    "frozen": ("mkdir $group/f; sleep 1000 & echo $! >$group/f/cgroup.procs; echo 1 >$group/f/cgroup.freeze; echo up", 1),
}


class Tree:
    """A renewal that has started a tree, and waits to be told to end."""

    def __init__(self, profiles: Profiles, name: str, *, cgroup: bool = True) -> None:
        commands, lines = TREES[name]
        fifo = profiles.directory / "fifo"
        os.mkfifo(fifo)
        self._fifo = fifo
        script = profiles.script(
            f"#!/bin/sh\ngroup={cgroup_mount()}$(sed -n s/^0:://p /proc/self/cgroup)\n"
            f"{commands}\nwhile ! read status <{fifo}; do :; done\nexit $status\n"
        )
        profiles.write(str(script))
        self._before = all_processes()
        # the search for leaks is a process as well
        self.helper = Helper(profiles, cgroup=cgroup, environment={"ASAN_OPTIONS": "detect_leaks=0"})
        self.cgroup = self.helper.start()["cgroup"]
        assert bool(self.cgroup) == cgroup
        self.helper.wait_lines(lines)
        assert len(self.left()) >= 1

    def end(self, status: int) -> None:
        with open(self._fifo, "w") as fifo:
            fifo.write(f"{status}\n")

    def left(self) -> set[int]:
        return all_processes() - self._before - {self.helper.pid}


class Asked:
    """A renewal to end, from this moment on at the earliest. On a busy machine its time may be up before it
    has come to do so."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def time_is_up(self) -> bool:
        return time.monotonic() - self._at >= GRACE

    def lawful(self) -> set[int]:
        """What one that SIGTERM ends can end with."""
        return {128 + signal.SIGTERM} | ({128 + signal.SIGKILL} if self.time_is_up() else set())


CASES = [
    pytest.param(name, cgroup, id=f"{name}-{'cgroup' if cgroup else 'no-cgroup'}")
    for name in TREES
    for cgroup in (True, False)
    # without a cgroup there is none to make others in; and who forks faster than he can be killed wins
    if cgroup or "$group" not in TREES[name][0] and name != "fast forks"
]


@pytest.mark.parametrize("name, cgroup", CASES)
@pytest.mark.parametrize("way", ["by itself", "hang-up", "SIGTERM", "another word"])
def test_tree_is_gone_when_it_says_ended(profiles, name, cgroup, way):
    tree = Tree(profiles, name, cgroup=cgroup)
    with tree.helper as helper:
        asked = Asked()
        if way == "by itself":
            tree.end(3)
        elif way == "hang-up":
            helper.hang_up()
        elif way == "SIGTERM":
            helper.popen.terminate()
        else:
            helper.send("go", deadline=1)
        status = int(helper.ended()["status"])
        deaf = name in ("deaf itself", "two hundred, deaf")
        lawful = {3} if way == "by itself" else {128 + signal.SIGKILL} if deaf else asked.lawful()
        # not a moment later
        assert not tree.left()
        assert not any(WINDOW in path for path in cgroups())
        assert status in lawful
        assert helper.receive() == ("", {})
        assert helper.wait() == 0
        assert helper.output().replace("up\n", "") == ""


@pytest.mark.parametrize("name, cgroup", CASES)
def test_tree_is_gone_after_the_helper_when_nobody_listens(profiles, name, cgroup):
    tree = Tree(profiles, name, cgroup=cgroup)
    with tree.helper as helper:
        helper.socket.close()
        assert helper.wait() == 0
        assert not tree.left()
        assert not any(WINDOW in path for path in cgroups())


@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
def test_asked_before_it_is_killed(profiles, cgroup):
    """SIGTERM first, to the whole tree, and time to answer it."""
    child = profiles.script("#!/bin/sh\ntrap 'echo child; exit' TERM\necho up\nwhile :; do sleep 0.01; done\n", "child")
    profiles.write(str(profiles.script(f"#!/bin/sh\ntrap 'wait; echo main; exit 7' TERM\n{child} &\nwhile :; do sleep 0.01; done\n")))

    def ask() -> tuple[bool, str, str]:
        with Helper(profiles, cgroup=cgroup) as helper:
            helper.start()
            helper.wait_lines(1)
            asked = Asked()
            helper.hang_up()
            status = helper.ended()["status"]
            # a shell says so when what it ran was terminated
            return asked.time_is_up(), status, helper.output().replace("Terminated\n", "")

    # where its time was up, nothing can be told; once in ten times it is not
    answers = (ask() for _ in range(10))
    assert next((answer for answer in answers if not answer[0]), None) == (False, "7", "up\nchild\nmain\n")


@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
def test_main_process_dies_with_a_killed_helper(profiles, cgroup):
    """PDEATHSIG, for root and after the change of user, which clears it."""
    for user in ("root", "nobody"):
        profiles.write("/bin/sleep 1000", user=user)
        with Helper(profiles, cgroup=cgroup) as helper:
            ready = helper.start()
            wait_until(lambda: helper.children(), "the renewal")
            child = os.pidfd_open(helper.children()[0])
            name = Path(f"/proc/{helper.children()[0]}/comm")
            wait_until(lambda: name.read_text() == "sleep\n", "the renewal's program")
            helper.popen.kill()
            helper.popen.wait()
            assert select.select([child], [], [], 20)[0], "the renewal outlived its helper"
            os.close(child)
        if ready["cgroup"]:  # the broker's to remove
            wait_until(lambda: remove_directory(Path(cgroup_mount() + ready["cgroup"])), "the empty cgroup to go")


def remove_directory(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def test_cgroup_of_a_killed_helper_is_taken_over(profiles):
    """The same window asked for again: what is left of the first is killed, the second runs alone."""
    profiles.write("/bin/sh -c 'setsid sleep 1000 & echo up; wait'")
    with Helper(profiles) as helper:
        helper.start()
        helper.wait_lines(1)
        helper.popen.kill()
        helper.popen.wait()
    assert any(WINDOW in path for path in cgroups())
    profiles.write("/bin/sh -c 'cat /sys/fs/cgroup/*/$0/cgroup.procs /sys/fs/cgroup/$0/cgroup.procs 2>&- | wc -l'", name="b")
    with Helper(profiles) as helper:
        assert helper.run("b")[0]["status"] == "0"
    assert not any(WINDOW in path for path in cgroups())


def test_leaving_the_cgroup_is_no_escape(profiles):
    """Root may move itself; the helper is still the one that orphans come to."""
    own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    mount = next(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")
    runaway = profiles.script(
        f"#!/bin/sh\n(echo 0 > {mount}{own}/cgroup.procs; echo out; : runaway; while :; do sleep 1; done) &\nsleep 1000\n"
    )
    profiles.write(str(runaway))
    with Helper(profiles) as helper:
        helper.start()
        helper.wait_lines(1)
        helper.hang_up()
        helper.ended()
        assert not [line for line in processes().values() if str(runaway) in line]


@pytest.mark.parametrize("how", ["mount -o remount,bind,ro", "mount -t tmpfs none"])
def test_cgroup2_that_cannot_be_used_is_done_without(profiles, how):
    mount = next(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")
    profiles.write("/bin/true")
    with Helper(profiles, prefix=["unshare", "--mount", "sh", "-ec", f'{how} {mount}; exec "$@"', "sh"]) as helper:
        assert helper.start()["cgroup"] == ""
        assert helper.ended()["status"] == "0"


# Before anything runs


@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
@pytest.mark.parametrize("moment", ["before anything", "before ready", "before go"])
@pytest.mark.parametrize("way", ["hang-up", "close"])
def test_hang_up_early(profiles, cgroup, moment, way):
    touched = profiles.directory / "touched"
    profiles.write(f"/bin/touch {touched}")
    with Helper(profiles, cgroup=cgroup) as helper:
        if moment == "before ready":
            helper.stop()
            helper.renew()
        elif moment == "before go":
            helper.renew()
            assert helper.receive()[0] == "ready"
        helper.hang_up() if way == "hang-up" else helper.socket.close()
        if moment == "before ready":
            # not to one that ends: it would take back the SIGSTOP by which the leak sanitizer looks at it
            helper.popen.send_signal(signal.SIGCONT)
        assert helper.wait() == 0
        assert not any(WINDOW in path for path in cgroups())
    assert not touched.exists()


@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
def test_sigterm_before_go(profiles, cgroup):
    touched = profiles.directory / "touched"
    profiles.write(f"/bin/touch {touched}")
    with Helper(profiles, cgroup=cgroup) as helper:
        helper.renew()
        assert helper.receive()[0] == "ready"
        helper.popen.terminate()
        assert helper.receive() == ("", {})
        assert helper.wait() == 0
        assert not any(WINDOW in path for path in cgroups())
    assert not touched.exists()


@pytest.mark.parametrize("packet", [
    b"go\n", b"go\ndeadline=\n", b"go\ndeadline=-1\n", b"go\ndeadline=1x\n", b"go\ndeadline=99999999999999999999\n",
    b"go\ndeadline=1\nmore=1\n", b"renew\ndeadline=1\n", b"go\ndeadline=1", b"GO\ndeadline=1\n", b"go\ndeadline=1\n" + 5000 * b"x",
])  # fmt: skip
def test_not_a_go(profiles, packet):
    touched = profiles.directory / "touched"
    profiles.write(f"/bin/touch {touched}")
    with Helper(profiles) as helper:
        helper.renew()
        assert helper.receive()[0] == "ready"
        helper.send_raw(packet)
        assert helper.receive() == ("", {})
        assert helper.wait() == 1
    assert not touched.exists()


def test_go_with_a_descriptor(profiles):
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.renew()
        assert helper.receive()[0] == "ready"
        helper.send_raw(b"go\ndeadline=1\n", 0)
        assert helper.receive() == ("", {})
        assert helper.wait() == 1


# Refusals, which say why


def test_missing_profile(profiles):
    with Helper(profiles) as helper:
        helper.renew("absent")
        assert "absent.conf; create it" in helper.problem("refused")


@pytest.mark.parametrize("name", ["../web", "a/b", ".web", "", "x" * 65])
def test_profile_that_cannot_be(profiles, name):
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.renew(name, version="1")
        assert helper.problem("refused")


def test_bad_profile(profiles):
    profiles.write("/bin/true", extra="Colour=blue")
    with Helper(profiles) as helper:
        helper.renew()
        problem = helper.problem("refused")
    assert "web.conf:" in problem and "Colour" in problem


@pytest.mark.parametrize("spoil", [
    lambda path: path.chmod(0o666), lambda path: os.chown(path, NOBODY, 0), lambda path: path.parent.chmod(0o777),
    lambda path: path.rename(path.with_name("there")).parent and path.symlink_to("there"),
], ids=["writable", "of another user", "in a writable directory", "symlink"])  # fmt: skip
def test_profile_that_others_may_write(profiles, spoil):
    """The broker may be in other hands: the helper looks for itself."""
    profiles.write("/bin/true")
    spoil(profiles.path("web"))
    with Helper(profiles) as helper:
        helper.renew()
        assert helper.problem("refused")


def test_changed_profile(profiles):
    profiles.write("/bin/true")
    version = profiles.version("web")
    profiles.write("/bin/false")
    with Helper(profiles) as helper:
        helper.renew(version=version)
        assert "ask again" in helper.problem("refused")


GATE = "[Gate]\nType=command\nOpenCommand=/bin/sh -c 'echo open; env'\nCloseCommand=/bin/sh -c 'echo close; env; exit 3'\n"


@pytest.mark.parametrize("verb, status", [("open", "0"), ("close", "3")])
def test_gate_commands(profiles, verb, status):
    """The same surroundings as a renewal, and the ports; in a cgroup apart from the renewal's."""
    profiles.write("/bin/true", user="nobody", extra="Environment=TOKEN=a b", gate=GATE)
    with Helper(profiles) as helper:
        helper.gate(f"gate-{verb}", "443/udp 80/tcp")
        ready = helper.go(deadline=1_234_567_890)
        assert ready["cgroup"].endswith(f"/postern-{WINDOW}{verb}")
        first, *environment = helper.output().splitlines()
        assert helper.ended() == {"status": status, **NO_CERTIFICATES}
    assert first == verb
    assert {
        "POSTERN_PORTS=80/tcp 443/udp", f"POSTERN_WINDOW={WINDOW}", "POSTERN_PROFILE=web",
        "POSTERN_DEADLINE=1234567890", "TOKEN=a b", "USER=nobody",
    } <= set(environment)  # fmt: skip


@pytest.mark.parametrize("verb", ["gate-open", "gate-close"])
def test_no_gate_commands(profiles, verb):
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.gate(verb)
        assert "Type=command" in helper.problem("refused")


def test_gate_command_that_does_not_exist(profiles):
    profiles.write("/bin/true", gate="[Gate]\nType=command\nOpenCommand=/nonexistent\nCloseCommand=/bin/true\n")
    with Helper(profiles) as helper:
        helper.gate("gate-open")
        helper.go()
        assert "the program of OpenCommand= of profile web does not exist" in helper.problem("failed")


@pytest.mark.parametrize("ports", ["", "none", "80", "80/tcp 80/tcp", "80/tcp;x", "99999/tcp"])
def test_ports_that_are_none(profiles, ports):
    profiles.write("/bin/true", gate=GATE)
    with Helper(profiles) as helper:
        helper.gate("gate-close", ports)
        assert helper.receive() == ("", {})
        assert helper.wait() == 1


def test_unknown_user(profiles):
    profiles.write("/bin/true", user="nosuchuser")
    with Helper(profiles) as helper:
        helper.renew()
        problem = helper.problem("refused")
    assert "User= of profile web" in problem and "name one" in problem
    # everybody may read a problem, and not everybody the profile
    assert "nosuchuser" not in problem and "User=nosuchuser" in helper.log.read_text()


@pytest.mark.parametrize("user", ["nobody", str(NOBODY)])
def test_the_broker_s_own_user(profiles, user):
    profiles.write("/bin/true", user=user)
    with Helper(profiles, owner=NOBODY) as helper:
        helper.renew()
        problem = helper.problem("refused")
        assert "User= of profile web" in problem and user not in problem
        assert f"User={user}" in helper.log.read_text()
    # somebody else's broker may, and so may that one as another user
    with Helper(profiles) as helper:
        assert helper.run()[0]["status"] == "0"
    profiles.write("/usr/bin/id -u", user="daemon")
    with Helper(profiles, owner=NOBODY) as helper:
        assert helper.run()[1] == "1\n"


@pytest.mark.parametrize("packet", [
    b"", b"\n", b"renew\n", b"renew\nprofile=web\nversion=1\n", b"dance\nprofile=web\nversion=1\nwindow=w1\n",
    b"renew\nprofile=web\nversion=1\nwindow=\n", b"renew\nprofile=web\nversion=1\nwindow=../w1\n",
    b"renew\nprofile=web\nversion=1\nwindow=w/1\n", b"renew\nprofile=web\nversion=1\nwindow=W1\n",
    b"renew\nprofile=web\nversion=1\nwindow=w.1\n", b"renew\nprofile=web\nversion=1\nwindow=" + 32 * b"w" + b"\n",
    b"renew\nprofile=web\nversion=1\nwindow=w1\nexec=/bin/sh\n", b"renew\nprofile=web\nversion=1\nwindow=w1",
    b"renew\nprofile=web\nprofile=web\nversion=1\nwindow=w1\n", b"renew\nprofile=w\xffb\nversion=1\nwindow=w1\n",
])  # fmt: skip
def test_not_a_request(profiles, packet):
    """Nothing is explained to whoever is not posternd: the connection ends."""
    profiles.write("/bin/true")
    version = profiles.version("web").encode()
    read_end, write_end = os.pipe()
    with Helper(profiles) as helper:
        helper.send_raw(packet.replace(b"version=1", b"version=" + version), *([write_end] if packet else []))
        if not packet:
            helper.hang_up()
        assert helper.receive() == ("", {})
        assert helper.wait() == (1 if packet else 0)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("kind", ["none", "two", "file", "directory", "null", "socket", "fifo of a file system"])
def test_not_a_pipe_for_the_output(profiles, kind):
    profiles.write("/bin/true")
    fifo = profiles.directory / "somebody's"
    os.mkfifo(fifo)
    before = os.stat(fifo)
    left, right = socket.socketpair()
    pipe = os.pipe()
    with left, right, Helper(profiles) as helper:
        opened = {
            "none": lambda: [],
            "two": lambda: list(pipe),
            "file": lambda: [os.open("/etc/passwd", os.O_RDONLY)],
            "directory": lambda: [os.open("/", os.O_RDONLY)],
            "null": lambda: [os.open("/dev/null", os.O_RDWR)],
            "socket": lambda: [os.dup(left.fileno())],
            "fifo of a file system": lambda: [os.open(fifo, os.O_RDWR)],
        }[kind]()
        helper.send("renew", *opened, profile="web", version=profiles.version("web"), window=WINDOW)
        assert helper.receive() == ("", {})
        assert helper.wait() == 1
        for fd in set(opened) - set(pipe):
            os.close(fd)
    for fd in pipe:
        os.close(fd)
    assert os.stat(fifo) == before


@pytest.mark.parametrize("stdin", ["null", "pipe", "stream", "datagram"])
def test_standard_input_is_not_the_broker(stdin):
    """What a person sees who starts it."""
    left, right = socket.socketpair(type=socket.SOCK_DGRAM if stdin == "datagram" else socket.SOCK_STREAM)
    with left, right:
        done = subprocess.run(
            [str(build_directory() / "src/run/postern-run")],
            stdin={"null": subprocess.DEVNULL, "pipe": subprocess.PIPE}.get(stdin, right.fileno()),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "postern-run: standard input is not posternd's socket: posternd starts this program, and postern renews\n"


def test_options():
    def call(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [str(build_directory() / "src/run/postern-run"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    assert call("--version")[:2] == (0, "postern-run 0.1.0\n")
    status, text, _ = call("--help")
    assert status == 0 and "--config-dir" in text and "not for people" in text
    assert call("web")[0] == 2 and "--help" in call("web")[2]
    assert call("--colour")[0] == 2


# Programs that cannot be started


@pytest.mark.parametrize("content, mode, user, words", [
    (None, 0, "root", ["does not exist", "install"]),
    ("#!/bin/sh\n", 0o644, "root", ["may not execute", "make it executable"]),
    ("#!/bin/sh\n", 0o700, "nobody", ["may not execute", "User="]),
    ("#!/no/such/interpreter\n", 0o755, "root", ["interpreter", "install"]),
    ("neither\n", 0o755, "root", ["is not a program", "#!/bin/sh"]),
    ("", 0o755, "root", ["is not a program", "#!/bin/sh"]),
    ("\x7fELF and nothing more", 0o755, "root", ["is not a program"]),
])  # fmt: skip
@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
def test_program_that_cannot_be_started(profiles, content, mode, user, words, cgroup):
    program = profiles.directory / "program"
    if content is not None:
        profiles.script(content, "program", mode)
    profiles.write(f"{program} --option", user=user)
    with Helper(profiles, cgroup=cgroup) as helper:
        helper.start()
        problem = helper.problem("failed")
        assert helper.output() == ""
        assert not any(WINDOW in path for path in cgroups())
    for word in ["Exec=", "profile web", *words]:
        assert word in problem
    # everybody may read a problem, and not everybody the profile
    assert str(program) not in problem
    assert "nobody" not in problem and "--option" not in problem
    log = helper.log.read_text()
    assert f"Exec={program}\n" in log and f"User={user}\n" in log and "--option" not in log


def test_directory_as_program(profiles):
    profiles.write("/etc")
    with Helper(profiles) as helper:
        helper.start()
        problem = helper.problem("failed")
    assert "Exec=" in problem and "/etc" not in problem


def test_surroundings_that_cannot_be_made(profiles):
    """Not a renewal that failed, and not the program's fault: it was never started."""
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.renew()
        Path(cgroup_mount() + helper.receive()[1]["cgroup"]).rmdir()
        helper.send("go", deadline=1)
        problem = helper.problem("failed")
    assert "cgroup" in problem and "does not exist" not in problem


# Output that nobody reads


@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "no-cgroup"])
@pytest.mark.parametrize("way", ["hang-up", "SIGTERM"])
def test_output_that_nobody_reads(profiles, cgroup, way):
    profiles.write("/usr/bin/head -c 100M /dev/zero")
    with Helper(profiles, cgroup=cgroup) as helper:
        helper.start()
        wait_until(lambda: helper.output_waiting() == 65536, "the pipe to be full")
        asked = Asked()
        helper.hang_up() if way == "hang-up" else helper.popen.terminate()
        assert int(helper.ended()["status"]) in asked.lawful()
        assert helper.receive() == ("", {})
        assert len(helper.output()) >= 65536


def test_all_the_output_comes(profiles):
    profiles.write("/usr/bin/head -c 100M /dev/zero")
    with Helper(profiles) as helper:
        helper.start()
        got = 0
        while data := os.read(helper.output_fd, 1 << 20):
            got += len(data)
        assert got == 100 << 20
        assert helper.ended()["status"] == "0"


def test_end_of_the_output_comes_before_ended(profiles):
    """Nobody else holds the pipe: what was read to the end at `ended` is all there is."""
    profiles.write("/bin/sh -c 'setsid sleep 1000 & echo last'")
    with Helper(profiles) as helper:
        helper.start()
        assert helper.ended()["status"] == "0"
        os.set_blocking(helper.output_fd, False)
        assert os.read(helper.output_fd, 100) == b"last\n"
        assert os.read(helper.output_fd, 100) == b""


def test_legacy_tables_are_named(profiles):
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.renew()
        word, fields = helper.receive()
        assert (word, sorted(fields)) == ("ready", ["cgroup", "legacy"])
        for family, name in (("ip", "ip_tables_names"), ("ip6", "ip6_tables_names")):
            path = Path("/proc/self/net", name)
            expected = [f"{family}/{table}" for table in path.read_text().split()] if path.exists() else []
            assert [table for table in fields["legacy"].split() if table.startswith(family + "/")] == expected
