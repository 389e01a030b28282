# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages have what the programs have, all of it, and nothing else."""

import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/man").glob("*.in"))
COMMAND_PAGE = ROOT / "docs/man/postern.1.in"
DAEMON_PAGE = ROOT / "docs/man/posternd.8.in"
BUS_PAGE = ROOT / "docs/man/org.postern.Renewal1.5.in"
PROFILE_PAGE = ROOT / "docs/man/postern.profile.5.in"


def source(name: str) -> str:
    return (ROOT / name).read_text()


def sources(directory: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / directory).glob("*.c")))


def section(page: Path, name: str) -> str:
    found = re.search(rf"^\.S[hs] {re.escape(name)}\n(.*?)(?=^\.S[hs] |\Z)", page.read_text(), flags=re.S | re.M)
    assert found, f"{page.name} has no section {name}"
    return found[1]


def items(page: Path, name: str) -> dict[str, str]:
    """The heads and bodies of a section's lists."""
    found = re.findall(r"^\.It ([^\n]*)\n(.*?)(?=^\.It |^\.El)", section(page, name), flags=re.S | re.M)
    assert len({head for head, _ in found}) == len(found) > 0, f"{page.name}, {name}"
    return dict(found)


def heads(page: Path, name: str, macro: str) -> set[str]:
    """What the heads name that stand behind a macro, without the commas."""
    found = [head.removeprefix(f"{macro} ") for head in items(page, name) if head.startswith(f"{macro} ")]
    assert found
    return {word for head in found for word in head.split(" , ")}


# --- as pages ----------------------------------------------------------------------------------------


@pytest.fixture(params=PAGES, ids=lambda page: page.name.removesuffix(".in"))
def page(request, tmp_path):
    """As it is installed."""
    built = tmp_path / request.param.name.removesuffix(".in")
    built.write_text(re.sub(r"@[A-Z_]+@", "/usr/lib/something", request.param.read_text()))
    return built


def test_mandoc_has_no_complaint(page):
    # what it calls style holds for BSD's own pages: no title of an operating system, lines of 80 columns
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True, text=True)
    complaints = [line for line in done.stdout.splitlines() if " STYLE: " not in line]
    assert (done.returncode, complaints) == (0, [])


