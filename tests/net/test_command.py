# SPDX-License-Identifier: GPL-2.0-or-later
"""A firewall elsewhere (Type=command): opened after this host's own and closed after it, whatever fails in
between; and closed in the end, whoever has to do that."""

import contextlib
import os
import random
import threading
import time

import pytest
from bus import BusError, MANAGER, PATH
from cloud import SETTLING, Cloud, records, unsettled
from labels import let_in
from net import OFFICE4
from probe import FAMILIES, HeldConnection, Listener, Outcome, Prober
from process import now, run, wait_until
from scene import PATIENCE, TOLERANCE, WINDOW, Renewal, state, wait_state
from story import IDS

PROFILE = "org.postern.Renewal1.Profile"
CLOSE_FAILED, CLOSE_OWED, CLOSE_DONE = (
    f"MESSAGE_ID={IDS[name]}" for name in ("close_failed", "close_owed", "close_done")
)


@pytest.fixture
def cloud(testbed):
    with Cloud() as value:
        yield value


def owed(testbed) -> tuple[int, bool]:
    return (
        testbed.bus.get(PATH, MANAGER, "OwedCloses"),
        testbed.bus.get(f"{PATH}/profile/web", PROFILE, "CloseOwed"),
    )


def assert_silent(prober, since: int) -> None:
    for family in FAMILIES:
        assert prober.outcomes(family, since + TOLERANCE, count=50) == {Outcome.SILENT}


def log_lines(daemon, text: str) -> list[str]:
    return [line for line in daemon.text().splitlines() if text in line]


def test_window(testbed, cloud):
    """Shut, open, shut; in the right order, with all that a command may need to know."""
    renewal = Renewal(testbed, gate=cloud.gate())
    before = testbed.net.ruleset()
    with testbed.daemon(), Listener(), Prober() as prober, HeldConnection(source=OFFICE4) as office:
        window = renewal.request()
        assert state(testbed, window, "Gate") == "nftables: inet filter input; command"
        opened, = cloud.calls
        assert opened.verb == "open" and "table inet postern " in opened.ruleset
        assert records(testbed.state) == [window.rsplit("/", 1)[1]]
        assert owed(testbed) == (0, False)
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        deadline = state(testbed, window, "Deadline") // 1_000_000
        renewal.finish()
        wait_state(testbed, window, "closed")
        event = now()
        assert state(testbed, window, "Result") == "success"
        opened, closed = cloud.calls
        assert closed.verb == "close" and "table inet postern " not in closed.ruleset
        for call in cloud.calls:
            assert call.ports == ["80/tcp"]
            assert call.environment["POSTERN_WINDOW"] == window.rsplit("/", 1)[1]
            assert call.environment["POSTERN_PROFILE"] == "web"
            assert abs(int(call.environment["POSTERN_DEADLINE"]) - deadline) <= 1
        assert not cloud.is_open() and records(testbed.state) == []
        assert owed(testbed) == (0, False)
        assert_silent(prober, event)
        assert office.state(PATIENCE) == "alive"
        assert testbed.net.ruleset() == before
        for family in FAMILIES:  # and never before
            assert {knock.outcome for knock in prober.knocks(family) if knock.ended < opened.at} == {Outcome.SILENT}


def test_output_is_in_the_journal(testbed, cloud):
    renewal = Renewal(testbed, gate=cloud.gate())
    with testbed.daemon() as daemon:
        window = renewal.request()
        renewal.finish()
        wait_state(testbed, window, "closed")
        for key in ("OpenCommand=", "CloseCommand="):
            line, = log_lines(daemon, f"{key} the cloud says done")
            assert f"POSTERN_WINDOW={window.rsplit('/', 1)[1]}" in line and "POSTERN_PROFILE=web" in line


def refusal(renewal) -> BusError:
    with pytest.raises(BusError) as caught:
        renewal.request()
    assert caught.value.name == "org.postern.Renewal1.Error.GateFailed"
    return caught.value


@pytest.mark.parametrize("way", ["broken", "half"])
def test_opening_fails(testbed, cloud, way):
    """Also what was half done is taken back."""
    renewal = Renewal(testbed, gate=cloud.gate())
    getattr(cloud, way).add("open")
    with testbed.daemon() as daemon, Listener(), Prober() as prober:
        since = now()
        assert "OpenCommand= of profile web ended with exit status 1" in refusal(renewal).text
        assert cloud.verbs() == ["open", "close"]
        assert not cloud.is_open() and not renewal.tree()
        assert len(unsettled(testbed.state)) == 1 and owed(testbed) == (1, True)
        assert log_lines(daemon, "did not succeed, and what it has asked for may take effect late: it is closed elsewhere")
        if way == "broken":
            for family in FAMILIES:
                assert prober.outcomes(family, since) == {Outcome.SILENT}


