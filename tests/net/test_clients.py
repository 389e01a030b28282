# SPDX-License-Identifier: GPL-2.0-or-later
"""ACME clients that people use, each by its example profile: a first certificate or a renewal, then a run
with nothing due, for which no stranger gets through."""

import contextlib
from pathlib import Path

import pytest
from acme import DIRECTORY, DNS, DOMAIN
from net import STRANGER4
from nginx import Nginx
from probe import FAMILIES, Outcome, Prober
from process import new_directory, now, run, wait_until
from scene import state

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def trust(acme):
    """Every client believes the testbed's authority; seen here alone."""
    bundle = acme.directory / "authorities.pem"
    bundle.write_text(Path(AUTHORITIES).read_text() + acme.ca.read_text())
    run(["mount", "--bind", str(bundle), AUTHORITIES])
    yield
    run(["umount", AUTHORITIES])


# what a provider's API is asked for, in the words of each client: its hook's arguments
RECORD = f"""#!/usr/bin/python3
import json, sys, urllib.request
told = sys.argv[1:]
match told:
    case ["present" | "deploy_challenge", _, *_, value] | ["begin", "dns-01", _, _, value]:
        path, record = "set-txt", {{"value": value}}
    case ["cleanup" | "clean_challenge", *_] | ["done" | "failed", "dns-01", *_]:
        path, record = "clear-txt", {{}}
    case ["begin", *_]:
        sys.exit(1)
    case _:
        sys.exit(0)
record["host"] = "_acme-challenge.{DOMAIN}."
urllib.request.urlopen("http://{DNS}/" + path, data=json.dumps(record).encode(), timeout=60)
"""


class Place:
    """Where a client of an example has its files and its tokens, instead of where the example says."""

    def __init__(self) -> None:
        self.home, self.www = new_directory("client"), new_directory("www")
        self.www.chmod(0o755)
        (self.www / ".well-known/acme-challenge").mkdir(parents=True)

    def profile(self, name: str, replacements: dict[str, str]) -> str:
        text = (EXAMPLES / f"{name}.conf").read_text()
        for old, new in {"example.com": DOMAIN, **replacements}.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def hook(self) -> str:
        """A program that sets and clears the record of DNS-01."""
        path = self.home / "dns-hook"
        path.write_text(RECORD)
        path.chmod(0o755)
        return str(path)

    @property
    def challenges(self) -> str:
        return str(self.www / ".well-known/acme-challenge")


def lego(testbed, place: Place, example: str = "lego", method: str = "--http", **replacements: str) -> None:
    command = f"/usr/bin/lego --server {DIRECTORY} --path"
    text = place.profile(example, {"/usr/bin/lego --path": command, "/var/lib/lego": str(place.home), **replacements})
    first = text.replace(f"{method} renew --no-random-sleep", f"--accept-tos {method} run")
    assert first != text
    testbed.profile("first", first)
    testbed.profile("client", text)


def lego_dns(testbed, place: Place) -> None:
    # it would ask the zone's own servers for the record, and there is no zone here
    method = f"--dns exec --dns.disable-cp --dns.resolvers {STRANGER4}:8053"
    lego(testbed, place, "lego-dns-01", method,
         **{"/usr/local/sbin/dns-record": place.hook(), "--dns exec": method})  # fmt: skip


def uacme(testbed, place: Place) -> None:
    run(["uacme", "-y", "-a", DIRECTORY, "-c", str(place.home), "new"], ns="host")
    text = place.profile("uacme", {
        "uacme -v": f"UACME_CHALLENGE_PATH={place.challenges} uacme -v -a {DIRECTORY}",
        "/etc/ssl/uacme": str(place.home), "/var/www/.well-known/acme-challenge": place.challenges,
    })  # fmt: skip
    testbed.profile("client", text)


def uacme_dns(testbed, place: Place) -> None:
    run(["uacme", "-y", "-a", DIRECTORY, "-c", str(place.home), "new"], ns="host")
    text = place.profile("uacme-dns-01", {
        "uacme -v": f"uacme -v -a {DIRECTORY}", "/etc/ssl/uacme": str(place.home),
        "/usr/share/uacme/nsupdate.sh": place.hook(),
    })  # fmt: skip
    testbed.profile("client", text)


