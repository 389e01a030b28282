# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of calls as anybody could make them, right and wrong, by root, by somebody who may and by
nobody: each is answered once, in the documented words, and nothing is left of them.

POSTERN_TEST_CALLS says how many, half of them on each bus, and POSTERN_TEST_SEED which ones."""

import contextlib
import os
import pickle
import pwd
import random
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
import story
from bus import _last_thing_of_child
from callers import ERROR, INTERACTION_REQUIRED, error_of, profile, windows
from connections import open_connection
from generate import PROPERTIES, TOKEN, Generator, Offer, is_clean
from hostile import STANDARD, TEXT_MAX, behave
from jeepney import DBusAddress, HeaderFields, new_method_call
from journal import THROUGH, Journal
from process import descriptors
from rounds import number, seed
from testbed import MANAGER, NAME, PATH, processes, wait_until

CALLS = number("POSTERN_TEST_CALLS", 20_000) // 2
USERS = ("root", "deploy", "nobody")
# what an allocator may keep without a leak: see the figures that are printed
MEMORY_KIB = 24 * 1024
DETAILS = {
    "profile": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "ports": re.compile(r"none|\d+/(tcp|udp)( \d+/(tcp|udp))*"),
    "duration": re.compile(r"[1-9]\d{0,3}"),
    "gate": re.compile(r"auto|nftables|none"),
}
# what a description may not hold, and what is not a description but looks like an order to print
HOSTILE = ["<b>bold</b>", "&lt;", "a\u202eb", "a\u2066b", "a\x1b[2Jb", "a\x7fb", "$(polkit.message) <i>"]
STRANGE = ["%s%n%1$*2$d", "'; -- \\x1b \\.", "$(id) `id` $(polkit.message)", "\U0001f600 é"]
PRINTER = """#!/bin/sh
printf '\\033[31m<b>%%s\\a\\r\\n<0>MESSAGE=x\\n\\342\\200\\256\\n\\377\\n'
exit 3
"""
GRANTED, REFUSED, OUTPUT = (story.IDS[name].encode() for name in ("granted", "refused", "output"))
MAY_REFUSE = {ERROR + "NotAuthorized", INTERACTION_REQUIRED}


def write_profiles(testbed) -> list[str]:
    often = "DefaultDuration=20s\nMaxDuration=1min"
    for number_ in range(24):
        testbed.profile(f"p{number_}", profile("/bin/true", more=f"Description={random.choice(STRANGE)}", window=often))
    for number_ in range(3):
        # long enough to be joined, waited for and closed
        testbed.profile(f"slow{number_}", profile("/bin/sleep 0.5", window=often))
    script = testbed.directory / "printer.sh"
    script.write_text(PRINTER)
    script.chmod(0o755)
    testbed.profile("prints.x", profile(str(script), window=often))
    for number_, text in enumerate(HOSTILE):
        testbed.profile(f"bad-{number_}_", profile("/bin/true", more=f"Description={text}"))
    for name in ("<b>", "a\nb", "..", "x y", "\u202ea", "-x", "a" * 65):
        testbed.profile(name, profile("/bin/true"))
    # some are asked for more often than others
    return [f"p{n}" for n in range(24)] * 2 + [f"slow{n}" for n in range(3)] + ["prints.x"] * 6 + [
        f"bad-{n}_" for n in range(len(HOSTILE))
    ]  # fmt: skip


def run_callers(testbed, offer: Offer, profiles: list[str], luck: str, calls: int) -> dict[str, Counter]:
    """All of them at once; asserts that none has a complaint."""
    pipes = {}
    for user in USERS:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _last_thing_of_child():
                source = random.Random(f"{luck} {user}")
                generator = Generator(source, offer, profiles)
                result = behave(user, testbed.bus.address, generator, source, -(-calls // len(USERS)))
                with os.fdopen(write_end, "wb") as stream:
                    pickle.dump(result, stream)
        os.close(write_end)
        pipes[user] = pid, read_end
    results, complaints = {}, []
    for user, (pid, read_end) in pipes.items():
        with os.fdopen(read_end, "rb") as stream:
            data = stream.read()
        os.waitpid(pid, 0)
        assert data, f"the caller {user} died"
        results[user], more = pickle.loads(data)
        complaints += [f"{user}: {complaint}" for complaint in more]
    report = "\n".join(complaints[:20])
    assert not complaints, f"{len(complaints)} complaints; the first are\n{report}"
    return results


class Questions:
    """What polkit is asked, as a monitor of the bus sees it: a list of (action, details)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.seen: list[tuple] = []

    def __enter__(self):
        self._connection = open_connection(self._address)
        rule = "type='method_call',interface='org.freedesktop.PolicyKit1.Authority',member='CheckAuthorization'"
        become_monitor = new_method_call(
            DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus.Monitoring"),
            "BecomeMonitor", "asu", ([rule, "interface='org.postern.test.End'"], 0),
        )  # fmt: skip
        self._connection.send_and_get_reply(become_monitor)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def _read(self) -> None:
        while True:
            message = self._connection.receive()
            fields = message.header.fields
            if fields.get(HeaderFields.interface) == "org.postern.test.End":
                return
            if fields.get(HeaderFields.member) == "CheckAuthorization":
                self.seen.append((message.body[1], message.body[2]))

    def __exit__(self, *_) -> None:
        with open_connection(self._address) as connection:
            connection.send(new_method_call(DBusAddress("/", NAME, "org.postern.test.End"), "End"))
            self._thread.join()
        self._connection.close()


