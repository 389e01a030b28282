# SPDX-License-Identifier: GPL-2.0-or-later
import pytest
from helper import Profiles, all_processes
from process import cgroups, wait_until


@pytest.fixture
def profiles():
    """Afterwards there is what was before: no process, no cgroup, no descriptor of the test's own."""
    processes_before, cgroups_before = all_processes(), cgroups()
    yield Profiles()
    wait_until(lambda: all_processes() <= processes_before, "everything to be gone")
    assert cgroups() == cgroups_before
