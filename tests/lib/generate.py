# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls nobody should make, and some that everybody makes: by what the daemon's own introspection says."""

import itertools
import random
import string
import xml.etree.ElementTree as ElementTree
from typing import Any, NamedTuple

from bus import MANAGER, NAME, PATH
from connections import open_connection
from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_method_call
from jeepney.low_level import Message

PROPERTIES = "org.freedesktop.DBus.Properties"
TOKEN = "Zq7"  # stands in every text that is no name, so that it is known again where it must not be
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = "".join(map(chr, [*range(1, 32), *range(127, 160), 0x2028, 0x2029]))
PIECES = [
    "", " ", ".", "..", "../", "/etc/shadow", "../../../etc/passwd", "\n<0>", "\r\nMESSAGE=", "\x1b[2J", "\x7f",
    "<b>", "<a href='http://192.0.2.1/'>", "&lt;", "&amp;", "<script>", "$(polkit.message)", "%s%s%s%n", "%1$*2$d", "`id`",
    "$(id)", "';--", "\\x00", "\u202e", "\u2066", "\ufeff", "\ufffd", "\U0001f600", "\u0301" * 50, "é", "A" * 65, *CONTROLS,
    *BIDI,
]  # fmt: skip
NUMBERS = {"t": 64, "x": 63, "u": 32, "i": 31, "q": 16, "n": 15, "y": 8}
DURATIONS = [0, 0, 0, 0, 0, 0, 1, 999_999, 1_000_000, 2_000_000, 60_000_000, 1 << 63, (1 << 63) - 1, (1 << 64) - 1]
SIGNATURES = ["", "s", "t", "st", "stt", "sttt", "stx", "tts", "v", "a{sv}", "as", "(stt)", "ay", "o", "g", "b", "d", "u",
              "ssv", "ss", "h", "sh", "aaaas", "a(ssos)"]  # fmt: skip
ALPHABET = string.ascii_letters + string.digits


class Method(NamedTuple):
    path: str
    interface: str
    name: str
    signature: str


class Offer:
    """What the daemon says that it has."""

    def __init__(self, address: str) -> None:
        self.methods: list[Method] = []
        self.properties: list[tuple[str, str, str]] = []  # path, interface, name
        with open_connection(address) as connection:
            self._visit(connection, "/")

    def _visit(self, connection, path: str) -> None:
        call = new_method_call(DBusAddress(path, NAME, "org.freedesktop.DBus.Introspectable"), "Introspect")
        reply = connection.send_and_get_reply(call, timeout=30)
        assert reply.header.message_type is MessageType.method_return, (path, reply.body)
        node = ElementTree.fromstring(reply.body[0])
        for interface in node.findall("interface"):
            for method in interface.findall("method"):
                signature = "".join(a.get("type") for a in method.findall("arg") if a.get("direction", "in") == "in")
                self.methods.append(Method(path, interface.get("name"), method.get("name"), signature))
            self.properties += [(path, interface.get("name"), p.get("name")) for p in interface.findall("property")]
        for child in node.findall("node"):
            self._visit(connection, f"{path.rstrip('/')}/{child.get('name')}")


