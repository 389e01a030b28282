# SPDX-License-Identifier: GPL-2.0-or-later
"""One user asks for more than can be done, while another one renews."""

import contextlib
import os
import re
import statistics
from pathlib import Path

import pytest
from bus import _last_thing_of_child, become
from callers import ERROR, Call, Flood, error_of, profile, wait_log
from connections import open_connection
from flooder import Flooder, ask, list_windows
from jeepney import MessageType
from process import processes, wait_until
from testbed import BusError

OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROFILES = 100
AT_ONCE = 100  # calls under way on one connection: the bus allows 128
PREFERRED = -15
BLOCKS, CALLS, RENEWALS = 5, 200, 5  # with the flood and without, in turn
TURNS = 5  # of a renewal: its call, whose it is, polkit's answer, and the helper's two words
LATER = 0.1  # seconds
GROWTH_KIB = 16 * 1024


@pytest.fixture
def host(testbed):
    for number in range(PROFILES):
        testbed.profile(f"p{number}", profile("/bin/true"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def prefer() -> None:
    """The bus, polkit and the daemon come before anything else that the machine does: what is left is
    how the daemon shares out its time among callers."""
    for pid, command in processes().items():
        if any(name in command for name in ("posternd", "dbus-", "polkitd")):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), PREFERRED)


def cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


@pytest.mark.parametrize("bus_kind", ["dbus-daemon"])
def test_lists_keep_nobody_waiting(host):
    """Thousands of lists of a hundred profiles, all asked for before the renewal: it does not wait until
    all of them are written."""
    prefer()
    host.posternd.stop()
    with Flood(host, "visitor", "GetManagedObjects", interface=OBJECT_MANAGER, connections=25, calls=AT_ONCE):
        before = cpu_ticks(host.posternd.pid)
        with Call(host, "deploy", "Renew", "stt", "p0", 0, 0) as renewal:
            host.posternd.cont()
            assert renewal.result()[0] == "success"
        # the lists would take about 10 s, with sanitizers or without
        spent = (cpu_ticks(host.posternd.pid) - before) / os.sysconf("SC_CLK_TCK")
        print(f"the renewal came through after {spent:.2f} s of the daemon's time")
        assert spent < 5
    with Call(host, "visitor", "ListProfiles", copies=AT_ONCE) as asked_often:
        error = asked_often.first_error()
        assert error.name == ERROR + "RateLimited" and "Profiles are being asked about too much" in error.text
    # it is forgotten as time goes by
    wait_until(lambda: gets_list(host), "a list to be given again")


def gets_list(host) -> bool:
    with contextlib.suppress(BusError):
        return bool(host.bus.call("ListProfiles", user="deploy"))
    return False


@pytest.mark.parametrize("bus_kind", ["dbus-daemon"])
def test_who_asks_and_leaves_uses_up_no_questions(host):
    """polkit hangs, so that nothing is ever taken back: 4 questions of the uid are under way, however
    many have asked and left, and those of another one are no less."""
    host.polkit.stop()
    with contextlib.ExitStack() as stack:
        for number in range(1, 5):
            with Call(host, "visitor", "Renew", "stt", "p1", 0, 0):
                wait_log(host.posternd, "uid 6002, org.postern.renewal1.request-window, profile p1: asking polkit", number)
            wait_log(host.posternd, "the caller left before the answer", number)
        refused = error_of(host.bus.call, "Renew", "stt", "p1", 0, 0, user="visitor")
        assert refused.name == ERROR + "TooManyWindows"
        mine = stack.enter_context(Call(host, "deploy", "Renew", "stt", "p0", 0, 0))
        wait_log(host.posternd, "profile p0: asking polkit")
        host.polkit.cont()
        assert mine.result()[0] == "success"
    # and are given back when polkit has answered
    wait_until(lambda: error_of(host.bus.call, "Renew", "stt", "p1", 0, 0, user="visitor").name != refused.name,
               "the questions to be over")  # fmt: skip


def running_seconds(pid: int) -> float:
    """What it has had of a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def waits(host, pid: int, message, count: int) -> list[float]:
    """Calls, one after another, by another user than the flood's, and how long the daemon ran before each
    was answered: so long it waited for its turn, whatever else the machine does."""
    read_end, write_end = os.pipe()
    if (child := os.fork()) == 0:
        with _last_thing_of_child():
            os.setpriority(os.PRIO_PROCESS, 0, PREFERRED)
            become("deploy")
            with open_connection(host.bus.address) as connection, os.fdopen(write_end, "w") as stream:
                for _ in range(count):
                    before = running_seconds(pid)
                    reply = connection.send_and_get_reply(message, timeout=60)
                    assert reply.header.message_type is MessageType.method_return, reply.body
                    print(running_seconds(pid) - before, file=stream)
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        found = [float(line) for line in stream]
    os.waitpid(child, 0)
    assert len(found) == count, "a call failed"
    return found


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[-1]


def test_another_user_waits_no_longer(testbed):
    """Calls, connections and questions without pause: what another user asks is done in its turn, so that
    a renewal is a tenth of a second later at most."""
    names = [f"p{number}" for number in range(10)]
    for name in (*names, "often"):
        testbed.profile(name, profile("/bin/true").replace("100/1h", "100/1s"))
    alone, beside, memory = [], [], []
    # a sanitizer keeps what was freed, for long
    with testbed.daemon(through=["env", "ASAN_OPTIONS=quarantine_size_mb=1"]) as daemon, Flooder(testbed, "visitor", names) as flooder:
        prefer()
        for _ in range(BLOCKS):
            alone += waits(testbed, daemon.pid, list_windows(), CALLS)
            with flooder.at_work():
                busy = running_seconds(daemon.pid) + 0.5
                wait_until(lambda: running_seconds(daemon.pid) > busy, "the flood to come")
                beside += waits(testbed, daemon.pid, list_windows(), CALLS)
                waits(testbed, daemon.pid, ask("often"), RENEWALS)
                memory.append(resident_kib(daemon.pid))
    print(f"{len(beside)} calls, p99 of the daemon's time {p99(alone) * 1e3:.1f} ms alone, {p99(beside) * 1e3:.1f} ms "
          f"beside a flood (medians {statistics.median(alone) * 1e3:.1f}, {statistics.median(beside) * 1e3:.1f}); "
          f"resident {memory} KiB")  # fmt: skip
    assert (p99(beside) - p99(alone)) * TURNS < LATER
    # the first time something is allocated that stays
    assert max(memory) < memory[0] + GROWTH_KIB
