# SPDX-License-Identifier: GPL-2.0-or-later
"""What the root helper reads of the certificate that a profile names, before and after the renewal."""

import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from certificates import DAY, KEYS, make_certificate
from helper import Helper
from process import run, wait_until


class Certificates:
    """As certbot keeps them: live/ is made of links into archive/."""

    def __init__(self, directory: Path) -> None:
        self.archive, self.live = directory / "archive", directory / "live"
        self.archive.mkdir()
        self.live.mkdir()
        self.link = self.live / "fullchain.pem"

    def make(self, name: str, serial: str, days: int) -> Path:
        path = self.archive / name
        make_certificate(path, serial=serial, end=int(time.time()) + days * DAY)
        return path

    def use(self, name: str) -> None:
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(f"../archive/{name}")

    def facts(self, name: str) -> tuple[str, str]:
        text = run(["openssl", "x509", "-in", str(self.archive / name), "-noout", "-serial", "-enddate"])
        serial, end = (line.split("=")[1] for line in text.splitlines())
        return serial.lower(), run(["date", "-d", end, "+%s"]).strip()


@pytest.fixture
def certificates(profiles):
    return Certificates(profiles.directory)


def comparison(profiles, certificates, command: str = "true", path: Path | None = None) -> tuple:
    profiles.write(f"/bin/sh -c '{command}'", certificate=str(path or certificates.link))
    with Helper(profiles) as helper:
        ended, text = helper.run()
        assert (ended["status"], text) == ("0", "")
    return (ended["serial_before"], ended["not_after_before"]), (ended["serial_after"], ended["not_after_after"])


NONE = ("", "0")


def test_certificate_is_another_one(profiles, certificates):
    certificates.make("one.pem", "1234abcd", 10)
    # more than 31 bits of time, the highest bit of the serial set, a chain behind it
    certificates.make("two.pem", "f0e1d2c3b4a5968778695a4b3c2d1e0f", 30000)
    certificates.make("chain.pem", "77", 1)
    two = certificates.archive / "two.pem"
    two.write_bytes(two.read_bytes() + (certificates.archive / "chain.pem").read_bytes())
    certificates.use("one.pem")
    move = f"ln -sfn ../archive/two.pem {certificates.link}"
    assert comparison(profiles, certificates, move) == (certificates.facts("one.pem"), certificates.facts("two.pem"))
    assert comparison(profiles, certificates) == (certificates.facts("two.pem"),) * 2


def test_certificate_is_the_first_one(profiles, certificates):
    certificates.make("one.pem", "01", 10)
    assert comparison(profiles, certificates, f"ln -s ../archive/one.pem {certificates.link}") == (
        NONE,
        certificates.facts("one.pem"),
    )


def test_only_root_may_read_it(profiles, certificates):
    certificates.make("one.pem", "01", 10).chmod(0o600)
    certificates.archive.chmod(0o700)
    certificates.use("one.pem")
    assert comparison(profiles, certificates)[0] == certificates.facts("one.pem")


def test_key_and_text_before_it(profiles, certificates):
    path = certificates.make("one.pem", "02", 10)
    facts = certificates.facts("one.pem")
    key = run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"])
    path.write_bytes(b"issued for example.com\n" + key.encode() + path.read_bytes())
    certificates.use("one.pem")
    assert comparison(profiles, certificates)[0] == facts


def test_huge_file_with_a_certificate_first(profiles, certificates):
    path = certificates.make("one.pem", "03", 10)
    facts = certificates.facts("one.pem")
    certificates.use("one.pem")
    os.truncate(path, 10 << 30)
    assert comparison(profiles, certificates)[0] == facts


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "zeros", "huge", "fifo", "directory", "device", "loop", "dangling", "socket"])
def test_what_is_no_certificate(profiles, certificates, kind):
    """It does not hang, it does not matter."""
    path = certificates.archive / "x"
    certificates.make("good.pem", "04", 10)
    certificates.use("x")
    if kind == "garbage":
        path.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB" + os.urandom(3000) + b"\n-----END CERTIFICATE-----\n")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes((certificates.archive / "good.pem").read_bytes()[:-60])
    elif kind in ("zeros", "huge"):
        path.touch()
        os.truncate(path, 65536 if kind == "zeros" else 10 << 30)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    elif kind == "loop":
        path.symlink_to("../live/fullchain.pem")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    assert comparison(profiles, certificates) == (NONE, NONE)


