# SPDX-License-Identifier: GPL-2.0-or-later
"""A command in a terminal of its own, and somebody who types."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence

from process import PATIENCE


class Terminal:
    """Leaving the context ends the command."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], columns: int = 80) -> None:
        self.text = ""
        self._status: int | None = None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                os.execvpe(arguments[0], list(arguments), {**os.environ, "TERM": "xterm", **environment})
            finally:
                os._exit(127)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def _read(self, until: float) -> bool:
        """False at the end of what it writes."""
        if not select.select([self._fd], [], [], max(0, until - time.monotonic()))[0]:
            raise AssertionError(f"waited in vain; it wrote {self.text!r}")
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has the other end open
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str, patience: float = PATIENCE) -> None:
        until = time.monotonic() + patience
        while text not in self.text:
            assert self._read(until), f"it ended without {text!r}: {self.text!r}"

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def echoes(self) -> bool:
        """Is what is typed shown? Not that of passwords."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit status; all it wrote is in text."""
        until = time.monotonic() + patience
        while self._read(until):
            pass
        self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status