class Generator:
    """One endless row of messages, the same for the same source."""

    def __init__(self, source: random.Random, offer: Offer, profiles: list[str]) -> None:
        self._random, self._profiles = source, profiles
        self._methods: dict[tuple[str, str], list[Method]] = {}
        for method in offer.methods:
            self._methods.setdefault((method.interface, method.name), []).append(method)
        # what opens windows more often than the rest, and what lists everything less
        weights = {"Renew": 12, "RequestWindow": 12, "GetLog": 6, "GetManagedObjects": 0.2, "ListProfiles": 0.2}
        self._weights = [weights.get(name, 2) for _, name in self._methods]
        self._properties = offer.properties
        self.windows: list[str] = []  # as the caller comes to know them

    def text(self) -> str:
        """No profile's name, and with the token."""
        roll, choose = self._random.random(), self._random.choice
        if roll < 0.01:
            return TOKEN + choose(PIECES) + choose("Ax<\n\u202e") * self._random.randrange(1 << choose([10, 14, 17, 20]))
        if roll < 0.6:
            return f"{choose(PIECES)}{TOKEN}{choose(PIECES)}!"
        name = choose(self._profiles)
        place = self._random.randrange(len(name) + 1)
        return f"{name[:place]}{choose(PIECES)}{TOKEN}!{name[place:]}"

    def number(self, kind: str) -> int:
        bits = NUMBERS[kind]
        if kind == "t" and self._random.random() < 0.7:
            return self._random.choice(DURATIONS)
        return self._random.choice([0, 0, 1, 1, (1 << bits) - 1, self._random.getrandbits(bits)])

    def path(self) -> str:
        letters = "".join(self._random.choices(ALPHABET, k=self._random.choice([1, 12, 40])))
        hexes = "".join(self._random.choices("0123456789abcdef", k=12))
        odd = "".join(f"_{byte:02x}" for byte in self.text().encode()[:500])
        shapes = [f"/window/w{hexes}", f"/window/W{hexes.upper()}", f"/window/w{hexes}0", f"/window/w{hexes[:-1]}",
                  f"/window/w{hexes}/w{hexes}", f"/window/{letters}", "/window", "/profile", f"/profile/{odd}",
                  f"/profile/{letters}", "/profile/_", "/profile/_zz", f"/{letters}"]  # fmt: skip
        roll = self._random.random()
        if roll < 0.1:
            return self._random.choice(["/", "/org", "/org/postern", PATH + "0", f"/{letters}", "/org/freedesktop/DBus"])
        if roll < 0.12:
            # sd-bus drops a message with a path of 64 KiB unanswered
            return f"{PATH}/window/{'w' * self._random.randrange(65_000)}"
        return PATH + self._random.choice(shapes)

    def value(self, signature: str) -> tuple[Any, str]:
        """A value of the first type, and the rest of the signature."""
        kind, rest = signature[0], signature[1:]
        if kind in "([{":
            values = []
            while rest[0] not in ")}":
                value, rest = self.value(rest)
                values.append(value)
            return tuple(values), rest[1:]
        if kind == "a":
            values = []
            after = self._skip(rest)
            for _ in range(self._random.randrange(3)):
                value, after = self.value(rest)
                values.append(value)
            if rest[0] == "{":
                return dict(values), after
            return (bytes(values) if rest[0] == "y" else values), after
        if kind == "v":
            inner = self._random.choice(["s", "t", "o", "ay", "a{sv}", "(ss)", "b"])
            return (inner, self.value(inner)[0]), rest
        if kind == "b":
            return self._random.random() < 0.5, rest
        if kind == "d":
            return self._random.choice([0.0, -0.0, float("nan"), float("inf"), 1e308]), rest
        if kind == "h":
            return self._random.choice([0, 1, 2]), rest
        if kind == "o":
            return self.path(), rest
        if kind == "g":
            return self._random.choice(["", "s", "a" * 31 + "s", "(ss)", "a{sv}"]), rest
        if kind == "s":
            return (self._random.choice(self._profiles) if self._random.random() < 0.5 else self.text()), rest
        return self.number(kind), rest

    @staticmethod
    def _skip(signature: str) -> str:
        """What follows the first complete type."""
        depth = 0
        for position, letter in enumerate(signature):
            depth += (letter in "({") - (letter in ")}")
            if depth == 0 and letter != "a":
                return signature[position + 1 :]
        return ""

    def body(self, signature: str) -> tuple:
        values = []
        while signature:
            value, signature = self.value(signature)
            values.append(value)
        return tuple(values)

    def message(self) -> tuple[str, Message]:
        """What is odd about it, and it."""
        roll = self._random.random()
        places = self._random.choices(list(self._methods.values()), self._weights)[0]
        path, interface, name, signature = self._random.choice(places)
        if "/window/" in path and self.windows and self._random.random() < 0.8:
            path = self._random.choice(self.windows[-20:])
        body = self.body(signature)
        # flags that are no flags are refused first: mostly leave them out
        if signature == "stt" and self._random.random() < 0.8:
            body = (self._random.choice(self._profiles), body[1], self._random.choice([0, 0, 1]))
        kind = "declared"
        if roll < 0.12:
            kind, signature = "signature", self._random.choice(SIGNATURES)
            body = self.body(signature)
        elif roll < 0.24:
            kind, path = "object", self.path()
        elif roll < 0.28:
            kind, name = "member", self._random.choice(["Reload", "renew", "_", "X" * 255, "Set", "Get", "Close", "Ping"])
        elif roll < 0.31:
            kind, interface = "interface", self._random.choice([f"{MANAGER}x", f"{NAME}.Window", PROPERTIES, "a.b", "a." + "b" * 253])
        elif roll < 0.34:
            kind, interface = "no interface", None
        elif roll < 0.46:
            kind = "property"
            path, interface, name, signature, body = self._property()
        message = new_method_call(DBusAddress(path, NAME, interface), name, signature or None, body)
        if self._random.random() < 0.05:
            message.header.flags |= MessageFlag.no_reply_expected
        if self._random.random() < 0.15:
            message.header.flags |= MessageFlag.allow_interactive_authorization
        return kind, message

    def _property(self) -> tuple:
        path, interface, name = self._random.choice(self._properties)
        if "/window/" in path and self.windows:
            path = self._random.choice(self.windows[-20:])
        if self._random.random() < 0.3:
            path = self.path()
        if self._random.random() < 0.3:
            interface = self._random.choice(["", self.text(), PROPERTIES])
        if self._random.random() < 0.3:
            name = self._random.choice(["", self.text(), name.lower()])
        member, signature, body = self._random.choice(
            [("Get", "ss", (interface, name)), ("GetAll", "s", (interface,)),
             ("Set", "ssv", (interface, name, ("s", self.text()))), ("Get", "sv", (interface, ("s", name)))]
        )  # fmt: skip
        return path, PROPERTIES, member, signature, body

    def poison(self, serial: int) -> bytes:
        """What no bus passes on: it ends the connection instead."""
        message = new_method_call(DBusAddress(PATH, NAME, MANAGER), "Renew", "stt", ("p0", 0, 0))
        good = message.serialise(serial)
        local = new_method_call(DBusAddress("/org/freedesktop/DBus/Local", NAME, MANAGER), "Renew")
        spoiled = [
            local.serialise(serial),
            good.replace(PATH.encode(), PATH.encode().replace(b"/org", b"//rg")),
            good.replace(MANAGER.encode(), MANAGER.encode().replace(b"org.", b"o<g.")),
            good.replace(b"\2\0\0\0p0", b"\2\0\0\0\xff\xfe"),
            good.replace(b"stt\0", b"st(\0"),
            good[:4] + b"\xff\xff\xff\xff" + good[8:],
            b"l\1\0\1" + self._random.randbytes(60),
        ]
        return self._random.choice(spoiled)


def is_printable(text: str) -> bool:
    """Nothing that commands a terminal or a reader."""
    return not any(letter in text for letter in itertools.chain(CONTROLS, BIDI, "\0"))


def is_clean(text: str) -> bool:
    """Nor a renderer."""
    return is_printable(text) and not any(letter in text for letter in "<>&")


def reply_to(message: Message) -> int | None:
    return message.header.fields.get(HeaderFields.reply_serial)
