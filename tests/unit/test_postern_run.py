# SPDX-License-Identifier: GPL-2.0-or-later
"""The root helper, spoken to as the broker does: over its standard input, with what a profile names
really run. Each promise that does not stand on a cgroup is tried without one, too."""

import array
import os
import pwd
import re
import resource
import signal
import socket
import stat
import subprocess
import textwrap
import threading
from pathlib import Path

import pytest
from bus import Users
from process import cgroups, new_directory, processes, wait_until
from testbed import build_directory

PATIENCE = 60.0
WINDOW = "w0123456789ab"
DEADLINE = "1800000000"
BINARY = build_directory() / "src/run/postern-run"
# every cgroup2 of the host is taken away from the helper
WITHOUT_CGROUP = [
    "unshare", "--mount", "--propagation", "private", "sh", "-ec",
    "for m in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts); do umount -l $m; done; exec \"$@\"", "sh",
]  # fmt: skip


@pytest.fixture
def directory():
    """Afterwards nothing runs that did not before, and no cgroup is left."""
    before = set(processes())
    with Users():
        yield new_directory("run")
    assert not set(processes()) - before, processes()
    assert not [name for name in cgroups() if "postern-w" in name]


@pytest.fixture(params=["cgroup", "none"])
def prefix(request):
    return [] if request.param == "cgroup" else WITHOUT_CGROUP


def mount() -> str:
    """Where cgroup2 is."""
    return next(line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] == "cgroup2")


def own_cgroup() -> str:
    return mount() + next(line.strip()[3:] for line in open("/proc/self/cgroup") if line.startswith("0::"))


