# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole Debian with systemd as PID 1, in place of the namespace `host`: the package is installed on it
as on any other, and nothing of the testbed runs in it."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from acme import DOMAIN
from bus import MANAGER, NAME, PATH, Called
from net import DEFAULT_DENY, Net
from process import cgroups, new_directory, own_cgroup, processes, run, wait_until
from terminal import Terminal

BOOT_PATIENCE = 60.0
CA = "/usr/local/share/testbed-ca.pem"
PACKAGE = "/srv/postern.deb"
BUSES = ("dbus-daemon", "dbus-broker")


def prepared() -> Path:
    """What tests/host/prepare has made."""
    try:
        return Path(os.environ["POSTERN_HOST"]).resolve()
    except KeyError:
        raise RuntimeError("POSTERN_HOST names no prepared host: run this with tools/test host") from None


class HostNet(Net):
    """Net whose `host` is the booted one's own namespace, and comes and goes with it."""

    def _make(self) -> None:
        run(["ip", "netns", "add", "internet"])
        run(["ip", "-n", "internet", "link", "set", "lo", "up"])

    def plug(self, leader: int) -> None:
        """The wire into a host that has just booted."""
        run(["ip", "netns", "attach", "host", str(leader)])
        run(["ip", "link", "add", "uplink", "netns", "internet", "type", "veth", "peer", "uplink", "netns", "host"])
        self._addresses()

    def unplug(self) -> None:
        if Path("/run/netns/host").exists():
            # the name; the namespace goes with its last process, and the wire with it
            run(["ip", "netns", "delete", "host"])
        wait_until(lambda: "uplink" not in run(["ip", "-n", "internet", "link"]), "the wire to be gone")


