# SPDX-License-Identifier: GPL-2.0-or-later
"""Callers that leave, and profiles that change, while polkit is being asked: what opens and what runs is
what polkit said yes to, and nothing else.

POSTERN_TEST_ROUNDS says how often, half of it on each bus, and POSTERN_TEST_SEED with which luck."""

import os
import pickle
import random
import re
import time
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest
from bus import GUESTS, USERS, _last_thing_of_child
from callers import ERROR, INTERACTION_REQUIRED, profile, windows
from meddler import ADDRESS, WITH_HOLDER, Closing, meddle
from model import Model
from process import descriptors
from rounds import number, seed
from standin import Caller, StandIn
from testbed import Testbed, leftovers, processes, wait_until

ROUNDS = number("POSTERN_TEST_ROUNDS", 2_000) // 2
WORKERS = 8
REQUEST, CLOSE = "org.postern.renewal1.request-window", "org.postern.renewal1.close-window"
OPENED = re.compile(
    r"Window of profile (\S+) is open for up to (\d+) s: .* POSTERN_WINDOW=(w[0-9a-f]{12}) .*POSTERN_UID=(\d+)"
)
CLOSED = re.compile(r"Window of profile \S+ is closed: .* POSTERN_WINDOW=(w[0-9a-f]{12}) ")
RESULT = re.compile(r"is closed: .* POSTERN_WINDOW=(w[0-9a-f]{12}) .*POSTERN_RESULT=(\S+)")
GRANTED = re.compile(r"uid (\d+), (\S+), profile (\S+): polkit said yes")
LAWFUL = {ERROR + name for name in ("NotAuthorized", "RateLimited", "TooManyWindows")} | {INTERACTION_REQUIRED}
# what else may come of an edit, a removal or somebody's Close
LAWFUL_LATER = LAWFUL | {
    ERROR + name for name in ("NoSuchProfile", "BadProfile", "NoSuchWindow", "RunFailed", "Canceled")
}


class Opened(NamedTuple):
    profile: str
    seconds: int
    uid: int


def opened_windows(log: str) -> dict[str, Opened]:
    """id → what the daemon says it opened."""
    found = OPENED.findall(log)
    assert len({window for _, _, window, _ in found}) == len(found), "an id was used twice"
    closed = CLOSED.findall(log)
    assert len(set(closed)) == len(closed) and {window for *_, window, _ in found} <= set(closed)
    return {window: Opened(name, int(seconds), int(uid)) for name, seconds, window, uid in found}


def work(function, *arguments) -> list:
    """function(worker, its random source, ...) in WORKERS processes: their results."""
    luck, *arguments = arguments
    pipes = []
    for worker in range(WORKERS):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _last_thing_of_child():
                result = function(worker, random.Random(f"{luck} {worker}"), *arguments)
                with os.fdopen(write_end, "wb") as stream:
                    pickle.dump(result, stream)
        os.close(write_end)
        pipes.append((pid, read_end))
    results = []
    for pid, read_end in pipes:
        with os.fdopen(read_end, "rb") as stream:
            data = stream.read()
        os.waitpid(pid, 0)
        results.append(pickle.loads(data) if data else None)
    assert None not in results, "a worker failed: see above"
    return results


def settle(testbed) -> None:
    wait_until(lambda: not windows(testbed), "every window to close", 60)
    wait_until(
        lambda: not any(line.split()[0].endswith("postern-run") for line in processes().values()),
        "every helper to be gone",
    )


@pytest.fixture
def lone(bus_kind):
    """A testbed with a stand-in's place instead of polkit's."""
    before = leftovers()
    with Testbed(polkit=False, bus=bus_kind) as value:
        yield value
    wait_until(lambda: leftovers() == before, f"everything to be gone but {before}")


# --- callers that leave ----------------------------------------------------------------------------


class Visit(NamedTuple):
    sender: str
    uid: int
    profile: str
    seconds: int
    stayed: bool
    result: str  # the name of an error; "" where it stayed and got its window, or left


def visit(worker: int, source: random.Random, testbed, rounds: int, profiles: int, users: list[int]) -> list[Visit]:
    """Asks, and leaves after at most twice the time that an answer takes; sometimes it stays."""
    visits = []
    round_trip = 0.01
    for count in range(rounds):
        uid = source.choice(users)
        name = f"p{source.randrange(profiles // WORKERS) * WORKERS + worker}"
        seconds = source.randrange(30, 3600)  # no run takes that long
        caller = Caller(testbed, uid)
        begun = time.monotonic()
        member = source.choice(["Renew", "RequestWindow"])
        serial = caller.call(ADDRESS, member, "stt", name, seconds * 1_000_000, 0)
        if stays := count < 5 or source.random() < 0.1:
            error, _ = caller.result(serial)
            # how long a no takes is how long polkit does
            if error and error in (ERROR + "NotAuthorized", INTERACTION_REQUIRED):
                round_trip = 0.8 * round_trip + 0.2 * (time.monotonic() - begun)
        else:
            time.sleep(source.uniform(0, 2 * round_trip))
        caller.close()
        visits.append(Visit(caller.name, uid, name, seconds, stays, error if stays else ""))
    return visits


