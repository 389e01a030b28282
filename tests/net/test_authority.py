# SPDX-License-Identifier: GPL-2.0-or-later
"""What an authority may do while a window waits for it: come many times at once, by way of a redirect, late,
too late or never, and say no."""

import json
import sys
from pathlib import Path

import pytest
from acme import DOMAIN
from bus import BusError
from net import STRANGER4
from nginx import Nginx
from probe import FAMILIES, Outcome, Prober
from process import Process, now, run, wait_until
from scene import printed, state, wait_state
from testbed import leftovers

# as the testbed's, but what it denies is counted
COUNTED = """
table inet filter {
    chain denied {
        tcp flags & (syn | ack) != syn drop
        counter drop
    }
    chain input {
        type filter hook input priority 0; policy accept;
        ct state established,related accept
        iif "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
        jump denied
    }
}
"""
PERSPECTIVES = 3  # validations by Pebble of each name, side by side


@pytest.fixture
def webroot(testbed):
    directory = testbed.directory / "www"
    (directory / ".well-known/acme-challenge").mkdir(parents=True)
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755)
    return directory


def challenged(webroot: Path) -> str:
    return f"OpenOn=challenge\nChallengeDirectory={webroot}/.well-known/acme-challenge"


def denied() -> int:
    listing = json.loads(run(["nft", "-j", "list", "chain", "inet", "filter", "denied"], ns="host"))
    (counter,) = (e["counter"] for o in listing["nftables"] for e in o.get("rule", {}).get("expr", []) if "counter" in e)
    return counter["packets"]


def test_many_names_at_once(testbed, acme, webroot):
    """Not one first packet of them is kept out. (Open from the start: an authority that is called the moment
    a token is there may come before posternd has looked, and knocks again a second later.)"""
    testbed.net.replace(COUNTED)
    names = [DOMAIN, *(f"n{number}.{DOMAIN}" for number in range(1, 20))]
    testbed.profile("web", acme.profile(webroot=webroot, names=names))
    with Prober() as stranger:
        stranger.wait_for(Outcome.SILENT, "v4")
    before = denied()
    assert before > 0, "nothing is counted"
    with testbed.daemon(), Nginx(webroot) as nginx:
        renewed = testbed.renew("deploy", "web")
        assert renewed.ok, renewed.text
        assert renewed.data[:2] == ["renewed", 0]
        assert acme.certificate_facts()["names"].count("DNS:") == len(names)
        assert len(nginx.asked()) == PERSPECTIVES * len(names)
        assert state(testbed, renewed.data[2], "AdmittedConnections") >= PERSPECTIVES * len(names)
        assert denied() == before


def test_redirected_to_https(testbed, acme, webroot):
    """By a server that sends every visitor on to port 443: a profile with both."""
    testbed.profile("web", acme.profile(webroot=webroot, ports="80/tcp 443/tcp", extra=challenged(webroot)))
    before = testbed.net.ruleset()
    with testbed.daemon(), Nginx(webroot, redirect=True) as nginx, Prober(443, interval=0.02) as prober:
        renewed = testbed.renew("deploy", "web")
        assert renewed.ok, renewed.text
        assert renewed.data[:2] == ["renewed", 0]
        token = [line.partition('" ')[2].split()[0] for line in nginx.asked() if "acme-challenge" in line]
        assert sorted(token) == ["200"] * PERSPECTIVES + ["301"] * PERSPECTIVES
        assert state(testbed, renewed.data[2], "AdmittedConnections") >= 2 * PERSPECTIVES
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
        assert testbed.net.ruleset() == before


def test_late(testbed, acme):
    """It pauses before each look; the window waits, and certbot with it."""
    acme.again(PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="3")
    testbed.profile("web", acme.profile(names=[DOMAIN, f"www.{DOMAIN}", f"mail.{DOMAIN}"]))
    with testbed.daemon():
        renewed = testbed.renew("deploy", "web")
        assert renewed.ok, renewed.text
        assert renewed.data[:2] == ["renewed", 0]
        assert acme.pebble_log().count("seconds before validating") == 3 * PERSPECTIVES


