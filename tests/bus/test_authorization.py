# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may: with the real polkitd, without it, and with one that does not answer."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from callers import (
    ERROR,
    INTERACTION_REQUIRED,
    WINDOW,
    Call,
    error_of,
    interfaces,
    monitor,
    profile,
    renew,
    request_window,
    send_signal,
    wait_log,
    windows,
)
from testbed import PATH, Process, build_directory, wait_until

SOURCE = Path(__file__).parents[2]


@pytest.fixture
def host(testbed):
    testbed.profile("good", profile("/bin/true"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def test_members_of_the_group_may_others_may_not(host):
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="deploy")[0] == "success"
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="root")[0] == "success"
    error = error_of(host.bus.call, "Renew", "stt", "good", 0, 0, user="visitor", interactive=True)
    assert error.name == ERROR + "NotAuthorized"
    assert "org.postern.renewal1.request-window" in error.text and "group postern" in error.text


def test_without_a_prompt_a_call_says_that_one_is_needed(host):
    host.polkit.add_rule("""polkit.addRule(function(action, subject) {
        if (action.id === "org.postern.renewal1.request-window")
            return polkit.Result.AUTH_ADMIN;
    });""")
    error = error_of(host.bus.call, "Renew", "stt", "good", 0, 0, user="visitor")
    assert error.name == INTERACTION_REQUIRED


def test_busctl_shows_the_text(host):
    said = host.renew("visitor", "good")
    assert not said.ok and "request-window" in said.text


def authorised_methods():
    """Every method of ours, as the documentation has it, and whether it is for everybody."""
    free = {"ListProfiles", "ListWindows", "Check", "Wait"}
    for path in sorted((SOURCE / "dbus").glob("*.xml")):
        for interface, members in interfaces(path.read_text()).items():
            for (kind, name), (arguments, *_) in members.items():
                if kind == "method":
                    signature = "".join(t for _, t, direction in arguments if direction == "in")
                    yield interface, name, signature, name in free


def test_every_method_refuses_a_stranger_or_is_for_everybody(host):
    window = request_window(host, "deploy", "long")
    values = {"s": "good", "t": 0, "u": 0}
    methods = list(authorised_methods())
    assert len(methods) == 8
    for interface, name, signature, is_free in methods:
        path = window if interface == WINDOW else PATH
        call = Call(host, "visitor", name, signature, *(values[t] for t in signature), interface=interface, path=path)
        with call:
            if is_free:
                assert name == "Wait" or call.result() is not None
            else:
                assert call.error().name == INTERACTION_REQUIRED, name
    assert [row[3] > 0 for row in windows(host)] == [True]
    assert host.bus.get(window, WINDOW, "State") == "open"


def test_details_are_what_rules_decide_by(host):
    host.profile("web", profile("/bin/true", ports="80/tcp 443/tcp", gate="none"))
    host.polkit.add_rule("""polkit.addRule(function(action, subject) {
        if (action.id !== "org.postern.renewal1.request-window" || subject.user !== "visitor")
            return;
        return action.lookup("profile") === "web" && action.lookup("ports") === "80/tcp 443/tcp" &&
               action.lookup("duration") === "23" && action.lookup("gate") === "none"
               ? polkit.Result.YES : polkit.Result.NO;
    });""")
    # 22.000001 s are rounded up
    assert host.bus.call("Renew", "stt", "web", 22_000_001, 0, user="visitor")[0] == "success"
    for name, duration in (("web", 22_000_000), ("web", 23_000_001), ("good", 23_000_000)):
        error = error_of(host.bus.call, "Renew", "stt", name, duration, 0, user="visitor")
        assert error.name == ERROR + "NotAuthorized"


def test_no_polkit_is_a_refusal_for_root_too(host):
    host.polkit.kill9()
    for user in ("deploy", "root"):
        error = error_of(host.bus.call, "Renew", "stt", "good", 0, 0, user=user)
        assert error.name == ERROR + "NotAuthorized" and "polkitd" in error.text
    assert "is open" not in host.posternd.text()
    host.polkit.start()
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="deploy")[0] == "success"


def test_polkit_that_dies_with_the_question_is_a_refusal(host):
    host.polkit.stop()
    with renew(host, "deploy", "good") as call:
        wait_log(host.posternd, "asking polkit")
        host.polkit.kill9()
        assert call.error().name == ERROR + "NotAuthorized"
    assert "is open" not in host.posternd.text()


def test_hung_polkit_keeps_nobody_else_waiting(host):
    host.polkit.stop()
    with renew(host, "deploy", "good") as call:
        wait_log(host.posternd, "asking polkit")
        # a call that waited for polkit would wait for ever
        for _ in range(20):
            host.bus.call("ListProfiles", user="visitor")
        assert not call.answered()
        host.polkit.cont()
        assert call.result()[0] == "success"


def test_caller_that_leaves_during_the_question_takes_it_along(host):
    host.polkit.stop()
    with monitor(host, "type='method_call',member='CancelCheckAuthorization'") as members:
        with renew(host, "deploy", "good") as call:
            wait_log(host.posternd, "asking polkit")
            call.kill()
            wait_until(members, "the question to be taken back")
        host.polkit.cont()
        # polkitd has seen the first question when it has answered this one
        assert error_of(host.bus.call, "Renew", "stt", "good", 0, 0, user="visitor").name == INTERACTION_REQUIRED
        assert members() == ["CancelCheckAuthorization"]
    assert "is open" not in host.posternd.text()
    assert "the caller left before the answer" in host.posternd.text()


