# SPDX-License-Identifier: GPL-2.0-or-later
"""What the manual pages show works as it stands there."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from scene import Renewal
from testbed import build_directory, installed

PAGES = Path(__file__).parents[2] / "docs/man"


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to an example


def blocks(page: str) -> list[str]:
    """What is set as to be typed, or to be written into a file."""
    text = (PAGES / page).read_text()
    found = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", text, flags=re.S | re.M)
    return [block.replace("\\e\n", "\\\n") for block in [*found, *re.findall(r"^\.Dl (.*)$", text, flags=re.M)]]


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.split()[:1] in (["busctl"], ["postern"])]


def test_pages_are_installed_as_they_are_to_be_read():
    pages = sorted((installed() / "usr/share/man").rglob("*.[1-8]"), key=lambda page: page.name)
    assert [page.name for page in pages] == sorted(path.name.removesuffix(".in") for path in PAGES.glob("*.in"))
    for page in pages:
        assert page.parent.name == f"man{page.name[-1]}"
        done = subprocess.run(
            ["man", "--warnings", "--local-file", str(page)],
            env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not re.search(r"@[A-Z_]+@", done.stdout)
        assert max(map(len, done.stdout.splitlines())) <= 80, page.name


def test_profiles(testbed):
    shown = [block for block in blocks("postern.profile.5.in") if "Exec=" in block]
    for number, block in enumerate(shown):
        testbed.profile(f"shown{number}", block)
    with testbed.daemon():
        problems = [row[3] for row in testbed.bus.call("ListProfiles")[0]]
    assert problems == [""] * len(shown) == ["", ""]


@pytest.mark.parametrize(("page", "least"), [("postern.1.in", 3), ("posternd.8.in", 1), ("org.postern.Renewal1.5.in", 4)])
def test_commands(testbed, page, least):
    window = "Ports=80/tcp\nRateLimit=100/1h"
    testbed.profile("example.com", f"[Renewal]\nExec=/bin/true\n[Window]\n{window}\n")
    renewal = Renewal(testbed, "other")
    environment = {**os.environ, **testbed.bus.environment,
                   "PATH": f"{build_directory() / 'src/client'}:{os.environ['PATH']}"}  # fmt: skip
    shown = commands(page)
    assert len(shown) >= least
    with testbed.daemon():
        path = renewal.request()
        for words in shown:
            words = [path if "/window/" in word else word for word in words]
            if words[-1] == "Wait":
                renewal.finish()
            if "||" in words:
                words = words[: words.index("||")]
            done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert done.returncode == 0, (words, done)
        renewal.testbed.bus.call("Close", path=path, interface="org.postern.Renewal1.Window")
