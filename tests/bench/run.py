#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures a release build and prints one table. Judges nothing: figures are for people to compare.

    tests/bench/bench [--pairs=N] [--large-pairs=N] [--windows=N]
    tests/bench/bench --renewals=N      instead: how long a port is reachable for one renewal; takes minutes

builds and runs this. With a build at hand, in the root of the checkout, as root:

    POSTERN_BUILD=BUILD tools/lib/isolate.py bench /usr/bin/python3 tests/bench/run.py [OPTION...]

What is compared is measured pair by pair in one run (A B A B ...), so that what else the machine does
falls on both alike. A ratio is the median of the pairs' ratios, not the ratio of the medians.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parents[1] / "lib"))

from hosts import bench_hosts, bench_large  # noqa: E402
from renewals import bench_renewals  # noqa: E402
from table import WARM_UP, compare, format_ms, heading, row, spawn  # noqa: E402

from bus import MANAGER, NAME, PATH, Bus, become  # noqa: E402
from connections import open_connection  # noqa: E402
from jeepney import DBusAddress, MatchRule, new_method_call  # noqa: E402
from jeepney.bus_messages import message_bus  # noqa: E402
from process import netns, new_directory, run, wait_until  # noqa: E402
from testbed import Testbed, build_directory  # noqa: E402

ACTION = "org.postern.renewal1.request-window"
WINDOW = "org.postern.Renewal1.Window"
STARTS = 20
PROFILES = 10  # no profile may ask for more than its share of windows
KEPT_WINDOWS = 64  # closed windows that the daemon remembers; memory is flat once they are there

PORTLESS = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\nRateLimit=100/1s\n[Gate]\nType=none\n"
PORT_80 = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"


def print_machine(pairs: int) -> None:
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    build_type = next(
        option["value"]
        for option in json.loads(run(["meson", "introspect", "--buildoptions", str(build_directory())]))
        if option["name"] == "buildtype"
    )
    print(f"kernel {platform.release()}, {os.cpu_count()} CPUs ({cpu}), load {os.getloadavg()[0]:.2f}")
    print(f"{run(['nft', '--version']).strip()}, {run(['pkcheck', '--version']).strip()}, {build_type} build")
    print(f"{pairs} pairs of each, medians; ratio: theirs / ours, with its quartiles")


# --- 1: the door ----------------------------------------------------------------------------------


def bench_doors(pairs: int) -> None:
    """Columns as bench-door has them."""
    runtime = new_directory("bench-door")
    command = [str(build_directory() / "tests/bench/bench-door"), str(pairs + WARM_UP), str(runtime), shutil.which("nft")]
    lines = run(command, ns="host").splitlines()[WARM_UP:]
    rounds = [[int(field) / 1e9 for field in line.split()] for line in lines]

    heading("a door, inet filter input with policy drop          postern      2 x nft        ratio    quartiles")
    for what, opened, shut in (
        ("open + shut, call to the kernel's last ACK", 0, 3),
        ("open + shut, the transaction alone", 1, 4),
        ("open + shut, whole calls: read, ACK, read back", 2, 5),
    ):
        compare(what, [(r[opened] + r[shut], r[6] + r[7]) for r in rounds])
    heading("of these, each way                                  postern          nft        ratio    quartiles")
    for what, column, nft in (
        ("open, call to ACK : nft add rule", 0, 6),
        ("open, whole call  : nft add rule", 2, 6),
        ("shut, call to ACK : nft delete rule", 3, 7),
        ("shut, whole call  : nft delete rule", 5, 7),
    ):
        compare(what, [(r[column], r[nft]) for r in rounds])


# --- 2: the bus -----------------------------------------------------------------------------------


