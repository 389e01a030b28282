# SPDX-License-Identifier: GPL-2.0-or-later
"""Many lives of posternd on one host, and what must be true after each of them."""

import contextlib
import json
import random
import select
from collections import Counter

from bus import USERS
from connections import open_connection
from helper import effective_user
from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call
from labels import let_in
from probe import FAMILIES
from process import now, processes, wait_until
from sudden import KINDS, Aim, Death, Mortal
from testbed import MANAGER, NAME, PATH, SANITIZER_REPORT, Testbed
from vigil import FOR_EVER, Held, Vigil

WINDOW = "org.postern.Renewal1.Window"
OUR_TABLES = ("postern", "postern_guard")
# the only errors that a caller may get when nothing but death is the matter
GONE = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.postern.Renewal1.Error.Stopped")  # fmt: skip
# of windows that may end before they are open
TOO_LATE = ("org.postern.Renewal1.Error.GateFailed", "org.postern.Renewal1.Error.TimedOut")
BUS_GONE = "the bus is gone"


def is_ours(item: dict) -> bool:
    """Of one entry of `nft -j list ruleset`."""
    ((kind, value),) = item.items()
    return (value.get("name") if kind == "table" else value.get("table")) in OUR_TABLES or (
        value.get("comment") == "postern:gate"
    )


