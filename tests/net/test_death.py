# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever dies, whenever: no port stays open past its window, and the next start finds a clean host.

    POSTERN_TEST_KILLS=10000 POSTERN_TEST_SEED=1 ... pytest tests/net/test_death.py

Hundreds of posternds live one after another, under a prober's eyes, and each is killed: more than half
of them in the middle of a transaction with the kernel's firewall, the others anywhere.
"""

import os
import random
import signal
import time
from collections import Counter
from typing import NamedTuple

import pytest
from mortals import TOO_LATE, Lives
from probe import FAMILIES
from process import now, wait_until
from rounds import number, seed
from sudden import AFTER, ANSWER, BATCHES, BEFORE, CUT, PUT_UP, READ, SOCKETS, WITHIN, Aim
from vigil import TOLERANCE

KILLS = number("POSTERN_TEST_KILLS", 500)
OTHERS = max(KILLS // 12, 4)  # of each of the others
WAITS = max(KILLS // 80, 2)  # rounds that wait for a second or more
TOO_LITTLE_LEFT = "less than a second is left"


def assert_visited(lives: Lives, least: int = 1) -> None:
    """In every family, people were let in: else that nobody was afterwards would say nothing."""
    for family in FAMILIES:
        assert lives.vigil.outcomes[family, "in time", "OPEN"] >= least, f"hardly anybody was let in over {family}"


@pytest.fixture
def lives(testbed):
    with Lives(testbed, random.Random(seed())) as value:
        yield value


class Plan(NamedTuple):
    stage: str  # start, open, mend, close; or any
    aim: Aim


def batch(lives: Lives, stage: str, most: int) -> Plan:
    """In or beside one of the transactions of this stage."""
    moment = lives.random.choices([BEFORE, WITHIN, AFTER, ANSWER], [1, 4, 1, 1])[0]
    # they take longer or shorter: a little more than the last one did
    delay = int(lives.random.uniform(0, 1.1) * lives.batch_nsec[stage])
    return Plan(stage, Aim(BATCHES, lives.random.randint(1, most), moment, delay_nsec=delay))


def exchange(lives: Lives, stage: str) -> Plan:
    """At some other exchange with the kernel: dumps, the ends of connections."""
    kind = lives.random.choice([READ, CUT, SOCKETS] if stage != "open" else [READ])
    moment = lives.random.choice([BEFORE, WITHIN, AFTER, ANSWER])
    delay = lives.random.randrange(50_000)
    return Plan(stage, Aim(kind, lives.random.randint(1, 12), moment, delay_nsec=delay))


def choose(lives: Lives) -> Plan:
    kind = lives.random.random()
    stages = ["start", "open", "close"] if lives.dirty else ["open", "close"]
    if kind < 0.05:
        return batch(lives, "mend", 1)
    if kind < 0.55:
        stage = lives.random.choice(stages)
        return batch(lives, stage, {"start": 2, "open": 1, "close": 3}[stage])
    if kind < 0.7:
        return exchange(lives, lives.random.choice(stages))
    return Plan("any", Aim(life_usec=lives.random.randint(1, 300_000)))


def live(lives: Lives, plan: Plan) -> None:
    """One life: a start, a window, its end; somewhere in it, death."""
    if not lives.start(plan.aim if plan.stage in ("start", "any") else Aim()):
        return
    if plan.stage == "open":
        lives.aim(plan.aim)
    way = lives.random.choice([None, "Close", "SIGTERM"])
    seconds = 600 if way else lives.random.uniform(0, 0.08)
    if lives.request(seconds, duration=lives.random.choice([1.2, 60, 600])):
        lives.hold()
        if lives.random.random() < 0.2:
            lives.request_another()
        if plan.stage == "mend":
            lives.stage = "mend"
            lives.aim(plan.aim)
            lives.reload()
        if plan.stage == "close":
            lives.aim(plan.aim)
        lives.close(way)
    lives.die()


@pytest.mark.seconds(240 + KILLS)
def test_posternd_is_killed(lives):
    # half of them in a transaction, which is a matter of luck
    while lives.kills() < KILLS or lives.in_batch * 2 < KILLS:
        live(lives, choose(lives))
    # a helper that is not told to go, for the door was not opened, has no answer to give
    lives.finish("was put back", TOO_LITTLE_LEFT, "has lost its run")
    assert_visited(lives, KILLS)
    for when in ("right after", "at last"):
        assert lives.spoken[when, "reset"] * 4 >= KILLS, f"hardly anybody was held {when}"


@pytest.mark.seconds(240 + KILLS)
@pytest.mark.parametrize("name", ["/bin/sleep", "postern-run"], ids=["renewal", "helper"])
def test_what_runs_is_killed(lives, name):
    """While the window opens, or later: then it is closed, and nothing else is the matter."""
    answers = Counter()
    assert lives.start()
    for round in range(OTHERS):
        lives.ask()
        wait_until(lambda: lives.renewals(name), f"{name} to run")
        is_open = round == 0 or lives.random.random() < 0.5
        if is_open:
            assert lives.answer() is None
            lives.hold()
            if round == 0:
                lives.vigil.wait_visited()
        time.sleep(lives.random.uniform(0, 0.03))
        os.kill(min(lives.renewals(name)), signal.SIGKILL)  # not what it is about to execute
        error = None if is_open else lives.answer()
        answers[is_open, error] += 1
        if error is None:
            lives.close(None)
        lives.closed()
    # it may die between its `ready` and the opened door, and then cannot be told to go
    deaf = ["Cannot talk to postern-run: Broken pipe"] if name == "postern-run" else []
    lives.finish("was killed by signal 9", "has lost its run", *deaf)
    assert_visited(lives)
    print(answers)
    assert {error for _, error in answers} <= {None, "org.postern.Renewal1.Error.RunFailed"}


@pytest.mark.seconds(240 + KILLS)
def test_polkitd_is_killed(lives):
    """In the middle of a question, which then has no answer; somewhere near one; during a window, which
    is none of its business any more."""
    answers, ways = Counter(), ["question", "window", "near a question"]
    assert lives.start()
    for round in range(OTHERS):
        way = ways[round] if round < len(ways) else lives.random.choice(ways)
        if way == "question":
            lives.testbed.polkit.stop()
        lives.ask()
        error = lives.answer() if way == "window" else None
        time.sleep(lives.random.uniform(0, 0.03))
        lives.testbed.polkit.kill9()
        if way != "window":
            error = lives.answer()
        answers[way, error] += 1
        if error is None:
            lives.hold()
            if way == "window":
                lives.vigil.wait_visited()
            lives.close("Close")
        lives.closed()
        lives.testbed.polkit.start()
    lives.finish("polkit: org.freedesktop.DBus.Error.", "polkit gave no answer", "polkit could not be asked")
    assert_visited(lives)
    print(answers)
    refused = "org.postern.Renewal1.Error.NotAuthorized"
    assert {error for way, error in answers if way == "question"} == {refused}
    assert {error for way, error in answers if way == "window"} <= {None}
    assert {error for way, error in answers} <= {None, refused}


@pytest.mark.seconds(240 + KILLS)
def test_the_bus_is_killed(lives):
    """posternd closes its window, or opens none, and ends."""
    opened = 0
    for round in range(OTHERS):
        assert lives.start()
        lives.ask()
        if round == 0 or lives.random.random() < 0.5:
            assert lives.answer() is None
            lives.hold()
            opened += 1
            if round == 0:
                lives.vigil.wait_visited()
        time.sleep(lives.random.uniform(0, 0.05))
        lives.testbed.bus.kill9()
        lives.end(1)
        lives.new_bus()
    lives.finish("The bus is gone", "polkit: org.freedesktop.DBus.Error.", "polkit gave no answer",
                 "polkit could not be asked", "has lost its run",
                 "logind gives no lock", "Cannot ask logind")  # fmt: skip
    assert_visited(lives)
    print(f"{OTHERS} times the bus, {opened} of them with a window that was open")


@pytest.mark.seconds(240 + 10 * KILLS)
def test_posternd_is_stopped(lives):
    """It does nothing any more, but the kernel's timer does: in the middle of opening, or of the window.
    Then it is killed, too."""
    for round in range(WAITS):
        duration = lives.random.uniform(5.2, 5.8)
        assert lives.start()
        if round % 2:
            assert lives.request(duration=duration)
            lives.hold()
            lives.mortal.stop()
        else:
            moment = lives.random.choice([BEFORE, AFTER, ANSWER])
            kind, count = lives.random.choice([(PUT_UP, 1), (READ, lives.random.randint(1, 12))])
            lives.aim(Aim(kind, count, moment, signal.SIGSTOP))
            lives.ask(duration=duration)
        lives.wait_stopped(duration)
        wait_until(lambda: now() > lives.deadline + 2 * TOLERANCE, "the deadline to pass")
        lives.die()
    lives.finish()
    assert_visited(lives)


@pytest.mark.seconds(240 + 10 * KILLS)
def test_killed_with_little_time_left(lives):
    """From 1500 ms down to none: the next start does not open anew, however much is left."""
    for _ in range(WAITS):
        assert lives.start()
        assert lives.request(duration=lives.random.uniform(5.2, 5.8))
        lives.hold()
        left = lives.random.uniform(0, 1.5) * 1e9
        wait_until(lambda: now() > lives.deadline - left, f"{left / 1e6:.0f} ms to be left")
        lives.die()
    lives.finish()
    assert_visited(lives)


@pytest.mark.seconds(240 + KILLS)
def test_a_storm_of_restarts(lives):
    """A window, then one start after another that comes to nothing."""
    for _ in range(WAITS // 3 or 1):
        assert lives.start()
        assert lives.request()
        lives.hold()
        lives.vigil.wait_visited()
        lives.die()
        for _ in range(20):
            if lives.start(Aim(life_usec=lives.random.randint(1, 30_000))):
                lives.die()
    lives.finish()
    assert_visited(lives)


def test_stopped_while_a_short_window_opens(lives):
    """Less than a second is left when what was committed is read back, or nothing: the window is refused
    for that reason, and for no other."""
    assert lives.start()
    lives.aim(Aim(PUT_UP, 1, AFTER, signal.SIGSTOP))
    lives.ask(duration=5)
    wait_until(lives.mortal.is_stopped, "posternd to be stopped")
    stopped = now()
    wait_until(lambda: now() > stopped + 4_100_000_000, "less than a second to be left")
    lives.mortal.cont()
    assert lives.answer() in TOO_LATE
    lives.closed()
    lives.finish(TOO_LITTLE_LEFT, "has lost its run")


def test_stopped_while_another_window_nears_its_end(lives):
    """A window that ends soon is no reason to refuse another one."""
    assert lives.start()
    assert lives.request(duration=4)
    lives.aim(Aim(PUT_UP, 1, AFTER, signal.SIGSTOP))
    lives.ask_another()
    wait_until(lives.mortal.is_stopped, "posternd to be stopped")
    wait_until(lambda: now() > lives.deadline - 900_000_000, "less than a second to be left")
    lives.mortal.cont()
    assert lives.answer() is None
    lives.finish()


def test_stopped_before_a_window_is_put_up(lives):
    """What was drawn by the clock would then expire too late: it is drawn anew, and opens."""
    assert lives.start()
    lives.aim(Aim(PUT_UP, 1, BEFORE, signal.SIGSTOP))
    lives.ask()
    wait_until(lives.mortal.is_stopped, "posternd to be stopped")
    stopped = now()
    wait_until(lambda: now() > stopped + 200_000_000, "its draft to be out of date")
    lives.mortal.cont()
    assert lives.answer() is None
    lives.finish()
