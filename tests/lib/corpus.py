# SPDX-License-Identifier: GPL-2.0-or-later
"""One host, one posternd, and one ruleset after the other on it, each seen before, during and after a
window on port 80."""

import contextlib
import os
from collections.abc import Iterator, Set
from pathlib import Path

from bus import BusError
from knocks import Knock, Visitors, everything
from process import run
from scene import WINDOW, state
from testbed import Testbed

IPTABLES = {"ip": "iptables-restore", "ip6": "ip6tables-restore"}
PROFILE = """[Renewal]
Exec=/bin/sh -c 'read -r status <{fifo}'
[Window]
Ports={ports}
RateLimit=100/1s
{gate}"""


class Host(Testbed):
    """With visitors and a running posternd."""

    def __init__(self) -> None:
        super().__init__("")

    def __enter__(self):
        super().__enter__()
        with contextlib.ExitStack() as stack:
            stack.push(super().__exit__)
            self._fifo = self.directory / "renewal.fifo"
            os.mkfifo(self._fifo)
            self._devices: list[str] = []
            self.visitors = stack.enter_context(Visitors())
            self.posternd = stack.enter_context(self.daemon())
            self._running = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._running.__exit__(*exception)

    def load(self, path: Path | None = None, *, text: str = "", devices: list[str] | None = None) -> None:
        """Nothing but this, the text first; a file that iptables' programs load says so in its name."""
        for device in self._devices:
            run(["ip", "-n", "host", "link", "delete", device])
        self._devices = []
        for device in devices or []:
            run(["ip", "-n", "host", "link", "add", device, "type", "veth", "peer", f"{device}-far"])
            self._devices.append(device)
        self.net.replace(text)
        if path and path.suffix == ".iptables":
            for part in path.read_text().split("# family: ")[1:]:
                family, _, rules = part.partition("\n")
                run([IPTABLES[family]], input=rules, ns="host")
        elif path:
            # one that includes others names them from where it is
            run(["sh", "-c", 'cd "$1" && nft -f "$2"', "sh", str(path.parent), str(path)], ns="host")
        run(["conntrack", "-F"], ns="host")

    def gate(self, gate: str = "", ports: str = "80/tcp") -> None:
        """What the profile says of the gate."""
        self.profile("web", PROFILE.format(fifo=self._fifo, ports=ports, gate=f"[Gate]\n{gate}\n" if gate else ""))

    def request(self) -> str:
        return self.bus.call("RequestWindow", "stt", "web", 600_000_000, 0, user="deploy")[0]

    def refusal(self) -> BusError:
        """Of a window that must not be opened."""
        try:
            with self.window() as places:
                pass
        except BusError as error:
            return error
        raise AssertionError(f"a window was opened: {places}")

    @contextlib.contextmanager
    def window(self) -> Iterator[str]:
        """Gives what it says of its gate."""
        window = self.request()
        try:
            yield state(self, window, "Gate")
        finally:
            with open(self._fifo, "w") as fifo:
                fifo.write("0\n")
            result, _ = self.bus.call("Wait", interface=WINDOW, path=window)
        assert result == "success"

    def places(self) -> list[str]:
        """Where a window would open, as Check says."""
        return [subject for level, subject, text in self.findings() if level == "ok" and text.startswith("a window opens")]

    def findings(self) -> list[tuple[str, str, str]]:
        return self.bus.call("Check", "s", "web")[0]

    def listing(self) -> str:
        return run(["nft", "list", "ruleset"], ns="host")

    def who_comes_in(self) -> set[Knock]:
        return self.visitors.who_comes_in()


def strangers_at(port: int, *, but: Set[str] = frozenset()) -> set[Knock]:
    """Everybody who knocks there, but those."""
    return {knock for knock in everything() if knock.port == port and knock.visitor not in but}