class Lives:
    """Starts posternd, has it open windows, sees it die. No renewal but ours runs on this host."""

    def __init__(self, testbed: Testbed, source: random.Random) -> None:
        self.testbed, self.random = testbed, source
        self.deaths: Counter = Counter()  # (stage, what it was doing)
        self.in_batch = self.in_kernel = self.ended = 0
        self.spoken: Counter = Counter()
        # what a transaction of a stage takes, as last seen: a first guess
        self.batch_nsec = dict.fromkeys(("start", "open", "mend", "close"), 300_000)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.ruleset = self.testbed.net.ruleset()
            self.vigil = stack.enter_context(Vigil())
            self.mortal = Mortal(self.testbed)
            stack.callback(self.mortal.close)
            self.senders: list[Held] = []
            self.idle: list[Held] = []
            self.dirty = False  # something of ours was left in the kernel
            self.asked = False
            self.connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._connection.close()
        self._stack.__exit__(*exception)

    def connect(self) -> None:
        with effective_user(USERS["deploy"][0]):
            self._connection = open_connection(self.testbed.bus.address)

    def new_bus(self) -> None:
        """After the old one was killed; with a polkitd of its own."""
        self._connection.close()
        self.testbed.polkit.kill9()
        self.testbed.bus.__exit__()
        self.testbed.bus.__enter__()
        self.testbed.polkit.start()
        self.connect()

    def call(self, member: str, signature: str = "", *body, path: str = PATH, interface: str = MANAGER):
        """Values, or the name of the error."""
        return self._answer(self._send(member, signature, *body, path=path, interface=interface))

    def _send(self, member: str, signature: str, *body, path: str = PATH, interface: str = MANAGER) -> int:
        message = new_method_call(DBusAddress(path, NAME, interface), member, signature or None, body)
        serial = next(self._connection.outgoing_serial)
        self._connection.send(message, serial=serial)
        return serial

    def _answer(self, serial: int):
        while True:
            try:
                reply = self._connection.receive(timeout=60)
            except ConnectionError:
                return BUS_GONE
            if reply.header.fields.get(HeaderFields.reply_serial) == serial:
                break
        if reply.header.message_type is MessageType.error:
            return reply.header.fields[HeaderFields.error_name]
        return reply.body

    # --- a life ----------------------------------------------------------------------------------

    def start(self, aim: Aim = Aim()) -> bool:
        self.stage, self.asked, self._told, self._aimed = "start", False, False, bool(aim.kinds)
        self.reloaded, self.deadline, self.closed_at = False, FOR_EVER, FOR_EVER
        if not self.mortal.start(aim):
            self._died(self.mortal.end())
            return False
        self.stage = "ready"
        self._assert_clean()
        return True

    def aim(self, aim: Aim) -> None:
        self._aimed = True
        self.mortal.aim(aim)

    def request(self, seconds: float = 600, *, duration: float = 600) -> bool:
        """A window in which something runs for so long. False: it died, or less than a second was left, or none."""
        self.ask(seconds, duration=duration)
        error = self.answer()
        expected = (None, *GONE, *(TOO_LATE if duration < 60 else []))
        assert error in expected, f"{error}\n{self.mortal.text()[-4000:]}"
        if error is None and duration < 60:
            self.deadline = (self.get("DeadlineBoottime") or FOR_EVER // 1000) * 1000  # ns
        return error is None

    def ask(self, seconds: float = 600, *, duration: float = 600) -> None:
        """The same; the answer comes later."""
        self._profile("web", 80, seconds)
        self.vigil.may_open()
        self.stage, self.asked = "open", True
        self._serial = self._send("RequestWindow", "stt", "web", int(duration * 1e6), 0)

    def answer(self) -> str | None:
        """None: a window is open. Or the name of the error."""
        reply = self._answer(self._serial)
        if isinstance(reply, str):
            return reply
        self.stage, self.window = "window", reply[0]
        return None

    def wait_stopped(self, duration: float) -> None:
        """Stopped, if need be: once it has answered, it may not do so by itself."""

        def over() -> bool:
            return self.mortal.is_stopped() or bool(select.select([self._connection.sock], [], [], 0)[0])

        wait_until(over, "posternd to be stopped")
        self.mortal.stop()
        # it began to count before now
        self.deadline = min(self.deadline, now() + int(duration * 1e9))

    def ask_another(self) -> None:
        """For one beside it, for a port that nobody knocks at; it stays open until death."""
        self._profile("other", 8080, 600)
        self._serial = self._send("RequestWindow", "stt", "other", 600_000_000, 0)

    def request_another(self) -> None:
        self.ask_another()
        reply = self._answer(self._serial)
        assert not isinstance(reply, str) or reply in GONE, reply

    def _profile(self, name: str, port: int, seconds: float) -> None:
        text = f"[Renewal]\nExec=/bin/sleep {seconds:.6f}\n[Window]\nPorts={port}/tcp\nRateLimit=100/1s\n"
        self.testbed.profile(name, text)

    def reload(self) -> None:
        """The host's rules anew, and with them goes what was between them."""
        self.testbed.net.replace(self.testbed.net.ruleset_text)
        self.reloaded = True

    def get(self, name: str):
        reply = self.call("Get", "ss", WINDOW, name, path=self.window, interface="org.freedesktop.DBus.Properties")
        return None if isinstance(reply, str) else reply[0][1]

    def hold(self) -> None:
        """Some who will speak, some who keep silent, as many as come in before it shuts."""
        for family in FAMILIES:
            for held in (self.senders, self.idle):
                connection = Held.connect(family)
                if connection:
                    held.append(connection)

    def close(self, how: str | None) -> None:
        """Has the window closed, in this way or by itself, and waits until it is, or death."""
        if self.stage == "window":
            self.stage = "close"
        if how == "SIGTERM":
            self._told = True
            self.mortal.sigterm()
        elif how:
            self.call(how, path=self.window, interface=WINDOW)
        if not isinstance(self.call("Wait", path=self.window, interface=WINDOW), str):
            self.closed_at = now()

    def die(self) -> None:
        """Now at the latest, or as it was told to end."""
        if not self._told:
            self.mortal.kill()
        self._died(self.mortal.end(clean=0 if self._told else None))

    def end(self, status: int) -> None:
        """By itself."""
        self._died(self.mortal.end(clean=status))

    def closed(self) -> None:
        """The window is, and posternd lives."""
        self.vigil.end(min(self.deadline, self.closed_at, now()))
        self.asked, self.deadline, self.closed_at = False, FOR_EVER, FOR_EVER
        self._speak(self.senders, "right after")
        self.senders = []
        self._assert_clean()

    # --- after it --------------------------------------------------------------------------------

    def _died(self, death: Death) -> None:
        if self.asked:
            self.vigil.end(min(self.deadline, self.closed_at, death.at))
        doing = KINDS[death.kind] if death.in_batch or (death.kind and self._aimed) else "elsewhere"
        if death.killed:
            self.deaths[self.stage, doing] += 1
        else:
            self.ended += 1
        self.in_batch += death.in_batch
        self.in_kernel += death.in_batch and death.in_kernel
        if not death.in_batch and death.batch_nsec and self.stage in self.batch_nsec:
            self.batch_nsec[self.stage] = death.batch_nsec
        if self.reloaded and death.killed and self.closed_at == FOR_EVER:
            # died before it could mend: nothing in the kernel knows of them, but the next start does
            self.idle += self.senders
        else:
            self._speak(self.senders, "right after")
        self.senders = []
        listing = json.loads(self.testbed.net.ruleset())["nftables"]
        ours = [item for item in listing if is_ours(item)]
        foreign = [item for item in listing if not is_ours(item)]
        assert foreign == json.loads(self.ruleset)["nftables"], "rules of the host's own were changed"
        assert not any(item.get("table", {}).get("name") == "postern" for item in ours), "the lease outlived its owner"
        self.dirty = bool(ours)

    def _assert_clean(self) -> None:
        assert self.testbed.net.ruleset() == self.ruleset
        assert not let_in(), "connections that a window let in are still known"
        # one that dies soon leaves the note of what it is killing to the next
        runtime = self.testbed.runtime
        wait_until(lambda: self.mortal.has_died() or not list(runtime.iterdir()), "the files to be gone")
        self._speak(self.idle, "at last")
        self.idle = []
        wait_until(lambda: not self.renewals(), "the renewal to be gone")

    @staticmethod
    def renewals(*names: str) -> list[int]:
        """Of what is not posternd, but was started by it; of these names alone."""
        names = names or ("/bin/sleep", "postern-run")
        return [pid for pid, line in processes().items() if line.split()[0].endswith(names)]

    def _speak(self, held: list[Held], when: str) -> None:
        for connection in held:
            outcome = connection.speak(1)
            self.spoken[when, outcome] += 1
            assert outcome != "alive", f"a stranger's connection lives {when}"
            connection.close()

    def finish(self, *warnings: str) -> None:
        """A last, quiet life, or the one that still goes on; then the knocks that nobody has looked at.
        warnings: what posternd may have said."""
        assert self.mortal.alive() or self.start()
        self._told = True
        self.mortal.sigterm()
        self.die()
        self.vigil.check()
        print(self.report())
        text = self.mortal.text()
        assert not SANITIZER_REPORT.search(text), text
        said = [line for line in text.splitlines() if line.startswith(("<0>", "<1>", "<2>", "<3>", "<4>"))]
        surprises = [line for line in said if not any(warning in line for warning in warnings)]
        assert not surprises, "\n".join(surprises)

    def kills(self) -> int:
        return sum(self.deaths.values())

    def report(self) -> str:
        deaths = "\n".join(f"    {stage}, {doing}: {count}" for (stage, doing), count in sorted(self.deaths.items()))
        spoken = ", ".join(f"{' '.join(key)} {count}" for key, count in sorted(self.spoken.items()))
        return (
            f"{self.kills()} killed, {self.in_batch} of them in a transaction ({self.in_kernel} while the kernel "
            f"worked it off); {self.ended} ended:\n"
            f"{deaths}\nheld connections: {spoken}\n{self.vigil.report()}"
        )
