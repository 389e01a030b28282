# SPDX-License-Identifier: GPL-2.0-or-later
"""How often a person can be asked for a password, and that nobody else pays for it."""

import pytest
from callers import ERROR, INTERACTION_REQUIRED, error_of, monitor, profile, renew, wait_log, windows

FLOOD = 10_000
CHECKS = "interface='org.freedesktop.PolicyKit1.Authority',member='CheckAuthorization'"


@pytest.fixture
def host(testbed):
    for name in ("one", "two", "three", "four"):
        testbed.profile(name, profile("/bin/true"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def prompt(host, user: str, name: str, **options):
    return renew(host, user, name, interactive=True, agent=True, **options)


def leave_prompt(host, user: str, name: str, times: int) -> None:
    """Has a prompt shown and goes, which takes it away; as the times-th of this test."""
    with prompt(host, user, name) as call:
        call.wait_prompt()
    wait_log(host.posternd, "the caller left before the answer", times)


def test_password_opens_the_window(host):
    with prompt(host, "visitor", "one", person="knows") as call:
        assert call.result()[0] == "success"


def test_one_prompt_at_a_time_for_one_user(host):
    with prompt(host, "visitor", "one") as first:
        first.wait_prompt()
        with prompt(host, "visitor", "two") as second:
            error = second.error()
            assert error.name == ERROR + "RateLimited" and "is open for this user already" in error.text
            assert not second.prompted()
        with prompt(host, "guest0", "three") as other:
            other.wait_prompt()
        assert not first.answered()
        first.kill()
        wait_log(host.posternd, "the caller left before the answer")
    with prompt(host, "visitor", "two") as third:
        third.wait_prompt()


def test_three_prompts_in_ten_minutes(host):
    for times in range(1, 4):
        leave_prompt(host, "visitor", "one", times)
    for name in ("one", "two"):
        with prompt(host, "visitor", name) as call:
            error = call.error()
            assert error.name == ERROR + "RateLimited" and "Too many prompts for a password: 3 in 10 min" in error.text
            seconds = int(error.text.split("Ask again in ")[1].split(" s")[0])
            assert 500 < seconds <= 600
            assert not call.prompted()

    # what needs no prompt is not concerned, and other users are not
    assert error_of(host.bus.call, "Renew", "stt", "one", 0, 0, user="visitor").name == INTERACTION_REQUIRED
    assert host.bus.call("Renew", "stt", "one", 0, 0, user="deploy", interactive=True)[0] == "success"
    with prompt(host, "guest0", "one", person="knows") as call:
        assert call.result()[0] == "success"


def test_ten_thousand_calls_are_one_prompt(host):
    """And nobody else has to wait for it to be over."""
    with prompt(host, "visitor", "one", person="dismisses", copies=FLOOD) as flood:
        flood.wait_prompt()
        with prompt(host, "guest0", "two") as other:
            other.wait_prompt()
        assert host.bus.call("Renew", "stt", "three", 0, 0, user="deploy")[0] == "success"
        outcomes = flood.outcomes(FLOOD)
        print(f"{FLOOD} calls: {flood.prompts()} prompts, {dict(outcomes)}")
        assert flood.prompts() == 1
        # those that were asked about together, and what came afterwards
        assert set(outcomes) <= {ERROR + name for name in ("NotAuthorized", "RateLimited", "TooManyWindows")}
        assert outcomes[ERROR + "RateLimited"] > 0


def test_minute_of_peace_after_a_no(host):
    with prompt(host, "visitor", "one", person="dismisses") as call:
        assert call.error().name == ERROR + "NotAuthorized"
        assert call.prompts() == 1
    with prompt(host, "visitor", "one") as call:
        error = call.error()
        assert error.name == ERROR + "RateLimited"
        assert 50 < int(error.text.split("Ask again in ")[1].split(" s")[0]) <= 60
        assert not call.prompted()


def test_who_has_no_agent_uses_nothing_up(host):
    """busctl allows prompts unless told otherwise: scripts must not run into a limit for that."""
    for _ in range(5):
        error = error_of(host.bus.call, "Renew", "stt", "one", 0, 0, user="visitor", interactive=True)
        assert error.name == ERROR + "NotAuthorized" and "no agent of polkit" in error.text
    with prompt(host, "visitor", "one") as call:
        call.wait_prompt()


def test_who_is_allowed_uses_nothing_up(host):
    for _ in range(5):
        assert host.bus.call("Renew", "stt", "one", 0, 0, user="deploy", interactive=True)[0] == "success"
    host.polkit.add_rule("""polkit.addRule(function(action, subject) {
        if (subject.user === "deploy") return polkit.Result.AUTH_ADMIN;
    });""")
    for times in range(1, 4):
        leave_prompt(host, "deploy", "one", times)


def test_same_question_of_the_same_caller_is_asked_once(host):
    with monitor(host, CHECKS) as members, prompt(
        host, "visitor", "long", person="knows", copies=4
    ) as call:
        wait_log(host.posternd, "is open for")
        assert len(windows(host)) == 1
        # all of them had the one answer
        wait_log(host.posternd, "polkit said yes", 4)
        # without a prompt, and with one
        assert members() == ["CheckAuthorization"] * 2
        assert call.prompts() == 1
        call.kill()


def test_same_question_of_another_caller_is_another_question(host):
    """A rule may look at the process that asks."""
    with monitor(host, CHECKS) as members:
        for name in ("one", "one", "two"):
            error_of(host.bus.call, "Renew", "stt", name, 0, 0, user="visitor")
        assert members() == ["CheckAuthorization"] * 3


def test_prompts_are_remembered_for_what_they_were(host):
    """Four copies with four answers are still one prompt."""
    with prompt(host, "visitor", "one", person="knows", copies=4) as call:
        assert [reply[0] for reply in call.results(4)] == ["success"] * 4
    for times in range(1, 3):
        leave_prompt(host, "visitor", "two", times)
    with prompt(host, "visitor", "two") as call:
        assert call.error().name == ERROR + "RateLimited"