def test_opening_fails_and_closing_too(testbed, cloud):
    renewal = Renewal(testbed, gate=cloud.gate())
    cloud.half.add("open")
    cloud.broken.add("close")
    with testbed.daemon():
        refusal(renewal)
        assert owed(testbed) == (1, True) and cloud.is_open()
        cloud.broken.clear()
        wait_until(lambda: not cloud.is_open(), "the close")


def test_no_such_command(testbed, cloud):
    gate = f"[Gate]\nType=command\nOpenCommand=/nonexistent\nCloseCommand={cloud.script} close\n"
    renewal = Renewal(testbed, gate=gate)
    with testbed.daemon():
        assert "the program of OpenCommand= of profile web does not exist" in refusal(renewal).text
        assert cloud.verbs() == ["close"]


def test_local_firewall_refuses(testbed, cloud):
    """Then nothing is asked elsewhere."""
    renewal = Renewal(testbed, gate=cloud.gate() + "Chain=inet nowhere input\n")
    with testbed.daemon():
        assert "Chain=" in refusal(renewal).text
        assert cloud.verbs() == [] and records(testbed.state) == []


def test_canceled_while_opening(testbed, cloud):
    """This host is shut at once, though the command has not answered; then it is ended, and closed; and
    once more, as what it has asked for takes effect only then."""
    cloud.hold["open"] = threading.Event()
    renewal = Renewal(testbed, gate=cloud.gate())
    before = testbed.net.ruleset()
    with testbed.daemon():
        caller = testbed.bus.busctl_start("deploy", *testbed.renew_arguments("web"))
        wait_until(lambda: cloud.calls, "the command")
        window = testbed.bus.call("ListWindows")[0][0][4]
        assert state(testbed, window) == "opening"
        testbed.bus.call("Close", interface=WINDOW, path=window, user="deploy")
        assert state(testbed, window, "Result") == "canceled"
        wait_state(testbed, window, "closed")
        assert caller.wait() != 0
        assert cloud.verbs() == ["open", "close"]
        assert "table inet postern " not in cloud.calls[1].ruleset
        assert len(unsettled(testbed.state)) == 1 and owed(testbed) == (1, True)
        cloud.hold.pop("open").set()
        wait_until(cloud.is_open, "the change to take effect")
        wait_until(lambda: owed(testbed) == (0, False), "the second close", SETTLING)
        assert cloud.verbs() == ["open", "close", "close"] and not cloud.is_open()
        assert cloud.calls[2].at - cloud.calls[1].at > 50_000_000_000
        assert records(testbed.state) == [] and testbed.net.ruleset() == before


def test_close_is_owed_until_it_succeeds(testbed, cloud):
    """The window does not wait for it; others see it; the attempts come at longer and longer intervals."""
    renewal = Renewal(testbed, gate=cloud.gate())
    cloud.broken.add("close")
    with testbed.daemon() as daemon, Listener(), Prober() as prober:
        window = renewal.request()
        name = window.rsplit("/", 1)[1]
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        renewal.finish()
        wait_state(testbed, window, "closed")
        event = now()
        assert state(testbed, window, "Result") == "success"
        assert owed(testbed) == (1, True) and records(testbed.state) == [name]
        assert_silent(prober, event)
        wait_until(lambda: cloud.verbs().count("close") == 4, "three more attempts")
        times = [call.at for call in cloud.calls if call.verb == "close"]
        pauses = [later - earlier for earlier, later in zip(times, times[1:])]
        assert all(pause > seconds * 1e9 for pause, seconds in zip(pauses, (1, 2, 4)))
        wait_until(lambda: len(log_lines(daemon, CLOSE_FAILED)) == 4, "the fourth to have failed")
        for number, line in enumerate(log_lines(daemon, CLOSE_FAILED)):
            assert f"POSTERN_ATTEMPTS={number + 1} POSTERN_RETRY_USEC={2**number}000000" in line, line
            assert f"POSTERN_WINDOW={name} POSTERN_PORTS=80/tcp POSTERN_GATE=command" in line, line
        cloud.broken.clear()
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert not cloud.is_open() and records(testbed.state) == []
        line, = log_lines(daemon, CLOSE_DONE)
        assert f"POSTERN_WINDOW={name}" in line and "POSTERN_PROFILE=web" in line
        assert f"What window {name} of profile web had opened elsewhere is closed at last." in line
        assert cloud.calls[-1].environment["POSTERN_WINDOW"] == name