def as_user(user: str, work: Callable[[], object]):
    """What work() returns, from a process of the user's."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(user)
            answer = json.dumps(work())
            with os.fdopen(write_end, "w") as stream:
                stream.write(answer)
            os._exit(0)
        except BaseException as problem:
            print(f"as {user}: {problem!r}", file=sys.stderr)
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        answer = stream.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("a caller failed")
    return json.loads(answer)


class Caller:
    """One connection, which asks Postern, and polkit about itself."""

    def __init__(self, bus: Bus) -> None:
        self._connection = open_connection(bus.address)

    @property
    def name(self) -> str:
        return self._connection.unique_name

    def _call(self, name: str, path: str, interface: str, member: str, signature: str, *body) -> tuple:
        message = new_method_call(DBusAddress(path, name, interface), member, signature or None, body)
        reply = self._connection.send_and_get_reply(message, timeout=60)
        if reply.header.message_type.name == "error":
            raise RuntimeError(f"{member}: {reply.body}")
        return reply.body

    def check_authorization(self) -> float:
        subject = ("system-bus-name", {"name": ("s", self.name)})
        begun = time.monotonic()
        answer = self._call(
            "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
            "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization", "(sa{sv})sa{ss}us",
            subject, ACTION, {}, 0, "",
        )  # fmt: skip
        seconds = time.monotonic() - begun
        assert answer[0][0], "polkit says no"
        return seconds

    def request_window(self, profile: str) -> float:
        """Its renewal has ended when this returns, which is not counted."""
        begun = time.monotonic()
        window = self._call(NAME, PATH, MANAGER, "RequestWindow", "stt", profile, 0, 0)[0]
        seconds = time.monotonic() - begun
        assert self.wait(window) == ("success", 0)
        return seconds

    def wait(self, window: str) -> tuple:
        return self._call(NAME, window, WINDOW, "Wait", "")

    def live_windows(self) -> list[str]:
        return [window[4] for window in self._call(NAME, PATH, MANAGER, "ListWindows", "")[0]]

    def renew(self, profile: str) -> None:
        assert self._call(NAME, PATH, MANAGER, "Renew", "stt", profile, 0, 0)[:2] == ("success", 0)


def bench_requests(testbed: Testbed, pairs: int) -> None:
    environment = testbed.bus.environment

    def in_process(profile: str) -> list[tuple[float, float]]:
        caller = Caller(testbed.bus)
        rounds = [(caller.request_window(profile), caller.check_authorization()) for _ in range(pairs + WARM_UP)]
        return rounds[WARM_UP:]

    def processes(profile: str) -> list[tuple[float, float]]:
        caller = Caller(testbed.bus)
        request = Bus.busctl_command("call", NAME, PATH, MANAGER, "RequestWindow", "stt", profile, "0", "0")
        check = ["pkcheck", "--action-id", ACTION, "--system-bus-name", caller.name]
        rounds = []
        for _ in range(pairs + WARM_UP):
            asked = spawn(request, environment)
            for window in caller.live_windows():
                caller.wait(window)
            rounds.append((asked, spawn(check, environment)))
        return rounds[WARM_UP:]

    heading("a request, until the window is open                 postern      pkcheck        ratio    quartiles")
    with testbed.daemon():
        for profile, what in (("portless", "Ports=none"), ("port80", "Ports=80/tcp")):
            compare(f"busctl RequestWindow, {what} : pkcheck", as_user("deploy", lambda p=profile: processes(p)))
            compare(f"RequestWindow, {what} : CheckAuthorization", as_user("deploy", lambda p=profile: in_process(p)))


# --- 3: what it takes -----------------------------------------------------------------------------


def memory_kib(pid: int, field: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def print_memory(what: str, pid: int) -> None:
    row(what, f"{memory_kib(pid)} KiB", f"{memory_kib(pid, 'RssAnon')} KiB", str(descriptors(pid)))


def bench_memory(testbed: Testbed, windows: int) -> None:
    for i in range(PROFILES):
        testbed.profile(f"one{i}", PORT_80)

    def renew(count: int) -> None:
        caller = Caller(testbed.bus)
        for i in range(count):
            caller.renew(f"one{i % PROFILES}")

    heading("posternd                                         resident      of it own  descriptors")
    with testbed.daemon() as daemon:

        def settled() -> None:
            """The callers that have left are forgotten, and no renewal's descriptors are left."""
            wait_until(lambda: descriptors(daemon.pid) <= idle, "the daemon's descriptors to be closed", 5)

        idle = descriptors(daemon.pid)
        print_memory("idle, after its start", daemon.pid)
        as_user("deploy", lambda: renew(1))
        idle += 2  # from the first door on, the ruleset is watched; the limit is no judgement
        settled()
        print_memory("idle, after one window", daemon.pid)
        as_user("deploy", lambda: renew(2 * KEPT_WINDOWS))
        settled()
        print_memory(f"idle, after {2 * KEPT_WINDOWS + 1} windows ({KEPT_WINDOWS} remembered)", daemon.pid)
        as_user("deploy", lambda: renew(windows))
        settled()
        print_memory(f"idle, after {windows} more", daemon.pid)


