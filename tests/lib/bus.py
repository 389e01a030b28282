# SPDX-License-Identifier: GPL-2.0-or-later
"""A system bus, a polkit and users of the testbed's own; the programs are the distribution's."""

import contextlib
import json
import os
import pickle
import pwd
import re
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from buses import KINDS
from connections import open_connection
from jeepney import DBusAddress, DBusErrorResponse, MatchRule, MessageFlag, MessageType, new_method_call
from jeepney.bus_messages import message_bus

from process import Process, as_user, new_directory, run

NAME = "org.postern.Renewal1"
PATH = "/org/postern/Renewal1"
MANAGER = "org.postern.Renewal1.Manager"
# where the launch helper looks, whatever the bus is configured to
SERVICES = "/usr/share/dbus-1/system-services"
BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"

# name: (uid, in group postern). Each has a group of its name.
USERS = {"deploy": (6001, True), "visitor": (6002, False), "_postern": (6003, False)}
# a crowd that acts together
GUESTS = [f"guest{number}" for number in range(16)]
USERS.update({guest: (6100 + number, False) for number, guest in enumerate(GUESTS)})
GROUP_ID = 6000


class Users:
    """/etc/passwd and /etc/group with ours added, seen inside the mount namespace alone."""

    def __enter__(self):
        directory = new_directory("users")
        mine = {"postern", *USERS}
        for name in ("passwd", "group"):
            lines = Path("/etc", name).read_text().splitlines()
            lines = [line for line in lines if line.split(":")[0] not in mine]
            for user, (uid, _) in USERS.items():
                lines.append(f"{user}:x:{uid}:{uid}::/nonexistent:/bin/sh" if name == "passwd" else f"{user}:x:{uid}:")
            if name == "group":
                members = ",".join(user for user, (_, is_member) in USERS.items() if is_member)
                lines.append(f"postern:x:{GROUP_ID}:{members}")
            (directory / name).write_text("\n".join(lines) + "\n")
            run(["mount", "--bind", str(directory / name), f"/etc/{name}"])
        return self

    def __exit__(self, *_) -> None:
        for name in ("passwd", "group"):
            run(["umount", f"/etc/{name}"])


def become(user: str) -> None:
    """For good: a process of its own does this."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


@contextlib.contextmanager
def _last_thing_of_child():
    """A forked child runs nothing of pytest's, whatever happens in it."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class BusError(Exception):
    """What a method call was answered with, when that was an error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name, self.text = name, text


class Called(NamedTuple):
    """What busctl said. data: the reply's values; None when it failed, and then text says why."""

    ok: bool
    data: Any
    text: str


