# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a window as its callers see it: joining, waiting, closing, reading."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from callers import (
    ERROR,
    INTERACTION_REQUIRED,
    WINDOW,
    Call,
    Signals,
    error_of,
    profile,
    renew,
    request_window,
    wait_log,
    wait_no_window,
    windows,
)
from certificates import make_certificate
from process import processes
from testbed import PATH, wait_until


@pytest.fixture
def host(testbed):
    testbed.directory.joinpath("runs").touch()
    testbed.runs = testbed.directory / "runs"
    # ends when the file `end` is there, with what it holds as its exit status
    testbed.end = testbed.directory / "end"
    script = testbed.directory / "renewal.sh"
    script.write_text(
        f"#!/bin/sh\necho run >>{testbed.runs}\necho started\necho to stderr >&2\n"
        f"while ! [ -s {testbed.end} ]; do sleep 0.02; done\necho ended\nexit $(cat {testbed.end})\n"
    )
    script.chmod(0o755)
    testbed.profile("job", profile(str(script)))
    testbed.profile("true", profile("/bin/true"))
    testbed.profile("long", profile("/bin/sleep 1000"))
    with testbed.daemon() as daemon:
        testbed.posternd = daemon
        yield testbed


def finish(host, status: int) -> None:
    partial = host.end.with_suffix(".partial")
    partial.write_text(f"{status}\n")
    partial.rename(host.end)


def wait_running(host, times: int = 1) -> None:
    wait_until(lambda: host.runs.read_text().count("run\n") >= times, "the renewal to run")


def processes_of(name: str) -> list[str]:
    return [line for line in processes().values() if name in line]


@pytest.mark.parametrize("status", [1, 2, 137, 255])
def test_failure_is_an_error_that_says_what_to_do(host, status):
    finish(host, status)
    error = error_of(host.bus.call, "Renew", "stt", "job", 0, 0, user="deploy")
    assert error.name == ERROR + "RenewalFailed"
    assert f"exit status {status}" in error.text and "GetLog" in error.text and "journalctl" in error.text
    # nothing of what it printed
    assert "started" not in error.text


def test_what_stood_in_the_way_is_told_in_a_sentence(host):
    host.profile("missing", profile("/nonexistent"))
    error = error_of(host.bus.call, "Renew", "stt", "missing", 0, 0, user="deploy")
    assert error.name == ERROR + "RunFailed"
    assert "does not exist" in error.text and ". To read what it printed" in error.text


def test_death_by_a_signal_is_128_and_its_number(host):
    host.profile("killed", profile("/bin/sh -c 'kill -9 $$'"))
    assert "exit status 137" in error_of(host.bus.call, "Renew", "stt", "killed", 0, 0, user="deploy").text


def test_deadline_ends_the_renewal(host):
    error = error_of(host.bus.call, "Renew", "stt", "long", 1_000_000, 0, user="deploy")
    assert error.name == ERROR + "TimedOut"
    assert processes_of("sleep 1000") == []


# what there is before and afterwards: nothing, something else, or one of two certificates
@pytest.mark.parametrize("before, after, result", [
    ("old", "new", "renewed"),
    (None, "new", "renewed"),
    ("other", "new", "renewed"),
    ("old", "old", "unchanged"),
    ("old", None, "success"),
    ("old", "other", "success"),
    (None, None, "success"),
    ("other", "other", "success"),
])  # fmt: skip
def test_only_a_certificate_that_can_be_read_is_renewed(host, before, after, result):
    directory = host.directory
    for name, serial in (("old", "0a"), ("new", "0b")):
        make_certificate(directory / name, serial=serial)
    (directory / "other").write_text("hush\n")
    certificate = directory / "certificate"
    if before:
        shutil.copy(directory / before, certificate)
    # `cp -` fails, and that is not what counts
    script = directory / "copy.sh"
    script.write_text(f"#!/bin/sh\nrm -f {certificate}\ncp {directory / (after or '-')} {certificate}\nexit 0\n")
    script.chmod(0o755)
    host.profile("web", profile(str(script), more=f"Certificate={certificate}"))
    said, status, window = host.bus.call("Renew", "stt", "web", 0, 0, user="deploy")
    assert (said, status) == (result, 0)
    hint = host.bus.get(window, WINDOW, "Hint", user="visitor")
    if result == "success":
        assert "Certificate= of profile web" in hint and str(directory) not in hint and "hush" not in hint
    else:
        assert hint == ""


