# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused before anybody is asked, by name and text; and the limits."""

import contextlib
import os

import pytest
from bus import GUESTS
from callers import (
    ERROR,
    INTERACTION_REQUIRED,
    PROFILE,
    WINDOW,
    Call,
    Flood,
    error_of,
    profile,
    renew,
    request_window,
    wait_log,
    wait_no_window,
    windows,
)
from testbed import NAME, PATH, run, wait_until

RENEW = ("Renew", "stt")


@pytest.fixture
def host(testbed):
    testbed.profile("good", profile("/bin/true", window="DefaultDuration=5s\nMaxDuration=1min"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def refused(host, *arguments, user: str = "deploy"):
    error = error_of(host.bus.call, *RENEW, *arguments, user=user)
    assert "asking polkit" not in host.posternd.text()
    assert error.name.startswith(ERROR)
    return error.name.removeprefix(ERROR), error.text


@pytest.mark.parametrize("flags", [2, 3, 1 << 31, 1 << 63, (1 << 64) - 1])
def test_unknown_flags(host, flags):
    name, text = refused(host, "good", 0, flags)
    assert name == "BadFlags" and "pass 0 or 1" in text


@pytest.mark.parametrize("duration", [1, 999_999, 60_000_001, (1 << 64) - 1])
def test_durations_out_of_range(host, duration):
    name, text = refused(host, "good", duration, 0)
    assert name == "BadDuration"
    assert "1000000" in text and "60000000" in text


@pytest.mark.parametrize("duration", [0, 1_000_000, 60_000_000])
def test_durations_in_range(host, duration):
    """Whether a renewal can end within the shortest is another question."""
    window = request_window(host, "deploy", "good", duration)
    opened_at, deadline = (host.bus.get(window, WINDOW, name) for name in ("OpenedAt", "Deadline"))
    assert deadline - opened_at == pytest.approx(duration or 5e6, abs=1e4)


def test_no_such_profile(host):
    name, text = refused(host, "other", 0, 0)
    assert name == "NoSuchProfile" and "ListProfiles" in text


@pytest.mark.parametrize("bad", ["", ".", "..", "../good", "/etc/passwd", "a/b", "-x", "a" * 65, "x\n<4>y", "ü", "a b"])
def test_names_that_no_profile_has(host, bad):
    name, text = refused(host, bad, 0, 0)
    assert name == "NoSuchProfile"
    assert not bad or len(bad) < 3 or bad not in text
    assert "\n<4>y" not in host.posternd.text()


def test_bad_profile_says_where_and_what(host):
    host.profile("bad", "[Renewal]\nExec=/bin/true\nSecretKey=hush\n")
    name, text = refused(host, "bad", 0, 0)
    assert name == "BadProfile"
    assert "bad.conf:3" in text and "hush" not in text
    # it disables no other
    assert host.bus.call(*RENEW, "good", 0, 0, user="deploy")[0] == "success"
    listed = {row[0]: row[3] for row in host.bus.call("ListProfiles", user="visitor")[0]}
    assert listed["good"] == "" and listed["bad"] == text


def test_profile_that_others_can_write_is_bad(host):
    host.profile("good", profile("/bin/true")).chmod(0o666)
    assert refused(host, "good", 0, 0)[0] == "BadProfile"


def test_flags_are_looked_at_before_the_profile_and_that_before_the_duration(host):
    assert refused(host, "other", 1, 2)[0] == "BadFlags"
    assert refused(host, "other", 1, 0)[0] == "NoSuchProfile"


def test_profile_is_read_afresh(host):
    assert host.bus.call(*RENEW, "good", 0, 0, user="deploy")[0] == "success"
    host.profile("good", profile("/bin/false"))
    assert error_of(host.bus.call, *RENEW, "good", 0, 0, user="deploy").name == ERROR + "RenewalFailed"


def test_rate_limit_says_when_to_come_back(host):
    host.profile("rare", profile("/bin/true").replace("100/1h", "2/1h"))
    for _ in range(2):
        assert host.bus.call(*RENEW, "rare", 0, 0, user="deploy")[0] == "success"
    asked = host.posternd.text().count("asking polkit")
    error = error_of(host.bus.call, *RENEW, "rare", 0, 0, user="root")
    assert error.name == ERROR + "RateLimited"
    assert "2 windows in 3600 s" in error.text and "UTC" in error.text
    assert host.posternd.text().count("asking polkit") == asked


def test_refused_requests_are_not_counted(host):
    host.profile("rare", profile("/bin/true").replace("100/1h", "1/1h"))
    for _ in range(3):
        assert error_of(host.bus.call, *RENEW, "rare", 0, 0, user="visitor").name == INTERACTION_REQUIRED
    assert host.bus.call(*RENEW, "rare", 0, 0, user="deploy")[0] == "success"


def test_four_windows_of_one_user_and_no_more(host):
    for number in range(6):
        host.profile(f"long{number}", profile("/bin/sleep 1000"))
    opened = [request_window(host, "deploy", f"long{number}") for number in range(4)]
    error = error_of(request_window, host, "deploy", "long4")
    assert error.name == ERROR + "TooManyWindows"
    # somebody else's are not touched by that
    request_window(host, "root", "long4")
    host.bus.call("Close", interface=WINDOW, path=opened[0], user="deploy")
    request_window(host, "deploy", "long5")


def test_four_questions_of_one_user_and_no_more(host):
    host.polkit.stop()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(renew(host, "visitor", "good"))
        wait_log(host.posternd, "asking polkit", 4)
        fifth = stack.enter_context(renew(host, "visitor", "good"))
        assert fifth.error().name == ERROR + "TooManyWindows"
        other = stack.enter_context(renew(host, "deploy", "good"))
        host.polkit.cont()
        assert other.result()[0] == "success"


def test_waiters_of_one_user_are_bounded(host):
    window = request_window(host, "deploy", "long")
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(Call(host, "visitor", "Wait", interface=WINDOW, path=window)) for _ in range(17)]
        # whichever was last
        (more,) = wait_until(lambda: [call for call in calls if call.answered()], "one to be refused")
        assert more.error().name == ERROR + "TooManyWindows"
        with Call(host, "deploy", "Wait", interface=WINDOW, path=window) as mine:
            host.bus.call("Close", interface=WINDOW, path=window, user="deploy")
            assert mine.result()[0] == "canceled"


def test_calls_of_nobody_known_yet_keep_nobody_out(host):
    """All of them are there before the bus can say whose they are; it gives 256 connections to one uid."""
    host.posternd.stop()
    with Flood(host, "visitor", *RENEW, "good", 0, 0, connections=240), renew(host, "deploy", "good") as call:
        host.posternd.cont()
        assert call.result()[0] == "success"


def test_waiters_and_callers_together_keep_nobody_out(host):
    """Each waiter on a connection of its own, which has to be watched."""
    window = request_window(host, "deploy", "long")
    with contextlib.ExitStack() as stack:
        for guest in GUESTS:
            stack.enter_context(Flood(host, guest, "Wait", interface=WINDOW, path=window, connections=16, calls=1))
        # they are bounded, and have been looked at by now
        error = error_of(host.bus.call, "Wait", interface=WINDOW, path=window, user="visitor")
        assert error.name == ERROR + "TooManyWindows"
        host.posternd.stop()
        stack.enter_context(Flood(host, "visitor", *RENEW, "good", 0, 0, connections=240))
        call = stack.enter_context(renew(host, "deploy", "good"))
        host.posternd.cont()
        assert call.result()[0] == "success"


def test_check_opens_nothing_and_needs_nobody(host):
    findings = host.bus.call("Check", "s", "good", user="visitor")[0]
    assert findings[0][:2] == ("ok", "profile")
    host.profile("bad", "[Renewal]\n")
    findings = host.bus.call("Check", "s", "bad", user="visitor")[0]
    assert findings[0][:2] == ("error", "profile")
    assert error_of(host.bus.call, "Check", "s", "other", user="visitor").name == ERROR + "NoSuchProfile"
    assert windows(host) == []


def test_pre_flights_are_bounded(host):
    def refusal() -> str | None:
        with contextlib.suppress(AssertionError):
            return error_of(host.bus.call, "Check", "s", "good", user="visitor").name
        return None

    assert wait_until(refusal, "a call to be one too many") == ERROR + "RateLimited"
    # for the one who asked so often alone
    assert host.bus.call("Check", "s", "good", user="deploy")[0][0][:2] == ("ok", "profile")


def test_file_that_cannot_be_read_disables_no_other(host):
    """A disk's error, as far as anybody can tell: reading from there is EIO."""
    path = host.profile("broken", "")
    run(["mount", "--bind", "/proc/1/mem", str(path)])
    try:
        listed = {row[0]: row[3] for row in host.bus.call("ListProfiles", user="visitor")[0]}
        assert listed["good"] == "" and "broken.conf could not be read (" in listed["broken"]
        objects = host.bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager", user="visitor")[0]
        assert {f"{PATH}/profile/broken", f"{PATH}/profile/good"} <= set(objects)
    finally:
        run(["umount", str(path)])


def test_profile_objects_remember_the_last_window(host):
    path = next(row[2] for row in host.bus.call("ListProfiles")[0] if row[0] == "good")
    assert host.bus.get(path, PROFILE, "LastResult") == ""
    host.bus.call(*RENEW, "good", 0, 0, user="deploy")
    assert host.bus.get(path, PROFILE, "LastResult", user="visitor") == "success"
    assert host.bus.get(path, PROFILE, "LastClosedAt") > 0
    error = error_of(host.bus.get, f"{PATH}/profile/other", PROFILE, "Name")
    assert error.name == ERROR + "NoSuchProfile"


@pytest.mark.parametrize("call", [("Renew", ""), ("Renew", "s", "x"), ("Renew", "sst", "x", "y", 0), ("Check", "u", 1)])
def test_wrong_arguments(host, call):
    error = error_of(host.bus.call, *call, user="deploy")
    assert error.name == "org.freedesktop.DBus.Error.InvalidArgs"


def test_methods_that_are_not_in_the_table(host):
    for member, interface in (("Renew", WINDOW), ("Reload", NAME + ".Manager"), ("Set", "org.freedesktop.DBus.Properties")):
        error = error_of(host.bus.call, member, interface=interface, user="root")
        assert error.name == "org.freedesktop.DBus.Error.UnknownMethod"


def test_flood_leaves_nothing(host):
    before = len(os.listdir(f"/proc/{host.posternd.pid}/fd"))
    calls = [renew(host, "visitor", "good") for _ in range(40)]
    names = {call.error().name for call in calls}
    assert names <= {INTERACTION_REQUIRED, ERROR + "TooManyWindows"}
    for call in calls:
        call.__exit__()
    assert host.bus.call(*RENEW, "good", 0, 0, user="deploy")[0] == "success"
    wait_no_window(host)
    # the helper takes a moment to exit after its last word
    wait_until(lambda: len(os.listdir(f"/proc/{host.posternd.pid}/fd")) == before, "descriptors to be closed")


def test_waiting_takes_nobody_s_place(host):
    """Whoever waits for a window's end, up to the limit, keeps nobody from asking."""
    window = request_window(host, "deploy", "long")
    calls = [Call(host, "visitor", "Wait", path=window, interface=WINDOW) for _ in range(17)]
    assert wait_until(lambda: [call for call in calls if call.answered()], "the seventeenth to be refused")
    assert error_of(host.bus.call, *RENEW, "good", 0, 0, user="visitor").name == INTERACTION_REQUIRED
    assert host.bus.call(*RENEW, "good", 0, 0, user="deploy")[0] == "success"
    for call in calls:
        call.__exit__()