@pytest.mark.parametrize("when", ["too late", "never"])
def test_not_in_time(testbed, acme, when):
    """Its pauses are longer than the window; or it takes connections and says nothing."""
    if when == "too late":
        # six of them: all below a second is not to be seen in a lifetime
        acme.again(PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="100000")
    testbed.profile("web", acme.profile(names=[DOMAIN, f"www.{DOMAIN}"]))
    before, here = testbed.net.ruleset(), leftovers()
    with testbed.daemon(), Prober(interval=0.01) as prober:
        if when == "never":
            acme.stop()
        window = testbed.bus.call("RequestWindow", "stt", "web", 6_000_000, 0, user="deploy")[0]
        until = state(testbed, window, "DeadlineBoottime") * 1000
        wait_state(testbed, window, "closed", 60)
        acme.cont()
        assert state(testbed, window, "Result") == "timeout"
        hint = state(testbed, window, "Hint")
        assert "still running after 6 s" in hint and "longer duration" in hint
        for family in FAMILIES:
            assert prober.outcomes(family, until + 100_000_000) == {Outcome.SILENT}
        assert testbed.net.ruleset() == before
    wait_until(lambda: leftovers() == here, "certbot to be gone")


def test_no_again_and_again(testbed, acme, webroot):
    """Somebody comes and finds no token there: from the second time on it is said what that leads to, and
    soon Postern itself asks no more, and says until when."""
    elsewhere = testbed.directory / "elsewhere"
    elsewhere.mkdir()
    testbed.profile("web", acme.profile(webroot=elsewhere, extra="RateLimit=2/1h"))
    with testbed.daemon(), Nginx(webroot) as nginx:
        first, second, third = (testbed.renew("deploy", "web") for _ in range(3))
        assert not first.ok and not second.ok and not third.ok
        assert len(nginx.asked()) >= 2
        assert "unauthorized" in printed(testbed, first.text)
        for answer in (first, second):
            # a client's words are for those who may read the log
            assert "failed, exit status 1" in answer.text and "unauthorized" not in answer.text
        assert "The one before failed as well" not in first.text
        assert "The one before failed as well" in second.text and "every 12 minutes" in second.text
        assert "allows 2 windows" in third.text and "Ask again in" in third.text
        with pytest.raises(BusError, match="Ask again in") as refused:
            testbed.bus.call("RequestWindow", "stt", "web", 0, 0, user="deploy")
        assert refused.value.name.endswith("RateLimited")


def test_no_to_every_nonce(testbed, acme):
    """What a CA in trouble does: the client gives up, and so does the window."""
    acme.again(PEBBLE_WFE_NONCEREJECT="100")
    testbed.profile("web", acme.profile())
    before = testbed.net.ruleset()
    with testbed.daemon():
        answer = testbed.renew("deploy", "web")
        assert not answer.ok and "failed, exit status 1" in answer.text
        assert "Unable to register an account" in printed(testbed, answer.text)
        assert testbed.net.ruleset() == before


def test_asked_too_often(testbed, acme):
    """The authority's own limit: what it said is in what the client printed, for those who may read that."""
    program = Path(__file__).parents[1] / "lib/refusing.py"
    # certbot 2.1.0 on Python 3.11 falls over such an answer
    command = (f"/usr/bin/lego --server https://{STRANGER4}:14001/ --path {acme.directory}/lego --accept-tos "
               f"--email admin@{DOMAIN} --domains {DOMAIN} --http run")  # fmt: skip
    testbed.profile("web", f"[Renewal]\nExec={command}\nEnvironment=LEGO_CA_CERTIFICATES={acme.ca}\n"
                           "[Window]\nPorts=80/tcp\n")  # fmt: skip
    before = testbed.net.ruleset()
    certificate, key = acme.directory / "api.pem", acme.directory / "api.key"
    with Process([sys.executable, str(program), STRANGER4, "14001", str(certificate), str(key)], ns="internet") as server:
        server.wait_ready(lambda: run(["ss", "-Hltn", "sport = :14001"], ns="internet"), "to listen")
        with testbed.daemon():
            answer = testbed.renew("deploy", "web")
            assert not answer.ok and "failed, exit status 1" in answer.text
            assert "too many of yours" not in answer.text and "rateLimited" not in answer.text
            assert "too many of yours" in printed(testbed, answer.text)
            assert testbed.net.ruleset() == before
