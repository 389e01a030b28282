# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole of posternd and postern-run, each of whose allocations and system calls may fail once
during a window: every caller gets an answer, and by then the port is shut.

How many of the calls are tried: POSTERN_TEST_FAULTS, a number or `all`; which: POSTERN_TEST_SEED."""

import collections
import contextlib
import mmap
import os
import random
import struct
import threading
from pathlib import Path

import pytest
from bus import MANAGER, NAME, PATH
from cloud import SETTLING, Cloud, records, unsettled
from jeepney import DBusAddress, new_method_call
from process import cgroups, processes, run, wait_until
from testbed import SANITIZER_OPTIONS, build_directory

PROGRAMS = ["posternd", "postern-run"]
WAYS = ["allocation", "refused", "interrupted", "afterwards", "short", "empty"]
TRIES = {"allocation": 50, "refused": 50, "interrupted": 20, "afterwards": 20, "short": 20}

PROFILE = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\nRateLimit=100/1s\n"
# Its token is taken away by the authority (below), which has been there then, or has given up.
CLIENT = "#!/bin/sh\n: >{token}\nwhile [ -e {token} ]; do sleep 0.01; done\n"
LOOKS = 50  # at the firewall, until the authority gives up
LAYOUT = struct.Struct("=IIIIQQQ48s")  # Faults in faults.h
NEVER = 2**63
# Answers of a daemon whose event loop or bus failed: its end shuts every door, and it is started again.
ENDS = ("Stopped", "NoReply", "ServiceUnknown")


class Faults:
    """What test, daemon and helper share."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "faults"
        self.path.write_bytes(bytes(LAYOUT.size * len(PROGRAMS)))
        with open(self.path, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    def arm(self, program: str, way: str, wanted: int) -> None:
        self.disarm()
        at = PROGRAMS.index(program) * LAYOUT.size
        LAYOUT.pack_into(self._shared, at, 0, WAYS.index(way), 0, 0, wanted, 0, 0, b"")
        self._shared[at : at + 4] = struct.pack("=I", 1)

    def disarm(self) -> None:
        for at in (0, LAYOUT.size):
            self._shared[at : at + 4] = bytes(4)

    def result(self, program: str) -> tuple[int, int, str]:
        """Calls seen, calls failed, the first that failed."""
        *_, seen, failed, site = LAYOUT.unpack_from(self._shared, PROGRAMS.index(program) * LAYOUT.size)
        return seen, failed, site.rstrip(b"\0").decode()


class Daemon:
    """posternd with the library before it; started anew when a fault has ended it."""

    def __init__(self, testbed, faults: Faults) -> None:
        self._testbed = testbed
        self._through = [
            "env",
            f"LD_PRELOAD={build_directory()}/tests/faults/inject.so",
            f"POSTERN_FAULTS={faults.path}",
            # the library comes before the sanitizer, whose allocator it calls
            f"ASAN_OPTIONS={SANITIZER_OPTIONS['ASAN_OPTIONS']}:verify_asan_link_order=0",
        ]
        self.start()

    def start(self) -> None:
        self.daemon = self._testbed.daemon(through=self._through).start()
        # what the last one owed is closed, once more where it may have taken effect late, and its ban gone
        wait_until(lambda: "postern_guard" not in self._testbed.net.ruleset(), "what was owed to be closed", SETTLING)
        # what is opened once and kept
        before = self._testbed.net.ruleset()
        for _ in range(2):
            assert self.renew() == "done"
            wait_until(lambda: self._testbed.net.ruleset() == before and not helpers(), "the first windows to be gone")
        self.most_fds = self.fds()

    def renew(self) -> str:
        """Asks once. The answer: a result, an error's name, or that the daemon is gone."""
        with self._testbed.bus.connect() as connection:
            message = new_method_call(DBusAddress(PATH, NAME, MANAGER), "Renew", "stt", ("web", 0, 0))
            reply = connection.send_and_get_reply(message, timeout=60)
        if reply.header.message_type.name != "error":
            return "done"
        fields = {field.name: value for field, value in reply.header.fields.items()}
        return fields["error_name"].rpartition(".")[2]

    def restart_ended(self, answer: str, what: str) -> bool:
        """Starts it anew where it has ended, or is about to, by what its last caller was answered."""
        if answer in ENDS:
            wait_until(lambda: not self.daemon.alive(), f"{what}: the daemon to end")
        if self.daemon.alive():
            return False
        problem = self.daemon.end()
        assert "sanitizer" not in problem, f"{what}: {problem}"
        self.start()
        return True

    def fds(self) -> int:
        return len(list(Path(f"/proc/{self.daemon.pid}/fd").iterdir()))


def lets_in(testbed) -> bool:
    """Is a window's port in the lease? The gate alone is inert, and so is an empty set."""
    return "elements" in run(["nft", "list", "ruleset"], ns="host")


def helpers() -> list[str]:
    program = str(build_directory() / "src/run/postern-run")
    return [line for line in processes().values() if line.startswith(program)]


def pick(count: int, tries: int) -> list[int]:
    wanted = os.environ.get("POSTERN_TEST_FAULTS", str(tries))
    if wanted == "all" or int(wanted) >= count:
        return list(range(1, count + 1))
    seed = os.environ.get("POSTERN_TEST_SEED") or str(random.randrange(2**32))
    print(f"POSTERN_TEST_SEED={seed}")
    return sorted(random.Random(seed).sample(range(1, count + 1), int(wanted)))


class Authority:
    """Waits for tokens, and looks whether the port is open then."""

    def __init__(self, testbed) -> None:
        directory, client = testbed.directory / "challenges", testbed.directory / "client"
        directory.mkdir()
        self._testbed, self._token = testbed, directory / "token"
        client.write_text(CLIENT.format(token=self._token))
        client.chmod(0o755)
        narrow = f"OpenOn=challenge\nChallengeDirectory={directory}\nReach=renewal\n"
        testbed.profile("web", PROFILE.replace("/bin/true", str(client)) + narrow)
        self.came_in = False  # the last time
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._over.wait(0.005):
            if self._token.exists():
                self.came_in = any(lets_in(self._testbed) for _ in range(LOOKS))
                self._token.unlink()

    def is_idle(self) -> bool:
        return not self._token.exists()


def try_windows(testbed, program: str, way: str, tries: int, authority: Authority | None = None) -> None:
    """Of the profile web. Where nothing fails, they open."""
    faults = Faults(testbed.directory)
    before, cgroups_before = testbed.net.ruleset(), cgroups()
    self = Daemon(testbed, faults)
    outcomes: collections.Counter[str] = collections.Counter()

    faults.arm(program, way, NEVER)
    assert self.renew() == "done"
    wait_until(lambda: testbed.net.ruleset() == before, "the first windows to be gone")
    count = faults.result(program)[0]
    assert count >= 5

    for n in pick(count, tries):
        faults.arm(program, way, n)
        answer = self.renew()
        still_open = lets_in(testbed)
        faults.disarm()
        _, failed, site = faults.result(program)
        what = f"{program} {way} {n} ({site}): {answer}"
        assert not still_open, f"{what}, and the port is open"
        assert answer != "timeout", what
        if not failed:
            outcomes["not reached"] += 1
            continue
        outcomes[answer] += 1
        if answer != "done":
            print(what)
        ended = self.restart_ended(answer, what)
        wait_until(lambda: testbed.net.ruleset() == before, f"{what}: the firewall to be as before")
        wait_until(lambda: not helpers(), f"{what}: the helper to be gone")
        wait_until(lambda: self.fds() <= self.most_fds, f"{what}: its descriptors to be closed")
        wait_until(lambda: not authority or authority.is_idle(), f"{what}: the authority to be gone")
        answer = self.renew()
        # a call after its answer may have failed, and its end takes a while
        if not ended and (ended := self.restart_ended(answer, f"{what}, and the next")):
            answer = self.renew()
        outcomes["ended"] += ended
        assert answer == "done", f"{what}: and the next"
        assert not authority or authority.came_in, f"{what}: the next one was shut"
    with contextlib.suppress(AssertionError):
        wait_until(lambda: cgroups() == cgroups_before, "no cgroup to be left", 5)
    assert cgroups() == cgroups_before
    assert self.daemon.end() == ""
    print(f"{program} {way}: {count} calls, {dict(outcomes)}")
    assert set(outcomes) - {"not reached"}, "no fault came about"


# the helper writes no files, and has nothing to do with netlink
CASES = [(program, way) for way in TRIES for program in PROGRAMS if (program, way) != ("postern-run", "short")]


@pytest.mark.parametrize("program,way", CASES)
def test_a_window(testbed, program, way):
    testbed.profile("web", PROFILE)
    try_windows(testbed, program, way, TRIES[way])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("way", ["allocation", "refused"])
def test_a_window_that_opens_for_a_token(testbed, program, way):
    """And leads to the renewal's own sockets alone."""
    with Authority(testbed) as authority:
        try_windows(testbed, program, way, TRIES[way] // 4, authority)


# The more in one test, the fewer times what an opening that failed has asked for is waited for: a minute.
ELSEWHERE = {
    "allocation": [("posternd", "allocation", 25)],
    "refused": [("posternd", "refused", 25)],
    "others": [("posternd", "afterwards", 10), ("posternd", "short", 10), ("postern-run", "allocation", 15),
               ("postern-run", "refused", 15), ("postern-run", "afterwards", 5)],
}  # fmt: skip


@pytest.mark.seconds(480)
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_window_with_a_firewall_elsewhere(testbed, name):
    """Whatever fails: it is closed in the end, and until then there is a note of it."""
    faults = Faults(testbed.directory)
    with Cloud() as cloud:
        testbed.profile("web", PROFILE + cloud.gate())
        before = testbed.net.ruleset()
        self = Daemon(testbed, faults)
        outcomes: collections.Counter[str] = collections.Counter()

        def is_settled() -> bool:
            left = records(testbed.state)
            return not cloud.is_open() and left == unsettled(testbed.state) and (left or testbed.net.ruleset() == before)

        def count(program: str, way: str) -> int:
            faults.arm(program, way, NEVER)
            answer = self.renew()
            # the last fault may have ended it after its answer
            if self.restart_ended(answer, "after the last fault"):
                answer = self.renew()
            assert answer == "done"
            wait_until(is_settled, "a window without a fault to be settled")
            return faults.result(program)[0]

        def try_one(program: str, way: str, n: int) -> bool:
            """Did it come about?"""
            known = records(testbed.state)
            faults.arm(program, way, n)
            answer = self.renew()
            still_open = lets_in(testbed)
            faults.disarm()
            _, failed, site = faults.result(program)
            what = f"{program} {way} {n} ({site}): {answer}"
            assert not still_open, f"{what}, and the port is open"
            # in this order: a note goes after it is closed
            assert set(records(testbed.state)) - set(known) or not cloud.is_open(), f"{what}, and nobody knows"
            outcomes[answer if failed else "not reached"] += 1
            if not self.restart_ended(answer, what) and program == "posternd" and site == "unlinkat":
                # a note that could not be removed is the next start's: it closes once more
                assert self.daemon.end() == "", what
                self.start()
            wait_until(is_settled, f"{what}, and it to be settled")
            return failed > 0

        for program, way, tries in ELSEWHERE[name]:
            calls = count(program, way)
            assert calls >= 5
            reached = [try_one(program, way, n) for n in pick(calls, tries)]
            assert any(reached), f"{program} {way}: no fault came about"
        print(dict(outcomes))
        assert set(outcomes) - {"not reached", "done"}, "no fault was noticed"
        count("posternd", "allocation")
        faults.disarm()
        wait_until(lambda: records(testbed.state) == [], "what was not settled to be closed again", SETTLING)
        wait_until(lambda: testbed.net.ruleset() == before, "the firewall to be as before")
        assert not self.daemon.end()