class Helper:
    """One postern-run with one profile. Leaving the context closes the socket and expects an end."""

    def __init__(self, directory: Path, exec: str, profile: str = "", *, prefix=(), read=True, head="", **popen):
        self.directory, self.status = directory, 0
        (directory / "profiles").mkdir(exist_ok=True)
        self.profile = directory / "profiles/web.conf"
        self.profile.write_text(
            f"[Profile]\n{head}\n[Renewal]\nExec={exec}\n{profile}\n[Window]\nPorts=80/tcp\nDefaultDuration=1min\n"
        )
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.log = directory / "stderr"
        self.pipe, self._pipe_write = os.pipe()
        self.output = b""
        self._thread = threading.Thread(target=self._read) if read else None
        if self._thread:
            self._thread.start()
        with theirs, open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [*prefix, str(BINARY), f"--config-dir={directory}"], stdin=theirs, stderr=log, **popen
            )

    def _read(self) -> None:
        while data := os.read(self.pipe, 65536):
            self.output += data

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close_output()
        self.socket.close()
        status = self.popen.wait(PATIENCE)
        if self._thread:
            self._thread.join(PATIENCE)
        os.close(self.pipe)
        assert "Sanitizer" not in self.log.read_text() and "runtime error" not in self.log.read_text()
        assert status == self.status, self.log.read_text()

    def close_output(self) -> None:
        if self._pipe_write >= 0:
            os.close(self._pipe_write)
            self._pipe_write = -1

    def version(self) -> str:
        st = self.profile.stat()
        return f"{st.st_dev}:{st.st_ino}:{st.st_size}:{st.st_mtime_ns}:{st.st_ctime_ns}"

    def send(self, word: str, fds=(), **fields: str) -> None:
        self.send_raw(f"{word}\n" + "".join(f"{key}={value}\n" for key, value in fields.items()), fds)

    def send_raw(self, text: str | bytes, fds=()) -> None:
        data = text.encode() if isinstance(text, str) else text
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], rights)

    def renew(self, **changed: str) -> None:
        fields = {"profile": "web", "version": self.version(), "window": WINDOW, **changed}
        self.send("renew", [self._pipe_write], **fields)
        self.close_output()

    def receive(self) -> tuple[str, dict[str, str]] | None:
        """None: it hung up."""
        try:
            data = self.socket.recv(8192)
        except ConnectionResetError:
            data = self.socket.recv(8192)  # it left without having read all; what it said comes behind
        if not data:
            return None
        word, *lines = data.decode("ascii").splitlines()
        return word, dict(line.split("=", 1) for line in lines)

    def expect(self, word: str) -> dict[str, str]:
        answer = self.receive()
        assert answer and answer[0] == word, (answer, self.log.read_text())
        return answer[1]

    def go(self) -> dict[str, str]:
        self.renew()
        ready = self.expect("ready")
        assert sorted(ready) == ["cgroup", "legacy"]
        self.send("go", deadline=DEADLINE)
        return ready

    def run(self) -> dict[str, str]:
        self.go()
        return self.finish()

    def finish(self) -> dict[str, str]:
        ended = self.expect("ended")
        assert self.receive() is None
        # the pipe's other end is nobody's any more
        if self._thread:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()
        return ended

    def hang_up(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def wait_output(self, text: bytes) -> None:
        wait_until(lambda: text in self.output, f"{text!r} in {self.output!r}", PATIENCE)


def script(directory: Path, text: str, interpreter: str = "/bin/sh", mode: int = 0o755) -> str:
    path = directory / "program"
    path.write_text(f"#!{interpreter}\n{textwrap.dedent(text)}")
    path.chmod(mode)
    return str(path)


# What the renewal finds around it


def dirty_surroundings() -> None:
    """What a careless parent might hand down."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGINT})
    os.umask(0o077)
    os.chdir("/tmp")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))


DIRTY = {
    "prefix": ["setpriv", "--inh-caps=+net_admin,+sys_admin", "--ambient-caps=+net_admin,+sys_admin", "--"],
    "preexec_fn": dirty_surroundings,
    "env": {**os.environ, "NOTIFY_SOCKET": "/run/nowhere", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x", "LD_LIBRARY_PATH": "/x", "LANG": "de_DE"},
}  # fmt: skip

# chown dac_override dac_read_search fowner fsetid kill setgid setuid net_bind_service sys_chroot audit_write
ROOT_CAPABILITIES = sum(1 << n for n in (0, 1, 2, 3, 4, 5, 6, 7, 10, 18, 29))


def status_of(output: bytes) -> dict[str, str]:
    return dict(re.split(r":\s*", line, maxsplit=1) for line in output.decode().splitlines() if re.match(r"\w+:\s", line))


@pytest.mark.parametrize("user, uid, effective", [("root", 0, ROOT_CAPABILITIES), ("visitor", 6002, 0)])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_privileges_signals_and_limits(directory, user, uid, effective, no_new_privileges):
    more = f"User={user}\n" + ("" if no_new_privileges else "NoNewPrivileges=no\n")
    exec = "/bin/cat /proc/self/status /proc/self/limits /proc/self/stat /proc/self/cgroup"
    with Helper(directory, exec, more, **DIRTY) as helper:
        ready = helper.go()
        assert helper.finish()["status"] == "0"
    text = helper.output.decode()
    status = status_of(helper.output)
    assert status["Uid"].split() == [str(uid)] * 4
    assert status["Gid"].split() == [str(uid)] * 4
    assert status["Groups"].split() == [str(group) for group in sorted(os.getgrouplist(user, uid))]
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == effective
    assert int(status["CapBnd"], 16) == ROOT_CAPABILITIES
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == ("1" if no_new_privileges else "0")
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) == int(status["SigCgt"], 16) == 0
    assert status["Umask"] == "0022"
    assert re.search(r"^Max core file size +0 +0 ", text, re.M)
    assert re.search(r"^Max open files +1024 +4096 ", text, re.M)
    # pid (comm) state ppid pgrp session: leader of a session of its own
    pid, pgrp, session = re.search(r"^(\d+) \(cat\) \S \d+ (\d+) (\d+) ", text, re.M).groups()
    assert pid == pgrp == session
    if ready["cgroup"]:
        assert f"\n0::{ready['cgroup']}\n" in text


def test_nothing_that_posternd_has_is_handed_down(directory):
    leak = os.open("/etc/passwd", os.O_RDONLY)
    with Helper(directory, "/bin/ls -l /proc/self/fd /proc/self/cwd", pass_fds=[leak], **DIRTY) as helper:
        helper.go()
        helper.finish()
    os.close(leak)
    found = dict(re.findall(r"(\S+) -> (.*)$", helper.output.decode(), re.M))
    assert found.pop("/proc/self/cwd") == "/"
    assert found.pop("3").startswith("/proc/")  # the listing itself
    assert found.pop("0") == "/dev/null"
    assert found.pop("1") == found.pop("2") and not found


@pytest.mark.parametrize("user, home", [("root", "/root"), ("visitor", "/nonexistent")])
def test_the_environment_is_ours_alone(directory, user, home):
    more = f"User={user}\nEnvironment=EAB=a b=c\nEnvironment=LANG=en_GB.UTF-8\n"
    with Helper(directory, "/usr/bin/env --null", more, **DIRTY) as helper:
        assert helper.run()["status"] == "0"
    lines = helper.output.decode().rstrip("\0").split("\0")
    assert sorted(lines) == sorted(
        [
            "EAB=a b=c",
            f"HOME={home}",
            "LANG=en_GB.UTF-8",
            f"LOGNAME={user}",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"POSTERN_DEADLINE={DEADLINE}",
            "POSTERN_PROFILE=web",
            f"POSTERN_WINDOW={WINDOW}",
            f"SHELL={pwd.getpwnam(user).pw_shell}",
            f"USER={user}",
        ]
    )


def test_a_program_may_open_its_standard_output_anew(directory):
    with Helper(directory, script(directory, "echo out >/dev/stdout; echo err >/dev/stderr"), "User=visitor") as helper:
        assert helper.run()["status"] == "0"
    assert helper.output == b"out\nerr\n"


@pytest.mark.parametrize("code, status", [("exit 0", "0"), ("exit 255", "255"), ("kill -KILL $$", "137")])
def test_status(directory, prefix, code, status):
    with Helper(directory, script(directory, code), prefix=prefix) as helper:
        assert helper.run()["status"] == status


# Nothing is left

# grandchildren in sessions of their own, deaf to SIGTERM, whose parents are gone; then `then` happens
TREE = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for n in range({children}):
        if os.fork() == 0:
            os.setsid()
            if n % 2 == 0 and os.fork() > 0:
                os._exit(0)
            os.setsid() if n % 2 == 0 else None
            os.write(1, b"x")
            time.sleep(1000)
    {then}
"""


@pytest.mark.parametrize("user", ["root", "visitor"])
@pytest.mark.parametrize("children", [4, 200])
@pytest.mark.parametrize("end", ["exit", "hang-up", "term", "close"])
def test_the_whole_tree_is_gone(directory, prefix, user, children, end):
    then = "sys.exit(3)" if end == "exit" else "time.sleep(1000)"
    program = script(directory, TREE.format(children=children, then=then), "/usr/bin/python3")
    before = set(processes())
    with Helper(directory, program, f"User={user}", prefix=prefix) as helper:
        helper.go()
        if end != "exit":
            wait_until(lambda: len(helper.output) == children, "all of them", PATIENCE)
        if end == "hang-up":
            helper.hang_up()
        elif end == "term":
            helper.popen.send_signal(signal.SIGTERM)
        elif end == "close":
            helper.socket.close()
            helper.popen.wait(PATIENCE)
        if end != "close":
            assert helper.finish()["status"] == ("3" if end == "exit" else "137")
        # now, not soon
        assert set(processes()) - before <= {helper.popen.pid}


# each says how many SIGTERMs it got; the main process waits for the child's last word
POLITE = """
    import os, signal, time
    child = os.fork()
    count = 0
    def end(*_):
        global count
        count += 1
        if count == 1:
            child and os.wait()
            time.sleep(0.05)
            os.write(1, b"%s %d\\n" % (b"main" if child else b"child", count))
            os._exit(7)
    signal.signal(signal.SIGTERM, end)
    os.write(1, b"up\\n")
    while True:
        time.sleep(1000)
"""


def test_who_listens_to_sigterm_may_say_goodbye(directory, prefix):
    with Helper(directory, script(directory, POLITE, "/usr/bin/python3"), prefix=prefix) as helper:
        helper.go()
        wait_until(lambda: helper.output == b"up\nup\n", "both", PATIENCE)
        helper.hang_up()
        assert helper.finish()["status"] == "7"
    assert helper.output == b"up\nup\nchild 1\nmain 1\n"


def test_who_left_the_cgroup_does_not_escape(directory):
    """Root may move itself; the helper is still the one that orphans come to."""
    program = script(
        directory,
        f"""
        import os, time
        if os.fork() == 0:
            open("{own_cgroup()}/cgroup.procs", "w").write("0")
            print("out", flush=True)
        time.sleep(1000)
        """,
        "/usr/bin/python3",
    )
    with Helper(directory, program) as helper:
        helper.go()
        helper.wait_output(b"out\n")
        helper.hang_up()
        helper.finish()


def test_the_renewal_dies_with_a_killed_helper(directory, prefix):
    """The rest of the tree is the broker's to end, see test-runner."""
    with Helper(directory, "/bin/sleep 1000", prefix=prefix) as helper:
        ready = helper.go()
        wait_until(lambda: "/bin/sleep 1000" in processes().values(), "the renewal")
        helper.popen.kill()
        wait_until(lambda: "/bin/sleep 1000" not in processes().values(), "its end")
        helper.status = -signal.SIGKILL
    if ready["cgroup"]:
        left = Path(mount() + ready["cgroup"])
        wait_until(lambda: "populated 0" in (left / "cgroup.events").read_text(), "an empty cgroup")
        left.rmdir()


@pytest.mark.parametrize("end", ["hang-up", "close", "term"])
def test_before_go(directory, prefix, end):
    with Helper(directory, "/bin/touch %s/ran" % directory, prefix=prefix) as helper:
        helper.renew()
        ready = helper.expect("ready")
        assert bool(ready["cgroup"]) == (prefix == [])
        assert ready["cgroup"] == "" or ready["cgroup"].endswith(f"/postern-{WINDOW}")
        if end == "hang-up":
            helper.hang_up()
        elif end == "close":
            helper.socket.close()
        else:
            helper.popen.terminate()
        assert helper.popen.wait(PATIENCE) == 0
        if end != "close":
            assert helper.receive() is None
    assert not (directory / "ran").exists()


def test_what_an_earlier_helper_left_is_ended(directory):
    with Helper(directory, "/bin/true") as helper:
        helper.renew()
        cgroup = helper.expect("ready")["cgroup"]
    stale = Path(mount() + cgroup)
    (stale / "below").mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "1000"]) as sleeper:
        (stale / "below/cgroup.procs").write_text(str(sleeper.pid))
        with Helper(directory, "/bin/true") as helper:
            assert helper.run()["status"] == "0"
        assert sleeper.wait(PATIENCE) == -signal.SIGKILL
    assert not stale.exists()


