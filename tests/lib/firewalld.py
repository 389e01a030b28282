# SPDX-License-Identifier: GPL-2.0-or-later
"""firewalld in the namespace `host`, on the testbed's bus and on a copy of its files: the machine's own
are not touched."""

import shutil
from pathlib import Path

from process import Process, new_directory, now, run

ETC = Path("/etc/firewalld")
NAME = "org.fedoraproject.FirewallD1"
PATH = "/org/fedoraproject/FirewallD1"


class Firewalld:
    """Runs inside the context."""

    def __init__(self, testbed, **settings: str) -> None:
        """settings: of firewalld.conf, such as CleanupOnExit="no"."""
        self._testbed, self._settings = testbed, settings

    def __enter__(self):
        self.etc = new_directory("firewalld") / "etc"
        shutil.copytree(ETC, self.etc)
        configuration = self.etc / "firewalld.conf"
        lines = configuration.read_text().splitlines()
        for name, value in self._settings.items():
            lines = [line for line in lines if not line.startswith(f"{name}=")] + [f"{name}={value}"]
        configuration.write_text("\n".join(lines) + "\n")
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._process.close()

    def start(self) -> None:
        """Returns when it answers."""
        self._process = Process(
            ["firewalld", "--nofork", "--nopid", "--log-target=console", f"--system-config={self.etc}"],
            ns="host",
            environment=self._testbed.bus.environment,
            output=self._testbed.directory / f"firewalld-{now()}.log",
        )
        self._process.wait_ready(lambda: self._testbed.bus.owner(NAME), "its bus name")
        assert self.command("--state") == "running"

    def end(self) -> None:
        self._process.close()

    def kill9(self) -> None:
        self._process.kill9()

    def stop(self) -> None:
        self._process.stop()

    def cont(self) -> None:
        self._process.cont()

    def text(self) -> str:
        return self._process.text()

    def command(self, *arguments: str) -> str:
        """What firewall-cmd prints; raises when it fails."""
        return run(["firewall-cmd", *arguments]).strip()

    def ports(self, zone: str = "public") -> list[str]:
        """What is open by port there, at run time."""
        return sorted(self.command(f"--zone={zone}", "--list-ports").split())

    def files(self) -> dict[str, bytes]:
        """All that it keeps."""
        return {str(path): path.read_bytes() for path in self.etc.rglob("*") if path.is_file()}