class Bus:
    """The system bus with Debian's own configuration, and the policy of what is being tested."""

    def __init__(self, installed: Path | None = None, kind: str = "dbus-daemon", policy: str | None = None) -> None:
        """installed: a DESTDIR; its share/dbus-1/system.d counts. kind: one of KINDS. policy: a file's
        text, which counts in place of that."""
        self._installed, self.kind, self._policy = installed, kind, policy

    def __enter__(self):
        self.directory = new_directory("bus")
        self.socket = self.directory / "socket"
        self.address = f"unix:path={self.socket}"
        self.environment = {"DBUS_SYSTEM_BUS_ADDRESS": self.address}
        (self.directory / "bus.conf").write_text(self._configuration())
        # nothing of the machine's can be started; see activate()
        self._services = new_directory("services")
        run(["mount", "--bind", str(self._services), SERVICES])
        self._server = KINDS[self.kind](self.directory / "bus.conf", self.socket)
        # people run busctl and postern by hand in a testbed too
        os.environ.update(self.environment)
        return self

    def __exit__(self, *_) -> None:
        os.environ.pop("DBUS_SYSTEM_BUS_ADDRESS", None)
        self._server.close()
        run(["umount", SERVICES])

    def _configuration(self) -> str:
        text = Path("/usr/share/dbus-1/system.conf").read_text()
        # nothing of the machine's is overwritten
        text = re.sub(r"<(fork|syslog|standard_system_servicedirs)/>", "", text)
        text = re.sub(r"<(pidfile|listen)>.*?</\1>", "", text)
        text = re.sub(r'<include(dir)?(?: [^>]*)?>(?!/)[^<]*</include(dir)?>', "", text)
        extra = f"<listen>{self.address}</listen><includedir>/usr/share/dbus-1/system.d</includedir>"
        extra += f"<servicedir>{SERVICES}</servicedir>"
        if self._policy:
            (self.directory / "policy.conf").write_text(self._policy)
            extra += f"<include>{self.directory}/policy.conf</include>"
        elif self._installed:
            extra += f"<includedir>{self._installed}/usr/share/dbus-1/system.d</includedir>"
        return text.replace("</busconfig>", f"{extra}</busconfig>")

    @property
    def pid(self) -> int:
        """Of what carries the messages."""
        return self._server.pid

    def stop(self) -> None:
        self._server.stop()

    def cont(self) -> None:
        self._server.cont()

    def kill9(self) -> None:
        self._server.kill9()

    def text(self) -> str:
        return self._server.text()

    def activate(self, command: Path, name: str = NAME) -> None:
        """From now on the bus starts `command` as root when somebody calls us, or that name. Of dbus-daemon:
        the other one asks systemd to."""
        service = self._services / f"{name}.service"
        service.write_text(f"[D-BUS Service]\nName={name}\nExec={command}\nUser=root\n")
        self.call("ReloadConfig", destination=BUS, path=BUS_PATH, interface=BUS)

    # --- calls -----------------------------------------------------------------------------------

    def connect(self):
        """A jeepney connection as root."""
        return open_connection(self.address)

    def owner(self, name: str = NAME) -> str | None:
        return self._ask(message_bus.GetNameOwner(name))

    def owner_pid(self, name: str = NAME) -> int | None:
        return self._ask(message_bus.GetConnectionUnixProcessID(name))

    def _ask(self, question) -> Any:
        """What the bus itself answers; None when that is an error."""
        with self.connect() as connection:
            reply = connection.send_and_get_reply(question)
            return reply.body[0] if reply.header.message_type is MessageType.method_return else None

    def call(
        self,
        member: str,
        signature: str = "",
        *arguments: Any,
        user: str = "root",
        interface: str = MANAGER,
        path: str = PATH,
        destination: str = NAME,
        interactive: bool = False,
        timeout: float = 60,
    ) -> tuple:
        """Calls as `user`, from a process of its own. The reply's values; a BusError when it is one
        (busctl hides the error's name)."""

        def ask() -> tuple:
            with open_connection(self.address) as connection:
                address = DBusAddress(path, bus_name=destination, interface=interface)
                message = new_method_call(address, member, signature or None, arguments)
                if interactive:
                    message.header.flags |= MessageFlag.allow_interactive_authorization
                reply = connection.send_and_get_reply(message, timeout=timeout)
                if reply.header.message_type.name == "error":
                    raise DBusErrorResponse(reply)
                return reply.body

        return self.do_as(user, ask)

    def get(self, path: str, interface: str, name: str, **options) -> Any:
        """A property's value."""
        arguments = dict(interface="org.freedesktop.DBus.Properties", path=path, **options)
        return self.call("Get", "ss", interface, name, **arguments)[0][1]

    @staticmethod
    def do_as(user: str, action: Callable[[], Any]) -> Any:
        """What it gives when a process of `user` does it; a BusError when it is answered with one."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _last_thing_of_child():
                become(user)
                try:
                    answer = ("reply", action())
                except DBusErrorResponse as error:
                    answer = ("error", (error.name, str(error.data[0]) if error.data else ""))
                except Exception as problem:
                    answer = ("exception", repr(problem))
                with os.fdopen(write_end, "wb") as stream:
                    pickle.dump(answer, stream)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as stream:
            data = stream.read()
        os.waitpid(pid, 0)
        kind, value = pickle.loads(data) if data else ("exception", "the caller died")
        if kind == "error":
            raise BusError(*value)
        if kind == "exception":
            raise AssertionError(f"as {user}: {value}")
        return value

    @contextlib.contextmanager
    def holder(self, user: str):
        """A process of `user` that is connected and does nothing: its unique name."""
        name_read, name_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _last_thing_of_child():
                become(user)
                with open_connection(self.address) as connection:
                    os.write(name_write, connection.unique_name.encode())
                    os.close(name_write)
                    signal.pause()
        os.close(name_write)
        try:
            with os.fdopen(name_read) as stream:
                yield stream.read()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    @staticmethod
    def busctl_command(*arguments: str) -> list[str]:
        return ["busctl", "--timeout=infinity", "--json=short", *arguments]

    def busctl(self, user: str, *arguments: str) -> Called:
        """What a person types: busctl ARGUMENTS as user."""
        done = subprocess.run(
            [*as_user(user), *self.busctl_command(*arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            return Called(False, None, done.stderr.strip())
        return Called(True, json.loads(done.stdout)["data"] if done.stdout.strip() else [], done.stderr.strip())

    def busctl_start(self, user: str, *arguments: str) -> Process:
        """The same in the background, for callers that will be killed."""
        return Process(self.busctl_command(*arguments), user=user, environment=self.environment)


class Polkit:
    """polkitd with the distribution's actions and rules, those of what is being tested, and no
    local ones but the test's."""

    def __init__(self, bus: Bus, installed: Path | None = None) -> None:
        self._bus, self._installed = bus, installed

    def __enter__(self):
        self.directory = new_directory("polkit")
        (self.directory / "etc/rules.d").mkdir(parents=True)
        shutil.copytree("/usr/share/polkit-1", self.directory / "share")
        # a Postern that the machine itself has is not the one being tested
        for kind in ("actions", "rules.d"):
            for other in (self.directory / "share" / kind).glob("*postern*"):
                other.unlink()
        if self._installed and (self._installed / "usr/share/polkit-1").exists():
            shutil.copytree(self._installed / "usr/share/polkit-1", self.directory / "share", dirs_exist_ok=True)
        run(["mount", "--bind", str(self.directory / "share"), "/usr/share/polkit-1"])
        run(["mount", "--bind", str(self.directory / "etc"), "/etc/polkit-1"])
        self.start()
        return self

    def __exit__(self, *_) -> None:
        # what is refused for want of it looks like a no of its own
        if not self._process.alive() and self._process.popen.returncode != -signal.SIGKILL:
            print(f"polkitd had ended by itself with {self._process.popen.returncode}")
        self._process.close()
        for path in ("/etc/polkit-1", "/usr/share/polkit-1"):
            run(["umount", path])

    def start(self) -> None:
        self._process = Process(["/usr/lib/polkit-1/polkitd"], environment=self._bus.environment)
        self._process.wait_ready(lambda: self._bus.owner("org.freedesktop.PolicyKit1"), "its bus name")

    def stop(self) -> None:
        self._process.stop()

    def cont(self) -> None:
        self._process.cont()

    def kill9(self) -> None:
        self._process.kill9()

    def add_rule(self, javascript: str, name: str = "10-test") -> None:
        """Returns when polkitd has read it."""
        with self._reread():
            # it looks at names that end in .rules as they appear: they must appear complete
            partial = self.directory / "etc/rules.d" / f"{name}.partial"
            partial.write_text(javascript)
            partial.rename(partial.with_suffix(".rules"))

    def remove_rule(self, name: str = "10-test") -> None:
        with self._reread():
            (self.directory / "etc/rules.d" / f"{name}.rules").unlink()

    @contextlib.contextmanager
    def _reread(self):
        changed = MatchRule(
            type="signal",
            interface="org.freedesktop.PolicyKit1.Authority",
            member="Changed",
            path="/org/freedesktop/PolicyKit1/Authority",
        )
        with self._bus.connect() as connection:
            connection.send_and_get_reply(message_bus.AddMatch(changed))
            with connection.filter(changed) as queue:
                yield
                connection.recv_until_filtered(queue, timeout=20)
