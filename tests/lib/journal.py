# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal: the socket that journald has for records, read by a thread as fast as they come."""

import socket
import threading
from pathlib import Path

DIRECTORY = Path("/run/systemd/journal")

# In front of a daemon's command: its stderr, which is a file, counts as the stream that systemd named.
# The quarantine is smaller than it could be, so that memory tells what is held and not what was freed.
THROUGH = ("sh", "-c",
           'JOURNAL_STREAM=$(stat --dereference --format=%d:%i /dev/stderr)'
           ' ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=8:thread_local_quarantine_size_kb=64 exec "$@"', "sh")  # fmt: skip


class Journal:
    """records: what posternd sent, as bytes; all of it once this has ended."""

    def __enter__(self):
        DIRECTORY.mkdir(parents=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(DIRECTORY / "socket"))
        self.records: list[bytes] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def _read(self) -> None:
        while data := self._socket.recv(1 << 18):
            if b"SYSLOG_IDENTIFIER=posternd\n" in data:
                self.records.append(data)

    def fields(self) -> list[dict[str, str]]:
        """The same as text by name."""
        return [dict(line.split("=", 1) for line in record.decode().splitlines()) for record in self.records]

    def __exit__(self, *_) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(DIRECTORY / "socket"))
        self._thread.join()
        self._socket.close()
        (DIRECTORY / "socket").unlink()
        DIRECTORY.rmdir()
        if not any(DIRECTORY.parent.iterdir()):
            DIRECTORY.parent.rmdir()
