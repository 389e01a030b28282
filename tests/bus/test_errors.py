# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error that a caller of the bus can get, caused: what it says, and what to do next. What a bad
profile is told is in test_profile_errors.py."""

import contextlib
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from bus import BusError
from callers import ERROR, INTERACTION_REQUIRED, WINDOW, Call, error_of, profile, renew, request_window, wait_log
from sentences import ROOT, check_text, unheard
from testbed import MANAGER, PATH, wait_until

STANDARD = "org.freedesktop.DBus.Error."
PROPERTIES = "org.freedesktop.DBus.Properties"
GONE = f"{PATH}/window/w000000000000"
NO = 'polkit.addRule(function(action) { if (action.id.indexOf("org.postern") === 0) return polkit.Result.NO; });'
ASK = NO.replace("Result.NO", "Result.AUTH_ADMIN")


class Case(NamedTuple):
    name: str  # without the prefix of ours
    cause: Callable
    says: str
    advice: str


def asked(*arguments, **options) -> Callable:
    """By a call that is answered at once."""
    return lambda host: error_of(host.bus.call, *arguments, **{"user": "deploy", **options})


def renewed(name: str, seconds: float = 0, **options) -> Callable:
    return asked("Renew", "stt", name, int(seconds * 1_000_000), 0, **options)


def many(*arguments, copies: int, **options) -> Callable:
    """By calls of one program, all at once."""

    def cause(host) -> BusError:
        host.posternd.stop()
        with Call(host, "visitor", *arguments, copies=copies, **options) as call:
            # the bus has them all when it has answered one that came later
            error_of(host.bus.call, "Nothing", destination="org.freedesktop.DBus", user="visitor")
            host.posternd.cont()
            return call.first_error()

    return cause


def one_of(host, number: int, *arguments, **options) -> BusError:
    """The error of whichever was one too many."""
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(Call(host, "visitor", *arguments, **options)) for _ in range(number)]
        return wait_until(lambda: [call for call in calls if call.answered()], "one to be refused")[0].error()


def too_many_checks(host) -> BusError:
    """As many at once as may wait: sooner or later more than a few seconds are worth."""

    def batch() -> list[BusError]:
        with Call(host, "visitor", "Check", "s", "good", copies=16) as call:
            call.outcomes(16)
            return [error for error in call.errors() if "pre-flights" in error.text]

    return wait_until(batch, "a pre-flight to be refused")[0]


def too_often(host) -> BusError:
    renewed_once = host.bus.call("Renew", "stt", "rare", 0, 0, user="deploy")
    assert renewed_once[0] == "success"
    return renewed("rare")(host)


def too_many_windows(host) -> BusError:
    paths = [request_window(host, "deploy", f"long{number}") for number in range(4)]
    error = error_of(request_window, host, "deploy", "long4")
    for path in paths:
        host.bus.call("Close", interface=WINDOW, path=path, user="deploy")
    return error


def too_many_waiters(host) -> BusError:
    path = request_window(host, "deploy", "long0")
    error = one_of(host, 17, "Wait", interface=WINDOW, path=path)
    host.bus.call("Close", interface=WINDOW, path=path, user="deploy")
    return error


def too_many_questions(host) -> BusError:
    host.polkit.stop()
    error = one_of(host, 5, "Renew", "stt", "good", 0, 0)
    host.polkit.cont()
    return error


def by_rule(rule: str, cause: Callable) -> Callable:
    def caused(host) -> BusError:
        host.polkit.add_rule(rule)
        error = cause(host)
        host.polkit.remove_rule()
        return error

    return caused


def second_prompt(host) -> BusError:
    with renew(host, "visitor", "good", interactive=True, agent=True) as first:
        first.wait_prompt()
        with renew(host, "visitor", "long0", interactive=True, agent=True) as second:
            return second.error()


def without_polkit(host) -> BusError:
    host.polkit.kill9()
    error = renewed("good")(host)
    host.polkit.start()
    return error


def closed_by_another(host) -> BusError:
    with renew(host, "deploy", "long0") as call:
        (path,) = wait_until(lambda: [row[4] for row in host.bus.call("ListWindows")[0]], "its window")
        host.bus.call("Close", interface=WINDOW, path=path, user="root")
        return call.error()


def ended_service(host) -> BusError:
    with renew(host, "deploy", "closes") as call:
        wait_log(host.posternd, "profile closes is open")
        host.posternd.sigterm()
        wait_log(host.posternd, "Told to end")
        # it has a firewall elsewhere to close yet
        host.late = renewed("good")(host)
        (host.directory / "close").touch()
        error = call.error()
    assert host.posternd.wait() == 0
    return error


CASES = [
    Case("BadFlags", asked("Renew", "stt", "good", 0, 2), "The only flag is 1", "pass 0 or 1"),
    Case("BadDuration", renewed("good", 0.5), "may be 1 s to 600 s", "or 0 for its default"),
    Case("NoSuchProfile", renewed("absent"), "There is no profile absent", "ListProfiles says which there are"),
    Case("NoSuchProfile", renewed("a b"), "That cannot be a profile's name", "ListProfiles says which there are"),
    Case("NoSuchProfile", asked("Get", "ss", "org.postern.Renewal1.Profile", "Name", interface=PROPERTIES,
         path=f"{PATH}/profile/absent"), "There is no such profile", "ListProfiles says which there are"),
    Case("BadProfile", renewed("bad"), "bad.conf:2: [Renewal] has no key Exce=", "write Exec="),
    Case("RateLimited", too_often, "RateLimit= of profile rare allows 1 windows in 3600 s", "Ask again in"),
    Case("RateLimited", too_many_checks, "Too many pre-flights", "ask again in"),
    Case("RateLimited", second_prompt, "is open for this user already", "answer that one, or ask again"),
    Case("TooManyWindows", too_many_windows, "Too many windows are open: 4 for one user", "Ask again when one has closed"),
    Case("TooManyWindows", too_many_waiters, "16 calls of this user wait", "ask again when one has returned"),
    Case("TooManyWindows", too_many_questions, "Too many requests wait for an answer of polkit", "Answer or end one"),
    Case("TooManyWindows", many("Check", "s", "good", copies=100), "Too many calls of this program wait", "ask again in a moment"),
    Case("NotAuthorized", by_rule(NO, renewed("good", user="visitor")), "polkit refused", "group postern, or by a rule in /etc/polkit-1"),
    Case("NotAuthorized", renewed("good", user="visitor", interactive=True), "no agent of polkit is there", "call from a desktop session, or as root"),
    Case("NotAuthorized", without_polkit, "polkit could not be asked", "See whether polkitd runs: systemctl status polkit"),
    Case("InteractiveAuthorizationRequired", by_rule(ASK, renewed("good", user="visitor")), "the call allows no prompt", "allow interactive authorisation in it, or have an administrator"),
    Case("NoSuchWindow", asked("Close", interface=WINDOW, path=GONE), "There is no such window", "ListWindows says which are open"),
    Case("GateFailed", renewed("gate"), "Chain= names a chain that does not exist", "`nft list chains` shows those that do"),
    Case("RunFailed", renewed("norun"), "does not exist (or its interpreter does not)", "install it, or correct Exec="),
    Case("RenewalFailed", renewed("fails"), "failed, exit status 3. What the renewal printed says why", "To read what it printed: busctl"),
    Case("RenewalFailed", renewed("fails"), "The one before failed as well", "Mend the cause before you ask again"),
    Case("TimedOut", renewed("long0", 1), "still running after 1 s and was ended", "read what it printed, or ask for a longer duration"),
    Case("Canceled", closed_by_another, "was closed before the renewal ended", "ask again"),
    # what sd-bus would say in its own words
    Case("UnknownObject", asked("Introspect", interface="org.freedesktop.DBus.Introspectable", path=f"{PATH}/x"),
         "There is no such object", "ListWindows and ListProfiles say which there are"),
    Case("UnknownMethod", asked("Reboot"), "There is no such method", "name its interface, and see Introspect"),
    Case("UnknownInterface", asked("Get", "ss", "a b", "Version", interface=PROPERTIES), "cannot be an interface's name", "see Introspect"),
    Case("UnknownProperty", asked("Get", "ss", MANAGER, "a b", interface=PROPERTIES), "cannot be a property's name", "see Introspect"),
    Case("InvalidArgs", asked("Get", "s", MANAGER, interface=PROPERTIES), "Get takes the names of an interface", "GetAll the name"),
    Case("Stopped", ended_service, "The service ended or lost the bus", "ask again when it is back"),
]  # fmt: skip


@pytest.fixture
def host(testbed):
    testbed.profile("good", profile("/bin/true"))
    testbed.profile("rare", profile("/bin/true").replace("100/1h", "1/1h"))
    testbed.profile("bad", "[Renewal]\nExce=/bin/true\n")
    testbed.profile("gate", profile("/bin/true", ports="80/tcp") + "[Gate]\nChain=inet absent input\n")
    testbed.profile("norun", profile("/nonexistent/certbot"))
    testbed.profile("fails", profile("/bin/sh -c 'exit 3'"))
    close = f"CloseCommand=/bin/sh -c 'while ! test -e {testbed.directory}/close; do sleep 0.05; done'\n"
    testbed.profile("closes", profile("/bin/sleep 1000", ports="80/tcp", gate="command") + f"OpenCommand=/bin/true\n{close}")
    testbed.profile("nocert", profile("/bin/true", more="Certificate=/etc/hostname"))
    for number in range(5):
        testbed.profile(f"long{number}", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def test_each_says_what_is_wrong_and_what_to_do(host):
    heard, names = [], set()
    path = request_window(host, "deploy", "nocert")
    assert host.bus.call("Wait", interface=WINDOW, path=path)[0] == "success"
    hint = host.bus.get(path, WINDOW, "Hint")
    check_text(hint, "Certificate= of profile nocert", "see that the path is right")
    for case in CASES:
        error = case.cause(host)
        assert error.name.removeprefix(ERROR).removeprefix(STANDARD) == case.name, error
        check_text(error.text, case.says, case.advice)
        heard.append(error.text)
        names.add(error.name)

    assert host.late.name == ERROR + "Stopped"
    check_text(host.late.text, "The service is ending", "ask again")
    heard += [host.late.text, hint]

    # and those are all that there are
    named = re.findall(r'return (?:ERROR_PREFIX )?"([\w.]+)";', (ROOT / "src/broker/error.c").read_text())
    assert {name if "." in name else ERROR + name for name in named} <= names
    assert INTERACTION_REQUIRED in names
    assert unheard("src/broker/bus-names.c", heard, {}) == []
    assert unheard("src/broker/bus-profile.c", heard, {}) == []
    assert unheard("src/broker/bus-window.c", heard, {}) == []
    assert unheard("src/broker/request.c", heard, {
        "Memory ran out": "for want of memory, which tests/faults takes away",
        "Too many programs wait": "more than 2048 at the same time",
        "The profile has an error; see": "where the reader found no words, for want of memory",
        "polkit gave no answer": "tests/net/test_death.py",
        "The caller has left": "nobody is there to hear it",
        "The bus does not say who is calling": "by a bus that does not know its own clients",
    }) == []  # fmt: skip
    assert unheard("src/broker/request-grant.c", heard, {
        "Too many callers have joined": "more than all users of the testbed can be",
        "Too many prompts for a password": "tests/bus/test_prompts.py",
        "Too many calls wait": "more than all users of the testbed can have",
        "The service's own user": "a posternd that was taken over",
    }) == []  # fmt: skip
    assert unheard("src/broker/hint.c", heard, {
        "open already by this host's own rules": "tests/net/test_ruleset.py",
        "No connection came in through the window": "tests/bus/test_windows.py",
        "so the port was reached": "tests/net/test_receipt.py",
        "at least ": "tests/net/test_receipt.py",
        "All came over IPv4": "tests/net/test_receipt.py",
        "All came over IPv6": "tests/net/test_receipt.py",
        "The firewall could not be opened": "where the gate found no words, for want of memory",
        "The renewal could not be started": "where the helper found no words, for want of memory",
    }) == []  # fmt: skip