def write_plain_profiles(testbed, count: int) -> None:
    for number_ in range(count):
        testbed.profile(f"p{number_}", profile("/bin/true", window="MaxDuration=1h"))


@pytest.mark.seconds(240 + ROUNDS // 10)
def test_callers_that_leave(lone):
    """No window without a yes to exactly this caller, profile and duration, and none for who had left."""
    luck, count = seed(), 10 * WORKERS
    write_plain_profiles(lone, count)
    users = [USERS[guest][0] for guest in GUESTS]
    with StandIn(lone, f"{luck} polkit", 0.02) as polkit, lone.daemon() as daemon:
        idle = descriptors(daemon.pid)
        work(visit, f"{luck} first", lone, 10, count, users)
        settle(lone)
        visits = sum(work(visit, luck, lone, ROUNDS // WORKERS, count, users), [])
        settle(lone)
        wait_until(lambda: descriptors(daemon.pid) == idle, f"no more descriptors than {idle}")
        polkit.end()
        opened = opened_windows(daemon.text())
        granted = Counter(GRANTED.findall(daemon.text()))
    by_sender = {visit.sender: visit for visit in visits}
    yes: dict[Opened, list] = defaultdict(list)
    for question in polkit.book:
        assert question.action == REQUEST and (question.ports, question.gate) == ("none", "auto"), question
        if question.sender in by_sender:
            asked = by_sender[question.sender]
            assert (question.profile, question.duration) == (asked.profile, asked.seconds)
        if question.answer == "yes":
            uid = by_sender[question.sender].uid if question.sender in by_sender else None
            yes[question.profile, question.duration].append((uid, question.left))
    for window, what in opened.items():
        allowed = yes[what.profile, what.seconds]
        assert any(not left and uid in (None, what.uid) for uid, left in allowed), f"{window}: {what}, {allowed}"
    for (uid, action, name), times in granted.items():
        # polkit's yes is recorded before it is known whether anybody is left to have it
        answers = [q for q in polkit.book if q.answer == "yes" and q.profile == name]
        assert action == REQUEST and times <= len(answers), f"more was granted than was said yes to: {uid}, {name}"
    assert {visit.result for visit in visits} - {""} <= LAWFUL
    asked = [q for q in polkit.book if q.sender in by_sender]
    kinds = Counter(f"{q.answer}, {'left' if q.left else 'there'}" for q in asked)
    print(f"{len(visits)} visits, {len(asked)} questions ({dict(kinds)}), {polkit.canceled} taken back, {len(opened)} windows")
    assert len(asked) > ROUNDS / 4 and kinds["yes, left"] > ROUNDS / 40 and kinds["yes, there"] > ROUNDS / 40
    assert len(opened) > ROUNDS / 50


@pytest.mark.seconds(240 + ROUNDS // 10)
def test_callers_that_leave_the_real_polkit(testbed):
    """The same; its rule looks at the details, so what opened says what they were."""
    luck, count, rounds = seed(), 10 * WORKERS, ROUNDS // 5
    write_plain_profiles(testbed, count)
    testbed.polkit.add_rule(f"""polkit.addRule(function(action, subject) {{
        if (action.id !== "{REQUEST}")
            return;
        return action.lookup("duration") % 2 === 1 && subject.user !== "guest0" ? polkit.Result.YES : polkit.Result.NO;
    }});""")
    users = [USERS[guest][0] for guest in GUESTS]
    with testbed.daemon() as daemon:
        idle = descriptors(daemon.pid)
        work(visit, f"{luck} first", testbed, 3, count, users)
        settle(testbed)
        visits = sum(work(visit, luck, testbed, rounds // WORKERS, count, users), [])
        settle(testbed)
        wait_until(lambda: descriptors(daemon.pid) == idle, f"no more descriptors than {idle}")
        opened = opened_windows(daemon.text())
    print(f"{len(visits)} visits, {len(opened)} windows")
    asked = {(visit.profile, visit.seconds, visit.uid) for visit in visits}
    assert all(what.seconds % 2 == 1 and what.uid != users[0] for what in opened.values())
    assert sum((what.profile, what.seconds, what.uid) in asked for what in opened.values()) > rounds / 50
    assert {visit.result for visit in visits} - {""} <= LAWFUL


# --- profiles that change --------------------------------------------------------------------------


def check_runs(marks: list[tuple], opened: dict, versions: dict, requests: dict, book: list) -> None:
    """What ran is a version of the profile that was there between the call and the question, with the
    ports that polkit was shown; in a window of the duration, and of the uid, that polkit said yes to."""
    assert len({window for *_, window in marks}) == len(marks), "a window ran twice"
    yes = defaultdict(list)
    for question in book:
        if question.answer == "yes" and question.action == REQUEST and not question.left:
            yes[question.profile, question.duration].append(question)
    ran = {window: (name, int(number_)) for name, number_, window in marks}
    for window, what in opened.items():
        allowed = [
            q for q in yes[what.profile, what.seconds]
            if (asked := requests.get((q.sender, q.duration))) and asked.uid == what.uid
        ]  # fmt: skip
        assert allowed, f"{window}: {what} without a yes"
        if window not in ran:
            continue
        name, number_ = ran[window]
        version = versions[name][number_]
        assert name == what.profile
        assert any(
            q.ports == version.ports and version.written_at <= q.asked_at and q.gate == "none"
            and version.replaced_at >= requests[q.sender, q.duration].sent_at
            for q in allowed
        ), f"{window} ran {version}, but polkit was asked {allowed}"  # fmt: skip
    assert set(ran) <= set(opened), "something ran without a window"


def check_closings(closings: list[Closing], canceled: set[str], opened: dict, book: list) -> int:
    """Who opened it may close it; for others polkit said yes to just that. How many others could."""
    others = 0
    for window in canceled & set(opened):
        what = opened[window]
        asked = [closing for closing in closings if closing.window == window]
        if what.profile.startswith(WITH_HOLDER) or any(closing.uid == what.uid for closing in asked):
            continue
        senders = {closing.sender for closing in asked}
        wanted = (CLOSE, what.profile, what.seconds, "yes")
        assert any(
            q.sender in senders and (q.action, q.profile, q.duration, q.answer) == wanted for q in book
        ), f"{window}: {what} was closed without a yes by one of {asked}"  # fmt: skip
        others += 1
    return others


@pytest.mark.seconds(240 + ROUNDS // 5)
def test_profiles_that_change(lone):
    """Joins, closes, second requests and edits while polkit is being asked."""
    luck = seed()
    with StandIn(lone, f"{luck} polkit", 0.02, yes=0.75) as polkit, lone.daemon() as daemon:
        idle = descriptors(daemon.pid)
        work(meddle, f"{luck} first", lone, 3)
        settle(lone)
        marks_before = len((lone.directory / "marks").read_text().splitlines())
        log_before = daemon.text()
        for file in (lone.config / "profiles").iterdir():
            file.unlink()
        with Model(lone) as model:
            results = work(meddle, luck, lone, ROUNDS // WORKERS)
            settle(lone)
        wait_until(lambda: descriptors(daemon.pid) == idle, f"no more descriptors than {idle}")
        polkit.end()
        log = daemon.text()[len(log_before):]
        opened = opened_windows(log)
        canceled = {window for window, result in RESULT.findall(log) if result == "canceled"}
        marks = [tuple(line.split()) for line in (lone.directory / "marks").read_text().splitlines()[marks_before:]]
    requests = sum((result.requests for result in results), [])
    closings = sum((result.closings for result in results), [])
    versions = {name: texts for result in results for name, texts in result.versions.items()}
    # the first of several that ask for the same
    asked = {(request.sender, request.seconds): request for request in reversed(requests)}
    done = sum((result.done for result in results), Counter())
    answers = Counter(request.result.rpartition(".")[2] or "window" for request in requests)
    print(f"{ROUNDS // WORKERS * WORKERS} rounds: {dict(done)}; {dict(answers)}; {len(opened)} windows, "
          f"{len(marks)} runs, {len(canceled)} canceled, {len(polkit.book)} questions; {model.states()}")  # fmt: skip

    assert not model.problems, "\n".join(model.problems[:20])
    assert set(model.states()) == {"closed"} and model.seen >= len(opened)
    check_runs(marks, opened, versions, asked, polkit.book)
    assert check_closings(closings, canceled, opened, polkit.book) > ROUNDS / 500
    assert {request.result for request in requests} - {"", "left"} <= LAWFUL_LATER
    assert {closing.result for closing in closings} - {""} <= LAWFUL_LATER
    paths = {request.path for request in requests if request.path}
    assert {path.rpartition("/")[2] for path in paths} <= set(opened)
    assert len(opened) > ROUNDS / 5 and len(marks) > ROUNDS / 10 and len(paths) > ROUNDS / 10
