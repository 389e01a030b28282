#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The story that tools/demo tells. Every line of it is something that was seen to happen; what does
not happen as it should ends the story with an error."""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/lib"))

from testbed import (  # noqa: E402
    DEFAULT_DENY,
    FAMILIES,
    HOST4,
    HOST6,
    STRANGER4,
    Acme,
    Daemon,
    Knock,
    Outcome,
    Prober,
    Testbed,
    conntrack,
    leftovers,
    now,
    wait_until,
)

STARTED = now()
FAMILY_NAMES = {"v4": "IPv4", "v6": "IPv6"}
WORDS = {
    Outcome.SILENT: "shut: no answer",
    Outcome.REFUSED: "let through, but certbot does not listen",
    Outcome.OPEN: "open",
    Outcome.OTHER: "unreachable",
}
# certbot's own server has room for five callers; the authority must find one of the places free
KNOCK_EVERY = 0.05


def say(text: str = "", at: int | None = None) -> None:
    seconds = ((now() if at is None else at) - STARTED) / 1e9
    print(f"{seconds:7.3f}  {text}" if text else "", flush=True)


def chapter(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def check(condition: object, text: str) -> None:
    if not condition:
        raise SystemExit(f"\ndemo: FAILED: {text}")


def tell(family: str, knock: Knock) -> None:
    say(f"  stranger {FAMILY_NAMES[family]} ▸ port 80  {WORDS[knock.outcome]}", at=knock.begun)


def renew(testbed: Testbed, daemon: Daemon, prober: Prober, user: str, profile: str) -> list:
    arguments = testbed.renew_arguments(profile)
    # seen before the question: the window may open before the next knock
    shut = {family: prober.wait_for(Outcome.SILENT, family) for family in FAMILIES}
    for family in FAMILIES:
        tell(family, shut[family])
    say(f"{user}$ {shlex.join(testbed.bus.busctl_command(*arguments))}")
    begin = now()
    answer = testbed.renew(user, profile)
    end = now()
    if not answer.ok:
        raise SystemExit(f"\ndemo: FAILED: {user} was answered: {answer.text}\n{daemon.text()}")

    # a stranger's last knocks may still wait for an answer
    for family in FAMILIES:
        prober.outcomes(family, end)
    events = []
    for family in FAMILIES:
        changes = prober.transitions(family, shut[family].begun)[1:]
        check(prober.first_success(family, begin), f"{family} was never open")
        check(changes[-1].outcome == Outcome.SILENT, f"{family} is not shut after the reply")
        check(not prober.first_success(family, end), f"{family} admitted somebody after the reply")
        events += [(family, knock) for knock in changes]
    for family, knock in sorted(events, key=lambda event: event[1].begun):
        tell(family, knock)
    say(f"reply: result {answer.data[0]!r}, exit status {answer.data[1]}, {answer.data[2]}", at=end)
    return answer.data


def main() -> None:
    before_anything = leftovers()
    chapter("A host that admits nobody to port 80 but the office")
    with Testbed() as testbed, Acme() as acme:
        testbed.profile("web", acme.profile())
        testbed.profile("web-if-due", acme.profile(force=False))
        for line in DEFAULT_DENY.strip().splitlines():
            print(f"           {line}")
        say(f"host {HOST4} {HOST6}; internet {STRANGER4}, with Pebble, a real ACME authority")
        rules = testbed.net.ruleset()

        with testbed.daemon() as daemon, Prober(interval=KNOCK_EVERY) as prober:
            begin = now()
            for family in FAMILIES:
                check(prober.outcomes(family, begin, 10) == {Outcome.SILENT}, f"{family} is not shut at the start")
            say(f"a stranger knocks every {KNOCK_EVERY * 1000:g} ms over IPv4 and IPv6: shut")

            chapter("visitor, whom nobody allowed anything, asks")
            arguments = testbed.renew_arguments("web")
            say(f"visitor$ {shlex.join(testbed.bus.busctl_command(*arguments))}")
            begin = now()
            refused = testbed.renew("visitor", "web")
            check(not refused.ok, "visitor was not refused")
            say(f"refused: {refused.text}")
            for family in FAMILIES:
                check(prober.outcomes(family, begin, 10) == {Outcome.SILENT}, f"{family} opened for visitor")
            say("the port stayed shut")

            chapter("deploy, an unprivileged user in the group postern, asks")
            data = renew(testbed, daemon, prober, "deploy", "web")
            check(data[0] == "renewed", f"the result is {data[0]}, not renewed")
            facts = acme.certificate_facts()
            check("example.test" in facts["names"], "the certificate is not for example.test")
            say(f"certificate  {facts['names']}  serial {facts['serial']}")
            say(f"             issuer {facts['issuer'].strip()}")
            say(f"             expires {facts['notAfter']}")

            chapter("again, with nothing due")
            begin = now()
            answer = testbed.renew("deploy", "web-if-due")
            check(answer.ok and answer.data[0] == "unchanged", f"not unchanged: {answer}")
            say(f"reply: result {answer.data[0]!r}: certbot found the certificate good")

            chapter("and afterwards")
            after = testbed.net.ruleset()
            check(after == rules, f"the rules are not what they were:\n{after}")
            say("the firewall's rules are what they were")
            check(not [line for line in conntrack() if "ESTABLISHED" in line and "dport=80" in line],
                  "a connection to port 80 lives on")  # fmt: skip
            say("no connection to port 80 is left")
    wait_until(lambda: leftovers() == before_anything, f"{leftovers()} to be {before_anything}")
    say("no process, mount, namespace or cgroup is left")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ndemo: interrupted; nothing of it is left") from None