def test_does_not_leave_while_a_close_is_owed(testbed, cloud):
    renewal = Renewal(testbed, gate=cloud.gate())
    daemon = testbed.daemon().start()
    renewal.request()
    daemon.kill9()
    daemon.wait()
    cloud.broken.add("close")
    with testbed.daemon("--idle-exit=1") as daemon:
        # the third comes three seconds after the first
        wait_until(lambda: cloud.verbs().count("close") == 3, "three attempts")
        assert daemon.alive() and cloud.is_open()
        cloud.broken.clear()
        assert daemon.wait() == 0
        assert not cloud.is_open() and records(testbed.state) == []


def test_next_window_of_the_profile(testbed, cloud):
    """While it is open, nothing of the last one is closed, which would close this one, too."""
    renewal = Renewal(testbed, gate=cloud.gate())
    cloud.broken.add("close")
    with testbed.daemon(), Listener(), Prober() as prober:
        first = renewal.request()
        renewal.finish()
        wait_state(testbed, first, "closed")
        assert owed(testbed) == (1, True)
        second = renewal.request()
        n = cloud.verbs().count("close")
        cloud.broken.clear()
        since = now()
        # the second attempt would be due after a second
        wait_until(lambda: now() - since > 3_000_000_000, "time to pass")
        assert cloud.verbs().count("close") == n and cloud.is_open()
        for family in FAMILIES:
            assert Outcome.OPEN in prober.outcomes(family, since)
        renewal.finish()
        wait_state(testbed, second, "closed")
        wait_until(lambda: owed(testbed) == (0, False), "the first one's close")
        assert {call.environment["POSTERN_WINDOW"] for call in cloud.calls[-2:]} == {
            path.rsplit("/", 1)[1] for path in (first, second)
        }
        assert records(testbed.state) == []


def test_killed_in_a_window(testbed, cloud):
    """This host is shut at once; the next start closes the other, with the ports that were opened."""
    renewal = Renewal(testbed, window="Ports=80/tcp 443/tcp", gate=cloud.gate())
    daemon = testbed.daemon().start()
    before = testbed.net.ruleset()
    with Listener(), Prober() as prober:
        window = renewal.request()
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        daemon.kill9()
        event = now()
        daemon.wait()
        assert_silent(prober, event)
        assert cloud.is_open() and cloud.verbs() == ["open"]
        testbed.profile("web", f"[Renewal]\nExec=/bin/true\n[Window]\nPorts=8080/tcp\n{cloud.gate()}")
        with testbed.daemon() as daemon:
            wait_until(lambda: owed(testbed) == (0, False), "the close")
            assert cloud.verbs() == ["open", "close"] and not cloud.is_open()
            call = cloud.calls[1]
            assert call.ports == ["80/tcp", "443/tcp"]
            assert call.environment["POSTERN_WINDOW"] == window.rsplit("/", 1)[1]
            assert call.environment["POSTERN_DEADLINE"] == cloud.calls[0].environment["POSTERN_DEADLINE"]
            line, = log_lines(daemon, CLOSE_OWED)
            assert r"POSTERN_PORTS=80/tcp\x20443/tcp" in line and "POSTERN_DEADLINE_USEC=" in line, line
            wait_until(lambda: testbed.net.ruleset() == before, "nothing of it to be left")
            assert not let_in()


def test_killed_while_opening(testbed, cloud):
    """The command ends with posternd, and what it may have done is taken back."""
    cloud.hold["open"] = threading.Event()
    renewal = Renewal(testbed, gate=cloud.gate())
    daemon = testbed.daemon().start()
    caller = testbed.bus.busctl_start("deploy", *testbed.renew_arguments("web"))
    wait_until(lambda: cloud.calls, "the command")
    daemon.kill9()
    daemon.wait()
    assert caller.wait() != 0
    with testbed.daemon():
        # perhaps the command was killed before it could ask
        wait_until(lambda: cloud.verbs() == ["open", "close"], "the close")
        wait_until(lambda: not cloud.is_open() and owed(testbed) == (1, True), "the close to be told")
    cloud.hold.pop("open").set()
    wait_until(cloud.is_open, "the change to take effect")
    with testbed.daemon():
        wait_until(lambda: not cloud.is_open(), "the next close")
        assert cloud.verbs() == ["open", "close", "close"] and len(unsettled(testbed.state)) == 1
    assert not renewal.tree()


