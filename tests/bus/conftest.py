# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests here run on both buses, but for modules that have a bus_kind of their own."""

import pytest


@pytest.fixture(params=["dbus-daemon", "dbus-broker"])
def bus_kind(request):
    return request.param
