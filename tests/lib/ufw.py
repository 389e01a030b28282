# SPDX-License-Identifier: GPL-2.0-or-later
"""ufw in the namespace `host`, on a copy of its files: the machine's own are not touched."""

import contextlib
import re
import shutil
from pathlib import Path

from process import new_directory, run

ETC, DEFAULT = Path("/etc/ufw"), Path("/etc/default/ufw")


class Ufw:
    """Enabled inside the context, with the package's own rules and these; what it is told goes to the
    copy."""

    def __init__(self, *rules: str, incoming: str = "DROP", ipv6: bool = True) -> None:
        # no kernel settings and no modules: those are the machine's
        self._settings = {
            "IPT_SYSCTL": "", "IPT_MODULES": "",
            "DEFAULT_INPUT_POLICY": incoming, "IPV6": "yes" if ipv6 else "no",
        }  # fmt: skip
        self._rules = rules

    def __enter__(self):
        copies = new_directory("ufw")
        text = DEFAULT.read_text()
        for name, value in self._settings.items():
            text = re.sub(rf"(?m)^{name}=.*", f'{name}="{value}"', text)
        (copies / "default").write_text(text)
        shutil.copytree(ETC, copies / "etc")
        with contextlib.ExitStack() as stack:
            for source, target in ((copies / "etc", ETC), (copies / "default", DEFAULT)):
                run(["mount", "--bind", str(source), str(target)])
                stack.callback(run, ["umount", str(target)])
            # before it is enabled, which so finds the files as it writes them itself
            for rule in self._rules:
                self.run(*rule.split())
            self.run("--force", "enable")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    @staticmethod
    def run(*arguments: str) -> str:
        """What it prints; raises when it fails."""
        return run(["ufw", *arguments], ns="host")

    @staticmethod
    def files() -> dict[str, tuple[bytes, int]]:
        """All that it keeps, with the times of their last change."""
        paths = [path for path in [*ETC.rglob("*"), DEFAULT] if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