class Host:
    """Inside the context it is installed and runs; boot(), cut_power() and shut_down() are for tests that
    are about that."""

    def __init__(self, net: HostNet, bus: str = "dbus-daemon") -> None:
        self.net, self._bus = net, bus
        self.leader = 0

    def __enter__(self):
        self.directory = new_directory("host")
        self.root = self.directory / "root"
        with contextlib.ExitStack() as stack:
            self._make_root()
            stack.callback(run, ["umount", str(self.root)])
            stack.callback(self.cut_power)
            self.boot()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def _make_root(self) -> None:
        for name in ("root", "upper", "work"):
            (self.directory / name).mkdir()
        run(["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={prepared()}/root,upperdir={self.directory}/upper,workdir={self.directory}/work",
             str(self.root)])  # fmt: skip
        # the root directory's mode is upper's
        self.root.chmod(0o755)
        (package,) = prepared().glob("postern_*.deb")
        shutil.copy(package, self.root / PACKAGE[1:])
        self.write("/etc/nftables.conf", "flush ruleset\n" + DEFAULT_DENY)
        self.write("/etc/hosts", "127.0.0.1 localhost\n")
        self.write("/etc/hostname", "renewed\n")
        system = self.root / "etc/systemd/system"
        unit = {"dbus-daemon": "dbus.service", "dbus-broker": "dbus-broker.service"}[self._bus]
        (system / "dbus.service").unlink(missing_ok=True)
        (system / "dbus.service").symlink_to(f"/lib/systemd/system/{unit}")
        # whose requests a test makes is up to it
        for timer in ("certbot", "apt-daily", "apt-daily-upgrade", "dpkg-db-backup"):
            (system / f"{timer}.timer").symlink_to("/dev/null")
        run(["systemctl", f"--root={self.root}", "enable", "--quiet", "nftables.service"])
        run(["systemctl", f"--root={self.root}", "disable", "--quiet", "nginx.service", "ssh.service", "firewalld.service"])
        for user in ("deploy", "visitor"):
            run(["chroot", str(self.root), "useradd", "--create-home", "--shell", "/bin/sh", user])

    # --- its life ----------------------------------------------------------------------------------

    def boot(self) -> None:
        self._cgroups = set(cgroups())
        notify = self.directory / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(notify))
            receiver.settimeout(BOOT_PATIENCE)
            with open(self.directory / "console.log", "ab") as console:
                self._nspawn = subprocess.Popen(
                    ["systemd-nspawn", "--quiet", "--boot", "--private-network", "--register=no", "--keep-unit",
                     "--notify-ready=yes", "--console=pipe", "--link-journal=no", f"--directory={self.root}",
                     "--machine=renewed"],
                    env={**os.environ, "NOTIFY_SOCKET": str(notify), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                    stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                )  # fmt: skip
            self.leader, ready = 0, False
            while not (self.leader and ready):
                try:
                    lines = receiver.recv(4096).decode().splitlines()
                except TimeoutError:
                    raise AssertionError(f"it does not boot:\n{self.console()}") from None
                ready |= "READY=1" in lines
                for line in lines:
                    if line.startswith("X_NSPAWN_LEADER_PID="):
                        self.leader = int(line.partition("=")[2])
        self.net.plug(self.leader)

    def _gone(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader, signum)
        try:
            self._nspawn.wait(BOOT_PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(self.leader, signal.SIGKILL)
            self._nspawn.wait()
            raise
        finally:
            self.leader = 0
            self.net.unplug()
            # what nspawn made for it, deepest first
            for name in sorted(set(cgroups()) - self._cgroups, reverse=True):
                (own_cgroup() / name).rmdir()

    def cut_power(self) -> None:
        """Everything is gone at once."""
        if self.leader:
            self._gone(signal.SIGKILL)

    def shut_down(self) -> None:
        self._gone(signal.SIGRTMIN + 4)

    def console(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")

    # --- what is done on it ------------------------------------------------------------------------

    def inside(self, *command: str, user: str | None = None) -> list[str]:
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
                 "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]  # fmt: skip
        return [*enter, *(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []), *command]

    @property
    def system_bus(self) -> str:
        """The address of its bus, as seen from out here."""
        return f"unix:path={Path('/proc', str(self.leader), 'root', 'run/dbus/system_bus_socket')}"

    def run(self, *command: str, user: str | None = None) -> str:
        """Standard output; raises with everything it said when it fails."""
        return run(self.inside(*command, user=user))

    def tried(self, *command: str, user: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(self.inside(*command, user=user), capture_output=True, text=True)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def install(self) -> str:
        said = self.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", PACKAGE)
        self.run("usermod", "--append", "--groups", "postern", "deploy")
        return said

    def profile(self, name: str, text: str) -> None:
        self.write(f"/etc/postern/profiles/{name}.conf", text)

    def certbot_profile(self, name: str, acme, *, force: bool, extra: str = "", ports: str = "80/tcp",
                        method: Sequence[str] = ("--standalone",)) -> None:  # fmt: skip
        """Renews DOMAIN at the testbed's authority."""
        shutil.copy(acme.ca, self.root / CA[1:])
        command = ["/usr/bin/certbot", "certonly", *method, "--non-interactive", "--agree-tos",
                   "--register-unsafely-without-email", "--server", "https://203.0.113.80:14000/dir", "-d", DOMAIN,
                   "--force-renewal" if force else "--keep-until-expiring"]  # fmt: skip
        self.profile(name, f"[Profile]\nCertificate=/etc/letsencrypt/live/{DOMAIN}/fullchain.pem\n"
                           f"[Renewal]\nExec={shlex.join(command)}\nEnvironment=REQUESTS_CA_BUNDLE={CA}\n"
                           f"[Window]\nPorts={ports}\n{extra}\n")  # fmt: skip

    def busctl(self, user: str, *arguments: str) -> Called:
        done = self.tried("busctl", "--system", "--timeout=infinity", "--json=short",
                          "--allow-interactive-authorization=no", *arguments, user=user)  # fmt: skip
        data = json.loads(done.stdout)["data"] if done.returncode == 0 and done.stdout.strip() else None
        return Called(done.returncode == 0, data, done.stdout + done.stderr)

    def call(self, user: str, member: str, *arguments: str, path: str = PATH, interface: str = MANAGER) -> Called:
        return self.busctl(user, "call", NAME, path, interface, member, *arguments)

    def renew(self, user: str, profile: str) -> Called:
        return self.call(user, "Renew", "stt", profile, "0", "0")

    def start_renewing(self, user: str, profile: str) -> subprocess.Popen:
        """Renew by a process of its own; its output is text."""
        return subprocess.Popen(
            self.inside("busctl", "--system", "--timeout=infinity", "call", NAME, PATH, MANAGER, "Renew", "stt",
                        profile, "0", "0", user=user),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def session(self, user: str, command: str) -> Terminal:
        """A login of the user's, by PAM and so known to logind, and the command at its terminal."""
        return Terminal(self.inside("TERM=xterm", "su", "--login", user, "--session-command", f"exec {command}"), {})

    def windows(self) -> list[list]:
        called = self.call("root", "ListWindows")
        assert called.ok, called.text
        return called.data[0]

    def wait_window(self, profile: str) -> str:
        """Until one is open: its id."""

        def find() -> str | None:
            for ident, name, _, _, path in self.windows():
                state = self.busctl("root", "get-property", NAME, path, "org.postern.Renewal1.Window", "State")
                if name == profile and state.data == "open":
                    return ident
            return None

        return wait_until(find, f"a window of {profile}")

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def main_pid(self, unit: str = "posternd.service") -> int:
        """As seen from in there; 0: none."""
        return int(self.show(unit, "MainPID"))

    def kill(self, signum: int, pid: int) -> None:
        self.run("kill", f"-{signum}", str(pid))

    def journal(self, *arguments: str) -> list[dict]:
        """What had been said by now: journald reads when it can, and is waited for."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--boot", "--output=json", "--no-pager", *arguments).splitlines()
        return [json.loads(line) for line in lines]

    def messages(self, *arguments: str) -> str:
        return "\n".join(str(entry.get("MESSAGE")) for entry in self.journal(*arguments))

    def matching(self, pattern: Sequence[str] | str) -> dict[int, str]:
        """Processes whose command line has this in it, as seen from out here."""
        return {pid: line for pid, line in processes().items() if pattern in line}

    def is_shut(self) -> bool:
        """No rule and no table of ours, but for the guard that may outlive its broker."""
        ruleset = self.run("nft", "list", "ruleset")
        return "postern:gate" not in ruleset and "table inet postern {" not in ruleset
