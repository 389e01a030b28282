#!/usr/bin/python3
"""renew.py PROFILE

What a button "renew now" does: asks for a window, shows how it goes, and in the end what came of it.
Ctrl-C closes the window. Exit status 0 if the renewal succeeded. Needs python3-gi.
"""

import sys
import time

from gi.repository import Gio, GLib

NAME = "org.postern.Renewal1"
PATH = "/org/postern/Renewal1"
MANAGER, WINDOW = f"{NAME}.Manager", f"{NAME}.Window"
GOOD = ("renewed", "unchanged", "success")

bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
loop = GLib.MainLoop()


def call(path, interface, member, arguments, answered):
    """answered(values, None), or answered(None, error). Whoever has to is asked for a password, by the
    agent of their desktop; without one the answer is an error at once. There is no time limit: a window
    lasts as long as its profile allows, and people take their time."""

    def finish(connection, result):
        try:
            answered(connection.call_finish(result).unpack(), None)
        except GLib.Error as error:
            answered(None, error)

    flags = Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
    bus.call(NAME, path, interface, member, arguments, None, flags, GLib.MAXINT, None, finish)


class Renewal:
    def __init__(self, profile):
        self.status, self.path, self.shown = 1, None, ""
        self.unwanted = False
        call(PATH, MANAGER, "RequestWindow", GLib.Variant("(stt)", (profile, 0, 0)), self.on_open)

    def on_open(self, values, error):
        if error:
            return self.explain(error)
        self.path = values[0]
        # a proxy keeps the properties up to date by the signal PropertiesChanged
        self.window = Gio.DBusProxy.new_sync(bus, Gio.DBusProxyFlags.NONE, None, NAME, self.path, WINDOW, None)
        call(self.path, WINDOW, "Wait", None, self.on_end)
        self.show()
        GLib.timeout_add_seconds(1, self.show)
        if self.unwanted:
            self.close()

    def get(self, name):
        return self.window.get_cached_property(name).unpack()

    def show(self):
        if not self.window.get_cached_property_names():
            return GLib.SOURCE_REMOVE  # the service has died; on_end() is told as well
        # by this clock: the time of day may be set meanwhile, and the host may sleep
        left = self.get("DeadlineBoottime") / 1e6 - time.clock_gettime(time.CLOCK_BOOTTIME)
        line = f"{self.get('State')}, {max(left, 0):.0f} s left, {self.get('AdmittedConnections')} connections"
        if line != self.shown:
            print(line, flush=True)
        self.shown = line
        return GLib.SOURCE_CONTINUE

    def close(self):
        """Also before it is open: from polkit's yes on, leaving takes nothing back."""
        self.unwanted = True
        if self.path:
            call(self.path, WINDOW, "Close", None, lambda *_: None)
        return GLib.SOURCE_CONTINUE

    def on_end(self, values, error):
        if error:
            return self.explain(error)
        result, exit_status = values
        print(f"{result}, exit status {exit_status}")
        # it can be read for a minute; all of it at once, as a proxy may lag behind
        call(self.path, "org.freedesktop.DBus.Properties", "GetAll", GLib.Variant("(s)", (WINDOW,)), self.on_receipt)

    def on_receipt(self, values, error):
        if error:
            return self.explain(error)
        (window,) = values
        came = f"{window['AdmittedConnections']} connections from {window['SourceNetworks']} networks"
        print(f"{came}, through {window['Gate'] or 'no firewall'}")
        if window["Hint"]:
            print(window["Hint"])
        self.status = 0 if window["Result"] in GOOD else 1
        loop.quit()

    def explain(self, error):
        """The text says what to do; the name says which kind it is, for a program."""
        kind = Gio.DBusError.get_remote_error(error) or "no answer"
        Gio.DBusError.strip_remote_error(error)
        print(f"{kind.removeprefix(NAME + '.Error.')}: {error.message}", file=sys.stderr)
        loop.quit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    renewal = Renewal(sys.argv[1])
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, 2, renewal.close)
    loop.run()
    sys.exit(renewal.status)