def test_two_callers_one_run_both_results(host):
    with renew(host, "deploy", "job") as first:
        wait_running(host)
        with renew(host, "root", "job") as second:
            wait_log(host.posternd, "polkit said yes", 2)
            assert len(windows(host)) == 1
            finish(host, 0)
            assert first.result() == second.result()
            assert first.result()[:2] == ("success", 0)
    assert host.runs.read_text() == "run\n"


def test_joining_asks_polkit_all_the_same(host):
    window = request_window(host, "deploy", "job")
    assert error_of(request_window, host, "visitor", "job").name == INTERACTION_REQUIRED
    assert request_window(host, "root", "job") == window


def test_joining_extends_nothing_and_is_not_counted(host):
    host.profile("rare", profile("/bin/sleep 1000").replace("100/1h", "1/1h"))
    window = request_window(host, "deploy", "rare", 30_000_000)
    deadline = host.bus.get(window, WINDOW, "Deadline")
    assert request_window(host, "deploy", "rare", 600_000_000) == window
    assert host.bus.get(window, WINDOW, "Deadline") == deadline


def test_request_while_one_is_closing_opens_anew(host):
    """The first window takes a while to be closed; who asks meanwhile gets a window of its own, and who
    asks after that joins it."""
    script = host.directory / "stubborn.sh"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\necho run >>{host.runs}\nwhile :; do sleep 0.02; done\n")
    script.chmod(0o755)
    ended = host.directory / "ended"
    close = f"CloseCommand=/bin/sh -c 'while ! test -e {ended}; do sleep 0.05; done'\n"
    gate = f"OpenCommand=/bin/true\n{close}"
    host.profile("stubborn", profile(str(script), ports="80/tcp", gate="command") + gate)
    first = request_window(host, "deploy", "stubborn")
    wait_running(host)
    with (
        Call(host, "deploy", "Close", interface=WINDOW, path=first) as closing,
        Call(host, "deploy", "RequestWindow", "stt", "stubborn", 0, 0) as second,
        Call(host, "root", "RequestWindow", "stt", "stubborn", 0, 0) as third,
    ):
        wait_log(host.posternd, "polkit said yes", 3)
        assert host.bus.get(first, WINDOW, "State") == "closing"
        assert not second.answered() and not third.answered()
        ended.touch()
        closing.result()
        assert host.bus.get(first, WINDOW, "State") == "closed"
        assert second.result() == third.result() != (first,)
        assert host.bus.get(second.result()[0], WINDOW, "State") == "open"
    wait_running(host, 2)


def test_wait_tells_the_result_to_everybody(host):
    window = request_window(host, "deploy", "job")
    with Call(host, "visitor", "Wait", interface=WINDOW, path=window) as waiting:
        wait_running(host)
        assert not waiting.answered()
        finish(host, 3)
        assert waiting.result() == ("failed", 3)
    # and at once when it is closed already
    assert host.bus.call("Wait", interface=WINDOW, path=window, user="visitor") == ("failed", 3)


def test_opener_closes_without_polkit(host):
    window = request_window(host, "deploy", "long")
    host.polkit.kill9()
    host.bus.call("Close", interface=WINDOW, path=window, user="deploy")
    # it is all over when Close has replied
    assert host.bus.get(window, WINDOW, "State") == "closed"
    assert host.bus.get(window, WINDOW, "Result") == "canceled"
    assert processes_of("sleep 1000") == []
    host.bus.call("Close", interface=WINDOW, path=window, user="deploy")


def test_others_do_not_close(host):
    window = request_window(host, "deploy", "long")
    error = error_of(host.bus.call, "Close", interface=WINDOW, path=window, user="visitor")
    assert error.name == INTERACTION_REQUIRED and "close-window" in error.text
    assert host.bus.get(window, WINDOW, "State") == "open"


def test_who_joined_does_not_close_but_reads(host):
    host.polkit.add_rule("""polkit.addRule(function(action, subject) {
        if (action.id === "org.postern.renewal1.request-window" && subject.user === "visitor")
            return polkit.Result.YES;
    });""")
    window = request_window(host, "deploy", "job")
    assert request_window(host, "visitor", "job") == window
    wait_log(host.posternd, "to stderr")
    about = dict(interface=WINDOW, path=window, user="visitor")
    assert host.bus.call("GetLog", "u", 0, **about)[0] == ["started", "to stderr"]
    assert error_of(host.bus.call, "Close", **about).name == INTERACTION_REQUIRED


