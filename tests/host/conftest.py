# SPDX-License-Identifier: GPL-2.0-or-later
"""A booted host for each test."""

import pytest
from booted import Host, HostNet
from testbed import leftovers, wait_until


@pytest.fixture
def fresh(bus_kind):
    """Booted; Postern is not installed yet."""
    before = leftovers()
    with HostNet() as net, Host(net, bus_kind) as host:
        yield host
    wait_until(lambda: leftovers() == before, f"everything to be gone but {before}")


@pytest.fixture
def host(fresh):
    """Booted, with the package installed."""
    fresh.install()
    return fresh


@pytest.fixture
def net(fresh):
    """For what wants the network by this name."""
    return fresh.net


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """What a host said on which a test failed."""
    outcome = yield
    report = outcome.get_result()
    fresh = getattr(item, "funcargs", {}).get("fresh")
    if report.failed and call.when == "call" and fresh is not None and fresh.leader:
        report.sections.append(("journal", fresh.tried("journalctl", "--boot", "--no-pager", "--lines=200").stdout))
