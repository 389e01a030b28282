#!/usr/bin/python3
"""watch.py

What a page with a live list does: the profiles and the open windows, and each change of them, a line of
JSON each. Ctrl-C ends it. Needs python3-gi.
"""

import json
import time

from gi.repository import Gio, GLib

NAME = "org.postern.Renewal1"
PATH = "/org/postern/Renewal1"
WINDOW, PROFILE = f"{NAME}.Window", f"{NAME}.Profile"
KEYS = {
    PROFILE: ("Name", "Description", "Ports", "LastResult", "LastClosedAt", "Names", "NotAfter", "CloseOwed"),
    WINDOW: ("Id", "Profile", "State", "Result", "OpenedBy", "Ports", "AdmittedConnections", "SourceNetworks", "Hint"),
}


def tell(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


def row(proxy):
    """One line of the list."""
    cached = {name: proxy.get_cached_property(name) for name in proxy.get_cached_property_names()}
    values = {name: value.unpack() for name, value in cached.items()}
    line = {key: values.get(key) for key in KEYS[proxy.get_interface_name()]}
    if values.get("DeadlineBoottime"):
        # counted by the clock that no one can set, and that goes on while the host sleeps
        left = values["DeadlineBoottime"] / 1e6 - time.clock_gettime(time.CLOCK_BOOTTIME)
        line["SecondsLeft"] = max(round(left), 0)
    return line


def proxies(item):
    return [proxy for kind in KEYS if (proxy := item.get_interface(kind))]


def on_added(_, item):
    for proxy in proxies(item):
        tell("added", path=item.get_object_path(), row=row(proxy))


def on_removed(manager, item):
    # the service leaves after a minute without work. What is on disk has not changed by that
    if manager.get_name_owner():
        tell("removed", path=item.get_object_path())


def on_changed(_, item, proxy, changed, __):
    if proxy.get_interface_name() in KEYS:
        tell("changed", path=item.get_object_path(), names=sorted(changed.unpack()), row=row(proxy))


def on_owner(manager, _):
    if not manager.get_name_owner():
        tell("resting")


if __name__ == "__main__":
    # it starts the service for the first list, asks it for all objects, and follows their signals,
    # also over a restart
    objects = Gio.DBusObjectManagerClient.new_for_bus_sync(
        Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, NAME, PATH, None, None, None
    )
    objects.connect("object-added", on_added)
    objects.connect("object-removed", on_removed)
    objects.connect("interface-proxy-properties-changed", on_changed)
    objects.connect("notify::name-owner", on_owner)
    for found in objects.get_objects():
        on_added(objects, found)
    tell("ready")
    try:
        GLib.MainLoop().run()
    except KeyboardInterrupt:
        pass
