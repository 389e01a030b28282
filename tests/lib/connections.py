# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to a bus."""

from jeepney.io.blocking import DBusConnection, open_dbus_connection
from process import PATIENCE


def open_connection(address: str, *, enable_fds: bool = False) -> DBusConnection:
    """jeepney gives up after a second; a busy host may take longer."""
    return open_dbus_connection(address, enable_fds, auth_timeout=PATIENCE)
