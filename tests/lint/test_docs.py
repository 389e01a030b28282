# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation names what there is, all of it, and nothing else."""

import math
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs/man").glob("*.in"))
DOCUMENTS = [README, ROOT / "NEWS.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted(path for path in (ROOT / "docs/examples").rglob("*") if path.is_file() and path.suffix not in (".conf", ".rules"))


def text(path: Path) -> str:
    return path.read_text()


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text(path), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS, *PAGES], ids=lambda path: path.name)
def test_no_busctl_gives_up_early(path):
    # an example is an indented line or one in a script or page, with what its backslashes continue
    whole = text(path).replace("\\e\n", " ").replace("\\\n", " ")
    examples = whole.splitlines() if path in [*SCRIPTS, *PAGES] else re.findall(r"^    .*$", whole, flags=re.M)
    for line in examples:
        if re.search(r"\bbusctl\b.*\b(call|introspect|get-property)\b", line):
            assert "--timeout=infinity" in line, line


def test_there_is_a_busctl_to_look_at():
    assert text(README).count("busctl --timeout=infinity call") >= 2


def test_the_packages_of_the_install_are_those_of_the_tools():
    common = text(ROOT / "tools/lib/common.sh")
    packages = re.search(r"^build_packages=\((.*?)\)", common, flags=re.S | re.M)[1].split()
    command = re.search(r"^    sudo apt install (gcc.*?[^\\])$", text(README), flags=re.S | re.M)[1]
    assert command.replace("\\\n", " ").split() == packages


def test_the_debian_package_is_built_with_them_as_well():
    common = text(ROOT / "tools/lib/common.sh")
    packages = re.search(r"^build_packages=\((.*?)\)", common, flags=re.S | re.M)[1].split()
    paragraph = re.search(r"^Build-Depends:\n((?: .*\n)+)", text(ROOT / "debian/control"), flags=re.M)[1]
    wanted = {line.split()[0].rstrip(",") for line in paragraph.splitlines()}
    # what every package is built with, and what meson brings
    assert set(packages) - {"gcc", "libc6-dev", "ninja-build"} <= wanted


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", text(path)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        other = path.parent / name if name else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_every_defence_has_the_test_that_it_names():
    whole = text(ROOT / "docs/defences.md")
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".c"))
    defined = set(re.findall(r"\b(?:def|static void) (test_\w+)\(", tests))
    # not all have a name of their own, in the first cell
    cells = re.findall(r"^\|(?! ---).*\| (.*) \|$", whole, flags=re.M)
    rows = [cell for cell in cells if cell != "test"]
    assert len(rows) >= 76
    for row in rows:
        named = re.findall(r"`([^`]+)`", row)
        assert named, row
        for name in named:
            if name.startswith("test_"):
                assert name in defined, name
            elif "/" in name:
                assert (ROOT / name).exists(), name


def test_what_the_readme_links_to_is_installed():
    build = text(ROOT / "meson.build")
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text(README)))
    # CONTRIBUTING is for who has the sources
    assert "docs/choosing.md" in linked
    assert {path for path in linked if f"'{path}'" not in build} <= {"docs/CONTRIBUTING.md"}


def test_every_example_profile_is_in_the_table_of_decisions():
    named = re.findall(r"\]\(examples/([\w.-]+\.conf)\)", text(ROOT / "docs/choosing.md"))
    assert set(named) == {path.name for path in (ROOT / "docs/examples").glob("*.conf")}