@pytest.mark.parametrize("how", ["mount -o remount,bind,ro", "mount -t tmpfs none"])
def test_a_cgroup2_that_cannot_be_used_is_done_without(directory, how):
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{how} {mount()}; exec "$@"', "sh"]
    with Helper(directory, "/bin/true", prefix=prefix) as helper:
        assert helper.go()["cgroup"] == ""
        assert helper.finish()["status"] == "0"


def test_a_flood_that_nobody_reads_does_not_hold_the_end_up(directory, prefix):
    with Helper(directory, "/usr/bin/yes", prefix=prefix, read=False) as helper:
        helper.go()
        helper.hang_up()
        assert helper.finish()["status"] == "143"


def test_output_comes_whole(directory):
    with Helper(directory, "/usr/bin/head -c 20000000 /dev/zero") as helper:
        assert helper.run()["status"] == "0"
    assert len(helper.output) == 20000000


# Refusals


def test_a_profile_that_was_changed_meanwhile(directory):
    with Helper(directory, "/bin/true") as helper:
        version = helper.version()
        helper.profile.write_text(helper.profile.read_text().replace("/bin/true", "/bin/false"))
        helper.renew(version=version)
        assert "ask again" in helper.expect("refused")["problem"]
        assert helper.receive() is None


@pytest.mark.parametrize(
    "more, word",
    [
        ("User=nosuchuser", "nosuchuser"),
        ("User=4294967294", "4294967294"),
        ("User=_postern", "posternd"),
        ("User=6003", "posternd"),
        ("Nonsense=1", "Nonsense"),
    ],
)
def test_a_profile_that_cannot_be_run(directory, more, word):
    with Helper(directory, "/bin/true", more) as helper:
        helper.renew()
        assert word in helper.expect("refused")["problem"]
        assert helper.receive() is None


