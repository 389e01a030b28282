# SPDX-License-Identifier: GPL-2.0-or-later
"""For modules that are another one's tests again, on a host whose polkit says yes to everybody and
everything: what is left is what the admin wrote into the profiles, and Postern's own limits."""

from types import ModuleType

import pytest

YES = "polkit.addRule(function(action, subject) { return polkit.Result.YES; });"


@pytest.fixture
def bus_kind():
    """The first run has both."""
    return "dbus-daemon"


@pytest.fixture
def testbed(testbed):
    # before all others
    testbed.polkit.add_rule(YES, "00-yes")
    return testbed


def again(module: ModuleType, refusals: set[str]) -> dict:
    """Its tests and its host; but not the refusals, which are about polkit's no."""
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    assert refusals < set(tests), f"no test of {module.__name__}: {refusals - set(tests)}"
    return {"host": module.host, **{name: test for name, test in tests.items() if name not in refusals}}
