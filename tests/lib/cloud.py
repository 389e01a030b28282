# SPDX-License-Identifier: GPL-2.0-or-later
"""A firewall elsewhere: on the wire between `internet` and the host, where this host's rules have no say.
It is driven as such a thing is, by a program that asks for a change and is told what came of it."""

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

from net import HOST4, HOST6, OFFICE4, OFFICE6
from process import new_directory, now, run

RULES = f"""
table netdev cloud {{
    set open {{ type inet_proto . inet_service; }}
    chain egress {{
        type filter hook egress device uplink priority 0; policy accept;
        ip saddr {OFFICE4} accept
        ip6 saddr {OFFICE6} accept
        ip daddr {HOST4} meta l4proto . th dport @open accept
        ip6 daddr {HOST6} meta l4proto . th dport @open accept
        ip daddr {HOST4} meta l4proto {{ tcp, udp }} th dport {{ 80, 443, 8080 }} drop
        ip6 daddr {HOST6} meta l4proto {{ tcp, udp }} th dport {{ 80, 443, 8080 }} drop
    }}
}}
"""

# What a profile names as OpenCommand= and CloseCommand=.
SCRIPT = """#!/usr/bin/python3 -I
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as cloud:
    cloud.connect("{socket}")
    cloud.sendall(json.dumps([sys.argv[1], dict(os.environ)]).encode() + b"\\n")
    answer = cloud.makefile().readline().strip()
print("the cloud says", answer, flush=True)
sys.exit(answer != "done")
"""


class Call:
    """One that the script has made: `verb`, its environment, when (ns)."""

    def __init__(self, verb: str, environment: dict[str, str], ruleset: str) -> None:
        self.verb, self.environment, self.at = verb, environment, now()
        self.ruleset = ruleset  # the host's, in that moment
        self.done = False

    @property
    def ports(self) -> list[str]:
        return self.environment["POSTERN_PORTS"].split()


class Cloud:
    """Inside the context it is there, and shut. broken: verbs that it refuses; half: does, and says that it
    did not; an Event in `hold` keeps a verb waiting."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.broken: set[str] = set()
        self.half: set[str] = set()
        self.hold: dict[str, threading.Event] = {}

    def __enter__(self):
        directory = new_directory("cloud")
        self._path = directory / "socket"
        self.script = directory / "cloud-firewall"
        self.script.write_text(SCRIPT.format(socket=self._path))
        self.script.chmod(0o755)
        run(["nft", "-f", "-"], input=RULES, ns="internet")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        os.chmod(self._path, 0o666)
        self._listener.listen()
        self._answers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        for event in self.hold.values():
            event.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread in self._answers:
            thread.join()
        self._listener.close()
        run(["nft", "delete", "table", "netdev", "cloud"], ns="internet")

    def gate(self) -> str:
        """A profile's [Gate]."""
        return f"[Gate]\nType=command\nOpenCommand={self.script} open\nCloseCommand={self.script} close\n"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
            self._answers.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            line = connection.makefile().readline()
            if not line:
                return
            call = Call(*json.loads(line), ruleset=run(["nft", "list", "ruleset"], ns="host"))
            self.calls.append(call)
            if call.verb in self.hold:
                self.hold[call.verb].wait()
            if call.verb not in self.broken:
                self.change(call.verb, call.ports)
                call.done = call.verb not in self.half
            try:
                connection.sendall(b"done\n" if call.done else b"no\n")
            except OSError:  # it did not wait
                pass

    def change(self, verb: str, ports: list[str]) -> None:
        """As somebody might by hand. Either may be done twice."""
        elements = ", ".join("{1} . {0}".format(*port.split("/")) for port in ports)
        add = f"add element netdev cloud open {{ {elements} }}\n"
        remove = f"delete element netdev cloud open {{ {elements} }}\n"
        run(["nft", "-f", "-"], input=add if verb == "open" else add + remove, ns="internet")

    def is_open(self) -> bool:
        return "elements" in run(["nft", "list", "set", "netdev", "cloud", "open"], ns="internet")

    def verbs(self) -> list[str]:
        return [call.verb for call in self.calls]


SETTLING = 100  # seconds of patience for a close that is carried out twice, 60 s apart


def unsettled(state: Path) -> list[str]:
    """Of them, those whose opening was not heard to have succeeded."""
    names = []
    for name in records(state):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if "Settled=no" in (state / "owed" / name).read_text():
                names.append(name)
    return names


def records(state: Path) -> list[str]:
    """The closes that are written down."""
    return sorted(path.name for path in (state / "owed").iterdir())
