# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sources may not say, whatever a reviewer overlooks."""

import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest
from story import KINDS, LOG_H

ROOT = Path(__file__).parents[2]

# the daemon has one thread and one loop: what blocks in it blocks every window's close
BLOCKING = (
    "sd_bus_call sd_bus_call_method sd_bus_get_property sd_bus_set_property sd_bus_request_name"
    " waitpid wait getpwnam getpwuid getgrnam getgrgid getgrouplist initgroups getaddrinfo gethostbyname"
    " system popen sleep usleep nanosleep clock_nanosleep flock"
).split()
# a pid may be somebody else's by the time it is asked about
PIDS = ("unix-process", "SD_BUS_CREDS_PID", "sd_bus_creds_get_pid")


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def sources(*directories: str) -> list[Path]:
    found = [path for name in directories for path in sorted((ROOT / name).rglob("*.[ch]"))]
    assert found, f"no sources in {directories}"
    return found


def places(paths: list[Path], pattern: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in paths
        for match in re.finditer(pattern, without_comments(path.read_text()))
    ]


def test_the_daemon_calls_nothing_that_blocks():
    names = "|".join(BLOCKING)
    assert not places(sources("src/broker", "src/core"), rf"(?<![\w.>])(?:{names})\s*\(")


def test_nobody_is_authorised_by_pid():
    assert not places(sources("src", "include"), "|".join(map(re.escape, PIDS)))


def test_no_unbounded_string_functions():
    assert not places(sources("src"), r"(?<!\w)(?:strcpy|strcat|sprintf|vsprintf|gets|alloca|strdupa|strtok)\s*\(")


def test_unit_of_the_broker():
    """What it takes is bounded, and only its main process speaks for it."""
    lines = (ROOT / "systemd/posternd.service.in").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w*=", line))
    assert int(settings["MemoryMax"].removesuffix("M")) <= 64 and int(settings["TasksMax"]) <= 16
    assert settings["NotifyAccess"] == "main"


def test_polkit_asks_an_administrator_by_default():
    files = list((ROOT / "polkit").glob("*.policy*"))
    assert files
    for file in files:
        actions = xml.etree.ElementTree.parse(file).getroot().findall("action")
        assert actions
        for action in actions:
            defaults = {element.tag: element.text.strip() for element in action.find("defaults")}
            # a kept answer would count for other profiles and other ports as well
            wanted = dict.fromkeys(("allow_any", "allow_inactive", "allow_active"), "auth_admin")
            assert defaults == wanted, action.get("id")


def test_every_source_names_its_license():
    for path in sources("src", "include"):
        assert path.read_text().startswith("/* SPDX-License-Identifier: GPL-2.0-or-later */\n"), path


def scripts() -> list[Path]:
    """What bash reads: those that say so in their first line, and what they include."""
    files = [path for top in ("tools", ".ci", "tests") for path in sorted((ROOT / top).rglob("*")) if path.is_file()]
    return [path for path in files if path.suffix == ".sh" or path.read_bytes().startswith(b"#!/bin/bash\n")]


SCRIPTS = scripts()


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_scripts_are_strict(script):
    # what is included has that from who includes it
    if script.suffix != ".sh":
        assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_there_are_scripts_to_look_at():
    assert {"tools/test", "tools/lib/common.sh", ".ci/run", "tests/fuzz/run"} <= {str(path.relative_to(ROOT)) for path in SCRIPTS}


def test_every_kind_of_record_is_in_the_catalogue():
    catalogue = (ROOT / "systemd/postern.catalog").read_text()
    assert KINDS and sorted(re.findall(r"^-- ([0-9a-f]{32})$", catalogue, flags=re.M)) == sorted(KINDS)
    # and speaks of fields that there are
    named = set(re.findall(r"@(\w+)@", catalogue))
    assert named and named <= set(re.findall(r"\bPOSTERN_\w+", LOG_H))


def test_every_kind_of_record_is_written_and_seen():
    written = "".join(path.read_text() for path in sources("src"))
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    # others say such words of something else
    seen = "".join(text for text in tests if re.search(r"^(?:from|import) story\b", text, flags=re.M))
    for name in KINDS.values():
        assert re.search(rf"\bMESSAGE_{name.upper()}\b", written), f"nothing writes MESSAGE_{name.upper()}"
        assert f'"{name}"' in seen, f"no test looks for a record of the kind {name}"


def test_what_callers_can_say_is_fuzzed():
    fuzzer = (ROOT / "tests/fuzz/fuzz-bus.c").read_text()
    names = {
        element.get("name")
        for file in (ROOT / "dbus").glob("*.xml")
        for element in xml.etree.ElementTree.parse(file).getroot().iter()
        if element.tag in ("method", "property")
    }
    listed = re.search(r"\bbus_methods\[\] = \{\n(.*?)\n\};", (ROOT / "src/broker/bus.c").read_text(), flags=re.S)
    names |= set(re.findall(r'\{"?[\w.]+"?, "(\w+)",', listed[1]))
    assert {"Renew", "AdmittedConnections", "GetMachineId"} <= names
    assert {name for name in names if f'"{name}"' not in fuzzer} == set()