def seconds_for_a_renewal(host) -> float:
    before = time.monotonic()
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="deploy")[0] == "success"
    return time.monotonic() - before


def test_caller_that_leaves_at_any_moment(host):
    """Whatever the moment: either it was in time, and the window runs and ends, or nothing is opened.
    Two hundred moments over twice the time that a whole request takes; nothing of them stays."""
    for number in range(4):
        host.profile(f"good{number}", profile("/bin/true"))
    whole = min(seconds_for_a_renewal(host) for _ in range(3))
    descriptors = len(os.listdir(f"/proc/{host.posternd.pid}/fd"))

    for attempt in range(200):
        with renew(host, "deploy", f"good{attempt % 4}", flags=attempt // 4 % 2) as call:
            time.sleep(2 * whole * attempt / 200)
            call.kill()
    # what polkit has not come to yet still counts as one of deploy's questions; it goes by turns
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="root")[0] == "success"
    wait_until(lambda: not windows(host), "every window to close")
    assert host.bus.call("Renew", "stt", "good", 0, 0, user="deploy")[0] == "success"

    text = host.posternd.text()
    opened, closed = (re.findall(rf"is {word}.*POSTERN_WINDOW=(\w+)", text) for word in ("open for", "closed:"))
    assert opened and set(opened) <= set(closed) and len(closed) == len(set(closed))
    # a window needs a yes of its own
    assert len(closed) <= text.count("polkit said yes")
    wait_until(lambda: len(os.listdir(f"/proc/{host.posternd.pid}/fd")) <= descriptors, "descriptors to be closed")


def test_prompt_shows_what_will_be_done_and_goes_with_its_caller(host):
    host.profile("web", profile("/bin/true", ports="80/tcp"))
    with renew(host, "visitor", "web", 90_000_000, interactive=True, agent=True) as call:
        action, message, *_ = call.wait_prompt()
        assert action == "org.postern.renewal1.request-window"
        assert message == "Authentication is required to open 80/tcp for up to 90 s and renew with profile web"
        assert windows(host) == []
        call.kill()
        wait_log(host.posternd, "the caller left before the answer")
    assert "is open" not in host.posternd.text()


def test_prompt_goes_when_the_service_ends(host):
    with renew(host, "visitor", "good", interactive=True, agent=True) as call:
        call.wait_prompt()
        host.posternd.sigterm()
        assert call.error().name == ERROR + "Stopped"
        call.wait_prompt_gone()
        assert host.posternd.wait() == 0


def test_no_prompt_unless_the_call_allows_one(host):
    with renew(host, "visitor", "good", agent=True) as call:
        assert call.error().name == INTERACTION_REQUIRED
        assert not call.prompted()


def test_closing_and_reading_somebody_elses_asks_for_its_own_action(host):
    host.polkit.add_rule("""polkit.addRule(function(action, subject) {
        if (action.id === "org.postern.renewal1.close-window" && subject.user === "visitor")
            return action.lookup("profile") === "long" ? polkit.Result.YES : polkit.Result.NO;
    });""")
    window = request_window(host, "deploy", "long")
    error = error_of(host.bus.call, "GetLog", "u", 0, interface=WINDOW, path=window, user="visitor")
    assert error.name == INTERACTION_REQUIRED and "read-log" in error.text
    host.bus.call("Close", interface=WINDOW, path=window, user="visitor")
    assert host.bus.get(window, WINDOW, "Result") == "canceled"


def test_service_as_its_own_user(testbed):
    """A caller of the daemon's own uid is somebody who took a process over. And the details reach
    polkit although the daemon is not root: the actions have an owner."""
    testbed.profile("good", profile("/bin/true"))
    for path in (testbed.state, testbed.runtime):
        path.mkdir()
        shutil.chown(path, "_postern", "_postern")
    build = build_directory()
    process = Process(
        ["setpriv", "--reuid=_postern", "--regid=_postern", "--init-groups", "--inh-caps=+net_admin",
         "--ambient-caps=+net_admin", "--", str(build / "src/broker/posternd"), f"--config-dir={testbed.config}", f"--state-dir={testbed.state}",
         f"--runtime-dir={testbed.runtime}", f"--run-path={build}/src/run/postern-run", "--allow-sticky-parents"],
        ns="host", environment=testbed.bus.environment,
    )  # fmt: skip
    try:
        process.wait_ready(testbed.bus.owner, "its bus name")
        error = error_of(testbed.bus.call, "Renew", "stt", "good", 0, 0, user="_postern")
        assert error.name == ERROR + "NotAuthorized" and "own user" in error.text
        error = error_of(testbed.bus.call, "Renew", "stt", "good", 0, 0, user="visitor")
        assert error.name == INTERACTION_REQUIRED
    finally:
        process.close()


@pytest.mark.parametrize("user", ["visitor", "root"])
def test_forged_signals_change_nothing(host, user):
    """root's pass the bus's policy, so the daemon itself has to know better."""
    with renew(host, "deploy", "long", flags=1) as victim:
        wait_until(lambda: windows(host) and windows(host)[0][3], "the window")
        driver = ("/org/freedesktop/DBus", "org.freedesktop.DBus")
        send_signal(host, user, *driver, "NameOwnerChanged", "sss", (victim.unique, victim.unique, ""))
        send_signal(host, user, "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected", "", ())
        send_signal(host, user, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                    "Changed", "", ())  # fmt: skip
        assert host.posternd.alive()
        assert len(windows(host)) == 1 and not victim.answered()