def dehydrated_config(place: Place) -> Path:
    """Of an account that there is."""
    config = place.home / "config"
    # keys of 4096 bits, as usual, take a busy machine long
    config.write_text(f"CA={DIRECTORY}\nKEYSIZE=2048\nBASEDIR={place.home}\nWELLKNOWN={place.challenges}\n")
    run(["dehydrated", "--config", str(config), "--register", "--accept-terms"], ns="host")
    return config


def dehydrated(testbed, place: Place) -> None:
    config = dehydrated_config(place)
    text = place.profile("dehydrated", {
        "--cron": f"--config {config} --cron", "/var/lib/dehydrated": str(place.home),
        "/var/www/dehydrated": place.challenges,
    })  # fmt: skip
    testbed.profile("client", text)


def dehydrated_dns(testbed, place: Place) -> None:
    config = dehydrated_config(place)
    text = place.profile("dehydrated-dns-01", {
        "--cron": f"--config {config} --cron", "/var/lib/dehydrated": str(place.home),
        "/etc/dehydrated/dns-hook": place.hook(),
    })  # fmt: skip
    testbed.profile("client", text)


def acme_tiny(testbed, place: Place) -> None:
    run(["openssl", "genrsa", "-out", str(place.home / "account.key"), "2048"])
    run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={DOMAIN}",
         "-addext", f"subjectAltName=DNS:{DOMAIN}", "-keyout", str(place.home / "key.pem"),
         "-out", str(place.home / f"{DOMAIN}.csr")])  # fmt: skip
    text = place.profile("acme-tiny", {
        "/usr/local/bin/acme-tiny-if-due": str(EXAMPLES / "acme-tiny-if-due"), "/etc/ssl/acme-tiny": str(place.home),
        "/var/www/.well-known/acme-challenge": place.challenges,
    })  # fmt: skip
    exec_line = next(line for line in text.splitlines() if line.startswith("Exec="))
    # it would ask itself for the token, by a name that leads here from elsewhere alone
    testbed.profile("client", text.replace(exec_line, f"{exec_line} --disable-check --directory-url {DIRECTORY}"))


@pytest.mark.parametrize("client", [lego, uacme, dehydrated, acme_tiny])
def test_client(testbed, acme, trust, client):
    place = Place()
    client(testbed, place)
    before = testbed.net.ruleset()
    server = contextlib.nullcontext() if client is lego else Nginx(place.www)
    with server, testbed.daemon(), Prober(interval=0.005) as prober:
        first = testbed.renew("deploy", "first" if client is lego else "client")
        assert first.ok, first.text
        assert first.data[:2] == ["renewed", 0]
        assert state(testbed, first.data[2], "AdmittedConnections") > 0
        begun = now()
        idle = testbed.renew("deploy", "client")
        assert idle.ok, idle.text
        assert idle.data[:2] == ["unchanged", 0]
        assert state(testbed, idle.data[2], "AdmittedConnections") == 0
        for family in FAMILIES:
            assert prober.outcomes(family, begun) == {Outcome.SILENT}
        wait_until(lambda: testbed.net.ruleset() == before, "the firewall to be as before")


@pytest.mark.parametrize("client", [lego_dns, uacme_dns, dehydrated_dns])
def test_dns_01_opens_nothing(testbed, acme, trust, client):
    """A certificate, and nobody from outside ever gets an answer; nor is a rule changed."""
    place = Place()
    client(testbed, place)
    before = testbed.net.ruleset()
    with testbed.daemon(), Prober(interval=0.005) as prober:
        first = testbed.renew("deploy", "first" if client is lego_dns else "client")
        assert first.ok, first.text
        assert first.data[:2] == ["renewed", 0]
        idle = testbed.renew("deploy", "client")
        assert idle.ok, idle.text
        assert idle.data[:2] == ["unchanged", 0]
        for family in FAMILIES:
            assert {knock.outcome for knock in prober.knocks(family)} == {Outcome.SILENT}
        assert testbed.net.ruleset() == before