def test_a_profile_that_is_not_there_or_not_safe(directory):
    with Helper(directory, "/bin/true") as helper:
        helper.renew(profile="other")
        assert "other" in helper.expect("refused")["problem"]
    with Helper(directory, "/bin/true") as helper:
        helper.profile.chmod(0o666)
        helper.renew()
        assert "web.conf" in helper.expect("refused")["problem"]


@pytest.mark.parametrize("verb", ["gate-open", "gate-close"])
def test_verbs_of_a_later_version(directory, verb):
    with Helper(directory, "/bin/true") as helper:
        helper.send(verb, profile="web", version=helper.version(), window=WINDOW)
        assert "not available in this version" in helper.expect("refused")["problem"]
        assert helper.receive() is None


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda d: f"{d}/missing", ["missing", "does not exist"]),
        (lambda d: script(d, "", mode=0o644), ["program", "executable"]),
        (lambda d: script(d, "", "/bin/nosuchshell"), ["program", "interpreter"]),
        (lambda d: str(d), ["executable"]),
    ],
)
def test_a_program_that_cannot_be_started(directory, prefix, make, words):
    with Helper(directory, make(directory), prefix=prefix) as helper:
        helper.go()
        problem = helper.expect("failed")["problem"]
        assert all(word in problem for word in words), problem
        assert helper.receive() is None


