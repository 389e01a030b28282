# SPDX-License-Identifier: GPL-2.0-or-later
"""test_requests.py again, with every action granted to everybody."""

import test_requests
from callers import WINDOW, request_window
from granted import again, bus_kind, testbed  # noqa: F401

REFUSALS = {
    "test_refused_requests_are_not_counted",
    "test_flood_leaves_nothing",
    "test_waiting_takes_nobody_s_place",
}
globals().update(again(test_requests, REFUSALS))


def test_everybody_may_all(host):
    """Or the others here would show nothing."""
    window = request_window(host, "deploy", "long")
    assert request_window(host, "nobody", "long") == window
    about = dict(interface=WINDOW, path=window, user="visitor")
    assert host.bus.call("GetLog", "u", 0, **about) == ([],)
    host.bus.call("Close", **about)
    assert host.bus.get(window, WINDOW, "Result") == "canceled"
