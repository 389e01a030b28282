# SPDX-License-Identifier: GPL-2.0-or-later
"""A hundred thousand SYNs of each family from nowhere, through an open window: the host's own clients
come in, the host's connection tracking is not filled, and the window ends as if nobody knocked."""

import re
import time

import pytest
from labels import let_in
from net import OFFICE4, OFFICE6
from probe import FAMILIES, HeldConnection, Listener, Outcome
from process import now, run, wait_until
from rounds import number, seed
from scene import ADDRESSES, OFFICES, TOLERANCE, Renewal, Scene, state
from syn_flood import SynFlood
from test_closing import close, deadline, sigkill, sigstop

FRAMES = number("POSTERN_TEST_FRAMES", 100_000)
VISITS = 100
NEW_PER_SECOND, NEW_BURST = 200, 400  # lease.c
SECONDS = 60  # of a window that ends by its deadline; the flood is over before
SSH = 22
OFFICE_SSH = f"""
add rule inet filter input ip saddr {OFFICE4} tcp dport {SSH} accept
add rule inet filter input ip6 saddr {OFFICE6} tcp dport {SSH} accept
"""


def tracked(what: str = "count") -> int:
    return int(run(["cat", f"/proc/sys/net/netfilter/nf_conntrack_{what}"], ns="host"))


def visit_from_office() -> float:
    """Every way in that the host's own rules leave open; seconds that the slowest took."""
    slowest = 0.0
    for port in (80, SSH):
        for family in FAMILIES:
            begun = time.monotonic()
            with HeldConnection(ADDRESSES[family], port, source=OFFICES[family]) as visitor:
                assert visitor.state() == "alive", f"the office's connection to {port} over {family}"
            slowest = max(slowest, time.monotonic() - begun)
    return slowest


@pytest.mark.parametrize("end", [deadline, sigkill, sigstop], ids=lambda end: end.__name__)
def test_flood(testbed, end):
    luck = seed()
    testbed.net.nft(OFFICE_SSH)
    renewal = Renewal(testbed)
    with Scene(testbed) as scene, Listener(SSH), SynFlood(luck) as flood, testbed.daemon() as daemon:
        window = renewal.request(600 if end is sigkill else SECONDS)
        scene.connect()

        begun = time.monotonic()
        tracked_before, let_in_before = tracked(), len(let_in())
        flood.begin()
        visits, slowest = 0, 0.0
        while visits < VISITS or flood.sent() < FRAMES:
            slowest = max(slowest, visit_from_office())
            visits += 1
        sent, let_in_during, tracked_during = flood.sent(), len(let_in()), tracked()
        seconds = time.monotonic() - begun
        print(f"{sent} SYNs of each family in {seconds:.1f} s: {let_in_during - let_in_before} let in, "
              f"{tracked_during - tracked_before} tracked; {visits} visits of the office, 4 connections each, "
              f"the slowest in {slowest * 1e3:.0f} ms")  # fmt: skip
        # the flood was not before a shut door, and it was limited: the office's visits add to what is tracked
        assert NEW_BURST / 2 < let_in_during - let_in_before <= NEW_BURST + NEW_PER_SECOND * seconds
        assert tracked_during - tracked_before <= NEW_BURST + NEW_PER_SECOND * seconds + 4 * visits

        assert state(testbed, window) == "open", "the flood took longer than the window"
        event = end(testbed, renewal, window, daemon)
        wait_until(lambda: now() > event + TOLERANCE, "the window's end", patience=SECONDS + 20)
        let_in_after = len(let_in())
        flood.wait_more(FRAMES)
        assert len(let_in()) <= let_in_after, "somebody came in after the end"
        scene.assert_shut(event)
        visit_from_office()
        if daemon.alive():
            daemon.cont()
        assert daemon.end() == ""
        with testbed.daemon():
            flood.wait_more(1000)
            scene.assert_swept()
    print(f"{let_in_after} let in at the end, none after")


def test_end_with_very_many_connections(testbed):
    """A rule of the host's own takes the limit away, so that as many connections as the flood has SYNs,
    or nearly as many as the kernel tracks, are to be ended: the port is shut before they are gone, and
    they go."""
    luck = seed()
    renewal = Renewal(testbed)
    with Scene(testbed) as scene, SynFlood(luck) as flood, testbed.daemon():
        window = renewal.request()
        scene.connect()
        gate = re.search(r"meta priority (\S+) ct label set (\d+)", run(["nft", "list", "ruleset"], ns="host"))
        stamp, gated = gate[1], gate[2]
        rule = f"inet filter input tcp dport 80 ct state new meta priority set {stamp} ct label set {gated} accept"
        testbed.net.nft(f"insert rule {rule}")
        flood.begin()
        wanted = min(FRAMES, tracked("max") * 9 // 10)
        wait_until(lambda: tracked() > wanted, f"{wanted} connections", patience=60)
        handle = re.search(rf"ct label set {gated} accept # handle (\d+)",
                           run(["nft", "-a", "list", "chain", "inet", "filter", "input"], ns="host"))[1]  # fmt: skip
        testbed.net.nft(f"delete rule inet filter input handle {handle}")
        many = tracked()

        event = close(testbed, renewal, window, None)
        seconds = (now() - event) / 1e9
        print(f"{many} connections; the window was closed after {seconds:.2f} s")
        # a knock from a port that an entry still has, of those that are being ended, is reset
        scene.assert_shut(event, {Outcome.SILENT, Outcome.REFUSED})
        scene.assert_swept()
        assert tracked() < 1000