def resident_kib(daemon) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{daemon.pid}/status").read_text())[1])


def settle(testbed) -> None:
    """Every window closed, and its helper gone."""
    wait_until(lambda: not windows(testbed), "every window to close")
    wait_until(lambda: not any(line.split()[0].endswith("postern-run") for line in processes().values()), "every helper to be gone")


def check_questions(questions: list[tuple]) -> None:
    for action, details in questions:
        assert action.startswith("org.postern.renewal1.")
        assert set(details) == set(DETAILS), details
        for key, value in details.items():
            assert DETAILS[key].fullmatch(value), f"{action}: {key}={value!a}"
            assert is_clean(value)


def check_records(records: list[bytes]) -> None:
    for record in records:
        for line in record.removesuffix(b"\n").split(b"\n"):
            assert re.match(rb"[A-Z_0-9]+=", line), f"no record of lines: {record!r}"
            assert not re.search(rb"[\x00-\x1f\x7f]", line), f"control bytes: {record!r}"
            assert len(line) < 2000
        if OUTPUT not in record:
            text = record.decode()
            assert TOKEN not in text and is_clean(text.replace("\n", "")), text


def decisions(records: list[bytes], uid: int, message_id: bytes) -> int:
    return sum(b"\nPOSTERN_UID=%d\n" % uid in b"\n" + record and message_id in record for record in records)


@pytest.mark.seconds(240 + CALLS // 50)
def test_generated_calls(testbed):
    luck = str(seed())
    random.seed(luck)
    profiles = write_profiles(testbed)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal())
        daemon = stack.enter_context(testbed.daemon(through=THROUGH))
        stack.callback(lambda: print(f"posternd said:\n{daemon.text()[-2000:]}"))
        # the first record makes a connection to the journal, which stays
        error_of(testbed.bus.call, "Renew", "stt", "p0", 0, 0, user="nobody")
        idle = descriptors(daemon.pid)
        # one that has a window, so that it is found
        testbed.bus.call("Renew", "stt", "p0", 0, 0, user="deploy")
        offer = Offer(testbed.bus.address)
        assert {method.interface for method in offer.methods} > {MANAGER, NAME + ".Window", "org.freedesktop.DBus.Properties"}

        warm = CALLS // 5
        questions = stack.enter_context(Questions(testbed.bus.address))
        first = run_callers(testbed, offer, profiles, luck + " first", warm)
        settle(testbed)
        before = resident_kib(daemon)
        second = run_callers(testbed, offer, profiles, luck, CALLS - warm)
        settle(testbed)
        # a helper's go a moment after its window has closed
        wait_until(lambda: descriptors(daemon.pid) == idle, f"no more descriptors than {idle}")
        after = resident_kib(daemon)
        assert testbed.bus.call("Renew", "stt", "p1", 0, 0, user="deploy")[0] == "success"
        listed = testbed.bus.call("ListProfiles", user="nobody")[0]
    counts = {user: first[user] + second[user] for user in USERS}
    total = sum(counts.values(), Counter())
    sent = sum(count for what, count in total.items() if what.startswith("kind: ")) + total["poisoned"]
    for user in USERS:
        print(user, dict(sorted(counts[user].items())))
    print(f"{sent} calls, {len(questions.seen)} questions, {len(journal.records)} records, fds {len(idle)}, "
          f"resident {before} -> {after} KiB")  # fmt: skip

    assert sent >= CALLS
    assert after < before + MEMORY_KIB, "memory was left"
    assert set(profiles) == {row[0] for row in listed} and is_clean("".join(row[1] for row in listed))
    assert total["printed"], "nobody read what the hostile renewal printed"
    assert total["window"] >= CALLS / 200, "hardly a window was opened"
    check_questions(questions.seen)
    assert len(questions.seen) >= CALLS / 50
    check_records(journal.records)
    check_decisions(counts["nobody"], journal.records)


