# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restart must not forget, and what damage to it does."""

import contextlib
import os
import re

import pytest
from callers import ERROR, PROFILE, error_of, profile
from testbed import PATH, run, wait_until

WEB = f"{PATH}/profile/web"


@pytest.fixture
def host(testbed):
    testbed.profile("web", profile("/bin/true").replace("100/1h", "2/1h"))
    testbed.profile("mail", profile("/bin/false").replace("100/1h", "2/1h"))
    testbed.file = testbed.state / "profiles/web"
    return testbed


def renew(host, name: str = "web"):
    return host.bus.call("Renew", "stt", name, 0, 0, user="deploy")


def assert_limited(host, name: str = "web") -> None:
    error = error_of(renew, host, name)
    assert error.name == ERROR + "RateLimited"
    assert 3500 < int(re.search(r"Ask again in (\d+) s \(\d{4}-", error.text)[1]) <= 3600


def has_windows(host) -> bool:
    objects = host.bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")[0]
    return any("/window/w" in path for path in objects)


def fill(path) -> None:
    with open(path, "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def use_up(host) -> None:
    for _ in range(2):
        assert renew(host)[0] == "success"
    assert_limited(host)


@pytest.mark.parametrize("end", ["sigterm", "kill9"])
def test_rate_limit_outlives_the_daemon(host, end):
    with host.daemon() as daemon:
        use_up(host)
        getattr(daemon, end)()
        daemon.wait()
    with host.daemon():
        assert_limited(host)
        # another profile has its own
        assert error_of(renew, host, "mail").name == ERROR + "RenewalFailed"


def test_window_that_was_killed_counts(host):
    """It is written down before anything is opened."""
    host.profile("web", profile("/bin/sleep 1000").replace("100/1h", "2/1h"))
    for _ in range(2):
        with host.daemon() as daemon:
            host.bus.call("RequestWindow", "stt", "web", 0, 0, user="deploy")
            daemon.kill9()
    with host.daemon():
        assert_limited(host)


def test_time_since_boot_is_what_counts(host):
    """The wall clock is the same for both: it does not matter."""
    with host.daemon():
        use_up(host)
    # what stands for half an hour later, and for an hour and a half
    with host.daemon(through=["unshare", "--time", "--boottime", str(30 * 60), "--"]):
        error = error_of(renew, host)
        assert error.name == ERROR + "RateLimited"
        assert 1700 < int(re.search(r"Ask again in (\d+) s", error.text)[1]) <= 1800
    with host.daemon(through=["unshare", "--time", "--boottime", str(90 * 60), "--"]):
        assert renew(host)[0] == "success"


def test_reboot_resets_the_limit_and_not_the_result(host):
    with host.daemon():
        use_up(host)
        before = [host.bus.get(WEB, PROFILE, name) for name in ("LastResult", "LastClosedAt", "NotAfter")]
    host.file.write_text(re.sub("BootId=.*", "BootId=" + "0" * 32, host.file.read_text()))
    with host.daemon():
        assert [host.bus.get(WEB, PROFILE, name) for name in ("LastResult", "LastClosedAt", "NotAfter")] == before
        use_up(host)


def test_last_results_outlive_the_daemon(host):
    with host.daemon():
        assert host.bus.get(WEB, PROFILE, "LastResult") == ""
        renew(host)
        error_of(renew, host, "mail")
        closed_at = host.bus.get(WEB, PROFILE, "LastClosedAt")
        assert closed_at > 0
    with host.daemon():
        assert host.bus.get(WEB, PROFILE, "LastResult") == "success"
        assert host.bus.get(WEB, PROFILE, "LastClosedAt") == closed_at
        assert host.bus.get(f"{PATH}/profile/mail", PROFILE, "LastResult") == "failed"


def damage(kind: str, file) -> None:
    text = file.read_text()
    file.unlink()
    match kind:
        case "empty":
            file.touch()
        case "cut":
            file.write_text(text[:-1])
        case "long":
            file.write_text(text + "#" * 5000)
        case "nonsense":
            file.write_bytes(os.urandom(200))
        case "link":
            file.symlink_to("/etc/passwd")
        case "fifo":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "foreign":
            file.write_text(text)
            os.chown(file, 6002, 6002)
        case "writable":
            file.write_text(text)
            file.chmod(0o666)


@pytest.mark.parametrize(
    "kind", ["empty", "cut", "long", "nonsense", "link", "fifo", "directory", "foreign", "writable"]
)
def test_damage_is_said_and_stops_nothing(host, kind):
    with host.daemon():
        use_up(host)
        error_of(renew, host, "mail")
    damage(kind, host.file)
    with host.daemon() as daemon:
        assert "kept of profile web cannot be read" in daemon.text()
        assert renew(host)[0] == "success"
        # the others are not concerned
        assert host.bus.get(f"{PATH}/profile/mail", PROFILE, "LastResult") == "failed"


@pytest.mark.parametrize("bus_kind", ["dbus-daemon"])
def test_limit_is_not_forgotten_by_staying_away(host):
    """With a full disk, an idle daemon stays until it could write; then it leaves, and the next one
    knows. It takes the minute for which closed windows can be read."""
    host.state.mkdir(mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "postern-test", str(host.state)])
    try:
        with host.daemon("--idle-exit=3s") as daemon:
            fill(host.state / "filler")
            use_up(host)
            wait_until(lambda: not has_windows(host), "the windows to be forgotten", patience=100)
            tries = daemon.text().count("Cannot keep the state")
            wait_until(lambda: daemon.text().count("Cannot keep the state") > tries + 2, "it to try again")
            assert daemon.alive() and host.bus.owner()
            (host.state / "filler").unlink()
            assert daemon.wait() == 0
        with host.daemon():
            assert error_of(renew, host, "web").name == ERROR + "RateLimited"
    finally:
        run(["umount", str(host.state)])


def test_full_disk_is_said_and_stops_nothing(host):
    host.state.mkdir(mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "postern-test", str(host.state)])
    try:
        with host.daemon() as daemon:
            fill(host.state / "filler")
            use_up(host)
            assert "Cannot keep the state of profile web (No space left on device)" in daemon.text()
            assert sorted(os.listdir(host.state / "profiles")) == []
    finally:
        run(["umount", str(host.state)])