def test_a_renewal_that_does_not_get_into_its_cgroup_is_no_renewal_that_failed(directory):
    """Somebody removes it between `ready` and `go`."""
    with Helper(directory, "/bin/true") as helper:
        helper.renew()
        cgroup = helper.expect("ready")["cgroup"]
        Path(mount() + cgroup).rmdir()
        helper.send("go", deadline=DEADLINE)
        problem = helper.expect("failed")["problem"]
        assert "cgroup" in problem and "may not execute" not in problem


def renew_text(**changed: str) -> str:
    fields = {"profile": "web", "version": "1:2:3:4:5", "window": WINDOW, **changed}
    return "renew\n" + "".join(f"{key}={value}\n" for key, value in fields.items())


@pytest.mark.parametrize(
    "text, fds",
    [
        ("ready\ncgroup=\nlegacy=\n", "p"),
        ("gate-shut\n", "p"),
        ("", "p"),
        ("\n", "p"),
        ("renew", "p"),
        ("renew\n", "p"),
        (renew_text(), ""),
        (renew_text(), "pp"),
        (renew_text(), "p" * 20),
        (renew_text(), "n"),
        (renew_text(), "s"),
        (renew_text(verb="x"), "p"),
        (renew_text() + "window=w1\n", "p"),
        (renew_text() + "window", "p"),
        (renew_text() + "=\n", "p"),
        (renew_text(window=""), "p"),
        (renew_text(window="../w1"), "p"),
        (renew_text(window="w" * 40), "p"),
        (renew_text(profile="\x1b[2J"), "p"),
        (renew_text(profile="a\0b"), "p"),
        (renew_text(profile="x" * 4096), "p"),
        (renew_text(**{f"k{c}": "" for c in "abcdefgh"}), "p"),
    ],
)
def test_packets_that_the_broker_does_not_send(directory, text, fds):
    null = os.open("/dev/null", os.O_WRONLY)
    with Helper(directory, f"/bin/touch {directory}/ran") as helper:
        kinds = {"p": helper._pipe_write, "n": null, "s": helper.socket.fileno()}
        helper.send_raw(text, [kinds[letter] for letter in fds])
        helper.close_output()
        assert helper.receive() is None
        helper.status = 1 if text else 0
    os.close(null)
    assert not (directory / "ran").exists()
    assert len(helper.log.read_bytes()) < 2048


