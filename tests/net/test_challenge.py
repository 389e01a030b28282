# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenOn=challenge: the port is open while an ACME client's token lies in the challenge directory, and
with nothing due it is never open."""

import re
import shutil

import pytest
from bus import BusError
from dead_mount import DeadMount
from nginx import Nginx
from probe import FAMILIES, Listener, Outcome, Prober
from process import now, wait_until
from scene import Renewal, Scene, state, wait_state
from story import KINDS
from testbed import leftovers

PATIENCE = 60


@pytest.fixture
def webroot(testbed):
    directory = testbed.directory / "www"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


def challenges(webroot):
    return webroot / ".well-known/acme-challenge"


def challenged(testbed, webroot, name="web") -> Renewal:
    return Renewal(testbed, name, window=f"Ports=80/tcp\nOpenOn=challenge\nChallengeDirectory={challenges(webroot)}")


def test_certbot_webroot(testbed, acme, webroot):
    """Behind a web server that answers all the time: visitors get through while there is a token."""
    extra = f"OpenOn=challenge\nChallengeDirectory={challenges(webroot)}\n"
    testbed.profile("due", acme.profile(force=True, webroot=webroot, extra=extra))
    testbed.profile("idle", acme.profile(force=False, webroot=webroot, extra=extra))
    before = testbed.net.ruleset()
    with testbed.daemon(), Nginx(webroot), Prober(interval=0.005) as prober:
        begun = now()
        renewed = testbed.renew("deploy", "due")
        ended = now()
        assert renewed.ok, renewed.text
        assert renewed.data[:2] == ["renewed", 0]
        assert state(testbed, renewed.data[2], "AdmittedConnections") > 0
        assert testbed.net.ruleset() == before
        opened = [knock.begun for family in FAMILIES for knock in prober.knocks(family, begun)
                  if knock.outcome == Outcome.OPEN]  # fmt: skip
        assert opened, "a stranger never got through"
        print(f"reachable for {(max(opened) - min(opened)) / 1e9:.3f} s of {(ended - begun) / 1e9:.3f} s")

        begun = now()
        unchanged = testbed.renew("deploy", "idle")
        assert unchanged.data[:2] == ["unchanged", 0]
        assert state(testbed, unchanged.data[2], "OpenedAt") == 0
        for family in FAMILIES:
            assert prober.outcomes(family, begun) == {Outcome.SILENT}


def test_states(testbed, webroot):
    """Armed, open, armed again, as often as tokens come and go; the caller is answered when it is armed."""
    renewal = challenged(testbed, webroot)
    here = leftovers()
    with testbed.daemon() as daemon, Listener(80), Prober() as prober:
        before = testbed.net.ruleset()
        window = renewal.request()
        assert state(testbed, window) == "armed"
        assert state(testbed, window, "OpenedAt") == 0
        deadline = state(testbed, window, "DeadlineBoottime")
        assert testbed.net.ruleset() == before
        for _ in range(3):
            challenges(webroot).mkdir(parents=True)
            (challenges(webroot) / "token").write_text("x")
            wait_state(testbed, window, "open")
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family, since=now())
            shutil.rmtree(webroot / ".well-known")
            wait_state(testbed, window, "armed")
            event = now()
            for family in FAMILIES:
                assert prober.outcomes(family, event) == {Outcome.SILENT}
            assert testbed.net.ruleset() == before
        assert state(testbed, window, "DeadlineBoottime") == deadline
        renewal.finish()
        wait_state(testbed, window, "closed")
        assert state(testbed, window, "Result") == "success"
        told = [KINDS[ident] for ident in re.findall(r" MESSAGE_ID=(\w+)", daemon.text())]
        assert told == ["asked", "granted", "armed", *["opened", "shut"] * 3, "run_ended", "closed"]
    wait_until(lambda: leftovers() == here, "the run to be gone")


@pytest.mark.parametrize("end", ["token", "client", "deadline", "sigkill"])
def test_it_ends(testbed, webroot, end):
    """However it ends, what the token let in ends with it, as in any other window."""
    renewal = challenged(testbed, webroot)
    challenges(webroot).mkdir(parents=True)
    (challenges(webroot) / "left-by-an-earlier-client").write_text("x")
    with testbed.daemon() as daemon, Scene(testbed) as scene:
        window = renewal.request(seconds=15 if end == "deadline" else 600)
        assert state(testbed, window) == "armed"
        (challenges(webroot) / "token").write_text("x")
        wait_state(testbed, window, "open")
        scene.connect()
        if end == "token":
            (challenges(webroot) / "token").unlink()
            wait_state(testbed, window, "armed")
            event = now()
        elif end == "client":
            renewal.finish(1)
            wait_state(testbed, window, "closed")
            event = now()
            assert state(testbed, window, "Result") == "failed"
        elif end == "deadline":
            event = state(testbed, window, "DeadlineBoottime") * 1000
            wait_state(testbed, window, "closed", PATIENCE)
            assert state(testbed, window, "Result") == "timeout"
        else:
            daemon.kill9()
            event = now()
        scene.assert_shut(event)


def test_directory_that_cannot_be_watched(testbed, webroot):
    """Said before the client runs, with what to do."""
    renewal = challenged(testbed, webroot)
    challenges(webroot).mkdir(parents=True)
    for number in range(4097):
        (challenges(webroot) / f"old{number}").touch()
    before = testbed.net.ruleset()
    with testbed.daemon():
        with pytest.raises(BusError, match="More than 4096 files.*remove the old ones"):
            renewal.request()
        assert testbed.net.ruleset() == before


def test_way_to_a_dead_mount(testbed, webroot):
    """Who may write to the webroot may lead the way anywhere: nobody waits for what is there."""
    renewal = challenged(testbed, webroot)
    other = Renewal(testbed, "other", window="Ports=none")
    with testbed.daemon(), DeadMount() as dead:
        (webroot / ".well-known").symlink_to(dead.path)
        with pytest.raises(BusError, match="file system of another host.*OpenOn=start"):
            renewal.request()
        # and when the window is there already
        (webroot / ".well-known").unlink()
        challenges(webroot).mkdir(parents=True)
        window = renewal.request()
        assert state(testbed, window) == "armed"
        (challenges(webroot) / "token").write_text("x")
        wait_state(testbed, window, "open")
        (webroot / ".well-known").rename(webroot / "elsewhere")
        (webroot / ".well-known").symlink_to(dead.path)
        wait_state(testbed, window, "armed")
        second = other.request()
        assert state(testbed, second) == "open"
        other.finish()
        renewal.finish()
        for path in (second, window):
            wait_state(testbed, path, "closed")


def lead(webroot, links: list[str]) -> None:
    """By way of so many, the first of which is .well-known."""
    names = [".well-known", *(f"link{number}" for number in range(1, len(links)))]
    for name, target in zip(names, links, strict=True):
        (webroot / name).symlink_to(target)


@pytest.mark.parametrize("way", ["names", "links", "directories", "all"])
def test_way_that_takes_long(testbed, webroot, way):
    """Nor does anybody wait for a way that takes long to go: each link goes up to 4 KiB of names."""
    renewal = challenged(testbed, webroot)
    to_and_fro = "../" * 1000 + str(webroot).removeprefix("/")
    if way == "names":
        lead(webroot, [to_and_fro])
    elif way == "links":
        lead(webroot, [*(f"link{number}" for number in range(1, 41)), "."])
    elif way == "directories":
        (webroot / ("d/" * 64)).mkdir(parents=True)
        lead(webroot, ["d/" * 64])
    else:
        lead(webroot, [*(f"{to_and_fro}/link{number}" for number in range(1, 30)), to_and_fro])
    with testbed.daemon(), pytest.raises(BusError, match="too many symlinks or directories"):
        renewal.request()
