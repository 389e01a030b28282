# SPDX-License-Identifier: GPL-2.0-or-later
"""test_windows.py again, with every action granted to everybody."""

import test_windows
from granted import again, bus_kind, testbed  # noqa: F401

REFUSALS = {
    "test_joining_asks_polkit_all_the_same",
    "test_others_do_not_close",
    "test_who_joined_does_not_close_but_reads",
    "test_log_is_for_who_asked_for_the_window",
}
globals().update(again(test_windows, REFUSALS))