def bounds() -> dict[str, int]:
    """Every number that the code has a name for; times in seconds."""
    sources = "\n".join(text(path) for top in ("include", "src") for path in (ROOT / top).rglob("*.[ch]"))
    named = re.findall(r"\b([A-Z][A-Z_]+) = (\d+(?: \* \d+)*)\b|^#define ([A-Z_]+)\s+\(\(uint64_t\) (\d+(?: \* \d+)*)\)", sources, flags=re.M)
    values = {a or c: math.prod(map(int, (b or d).split(" * "))) for a, b, c, d in named}
    return {name: value // 1_000_000 if name.endswith("_USEC") else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("README.md", "{QUOTA_WINDOWS_PER_UID} windows of one user or {QUOTA_WINDOWS} in all are open"),
        ("README.md", "did not answer within {AUTHORITY_TIMEOUT_USEC} s"),
        ("README.md", "At most {NEW_PER_SECOND} new connections a second are let in, with a burst of {NEW_BURST}."),
        ("docs/SECURITY.md", "silent for {AUTHORITY_TIMEOUT_USEC} s"),
        ("docs/SECURITY.md", "{QUOTA_WINDOWS_PER_UID} windows and {QUOTA_QUESTIONS_PER_UID} open questions to polkit for a uid, "
                             "{QUOTA_WINDOWS} and {QUOTA_QUESTIONS} in all; {BROKER_CALLS_PER_UID} waiting calls for a uid, "
                             "{BROKER_CALLS} in all, and apart from those {BROKER_WAITS_PER_UID} and {BROKER_WAITS} of `Wait`"),
        ("docs/SECURITY.md", "{QUOTA_CHECKS_PER_UID} Checks of a uid in a row"),
        ("docs/SECURITY.md", "new connections are limited to {NEW_PER_SECOND} a second"),
        ("docs/SECURITY.md", "the same one of {LABEL_BITS} labels"),
        ("docs/bus.md", "{QUOTA_CHECKS_PER_UID} calls of `Check` in a row"),
        ("docs/defences.md", "{AUTHORITY_TIMEOUT_USEC} s, then it is taken back"),
        ("docs/profiles.md", "up to {NEW_BURST} new connections at once, and {NEW_PER_SECOND} a second from then on"),
        ("docs/profiles.md", "more than {CHALLENGE_FILES_MAX} of them are an error"),
        ("docs/profiles.md", "at most {RUN_LINES_MAX} in ten seconds"),
        ("docs/profiles.md", "does not come back within {MEND_LIMIT_USEC} s"),
        ("docs/profiles.md", "takes more than {FIREWALLD_CALL_LIMIT_USEC} s for an answer"),
        ("docs/troubleshooting.md", "One user may have {QUOTA_WINDOWS_PER_UID} windows open, and all together {QUOTA_WINDOWS}."),
        ("docs/man/org.postern.Renewal1.5.in", "At most {FINDINGS_MAX}."),
        ("docs/man/org.postern.Renewal1.5.in", "(an IPv4 /24 or an IPv6 /48 each) those came, the first {SOURCES_MAX} of them."),
        ("docs/man/org.postern.Renewal1.5.in", "did not answer within {AUTHORITY_TIMEOUT_USEC} seconds"),
        ("docs/man/org.postern.Renewal1.5.in", "{QUOTA_WINDOWS_PER_UID} windows of one user or {QUOTA_WINDOWS} in all are open"),
        ("docs/man/posternd.8.in", "takes {MAIN_STOP_LIMIT_USEC} seconds at most"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_code(path, sentence):
    assert sentence.format(**bounds()) in " ".join(text(ROOT / path).split())


def test_the_files_that_contributing_names_are_there():
    named = set(re.findall(r"`([\w/*-]+\.c)`", text(ROOT / "docs/CONTRIBUTING.md")))
    assert len(named) > 35
    for name in named:
        assert list((ROOT / "src").glob(f"**/{name}")) or "NAME" in name, name


def test_the_tests_that_hold_the_documents_are_there():
    table = re.search(r"^## Documents$(.*?)^## ", text(ROOT / "docs/CONTRIBUTING.md"), flags=re.M | re.S)[1]
    named = set(re.findall(r"`(tests/[\w/.-]+)`", table))
    assert len(named) > 8 and [name for name in named if not (ROOT / name).exists()] == []