def test_special_files_are_not_opened(profiles, certificates):
    """Opening may be doing: whoever waits at a fifo would be let in, a watchdog would start to run."""
    fifo = certificates.archive / "fifo"
    os.mkfifo(fifo)
    certificates.use("fifo")
    opened = threading.Event()

    def wait_at_the_fifo() -> None:
        os.close(os.open(fifo, os.O_WRONLY))
        opened.set()

    thread = threading.Thread(target=wait_at_the_fifo)
    thread.start()
    state = Path(f"/proc/self/task/{thread.native_id}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S", "the thread to wait")
    try:
        assert comparison(profiles, certificates) == (NONE, NONE)
        assert not opened.is_set()
    finally:
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
        thread.join()


# What it says


def told(profiles, certificates) -> dict[str, str]:
    profiles.write("/bin/true", certificate=str(certificates.link))
    with Helper(profiles) as helper:
        return helper.run()[0]


@pytest.mark.parametrize("key", KEYS)
def test_facts(profiles, certificates, key):
    begin, end = make_certificate(
        certificates.archive / "x", key=key, serial="00fedcba9876543210", names="DNS:example.com, DNS:*.example.com"
    )
    certificates.use("x")
    assert told(profiles, certificates) == {
        "status": "0", "serial_before": "fedcba9876543210", "not_after_before": str(end),
        "serial_after": "fedcba9876543210", "not_after_after": str(end), "not_before": str(begin),
        "names": "example.com *.example.com", "names_left_out": "0",
    }  # fmt: skip


@pytest.mark.parametrize("begin, end", [
    (1_500_000_000, 1_500_000_000 + 90 * DAY),  # expired
    (1_900_000_000, 1_900_000_000 + 6 * DAY),  # not valid yet
    (1_700_000_000, 253_402_300_799),  # without an end, as RFC 5280 writes that
    (1, 2),
])  # fmt: skip
def test_dates(profiles, certificates, begin, end):
    make_certificate(certificates.archive / "x", begin=begin, end=end)
    certificates.use("x")
    ended = told(profiles, certificates)
    assert (ended["not_before"], ended["not_after_after"]) == (str(begin), str(end))


@pytest.mark.parametrize("names, expected, left_out", [
    ("", "", 0),
    ("IP:192.0.2.1, IP:2001:db8::1, DNS:example.com", "192.0.2.1 2001:db8::1 example.com", 0),
    # nobody connects to these
    ("DNS:example.com, URI:https://example.com/x, email:a@example.com, RID:1.2.3", "example.com", 3),
    # what an authority would never sign, but root's helper may be made to read
    ("DNS:two words", "two\\x20words", 0),
    ("DNS:back\\\\slash", "back\\x5cslash", 0),
])  # fmt: skip
def test_names(profiles, certificates, names, expected, left_out):
    make_certificate(certificates.archive / "x", names=names)
    certificates.use("x")
    ended = told(profiles, certificates)
    assert (ended["names"], ended["names_left_out"]) == (expected, str(left_out))


def test_bytes_in_names(profiles, certificates):
    """Not by the one who signed it, but in the file: a signature is nobody's business here."""
    path = certificates.archive / "x"
    make_certificate(path, names="DNS:QQQQQQ.example.com")
    der = path.with_suffix(".der")
    run(["openssl", "x509", "-in", str(path), "-outform", "der", "-out", str(der)])
    assert der.read_bytes().count(b"QQQQQQ") == 1
    der.write_bytes(der.read_bytes().replace(b"QQQQQQ", b"a\0\n=\x1b\xff"))
    run(["openssl", "x509", "-in", str(der), "-inform", "der", "-out", str(path)])
    certificates.use("x")
    assert told(profiles, certificates)["names"] == r"a\x00\x0a=\x1b\xff.example.com"


@pytest.mark.parametrize("number", [100, 1000])
def test_many_names(profiles, certificates, number):
    """A hundred is what Let's Encrypt allows. What is kept is bounded, and how many are not is said."""
    wanted = [f"host-{i:04}.example.com" for i in range(number)]
    make_certificate(certificates.archive / "x", names=",".join(f"DNS:{name}" for name in wanted))
    certificates.use("x")
    ended = told(profiles, certificates)
    names = ended["names"].split(" ")
    assert names == wanted[: len(names)] and len(ended["names"]) < 2048
    assert len(ended["names"]) + len(" host-0000.example.com") >= 2048
    assert int(ended["names_left_out"]) == number - len(names)