def test_told_to_end_while_the_close_hangs(testbed, cloud):
    """It does not wait for ever, and not in vain: the next start goes on."""
    cloud.hold["close"] = threading.Event()
    renewal = Renewal(testbed, gate=cloud.gate())
    daemon = testbed.daemon().start()
    window = renewal.request()
    begun = now()
    daemon.sigterm()
    assert daemon.wait() == 0
    assert now() - begun < 15_000_000_000
    assert records(testbed.state) == [window.rsplit("/", 1)[1]] and cloud.is_open()
    cloud.hold.pop("close").set()
    with testbed.daemon():
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert not cloud.is_open() and records(testbed.state) == []


def test_told_to_end_during_another_attempt(testbed, cloud):
    """What is owed already nobody waits for: that attempt is ended, and the next start goes on. A window that is
    open till then keeps the service there to say so."""
    renewal = Renewal(testbed, gate=cloud.gate())
    closed = testbed.directory / "closed"
    slow = f"CloseCommand=/bin/sh -c 'while ! test -e {closed}; do sleep 0.05; done'\n"
    other = Renewal(testbed, "other", window="Ports=443/tcp", gate=f"[Gate]\nType=command\nOpenCommand=/bin/true\n{slow}")
    cloud.broken.add("close")
    daemon = testbed.daemon().start()
    other.request()
    window = renewal.request()
    renewal.finish()
    wait_state(testbed, window, "closed")
    assert owed(testbed) == (1, True)
    cloud.hold["close"] = threading.Event()
    n = len(cloud.calls)
    wait_until(lambda: len(cloud.calls) > n, "the next attempt")
    daemon.sigterm()
    said = "is not closed there: CloseCommand= of profile web was ended before it was done. It is shut on this host"
    wait_until(lambda: log_lines(daemon, said), "the attempt to be ended")
    closed.touch()
    assert daemon.wait() == 0
    cloud.broken.clear()
    cloud.hold.pop("close").set()
    with testbed.daemon():
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert not cloud.is_open() and records(testbed.state) == []


def test_profile_is_gone(testbed, cloud):
    """Nobody knows how to close any more; it is owed until somebody does."""
    renewal = Renewal(testbed, gate=cloud.gate())
    path = testbed.config / "profiles/web.conf"
    text = path.read_text()
    with testbed.daemon() as daemon:
        window = renewal.request()
        path.write_text("[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n")
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert owed(testbed) == (1, True)
        assert log_lines(daemon, "its profile has no CloseCommand= any more")
        path.write_text(text)
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert not cloud.is_open()


@pytest.mark.parametrize("line", ["User=nobody", "Environment=FIREWALL=another"])
def test_profile_opens_elsewhere_by_now(testbed, cloud, line):
    """That it closes is no proof that what was opened is shut: it might be something else."""
    renewal = Renewal(testbed, gate=cloud.gate())
    path = testbed.config / "profiles/web.conf"
    text = path.read_text()
    with testbed.daemon() as daemon:
        window = renewal.request()
        path.write_text(text.replace("[Renewal]\n", f"[Renewal]\n{line}\n"))
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert owed(testbed) == (1, True) and cloud.verbs()[:2] == ["open", "close"]
        said = log_lines(daemon, CLOSE_FAILED)[0]
        assert "opens in another way than then" in said and "put those back" in said
        # a close that was mended counts
        other = testbed.directory / "mended"
        other.write_bytes(cloud.script.read_bytes())
        other.chmod(0o755)
        path.write_text(text.replace(f"CloseCommand={cloud.script}", f"CloseCommand={other}"))
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert not cloud.is_open()


@pytest.mark.parametrize("text", [b"", b"Version=2\n", b"\xff" * 5000], ids=["empty", "later", "garbage"])
def test_record_that_is_none(testbed, cloud, text):
    """It is kept for a person to look at, and keeps nothing else from being closed."""
    renewal = Renewal(testbed, gate=cloud.gate())
    daemon = testbed.daemon().start()
    window = renewal.request()
    daemon.kill9()
    daemon.wait()
    (testbed.state / "owed/w0123456789ab").write_bytes(text)
    for _ in range(2):
        with testbed.daemon() as daemon:
            wait_until(lambda: owed(testbed)[0] == 0, "the close")
            assert cloud.verbs() == ["open", "close"] and window
            said = log_lines(daemon, "w0123456789ab.bad in the state directory, cannot be read")
            assert records(testbed.state) == ["w0123456789ab.bad"]
            assert bool(said) == (_ == 0)
    assert not cloud.is_open()