def test_groff_has_no_warning(page):
    done = subprocess.run(["groff", "-mdoc", "-Kutf8", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_placeholders_are_those_that_meson_fills_in():
    known = set(re.findall(r"^    '([A-Z_]+)':", source("docs/man/meson.build"), flags=re.M))
    used = {word for path in PAGES for word in re.findall(r"@([A-Z_]+)@", path.read_text())}
    assert used == known


def test_every_page_is_installed():
    names = {".".join(pair) for pair in re.findall(r"\['([\w.]+)', '(\d)'\]", source("docs/man/meson.build"))}
    assert names == {path.name.removesuffix(".in") for path in PAGES}


def test_pages_of_ours_that_are_referred_to_are_there():
    names = {path.name.removesuffix(".in") for path in PAGES}
    for path in PAGES:
        mine = {f"{name}.{number}" for name, number in re.findall(r"^\.Xr ([\w.]*postern[\w.]*) (\d)", path.read_text(), flags=re.M)}
        assert mine <= names, path.name
        assert names - mine <= {path.name.removesuffix(".in")}, f"{path.name} does not lead to {names - mine}"


def test_sentences_begin_on_a_new_line():
    """Or the renderers cannot tell the space after them."""
    for path in PAGES:
        text = re.sub(r"^\.Bd .*?^\.Ed$", "", path.read_text(), flags=re.S | re.M)
        assert re.findall(r"^[^.\n].*[a-z]\. [A-Z].*$", text, flags=re.M) == [], path.name


# --- postern(1) --------------------------------------------------------------------------------------


def test_every_command_of_the_client():
    commands = set(re.findall(r'\{"(\w+)", \d, \d, \w+\}', source("src/client/main.c")))
    assert "renew" in commands
    assert {head.split()[1] for head in items(COMMAND_PAGE, "COMMANDS")} == commands
    assert set(re.findall(r"\b[a-z]+", " ".join(re.findall(r"^\.Cm (.*)$", section(COMMAND_PAGE, "SYNOPSIS"), flags=re.M)))) \
        - {"profile"} == commands  # fmt: skip


def options_of(text: str) -> set[str]:
    """As in a table for getopt_long()."""
    table = re.search(r"struct option options\[\] = \{(.*?)\n\s*\{\d?\},", text, flags=re.S)[1]
    return {f"--{name}{'=' if takes == 'required' else ''}" for name, takes in
            re.findall(r'\{"([\w-]+)", (required|no)_argument', table)}  # fmt: skip


def options_in(page: Path) -> set[str]:
    flags = re.findall(r"\bFl -([\w-]+)( Ns = )?", "\n".join(items(page, "OPTIONS")))
    return {f"--{name}{'=' if value else ''}" for name, value in flags}


def test_every_option_of_the_client():
    assert options_in(COMMAND_PAGE) == options_of(source("src/client/main.c"))


def test_every_exit_status_of_the_client():
    numbers = re.findall(r"^\s+CLIENT_\w+ = (\d+),", source("include/postern/client.h"), flags=re.M)
    assert list(items(COMMAND_PAGE, "EXIT STATUS")) == numbers
    assert re.findall(r"^\| (\d) \| ", source("README.md"), flags=re.M) == numbers


def results() -> set[str]:
    names = re.findall(r'\[RESULT_\w+\] = "([\w-]+)"|case RESULT_\w+:\s+return "([\w-]+)"', source("src/core/window.c"))
    found = {a or b for a, b in names} - {""}
    assert {"renewed", "gate-failed"} <= found
    return found


def test_every_result_has_an_exit_status_of_the_client():
    named = re.findall(r"^\.Ql ([\w-]+)", section(COMMAND_PAGE, "EXIT STATUS"), flags=re.M)
    assert sorted(named) == sorted(results())


def variables(directory: str) -> set[str]:
    return set(re.findall(r'getenv\("(\w+)"\)', sources(directory)))


def test_every_variable_of_the_client():
    # and those that the libraries look at
    assert heads(COMMAND_PAGE, "ENVIRONMENT", "Ev") == variables("src/client") | {"TZ", "DBUS_SYSTEM_BUS_ADDRESS"}


# --- posternd(8) -------------------------------------------------------------------------------------


def test_every_option_of_the_daemon():
    text = source("src/broker/main.c")
    options = options_of(text) - {"--allow-sticky-parents"}  # for tests alone
    assert options_in(DAEMON_PAGE) == options
    helped = re.findall(r'"  (--[\w-]+=?)', text)
    assert set(helped) == options


def test_every_variable_of_the_daemon():
    assert heads(DAEMON_PAGE, "ENVIRONMENT", "Ev") == variables("src/broker") | {"WATCHDOG_USEC"}


def test_every_exit_status_of_the_daemon():
    text = source("src/broker/main.c")
    assert re.search(r"enum \{ EXIT_USAGE = 2 \};", text)
    assert set(re.findall(r"\bEXIT_[A-Z]+\b", text)) == {"EXIT_SUCCESS", "EXIT_FAILURE", "EXIT_USAGE"}
    assert list(items(DAEMON_PAGE, "EXIT STATUS")) == ["0", "1", "2"]


def test_every_field_of_the_journal():
    assert heads(DAEMON_PAGE, "JOURNAL", "Va") == set(re.findall(r'"(POSTERN_[A-Z_]+)"', sources("src/broker")))


def test_every_file_of_the_daemon():
    named = heads(DAEMON_PAGE, "FILES", "Pa")

    def defined(file: str, name: str) -> str:
        return re.search(rf'^#define {name}\s+"(.*)"', source(file), flags=re.M)[1]

    made = {
        f"@STATE_DIR@/{defined('src/broker/records.c', 'RECORDS_DIRECTORY')}/NAME",
        f"@STATE_DIR@/{defined('src/broker/owed-store.c', 'STORE_DIRECTORY')}/ID",
        f"@RUNTIME_DIR@/{defined('src/broker/run-note.c', 'PREFIX')}ID",
        f"@RUNTIME_DIR@/{defined('src/broker/marks.c', 'NOTE')}",
        f"@RUNTIME_DIR@/{defined('src/broker/expiry.c', 'SAID_FILE')}",
    }
    assert {path for path in named if path.startswith(("@STATE_DIR@", "@RUNTIME_DIR@"))} == made
    # what is installed beside the programs
    whole = DAEMON_PAGE.read_text().replace("@NAME", "@")
    beside = [*ROOT.glob("systemd/postern*.*"), *ROOT.glob("polkit/*.*"), *ROOT.glob("dbus/*.in")]
    for name in {path.name.removesuffix(".in") for path in beside} - {"meson.build", "postern.catalog"}:
        assert re.search(rf"[ /]{re.escape(name)}(?= |$)", whole, flags=re.M), name
    for name in re.findall(r"[\w@.-]+\.(?:service|socket|timer|slice|conf|policy|rules)\b", "\n".join(named)):
        if name != "NAME.conf":
            name = name.replace("@NAME", "@")
            assert any((ROOT / place / (name + end)).exists() for place in ("systemd", "polkit", "dbus") for end in ("", ".in")), name


# --- postern.profile(5) ------------------------------------------------------------------------------

KEYS_SOURCE = source("src/core/profile-keys.c")


def profile_items() -> dict[tuple[str, str], str]:
    """(section, key): what it says."""
    found = {}
    for name in re.findall(r"^\.Ss \[(\w+)\]$", PROFILE_PAGE.read_text(), flags=re.M):
        for head, body in items(PROFILE_PAGE, f"[{name}]").items():
            found[name, re.match(r"Cm (\w+) Ns = Ns ", head)[1]] = body
    return found


def keys_of_the_code() -> set[tuple[str, str]]:
    found = re.findall(r'\[KEY_\w+\] = \{"(\w+)", "(\w+)",', KEYS_SOURCE)
    assert found
    return set(found)


def test_every_key_of_a_profile():
    assert set(profile_items()) == keys_of_the_code()


def test_every_choice_of_a_key():
    """Each word that a key can have, and no other, is set as a word to type."""
    chosen = {
        "Reach": "set_reach", "OpenOn": "set_open_on", "Type": "set_type", "Precedence": "set_precedence",
    }  # fmt: skip
    assert KEYS_SOURCE.count("Choice choices[]") == len(chosen)
    words = {
        key: set(re.findall(r'\{"(\w+)"', re.search(rf"int {function}\(.*?choices\[\] = (.*?\n?)\}};", KEYS_SOURCE, flags=re.S)[1]))
        for key, function in chosen.items()
    }
    words["NoNewPrivileges"] = {"yes", "no"}
    words["Ports"] = {"none"}
    for (_, key), body in profile_items().items():
        assert set(re.findall(r"^\.Cm ([a-z]+)(?: [,:])?$", body, flags=re.M)) == words.get(key, set()), key


def test_no_page_or_document_names_a_key_that_there_is_not():
    keys = {key for _, key in keys_of_the_code()}
    for path in PAGES:
        assert set(re.findall(r"\bCm ([A-Z]\w*)=", path.read_text())) <= keys, path.name
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        assert set(re.findall(r"`([A-Z][a-z]\w*)=", path.read_text())) <= keys, path.name


def span(usec: str) -> str:
    seconds = eval(usec, {"USEC_PER_SEC": 1})  # noqa: S307
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}min" if seconds % 60 == 0 else f"{seconds}s"


def test_defaults_and_bounds_are_those_of_the_code():
    bounds = dict(re.findall(r"^#define (DURATION_\w+)\s+\((.*)\)$", KEYS_SOURCE, flags=re.M))
    said = {key: " ".join(body.split()) for (_, key), body in profile_items().items()}
    assert f"Default: {span(bounds['DURATION_DEFAULT'])}," in said["DefaultDuration"]
    assert f"from {span(bounds['DURATION_MIN'])}." in said["DefaultDuration"]
    assert f"{span(bounds['DURATION_MIN'])} to {span(bounds['DURATION_MAX'])}." in said["MaxDuration"]
    assert f"Default: {span(bounds['DURATION_MAX_DEFAULT'])}." in said["MaxDuration"]
    count = re.search(r"rate_limit_count = (\d+);", KEYS_SOURCE)[1]
    interval = span(re.search(r"rate_limit_interval_usec = (.*);", KEYS_SOURCE)[1])
    assert f"Default: {count}/{interval}." in said["RateLimit"]
    limits = dict(re.findall(r"^\s+(PROFILE_\w+) = (.*?),", source("include/postern/profile.h"), flags=re.M))
    assert f"Up to {limits['PROFILE_PORTS_MAX']}," in said["Ports"]
    assert f"up to {limits['PROFILE_NAME_MAX']} letters" in PROFILE_PAGE.read_text()
    assert (limits["PROFILE_LINE_MAX"], limits["PROFILE_FILE_MAX"]) == ("4096", "64 * 1024")
    assert "lines of up to 4 KiB and files of up to 64 KiB" in PROFILE_PAGE.read_text()


def test_every_variable_that_a_command_finds():
    added = re.findall(r'environment_add\(ret, profile, "(\w+)"', source("src/run/child.c"))
    assert heads(PROFILE_PAGE, "ENVIRONMENT", "Ev") == set(added)


def test_variables_that_are_not_the_profile_s():
    ours = re.search(r"ours\[\] = \{(.*?)\}", KEYS_SOURCE)[1]
    wanted = {name.removesuffix("=") if name.endswith("=") else f"{name}*" for name in re.findall(r'"(.*?)"', ours)}
    body = profile_items()["Renewal", "Environment"]
    assert {word for line in re.findall(r"^\.Ev (.*?)(?: \.)?$", body, flags=re.M) for word in line.split(" , ")} == wanted


def test_the_keys_fit_two_printed_pages(tmp_path):
    """Of 60 lines of 80 columns."""
    page = tmp_path / "page"
    page.write_text(re.sub(r"@[A-Z_]+@", "/usr/lib/something", PROFILE_PAGE.read_text()))
    rendered = subprocess.run(["groff", "-mdoc", "-Kutf8", "-Tascii", "-P-cbou", "-rLL=80n", str(page)], capture_output=True, text=True, check=True)
    lines = rendered.stdout.splitlines()
    keys = lines[lines.index("KEYS") : lines.index("ENVIRONMENT")]
    assert len(keys) > 50 and max(map(len, keys)) <= 80
    assert len(keys) <= 2 * 60


def test_the_profiles_that_it_shows_are_good():
    """As far as their keys go; tests/bus/test_examples.py has posternd read them."""
    blocks = [re.sub(r"^\.\w.*\n", "", block, flags=re.M) for block in
              re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", PROFILE_PAGE.read_text(), flags=re.S | re.M)]  # fmt: skip
    profiles = [block for block in blocks if "Exec=" in block]
    assert len(profiles) == 2
    for block in profiles:
        here = ""
        for line in block.splitlines():
            if line.startswith("["):
                here = line.strip("[]")
            else:
                assert (here, line.split("=")[0]) in keys_of_the_code(), line


# --- org.postern.Renewal1(5) -------------------------------------------------------------------------


def interfaces() -> dict[str, tuple[xml.etree.ElementTree.Element, dict[str, str]]]:
    """By name: its members, and the comment before each."""
    found = {}
    for path in sorted((ROOT / "dbus").glob("*.xml")):
        comments = re.findall(r'<!--\s*((?:(?!-->).)*?)\s*-->\s*<(?:method|signal|property)[^>]* name="(\w+)"', path.read_text(), flags=re.S)
        (interface,) = xml.etree.ElementTree.parse(path).getroot().findall("interface")
        found[interface.get("name")] = (interface, {name: comment for comment, name in comments})
    assert len(found) == 3
    return found


def bus_items(name: str) -> dict[str, dict[str, str]]:
    """A section's lists, by interface."""
    found = {}
    for part in re.split(r"^\.Ss ", section_with_parts(BUS_PAGE, name), flags=re.M)[1:]:
        interface, _, rest = part.partition("\n")
        entries = re.findall(r"^\.It ([^\n]*)\n(.*?)(?=^\.It |^\.El)", rest, flags=re.S | re.M)
        assert len(dict(entries)) == len(entries) > 0
        found[interface] = dict(entries)
    return found


def section_with_parts(page: Path, name: str) -> str:
    return re.search(rf"^\.Sh {name}\n(.*?)(?=^\.Sh )", page.read_text(), flags=re.S | re.M)[1]


def signature(member: xml.etree.ElementTree.Element) -> str:
    """As the page writes it."""

    def arguments(direction: str) -> list[str]:
        return [f"{arg.get('type')} {arg.get('name')}" for arg in member.findall("arg") if arg.get("direction", "in") == direction]

    head = " ".join([f"Fn {member.get('name')}", *(f'"{argument}"' for argument in arguments("in"))])
    return head + (f' No \\(-> "{", ".join(arguments("out"))}"' if arguments("out") else "")


@pytest.mark.parametrize(("name", "tag"), [("METHODS", "method"), ("SIGNALS", "signal")])
def test_every_method_and_signal(name, tag):
    there = {interface: [signature(member) for member in element.findall(tag)]
             for interface, (element, _) in interfaces().items() if element.findall(tag)}  # fmt: skip
    assert {interface: list(entries) for interface, entries in bus_items(name).items()} == there


def test_every_property():
    there = {interface: [f"Va {member.get('name')} Pq {member.get('type')}" for member in element.findall("property")]
             for interface, (element, _) in interfaces().items()}  # fmt: skip
    assert {interface: list(entries) for interface, entries in bus_items("PROPERTIES").items()} == there


def errors_of_the_code() -> set[str]:
    names = re.findall(r'return (?:ERROR_PREFIX )?"([\w.]+)";', source("src/broker/error.c"))
    assert "NotAuthorized" in names
    return {name.removeprefix("org.freedesktop.DBus.Error.") for name in names}


def test_every_error_name():
    assert {head.removeprefix("Bq Er ") for head in items(BUS_PAGE, "ERROR NAMES")} == errors_of_the_code()


def test_every_method_has_the_errors_that_its_description_has():
    names = errors_of_the_code()
    for interface, entries in bus_items("METHODS").items():
        _, comments = interfaces()[interface]
        for head, body in entries.items():
            method = head.split()[1]
            described = re.search(r"\bErrors\b.*", comments[method], flags=re.S)
            wanted = {name for name in names if described and re.search(rf"\b{name}\b", described[0])}
            named = {word for line in re.findall(r"^\.Er (.*) \.$", body, flags=re.M) for word in line.split(" , ")}
            assert named == wanted, method


def test_every_result():
    assert {head.removeprefix("Li ") for head in items(BUS_PAGE, "RESULTS")} == results()


def test_every_state():
    names = re.findall(r'\[WINDOW_\w+\] = "(\w+)"|case WINDOW_\w+:\s+return "(\w+)"', source("src/core/window.c"))
    states = {a or b for a, b in names}
    assert {"armed", "open"} <= states
    body = bus_items("PROPERTIES")["org.postern.Renewal1.Window"]["Va State Pq s"]
    assert set(re.findall(r"^\.Ql (\w+)", body, flags=re.M)) == states


def test_every_action_and_detail_of_polkit():
    tree = xml.etree.ElementTree.parse(ROOT / "polkit/org.postern.renewal1.policy.in")
    actions = items(BUS_PAGE, "AUTHORIZATION")
    assert [head.removeprefix("Li ") for head in actions] == [action.get("id") for action in tree.iter("action")]
    body = " ".join(actions["Li org.postern.renewal1.request-window"].split())
    assert set(re.findall(r"\b[a-z]+\b", " ".join(re.findall(r"\.Va ([\w ,]+?)(?= \(| and|$| \.)", body)))) \
        == details_of_polkit()  # fmt: skip


def details_of_polkit() -> set[str]:
    number, pairs = re.search(r'"a\{ss\}us", (\d), ((?:"\w+",\s+[\w>-]+,\s+)+)', source("src/broker/authority.c")).groups()
    names = set(re.findall(r'"(\w+)"', pairs))
    assert len(names) == int(number)
    return names


def test_limits_are_those_of_the_code():
    text = " ".join(BUS_PAGE.read_text().split())
    for number, words in (("QUOTA_WINDOWS_PER_UID", "{} windows of one user"), ("QUOTA_WINDOWS", "or {} in all")):
        value = re.search(rf"\b{number} = (\d+)", source("include/postern/quota.h"))[1]
        assert words.format(value) in text


def test_every_unit_leads_to_a_page():
    names = {path.name.removesuffix(".in") for path in PAGES}
    for unit in ROOT.glob("systemd/postern*.in"):
        page = re.search(r"^Documentation=man:([\w.]+)\((\d)\) ", unit.read_text(), flags=re.M)
        assert page and f"{page[1]}.{page[2]}" in names, unit.name