def test_closing_answers_renew_with_canceled(host):
    with renew(host, "deploy", "long") as call:
        wait_until(lambda: windows(host), "the window")
        host.bus.call("Close", interface=WINDOW, path=windows(host)[0][4], user="deploy")
        assert call.error().name == ERROR + "Canceled"


def test_log_is_for_who_asked_for_the_window(host):
    window = request_window(host, "deploy", "job")
    wait_log(host.posternd, "to stderr")
    finish(host, 0)
    host.bus.call("Wait", interface=WINDOW, path=window)
    mine = dict(interface=WINDOW, path=window, user="deploy")
    assert host.bus.call("GetLog", "u", 0, **mine)[0] == ["started", "to stderr", "ended"]
    assert host.bus.call("GetLog", "u", 1, **mine)[0] == ["ended"]
    assert host.bus.call("GetLog", "u", 1000, **mine)[0] == ["started", "to stderr", "ended"]
    error = error_of(host.bus.call, "GetLog", "u", 0, interface=WINDOW, path=window, user="visitor")
    assert error.name == INTERACTION_REQUIRED and "started" not in error.text


def test_log_lines_cannot_forge_a_record(host):
    host.profile("forger", profile(r"/usr/bin/printf 'a\\033[31m\\rb\\n<0>c MESSAGE_ID=x\\n'"))
    window = host.bus.call("Renew", "stt", "forger", 0, 0, user="deploy")[2]
    lines = host.bus.call("GetLog", "u", 0, interface=WINDOW, path=window, user="deploy")[0]
    assert lines[-1] == "<0>c MESSAGE_ID=x" and lines[0].startswith("a")
    assert all(c.isprintable() for line in lines for c in line)
    assert "\033" not in host.posternd.text() and "\n<0>" not in host.posternd.text()


def test_unknown_window(host):
    for member, signature, arguments in (("Close", "", ()), ("Wait", "", ()), ("GetLog", "u", (0,))):
        about = dict(interface=WINDOW, path=f"{PATH}/window/w000000000000", user="deploy")
        assert error_of(host.bus.call, member, signature, *arguments, **about).name == ERROR + "NoSuchWindow"
    error = error_of(host.bus.get, f"{PATH}/window/w000000000000", WINDOW, "State", user="visitor")
    assert error.name == ERROR + "NoSuchWindow"


def test_caller_that_leaves_later_leaves_the_window_running(host):
    with renew(host, "deploy", "job") as call:
        wait_running(host)
        window = windows(host)[0][4]
        call.kill()
    assert host.bus.get(window, WINDOW, "State") == "open"
    finish(host, 0)
    assert host.bus.call("Wait", interface=WINDOW, path=window) == ("success", 0)


def test_flag_1_closes_with_its_holder(host):
    with renew(host, "deploy", "job", flags=1) as call:
        wait_running(host)
        path = windows(host)[0][4]
        call.kill()
        wait_no_window(host)
    assert host.bus.get(path, WINDOW, "Result") == "canceled"


def test_flag_1_closes_with_the_last_holder(host):
    with renew(host, "deploy", "job", flags=1) as first, renew(host, "deploy", "job", flags=1) as second:
        wait_running(host)
        wait_log(host.posternd, "polkit said yes", 2)
        first.kill()
        # the bus has told by then that the first is gone, and the daemon has verified it
        wait_until(lambda: first.unique not in host.bus.call(
            "ListNames", interface="org.freedesktop.DBus", path="/org/freedesktop/DBus",
            destination="org.freedesktop.DBus")[0], "the first caller to leave")  # fmt: skip
        assert len(windows(host)) == 1
        second.kill()
        wait_no_window(host)


def test_flag_1_yields_to_who_holds_for_good(host):
    with renew(host, "deploy", "job", flags=1) as first, renew(host, "root", "job") as second:
        wait_running(host)
        wait_log(host.posternd, "polkit said yes", 2)
        first.kill()
        assert len(windows(host)) == 1
        finish(host, 0)
        assert second.result()[0] == "success"


