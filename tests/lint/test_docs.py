# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation names what there is, all of it, and nothing else."""

import re
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PROFILES = ROOT / "docs/profiles.md"
DOCUMENTS = [README, ROOT / "NEWS.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [path for path in sorted((ROOT / "docs/examples").iterdir()) if path.suffix != ".conf"]
LATER = "not available in this version"


def text(path: Path) -> str:
    return path.read_text()


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text(path), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def keys_of_the_code() -> dict[tuple[str, str], bool]:
    """(section, key): whether this version obeys it."""
    found = re.findall(r'\[KEY_\w+\] = \{"(\w+)", "(\w+)",\s*(\w+)', text(ROOT / "src/core/profile-keys.c"))
    assert found
    return {(section, key): setter != "set_later" for section, key, setter in found}


def keys_of_the_table() -> dict[tuple[str, str], bool]:
    rows = re.findall(r"^\| (\w+) \| `(\w+)=` \| (.*) \|$", text(PROFILES), flags=re.M)
    assert len(rows) == len({row[:2] for row in rows}), "a key stands there twice"
    return {(section, key): not rest.endswith(f"| {LATER}") for section, key, rest in rows}


def test_every_key_of_a_profile_is_in_the_table_and_no_other():
    assert keys_of_the_table() == keys_of_the_code()


def test_every_choice_of_a_key_is_in_the_table():
    source = text(ROOT / "src/core/profile-keys.c")
    for choices in re.findall(r"Choice choices\[\] = \{(.*?)\};", source, flags=re.S):
        words = re.findall(r'\{"(\w+)"', choices)
        assert words
        rows = [row for row in text(PROFILES).splitlines() if all(f"`{word}`" in row for word in words)]
        assert len(rows) == 1, words


def test_no_document_names_a_key_that_there_is_not():
    keys = {key for _, key in keys_of_the_code()}
    for path in DOCUMENTS:
        named = set(re.findall(r"`([A-Z][a-z]\w*)=", text(path)))
        assert named - keys == set(), path.name


def test_every_bus_error_is_explained():
    names = re.findall(r'return (?:ERROR_PREFIX )?"([\w.]+)";', text(ROOT / "src/broker/error.c"))
    assert "NotAuthorized" in names
    assert [name for name in names if f"`{name}`" not in text(README)] == []


def test_every_result_is_explained():
    source = text(ROOT / "src/core/window.c")
    names = re.findall(r'\[RESULT_\w+\] = "([\w-]+)"|case RESULT_\w+:\s+return "([\w-]+)"', source)
    results = {a or b for a, b in names} - {""}
    assert {"renewed", "gate-failed"} <= results
    assert {name for name in results if f"`{name}`" not in text(README)} == set()


def test_every_method_is_named():
    for path in (ROOT / "dbus").glob("*.xml"):
        tree = xml.etree.ElementTree.parse(path)
        for method in tree.iter("method"):
            assert re.search(rf"\b{method.get('name')}\b", text(README)), method.get("name")


def test_every_action_of_polkit_is_named():
    tree = xml.etree.ElementTree.parse(ROOT / "polkit/org.postern.renewal1.policy.in")
    for action in tree.iter("action"):
        last = action.get("id").removeprefix("org.postern.renewal1")
        assert f"{last}`" in text(README), action.get("id")


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=lambda path: path.name)
def test_no_busctl_gives_up_early(path):
    # an example is an indented line or one in a script, with what its backslashes continue
    whole = text(path).replace("\\\n", " ")
    examples = whole.splitlines() if path in SCRIPTS else re.findall(r"^    .*$", whole, flags=re.M)
    for line in examples:
        if re.search(r"\bbusctl\b.*\b(call|introspect|get-property)\b", line):
            assert "--timeout=infinity" in line, line


def test_there_is_a_busctl_to_look_at():
    assert text(README).count("busctl --timeout=infinity call") >= 3


def test_the_packages_of_the_install_are_those_of_the_tools():
    common = text(ROOT / "tools/lib/common.sh")
    packages = re.search(r"^build_packages=\((.*?)\)", common, flags=re.S | re.M)[1].split()
    command = re.search(r"^    sudo apt install (gcc.*?[^\\])$", text(README), flags=re.S | re.M)[1]
    assert command.replace("\\\n", " ").split() == packages


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", text(path)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        other = path.parent / name if name else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target