def check_decisions(counts: Counter, records: list[bytes]) -> None:
    """Nobody was allowed anything, and each refusal of polkit's is one record. Others have one as well
    where polkit was asked before: too many prompts, a window that was forgotten meanwhile."""
    refused = sum(counts[name] for name in MAY_REFUSE)
    uid = pwd.getpwnam("nobody").pw_uid
    recorded = decisions(records, uid, REFUSED)
    others = sum(counts[ERROR + name] for name in ("RateLimited", "TooManyWindows", "NoSuchWindow"))
    assert refused and refused <= recorded <= refused + others + counts["no reply wanted"]
    assert decisions(records, uid, GRANTED) == 0
    assert counts["window"] == 0


@pytest.fixture
def host(testbed):
    testbed.profile("good", profile("/bin/true"))
    with Journal(), testbed.daemon(through=THROUGH) as daemon:
        testbed.posternd = daemon
        yield testbed


NOTHING = [
    (f"{PATH}/window/w000000000000", MANAGER, "ListProfiles", (), ERROR + "NoSuchWindow"),
    (f"{PATH}/window/w000000000000", PROPERTIES, "Get", ("a.b", "C"), ERROR + "NoSuchWindow"),
    (f"{PATH}/profile/other", MANAGER, "ListProfiles", (), ERROR + "NoSuchProfile"),
    (f"{PATH}/{TOKEN}", MANAGER, "ListProfiles", (), STANDARD + "UnknownObject"),
    (f"/{TOKEN * 10_000}", MANAGER, "ListProfiles", (), STANDARD + "UnknownObject"),
    (PATH, PROPERTIES, "Get", (f"<b>{TOKEN}", "Version"), STANDARD + "UnknownInterface"),
    (PATH, PROPERTIES, "GetAll", ("a." + TOKEN * 100,), STANDARD + "UnknownInterface"),
    (PATH, PROPERTIES, "Get", (MANAGER, f"\n{TOKEN}\u202e"), STANDARD + "UnknownProperty"),
    (PATH, PROPERTIES, "GetAll", (MANAGER, TOKEN), STANDARD + "InvalidArgs"),
]


def test_names_of_nothing(host):
    for path, interface, member, arguments, name in NOTHING:
        error = error_of(host.bus.call, member, "s" * len(arguments), *arguments, path=path, interface=interface)
        assert error.name == name and error.text, (path[:100], interface, member, error)
        assert is_clean(error.text) and TOKEN not in error.text


def test_no_bigger_call_reaches_it(host):
    """The bus carries 32 MiB at once."""
    error = error_of(host.bus.call, "Renew", "stt", "a" * (31 << 20), 0, 0, user="nobody", timeout=180)
    assert error.name == ERROR + "NoSuchProfile" and len(error.text) < TEXT_MAX
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="deploy")[0] == "success"
