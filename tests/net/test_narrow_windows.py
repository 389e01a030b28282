# SPDX-License-Identifier: GPL-2.0-or-later
"""Reach=renewal and OpenOn=challenge on hosts whose firewall is managed by somebody else: narrow there, too."""

import contextlib

import pytest
import xtables
from firewalld import Firewalld
from net import HOST4, HOST6
from probe import FAMILIES, SELDOM, Listener, Outcome, Prober
from process import now
from scene import Renewal, state, wait_state
from test_reach import Renewal as Listening
from test_reach import answers
from testbed import Testbed
from ufw import Ufw


@contextlib.contextmanager
def denying(kind: str):
    """A host that denies, by a firewall of this kind: its testbed."""
    with Testbed("") as testbed, contextlib.ExitStack() as stack:
        if kind == "iptables":
            xtables.restore_all(xtables.denying())
        elif kind == "ufw":
            stack.enter_context(Ufw())
        else:
            stack.enter_context(Firewalld(testbed))
        yield testbed


@pytest.fixture(params=["iptables", "ufw", "firewalld"])
def host(request):
    with denying(request.param) as testbed, testbed.daemon():
        yield testbed


def shut(prober: Prober) -> bool:
    """Whatever the firewall answers to whom it denies."""
    return all(Outcome.OPEN not in prober.outcomes(family, now()) for family in FAMILIES)


def test_reach(host):
    renewal = Listening(host)
    with Prober(interval=SELDOM) as prober:
        with Listener(80):
            window = renewal.request()
            assert shut(prober), "somebody else's server is reached"
        assert shut(prober), "nobody listens"
        renewal.tell("listen")
        assert answers(HOST4, 10) == answers(HOST6, 10) == {"web": 10}
        renewal.tell("shut")
        assert shut(prober), "it listens no more"
        renewal.tell("exit 0", done=False)
        wait_state(host, window, "closed")
        assert state(host, window, "Result") == "success"


def test_challenge(host):
    directory = host.directory / "challenges"
    renewal = Renewal(host, window=f"Ports=80/tcp\nOpenOn=challenge\nChallengeDirectory={directory}")
    with Listener(80), Prober() as prober:
        window = renewal.request()
        assert state(host, window) == "armed"
        assert shut(prober)
        for _ in range(2):
            directory.mkdir(exist_ok=True)
            (directory / "token").write_text("x")
            wait_state(host, window, "open")
            for family in FAMILIES:
                prober.wait_for(Outcome.OPEN, family)
            (directory / "token").unlink()
            wait_state(host, window, "armed")
            assert shut(prober)
        renewal.finish()
        wait_state(host, window, "closed")
        assert state(host, window, "Result") == "success"