def test_nothing_can_be_written_down(testbed, cloud):
    """Then nothing is opened, either."""
    renewal = Renewal(testbed, gate=cloud.gate())
    testbed.state.mkdir(mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(testbed.state)])
    try:
        with testbed.daemon():
            with contextlib.suppress(OSError):
                (testbed.state / "fill").write_bytes(bytes(1 << 20))
            assert "could not be written down" in refusal(renewal).text
            assert cloud.verbs() == [] and records(testbed.state) == []
    finally:
        run(["umount", "--lazy", str(testbed.state)])


def test_check(testbed, cloud):
    """It says what there is, runs nothing, and does not keep back what is owed."""
    renewal = Renewal(testbed, gate=cloud.gate())

    def findings() -> dict[str, tuple[str, str]]:
        return {subject: (level, text) for level, subject, text in testbed.bus.call("Check", "s", "web")[0]}

    with testbed.daemon():
        found = findings()
        level, text = found["firewall elsewhere"]
        assert level == "ok" and "opens it and CloseCommand= closes it, which this does not try" in text and "CloseOwed" not in found
        assert str(cloud.script) in found["OpenCommand"][1] and str(cloud.script) in found["CloseCommand"][1]
        assert cloud.verbs() == []
        cloud.broken.add("close")
        window = renewal.request()
        renewal.finish()
        wait_state(testbed, window, "closed")
        level, text = findings()["CloseOwed"]
        assert level == "note" and "is not closed there yet; it is tried again, and till then its ports are shut here" in text
        cloud.script.chmod(0o644)
        assert findings()["CloseCommand"][0] == "error"
        cloud.script.chmod(0o755)
        cloud.broken.clear()
        wait_until(lambda: owed(testbed) == (0, False), "the close")
        assert "CloseOwed" not in findings()


@pytest.mark.seconds(480)
def test_killed_at_any_moment(testbed, cloud):
    """Before, during and after each step: the next start closes whatever may be open, and finds nothing that it
    has no note of."""
    seed = int(os.environ.get("POSTERN_TEST_SEED", random.randrange(1 << 32)))
    print(f"POSTERN_TEST_SEED={seed}")
    moments = random.Random(seed)
    renewal = testbed.directory / "short"
    renewal.write_text("#!/bin/sh\nsleep 0.1\n")
    renewal.chmod(0o755)
    testbed.profile("web", f"[Renewal]\nExec={renewal}\n[Window]\nPorts=80/tcp\nRateLimit=100/1h\n{cloud.gate()}")
    before = testbed.net.ruleset()
    seen = set()
    for left in reversed(range(25)):
        daemon = testbed.daemon().start()
        caller = testbed.bus.busctl_start("deploy", *testbed.renew_arguments("web"))
        n = len(cloud.calls)
        wait_until(lambda: "asking polkit" in daemon.text(), "the request")
        until = now() + moments.randrange(1_500_000_000)
        wait_until(lambda: now() > until or caller.popen.poll() is not None, "the moment")
        daemon.kill9()
        daemon.wait()
        caller.wait()
        seen.add(tuple(cloud.verbs()[n:]))
        assert not cloud.is_open() or records(testbed.state), "it is open, and nobody knows"
        with testbed.daemon():
            wait_until(lambda: not cloud.is_open(), "it to be closed")
            wait_until(lambda: records(testbed.state) == unsettled(testbed.state), "what is owed to be done")
            if not records(testbed.state):
                wait_until(lambda: testbed.net.ruleset() == before, "nothing of ours to be left")
        # each start would close all of them again, one after the other, and have a minute begin anew
        for name in records(testbed.state) if left else []:
            (testbed.state / "owed" / name).unlink()
    with testbed.daemon():
        wait_until(lambda: records(testbed.state) == [], "what was not settled to be closed again", SETTLING)
        assert not cloud.is_open() and owed(testbed) == (0, False)
        wait_until(lambda: testbed.net.ruleset() == before, "nothing of ours to be left")
    assert len(seen) > 1, "it was always killed at the same step"
