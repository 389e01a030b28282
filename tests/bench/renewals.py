# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a port is reachable from outside for one renewal by certbot, as people open it by hooks and as
Postern opens it; and for a run with nothing due. The same certbot, authority and prober for all."""

import contextlib
import os
import shlex
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from acme import Acme
from firewalld import Firewalld
from net import DEFAULT_DENY
from nginx import Nginx
from probe import FAMILIES, Knock, Outcome, Prober
from process import in_netns, new_directory, now, wait_until
from table import heading, row
from testbed import Testbed
from ufw import Ufw

INTERVAL = 0.01  # between two knocks: certbot's own server takes five connections at a time
FIREWALLD_SECONDS = 60
SETTLE = 60  # for a port to shut at last, beyond what was asked for
NFT_OPEN = "nft insert rule inet filter input tcp dport 80 accept comment acme"
NFT_SHUT = (
    "nft delete rule inet filter input handle "
    "$(nft -a list chain inet filter input | sed -n 's/.*comment \"acme\".*# handle //p')"
)
HOOKS = {
    "nft": (NFT_OPEN, NFT_SHUT),
    "ufw": ("ufw allow 80/tcp", "ufw delete allow 80/tcp"),
    "firewalld": (f"firewall-cmd --quiet --add-port=80/tcp --timeout={FIREWALLD_SECONDS}", "true"),
}


def certbot(command: list[str], environment: dict[str, str]) -> None:
    # what its server says of each knock is kept to itself
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)


def by_hooks(kind: str):
    """certbot with hooks, from cron as it were."""

    @contextlib.contextmanager
    def prepare(testbed: Testbed, acme: Acme, webroot: Path) -> Iterator[Callable[[bool], None]]:
        pre, post = HOOKS[kind]
        environment = {**os.environ, **acme.environment, **testbed.bus.environment}

        def run(due: bool) -> None:
            command = [*acme.certbot_renew(force=due), "--quiet", "--pre-hook", pre, "--post-hook", post]
            certbot([*in_netns("host"), *command], environment)

        firewall = {"nft": contextlib.nullcontext, "ufw": Ufw, "firewalld": lambda: Firewalld(testbed)}[kind]
        if kind == "nft":
            testbed.net.nft(DEFAULT_DENY)
        with firewall():
            yield run

    return prepare


def by_postern(window: str):
    @contextlib.contextmanager
    def prepare(testbed: Testbed, acme: Acme, webroot: Path) -> Iterator[Callable[[bool], None]]:
        testbed.net.nft(DEFAULT_DENY)
        lines = window.format(challenges=webroot / ".well-known/acme-challenge")
        settings = "".join(f"Environment={name}={value}\n" for name, value in acme.environment.items())
        for name, due in (("due", True), ("idle", False)):
            testbed.profile(name, f"[Profile]\nCertificate={acme.certificate}\n"
                                  f"[Renewal]\nExec={shlex.join(acme.certbot_renew(force=due))} --quiet\n{settings}"
                                  f"[Window]\nPorts=80/tcp\nRateLimit=100/1h\n{lines}\n")  # fmt: skip

        def run(due: bool) -> None:
            answer = testbed.renew("deploy", "due" if due else "idle")
            if not answer.ok or answer.data[0] != ("renewed" if due else "unchanged"):
                raise RuntimeError(f"{answer.text} {answer.data}\n{daemon.text()}")

        with testbed.daemon() as daemon:
            yield run

    return prepare


# what, whether a web server answers (certbot --webroot) or certbot itself (--standalone), how it is opened
WAYS = (
    ("hooks: nft", False, by_hooks("nft")),
    ("hooks: ufw", False, by_hooks("ufw")),
    (f"hook: firewall-cmd --timeout={FIREWALLD_SECONDS}", False, by_hooks("firewalld")),
    ("Postern, OpenOn=start", False, by_postern("")),
    ("Postern, Reach=renewal", False, by_postern("Reach=renewal")),
    ("hooks: nft", True, by_hooks("nft")),
    ("hooks: ufw", True, by_hooks("ufw")),
    ("Postern, OpenOn=start", True, by_postern("")),
    ("Postern, OpenOn=challenge", True, by_postern("OpenOn=challenge\nChallengeDirectory={challenges}")),
)


def reachable(knocks: list[Knock], answers: set[Outcome]) -> float:
    """Seconds: from the first knock of each stretch that was answered to the first that was not."""
    seconds, since = 0.0, None
    for knock in knocks:
        if knock.outcome in answers:
            since = knock.begun if since is None else since
        elif since is not None:
            seconds += (knock.begun - since) / 1e9
            since = None
    return seconds if since is None else seconds + (knocks[-1].begun - since) / 1e9


class Run:
    """One, from its start until nobody from outside is answered any more."""

    def __init__(self, prober: Prober, acme: Acme, run: Callable[[bool], None], due: bool) -> None:
        validations = acme.pebble_log().count("Attempting to validate")
        begun = now()
        run(due)
        self.seconds = (now() - begun) / 1e9
        for family in FAMILIES:
            prober.wait_for(Outcome.SILENT, family, since=now(), patience=FIREWALLD_SECONDS + SETTLE)
        knocks = [prober.knocks(family, begun) for family in FAMILIES]
        # answered at all, also by "nobody listens"; answered by somebody who listens
        self.let_in = max(reachable(k, {Outcome.OPEN, Outcome.REFUSED}) for k in knocks)
        self.served = max(reachable(k, {Outcome.OPEN}) for k in knocks)
        self.validations = acme.pebble_log().count("Attempting to validate") - validations


def measure(way, by_server: bool, rounds: int) -> list[list[Run]]:
    """Of runs with something due, and with nothing due."""
    webroot = new_directory("www")
    webroot.chmod(0o755)
    with Testbed("") as testbed, Acme() as acme, contextlib.ExitStack() as stack:
        if by_server:
            stack.enter_context(Nginx(webroot))
        first = acme.certbot(webroot=webroot if by_server else None)
        certbot([*in_netns("host"), *first], {**os.environ, **acme.environment})
        run = stack.enter_context(way(testbed, acme, webroot))
        prober = stack.enter_context(Prober(interval=INTERVAL))
        wait_until(lambda: all(prober.outcomes(family, now()) == {Outcome.SILENT} for family in FAMILIES), "a shut port")
        return [[Run(prober, acme, run, due) for _ in range(rounds)] for due in (True, False)]


def bench_renewals(rounds: int) -> None:
    print(f"{rounds} rounds of each, medians in seconds; one name, {INTERVAL * 1000:.0f} ms between two knocks")
    for by_server, method in ((False, "--standalone"), (True, "--webroot, behind nginx")):
        heading(f"{'certbot ' + method:<52}{'the run':>13}{'reachable':>13}{'served':>13}{'validations':>13}{'nothing due':>13}")
        for what, server, way in WAYS:
            if server != by_server:
                continue
            due, idle = measure(way, by_server, rounds)
            figures = (statistics.median(getattr(r, name) for r in due) for name in ("seconds", "let_in", "served"))
            row(what, *(f"{figure:.2f}" for figure in figures), f"{statistics.median(r.validations for r in due):.0f}",
                f"{statistics.median(r.let_in for r in idle):.2f}")  # fmt: skip
