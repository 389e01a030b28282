#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command where nothing that it starts or makes can outlive it or reach the machine.

    isolate.py NAME COMMAND [ARGUMENT...]

Mount, PID and network namespaces of its own, a tmpfs over /run (so: an own /run/netns, no way to the
machine's system bus, and temporary files that go with the namespace), and a cgroup of its own where
cgroup2 can be written to. Four layers, each of which ends all below it when it dies, of whatever:

    isolate.py ──▶ unshare ──▶ init (PID 1 of the namespace) ──▶ COMMAND
        └──▶ janitor, which removes the cgroup, the one thing that the kernel would keep

Exit status: the command's.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 10  # what the command has for its own farewell after Ctrl-C


def die_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(128 + signum)


def own_cgroup() -> Path | None:
    """The cgroup2 directory of this process, or None where there is none to write to."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mount = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    path = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")),
        None,
    )
    if mount is None or path is None:
        return None
    directory = Path(mount + path)
    return directory if os.access(directory / "cgroup.procs", os.W_OK) else None


def make_cgroup(name: str) -> Path | None:
    parent = own_cgroup()
    if parent is None:
        return None
    try:
        (parent / name).mkdir()
    except OSError:
        return None
    return parent / name


def remove_cgroup(cgroup: Path | None, patience: float = 10) -> None:
    """Kills what is in it and removes it, deepest first. A killed process leaves a moment later."""
    if cgroup is None:
        return
    until = time.monotonic() + patience
    while cgroup.exists() and time.monotonic() < until:
        try:
            if (cgroup / "cgroup.kill").exists():
                (cgroup / "cgroup.kill").write_text("1")
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)
        except OSError:
            time.sleep(0.02)


def start_janitor(cgroup: Path | None) -> tuple[int, int]:
    """Removes the cgroup also when isolate.py is killed. It waits at a pipe that only we hold."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()  # Ctrl-C is not for it
        os.close(write_end)
        # who reads our output to its end must not wait for the janitor
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.read(read_end, 1)
        remove_cgroup(cgroup)
        os._exit(0)
    os.close(read_end)
    return pid, write_end


def outside(name: str, command: list[str]) -> int:
    # a script that is killed cannot end us otherwise
    die_with_parent(os.getppid(), signal.SIGTERM)
    cgroup = make_cgroup(f"{name}-{os.getpid()}")
    janitor, leash = start_janitor(cgroup)
    me = os.getpid()

    def before_exec() -> None:
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        die_with_parent(me)

    # blocked until there is a child to pass them on to
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    child = subprocess.Popen(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation", "private", "/usr/bin/python3", __file__, "--inside", *command],
        preexec_fn=lambda: (before_exec(), signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)),
    )  # fmt: skip
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(signum, lambda *_: child.kill())
    # the terminal sends Ctrl-C to the command as well
    signal.signal(signal.SIGINT, lambda *_: signal.alarm(GRACE_SECONDS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)

    status = child.wait()
    os.close(leash)
    os.waitpid(janitor, 0)
    remove_cgroup(cgroup)  # the janitor may have been killed
    return status if status >= 0 else 128 - status


def inside(command: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for arguments in (
        ["mount", "-t", "tmpfs", "-o", "mode=755", "postern-testbed", "/run"],
        ["mkdir", "-p", "/run/netns", "/run/lock", "/run/testbed/tmp"],
        # a mount of its own, as `ip netns add` would otherwise make it
        ["mount", "--bind", "/run/netns", "/run/netns"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(arguments, check=True)
    environment = dict(
        os.environ,
        POSTERN_TESTBED="/run/testbed",
        TMPDIR="/run/testbed/tmp",
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        LC_ALL="C.UTF-8",
        PYTHONDONTWRITEBYTECODE="1",
    )
    # the machine's buses are out of reach; their addresses would only mislead
    for name in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "JOURNAL_STREAM"):
        environment.pop(name, None)
    child = subprocess.Popen(
        command,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] == "--inside":
        if os.getpid() != 1:
            print("isolate.py: --inside is for its own use", file=sys.stderr)
            return 2
        return inside(sys.argv[2:])
    return outside(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
