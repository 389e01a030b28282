# SPDX-License-Identifier: GPL-2.0-or-later
"""The two programs that distributions have as their system bus."""

import contextlib
import os
import shutil
import socket
import threading
from pathlib import Path

from process import Process

JOURNAL = Path("/run/systemd/journal/socket")
# tools/test does that where it is not installed
UNPACKED = Path(__file__).parents[2] / "build-dbus-broker/usr/bin"


class DbusDaemon(Process):
    def __init__(self, configuration: Path, listen: Path) -> None:
        super().__init__(["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"])
        with socket.socket(socket.AF_UNIX) as caller:
            self.wait_ready(lambda: caller.connect_ex(str(listen)) == 0, "its socket")


class DbusBroker(Process):
    """Two processes: the launcher reads the configuration, and its child, the broker, carries the
    messages. They expect a socket from systemd, and a journal; here both are the testbed's."""

    def __init__(self, configuration: Path, listen: Path) -> None:
        self._broker: int | None = None
        with self._journal():
            super().__init__(
                [*self._whereabouts(), "systemd-socket-activate", f"--listen={listen}", "--fdname=dbus.socket",
                 f"--setenv=DBUS_SYSTEM_BUS_ADDRESS=unix:path={listen}",
                 "dbus-broker-launch", "--scope=system", f"--config-file={configuration}"]
            )  # fmt: skip
            # the first to connect starts it
            with socket.socket(socket.AF_UNIX) as caller:
                self.wait_ready(lambda: caller.connect_ex(str(listen)) == 0, "its socket")
                listen.chmod(0o666)
                self.wait_ready(lambda: "\nMESSAGE=Ready\n" in self.records(), "to be ready")
        self._broker = self._child()

    @staticmethod
    def _whereabouts() -> list[str]:
        """The launcher looks for the broker in /usr/bin. Where neither is there, they alone see both there."""
        if shutil.which("dbus-broker-launch"):
            return []
        mount = f"mount -t overlay -o ro,lowerdir={UNPACKED}:/usr/bin overlay /usr/bin"
        return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]

    @contextlib.contextmanager
    def _journal(self):
        """They keep their connections to it. Nobody else is to find it."""
        self._records = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._said = b""
        # they wait for it when they have much to say
        threading.Thread(target=self._listen, daemon=True).start()
        JOURNAL.parent.mkdir(parents=True)
        self._records.bind(str(JOURNAL))
        JOURNAL.chmod(0o666)
        try:
            yield
        finally:
            JOURNAL.unlink()
            os.removedirs(JOURNAL.parent)

    def _listen(self) -> None:
        while record := self._records.recv(65536):
            self._said += record

    def records(self) -> str:
        return self._said.decode(errors="replace")

    def text(self) -> str:
        return super().text() + self.records()

    def _child(self) -> int:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.popen.pid:
                    return int(stat.parent.name)
        raise AssertionError(f"dbus-broker-launch has no child:\n{self.text()}")

    @property
    def pid(self) -> int:
        return self._broker or self.popen.pid

    def signal(self, signum: int) -> None:
        """The broker's; the launcher ends with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def close(self) -> None:
        super().close()
        self._records.shutdown(socket.SHUT_RDWR)


KINDS = {"dbus-daemon": DbusDaemon, "dbus-broker": DbusBroker}