def bench_start(testbed: Testbed) -> None:
    """From exec to the signal that the name is taken."""
    changed = MatchRule(type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged")
    changed.add_arg_condition(0, NAME)
    command = [
        str(build_directory() / "src/broker/posternd"),
        f"--config-dir={testbed.config}", f"--state-dir={testbed.state}", f"--runtime-dir={testbed.runtime}",
    ]  # fmt: skip
    seconds = []
    with testbed.bus.connect() as connection, netns("host"):
        connection.send_and_get_reply(message_bus.AddMatch(changed))
        for _ in range(STARTS):
            with connection.filter(changed) as queue:
                begun = time.monotonic()
                daemon = subprocess.Popen(
                    command, env={**os.environ, **testbed.bus.environment}, stderr=subprocess.DEVNULL
                )
                connection.recv_until_filtered(queue, timeout=20)
                seconds.append(time.monotonic() - begun)
                daemon.terminate()
                daemon.wait()
                connection.recv_until_filtered(queue, timeout=20)
    heading("start                                              median         best        worst")
    row(f"posternd, exec to name acquired, {STARTS} times",
        format_ms(statistics.median(seconds)), format_ms(min(seconds)), format_ms(max(seconds)))  # fmt: skip


def print_sizes() -> None:
    heading("programs                                         as built     stripped    libraries")
    for name in ("src/broker/posternd", "src/run/postern-run", "src/client/postern"):
        program = build_directory() / name
        if not program.exists():
            continue
        stripped = new_directory("stripped") / program.name
        run(["strip", "-o", str(stripped), str(program)])
        needed = [
            line.split("[")[1].rstrip("]")
            for line in run(["readelf", "--dynamic", str(program)]).splitlines()
            if "(NEEDED)" in line
        ]
        loaded = [line for line in run(["ldd", str(program)]).splitlines() if "=>" in line]
        row(program.name, *(f"{p.stat().st_size / 1024:.1f} KiB" for p in (program, stripped)), str(len(loaded)))
        print(f"    asks for {', '.join(needed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=50, help="rounds of each comparison (50)")
    parser.add_argument("--windows", type=int, default=300, help="windows to see whether memory grows (300)")
    parser.add_argument("--large-pairs", type=int, default=10, help="rounds on hosts with many rules (10)")
    parser.add_argument("--renewals", type=int, default=0, help="renewals of each kind, and nothing else (0)")
    options = parser.parse_args()
    if options.renewals:
        bench_renewals(options.renewals)
        return
    if min(options.pairs, options.large_pairs) < 2:
        parser.error("--pairs must be at least 2, for a median with quartiles")

    print_machine(options.pairs)
    bench_hosts(options.pairs)
    bench_large(options.large_pairs)
    with Testbed() as testbed:
        testbed.profile("portless", PORTLESS)
        testbed.profile("port80", PORT_80)
        bench_doors(options.pairs)
        bench_requests(testbed, options.pairs)
        bench_memory(testbed, options.windows)
        bench_start(testbed)
    print_sizes()


if __name__ == "__main__":
    main()