def test_signals_tell_the_whole_story_in_order(host):
    host.profile("door", profile("/bin/false", ports="80/tcp"))
    with Signals(host) as signals:
        error_of(host.bus.call, "Renew", "stt", "door", 0, 0, user="deploy")
        seen = signals.until("WindowClosed")
    path = next(body[0] for member, _, body in seen if member == "InterfacesAdded")
    added = next(body[1] for member, _, body in seen if member == "InterfacesAdded")[WINDOW]
    assert added["State"] == ("s", "opening") and added["Ports"] == ("as", ["80/tcp"])

    changes = [body[1] for member, at, body in seen if member == "PropertiesChanged" and at == path]
    assert [c["State"][1] for c in changes if "State" in c] == ["open", "closing", "closed"]
    assert "Deadline" in changes[0] or "Deadline" in changes[1]
    told = {name: value for change in changes for name, (_, value) in change.items()}
    assert told["Result"] == "failed" and told["ExitStatus"] == 1
    assert told["ClosedAt"] >= told["OpenedAt"] > 0
    assert told["Gate"] == "nftables: inet filter input"
    assert "No connection came in through the window" in told["Hint"]
    # what was told is what can be read
    for name, value in told.items():
        assert host.bus.get(path, WINDOW, name, user="visitor") == value
    # and nothing was told twice
    for before, after in zip(changes, changes[1:]):
        assert not {n for n in before if n in after and before[n] == after[n]}

    members = [member for member, at, _ in seen if at == PATH]
    assert members.index("WindowOpened") < members.index("WindowClosed")
    assert seen[-1][2] == (path.rsplit("/", 1)[1], path, "door", "failed")
    counts = [body[1]["OpenWindows"] for member, at, body in seen if member == "PropertiesChanged" and at == PATH]
    assert counts == [("u", 1)]


def test_ids_are_random_and_new(host):
    ids = [host.bus.call("Renew", "stt", "true", 0, 0, user="deploy")[2].rsplit("/", 1)[1] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(i) == 13 and i[0] == "w" and int(i[1:], 16) >= 0 for i in ids)


def test_closed_windows_are_not_kept_without_bound(host):
    """A minute's worth of windows is kept, unless there are too many of them."""
    for _ in range(70):
        host.bus.call("Renew", "stt", "true", 0, 0, user="deploy")
    managed = host.bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")[0]
    assert 60 <= sum("/window/" in path for path in managed) <= 65


def test_stopped_daemon_is_not_needed_to_end_the_run(host):
    """The helper, or the child without one, goes with the daemon."""
    request_window(host, "deploy", "long")
    os.kill(host.posternd.pid, signal.SIGTERM)
    assert host.posternd.wait() == 0
    wait_until(lambda: not processes_of("sleep 1000"), "the renewal to be gone")


@pytest.mark.parametrize("execute, user, key", [
    ("/secret/hush-program --hush", "root", "Exec="),
    ("/bin/true", "hush", "User="),
])  # fmt: skip
def test_what_a_private_profile_holds_reaches_nobody(host, execute, user, key):
    """Not by an error, and not by the window's Hint; root finds it in the log."""
    path = host.profile("private", profile(execute).replace("[Window]", f"User={user}\n[Window]"))
    path.chmod(0o600)
    with Signals(host) as signals:
        error = error_of(host.bus.call, "Renew", "stt", "private", 0, 0, user="deploy")
        window = signals.until("WindowClosed")[-1][2][1]
    assert error.name == ERROR + "RunFailed" and f"{key} of profile private" in error.text
    assert ". To read what it printed" in error.text
    for text in (error.text, host.bus.get(window, WINDOW, "Hint", user="visitor")):
        assert key in text and "hush" not in text
    assert "hush" in host.posternd.text() and "--hush" not in host.posternd.text()


# Helpers that a real one never is: they cannot be told to go, and do not leave when hung up on.
DEAF_HELPER = """#!/usr/bin/python3
import os, pathlib, signal, socket
s = socket.socket(fileno=0)
s.recv(4096)
s.shutdown(socket.SHUT_RD)
pathlib.Path("{path}").write_text(str(os.getpid()))
s.send(b"ready\\ncgroup=\\nlegacy=\\n")
signal.pause()
"""


def test_window_is_not_closed_before_its_helper_is_gone(host):
    path = host.directory / "deaf.pid"
    helper = host.directory / "deaf"
    helper.write_text(DEAF_HELPER.format(path=path))
    helper.chmod(0o755)
    host.posternd.end()
    with host.daemon(f"--run-path={helper}"):
        error = error_of(host.bus.call, "Renew", "stt", "true", 0, 0, user="deploy")
        assert not Path("/proc", path.read_text()).exists()
        assert error.name == ERROR + "RunFailed" and "did not take the order" in error.text