@pytest.mark.parametrize(
    "text",
    ["go\n", "go\ndeadline=\n", "go\ndeadline=-1\n", "go\ndeadline=1 \n", "go\ndeadline=99999999999999999999\n",
     "go\ndeadline=1\nmore=1\n", "stop\n", renew_text()],
)  # fmt: skip
def test_what_is_not_go(directory, prefix, text):
    with Helper(directory, f"/bin/touch {directory}/ran", prefix=prefix) as helper:
        helper.renew()
        helper.expect("ready")
        helper.send_raw(text)
        assert helper.receive() is None
        helper.status = 1
    assert not (directory / "ran").exists()


def test_a_broker_that_talks_on_has_lost_its_mind(directory):
    with Helper(directory, "/bin/sleep 1000") as helper:
        helper.go()
        helper.send("go", deadline=DEADLINE)
        assert helper.expect("ended")["status"] == "143"


# Certificates


def certificate(path: Path, serial: str, days: int) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x", "-set_serial", serial, "-days", str(days), "-out", str(path)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def not_after(path: Path) -> str:
    text = subprocess.run(["openssl", "x509", "-in", str(path), "-noout", "-enddate"], check=True, capture_output=True)
    end = text.stdout.decode().strip().partition("=")[2]
    return subprocess.run(["date", "-d", end, "+%s"], check=True, capture_output=True).stdout.decode().strip()


def test_the_certificate_before_and_after(directory):
    live = directory / "live"
    live.mkdir()
    for name, serial, days in (("1", "0x1234abcdef", 10), ("2", "0xfe00000000000000000001", 90)):
        certificate(directory / name, serial, days)
    # as certbot lays it out; with the chain behind
    (directory / "2").write_text((directory / "2").read_text() + (directory / "1").read_text())
    (live / "fullchain.pem").symlink_to("../1")
    exec = f"/bin/ln -sf ../2 {live}/fullchain.pem"
    with Helper(directory, exec, head=f"Certificate={live}/fullchain.pem") as helper:
        ended = helper.run()
    assert ended == {
        "status": "0",
        "serial_before": "1234abcdef",
        "not_after_before": not_after(directory / "1"),
        "serial_after": ended["serial_after"],
        "not_after_after": not_after(directory / "2"),
    }
    assert ended["serial_after"].lstrip("0") == "fe00000000000000000001"


def test_what_is_no_certificate(directory):
    path = directory / "c.pem"

    def fifo() -> None:
        os.mkfifo(path)

    makers = [
        lambda: None,
        fifo,
        path.mkdir,
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"\0" * 200000),
        lambda: path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ]
    for make in makers:
        make()
        with Helper(directory, "/bin/true", head=f"Certificate={path}") as helper:
            ended = helper.run()
        assert ended == {"status": "0", "serial_before": "", "not_after_before": "0", "serial_after": "", "not_after_after": "0"}
        if path.is_symlink() or path.exists():
            path.rmdir() if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()


# The command line


def test_command_line():
    def call(*arguments: str, **more) -> subprocess.CompletedProcess:
        return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=PATIENCE, **more)

    assert re.fullmatch(r"postern-run \d+\.\d+\.\d+\n", call("--version").stdout)
    assert "--config-dir=" in call("--help").stdout
    assert call("--nonsense").returncode == call("more").returncode == 2
    nowhere = call(stdin=subprocess.DEVNULL)
    assert nowhere.returncode == 2 and "socket" in nowhere.stderr
    left, right = socket.socketpair()
    with left, right:
        assert call(stdin=right).returncode == 2


def test_nothing_is_asked():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with right:
        left.close()
        assert subprocess.run([str(BINARY)], stdin=right, timeout=PATIENCE).returncode == 0
