# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount whose file system answers nothing, as one of a server that is down: a look at it does not come back
before it is unmounted."""

import ctypes
import os

from process import new_directory, run

_libc = ctypes.CDLL(None, use_errno=True)


class DeadMount:
    """Inside the context `path` is one: FUSE, whose program never reads a question."""

    def __enter__(self):
        self.path = new_directory("dead")
        self._fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0"
        if _libc.mount(b"dead", str(self.path).encode(), b"fuse", 0, options.encode()) != 0:
            error = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(error, "mount")
        return self

    def __exit__(self, *_) -> None:
        # before umount looks at it: whoever waits for it is told that it is gone
        os.close(self._fd)
        run(["umount", "--lazy", str(self.path)])
