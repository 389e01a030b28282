# SPDX-License-Identifier: GPL-2.0-or-later
"""Doors on the kinds of hosts there are, against what their own programs take for the same; and on
hosts with many rules."""

import contextlib
import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator

import xtables
from firewalld import Firewalld
from net import DEFAULT_DENY, Net
from process import in_netns, netns, new_directory
from testbed import Testbed, build_directory
from table import WARM_UP, compare, format_ms, heading, row, spawn
from ufw import Ufw

# columns of bench-door
OPEN_ACK, OPEN_CALL, SHUT_ACK, SHUT_CALL = 0, 2, 3, 5
RULES = (10, 1_000, 50_000)
ELEMENTS = 400_000


class Doors:
    """bench-door in `host`, one round at a time."""

    def __enter__(self):
        command = [str(build_directory() / "tests/bench/bench-door"), "-", str(new_directory("bench-door"))]
        self._process = subprocess.Popen(
            [*in_netns("host"), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def round(self) -> list[float]:
        """Seconds; see door.c."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.strip():
            raise RuntimeError("bench-door ended")
        return [int(field) / 1e9 for field in line.split()]


def pairs_of(count: int, opens: list[list[str]], shuts: list[list[str]], what: str) -> None:
    """One open and shut of ours, then theirs: for both families, as ours is."""
    rounds = []
    with Doors() as doors, netns("host"):
        for _ in range(count + WARM_UP):
            ours = doors.round()
            theirs = sum(spawn(command) for command in opens + shuts)
            rounds.append((ours[OPEN_CALL] + ours[SHUT_CALL], theirs))
    compare(what, rounds[WARM_UP:])


class FirewalldGate:
    """tests/unit/firewalld-driver: the gate by itself, without the lease that goes with it."""

    def __init__(self, testbed: Testbed) -> None:
        self._environment = {**os.environ, **testbed.bus.environment}

    def __enter__(self):
        self._process = subprocess.Popen(
            [*in_netns("host"), str(build_directory() / "tests/unit/firewalld-driver")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self._environment,
        )  # fmt: skip
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def round(self, name: str) -> float:
        """Seconds, from the question of where to open to the port being shut again."""
        begun = time.monotonic()
        for order, answer in ((f"plan {name} 80/tcp ", "planned"), (f"open {name}", "opened"), (f"shut {name}", "shut")):
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if not line.startswith(f"{answer} {name} done"):
                raise RuntimeError(f"firewalld's gate: {line}")
        return time.monotonic() - begun


def bench_firewalld(count: int) -> None:
    with Testbed("") as testbed, Firewalld(testbed), FirewalldGate(testbed) as gate, netns("host"):
        rounds = []
        for number in range(count + WARM_UP):
            ours = gate.round(f"w{number}")
            theirs = sum(
                spawn(["firewall-cmd", "--quiet", f"--{verb}-port=80/tcp"], testbed.bus.environment)
                for verb in ("add", "remove")
            )
            rounds.append((ours, theirs))
    compare("firewall-cmd --add-port + --remove-port, gate alone", rounds[WARM_UP:])


@contextlib.contextmanager
def iptables_host() -> Iterator[None]:
    with Net(""):
        xtables.restore_all(xtables.denying())
        yield


@contextlib.contextmanager
def ufw_host() -> Iterator[None]:
    with Net(""), Ufw():
        yield


def bench_hosts(count: int) -> None:
    """Whole calls, with the reading back that the others do not do."""
    heading("open + shut, against the host's own program          postern       theirs        ratio    quartiles")
    rule = ["INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"]
    with iptables_host():
        pairs_of(count, [[name, "-I", *rule] for name in ("iptables", "ip6tables")],
                 [[name, "-D", *rule] for name in ("iptables", "ip6tables")], "iptables -I + -D, and ip6tables")  # fmt: skip
    with ufw_host():
        pairs_of(min(count, 20), [["ufw", "allow", "80/tcp"]], [["ufw", "delete", "allow", "80/tcp"]],
                 "ufw allow + delete")  # fmt: skip
    bench_firewalld(min(count, 20))


# --- many rules -----------------------------------------------------------------------------------


def many(rules: int, where: str) -> str:
    """A default-deny host. where: "reached" (each of them has a say about every packet), "beside" (in a
    chain of the same table that no packet to this host comes by) or "elsewhere" (in another table)."""
    lines = "\n".join(
        f"ip saddr 198.18.{n // 256 % 256}.{n % 256} tcp dport {n % 60000 + 1} drop" for n in range(rules)
    )
    other = {
        "reached": f"table inet filter {{ chain many {{ {lines}\n}}\n}}\ninsert rule inet filter input jump many\n",
        "beside": f"table inet filter {{ chain forward {{ type filter hook forward priority 0; {lines}\n}}\n}}\n",
        "elsewhere": f"table inet nat {{ chain post {{ type nat hook postrouting priority 100; {lines}\n}}\n}}\n",
    }
    return DEFAULT_DENY + other[where].replace(" drop", " accept" if where == "elsewhere" else " drop")


def large_set() -> str:
    elements = ",".join(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(ELEMENTS))
    return DEFAULT_DENY + (
        f"table inet filter {{ set banned {{ type ipv4_addr; elements = {{ {elements} }}; }}\n}}\n"
        "insert rule inet filter input ip saddr @banned drop\n"
    )


def nft_add_and_delete() -> float:
    """Seconds. It says the handle of what it adds, by which that is deleted."""
    begun = time.monotonic()
    said = subprocess.run(
        ["nft", "-a", "-e", "add", "rule", "inet", "filter", "input", "tcp", "dport", "80", "accept"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    seconds = time.monotonic() - begun
    handle = re.search(r"# handle (\d+)", said)[1]
    return seconds + spawn(["nft", "delete", "rule", "inet", "filter", "input", "handle", handle])


def bench_large(count: int) -> None:
    heading("hosts with much in their rulesets                        open   until shut         shut   nft 2 x")
    cases = [(f"{rules} rules, reached", many(rules, "reached")) for rules in RULES]
    cases += [(f"{RULES[-1]} rules, {where}", many(RULES[-1], where)) for where in ("beside", "elsewhere")]
    cases += [(f"a set of {ELEMENTS} addresses", large_set())]
    for what, ruleset in cases:
        with Net(ruleset), Doors() as doors, netns("host"):
            rounds = []
            for _ in range(count + 1):
                ours = doors.round()
                rounds.append((ours[OPEN_CALL], ours[SHUT_ACK], ours[SHUT_CALL], nft_add_and_delete()))
            row(what, *(format_ms(statistics.median(column)) for column in zip(*rounds[1:])))
