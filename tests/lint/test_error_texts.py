# SPDX-License-Identifier: GPL-2.0-or-later
"""What the firewall's, the renewal's and Check's modules can say to people: a test causes each of it, and quotes
it. What requests, profiles, the client, the helper and posternd's start can say has tables of its own:
tests/bus/test_errors.py, test_profile_errors.py, test_client_errors.py, test_start_errors.py,
tests/run/test_helper_errors.py and test_unit.py."""

import ast
import functools
import re
from pathlib import Path

import pytest
from sentences import BARE, ROOT, found_sentences, sentences

MODULES = [
    "broker/broker", "broker/challenge", "broker/check", "broker/check-challenge", "broker/check-files",
    "broker/check-listeners", "broker/check-way", "broker/door", "broker/door-check", "broker/door-mend",
    "broker/firewalld-call", "broker/firewalld-hold", "broker/firewalld-look", "broker/firewalld-survey",
    "broker/firewalld-task", "broker/gate-command", "broker/gate-nftables", "broker/gate-ports", "broker/installation",
    "broker/installation-explain", "broker/owed", "broker/passage", "broker/renewal", "broker/run-output", "broker/runner",
    "core/finding", "core/profile",
]  # fmt: skip
# whose sentences are looked for nowhere, and why
EXCUSED = {
    "broker/audit": "records, each kind of which tests/lint/test_source.py looks for",
    "broker/firewalld-settings": "what firewalld writes, which is read",
    "broker/ruleset-watch": "who has changed the ruleset, in a record: a name in place of one that is not known",
    "broker/sleep-guard": "for the list of who keeps a host awake",
    "client/client-list": "what commands print, and no error",
    "client/client-monitor": "what a command prints, and no error",
    "client/client-receipt": "what a command prints, and no error",
}
# what no test quotes: a part of it, and why
UNQUOTED = {
    "Memory ran out": "for want of memory, which tests/faults takes away",
    "the kernel refused the rules": "of a kernel that refuses what its like take",
    "The kernel refused to change the firewall": "of a kernel that refuses what its like take",
    "its name or its table's is no text that can be shown": "of a name that nft itself cannot write",
    "More than %d chains deny": "of a host with more denying chains than anybody has",
    "firewalld could not be asked": "for want of memory",
    "firewalld cannot be called": "for want of memory",
    "firewalld has changed, and memory ran out": "for want of memory",
    "memory ran out: free some": "for want of memory, which tests/faults takes away",
    "postern-run could not be started; the service's log": "for want of descriptors",
    "It could not be opened; the service's log": "where a gate found no words, for want of memory",
    "is not shut there yet": "of a window whose id was drawn before",
    "had not ended after": "after a minute, which no test waits",
    "the helper was lost": "of a helper that was killed, where it is tried again",
    "the window's rules were put back": "no error",
    "firewalld could not be called; the service's log": "for want of memory",
    "It was not wanted any more": "for whoever does not want it any more, and says nothing of it",
    "firewalld has changed, and could not be asked how": "for want of memory",
    "the helper postern-run could not be started": "for want of descriptors",
    "could not be written down; the service's log": "of a disk that fails in another way than by being full",
    "the bus does not say whether polkitd is there": "of a bus that does not know its own clients",
    "whether legacy iptables is loaded": "posternd is root where the tests run",
    "changing the firewall took so long": "of a machine that takes so long; tests/net/test_ruleset.py is ready for it",
    "posternd's guard": "a name in a record",
    "cannot be looked at": "of a disk that fails",
    "the kernel does not tell": "of a kernel that cannot be asked for its sockets",
    "posternd may not read ChallengeDirectory=": "posternd is root where the tests run",
    "No directory can be watched any more": "a limit of the whole machine's",
    "ChallengeDirectory= cannot be watched": "of a disk that fails",
    "the kernel lacks something": "of a kernel that has less than any that the tests run on",
    "another program changes the ruleset without pause": "of one that does so more quickly than a ruleset can be read, eight times in a row",
    "the kernel does not show the rules as they were written": "of a kernel that shows other rules than it was given",
    "too many doors are open": "more than may be, which requests are refused for before",
    "names no label, by which iptables fails": "tests/net/test_iptables.py has such a file, and looks for the file's name",
}


def strings(path: Path) -> str:
    """Those of a test, each whole; what it says of itself in comments is no quotation."""
    text = path.read_text()
    if path.suffix == ".py":
        tree = list(ast.walk(ast.parse(text)))
        documentation = {id(node.value) for node in tree if isinstance(node, ast.Expr)}
        constants = [node for node in tree if isinstance(node, ast.Constant) and id(node) not in documentation]
        return "\n".join(node.value for node in constants if isinstance(node.value, str))
    if path.suffix == ".c":
        literal = r'"(?:[^"\\\n]|\\.)*"'
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        wholes = re.findall(rf"{literal}(?:\s*{literal})*", text)
        return "\n".join(re.sub(r'"\s*"', "", whole) for whole in wholes)
    return text  # where a ruleset's first lines say what is to be expected of it


@functools.cache
def quoted() -> str:
    """What is between the quotation marks of all tests."""
    tests = [path for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".c", ".nft") and path.name != "test_error_texts.py"]
    return "\n".join(map(strings, tests))


@functools.cache
def all_sentences() -> frozenset[str]:
    paths = [str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.c")]
    return frozenset(sentence for path in paths for sentence in found_sentences(path, records=False))


def is_quoted(sentence: str) -> bool:
    """Four words of it that stand together, or all where there are fewer, and in no other sentence as well unless
    all of it does. Where nothing is longer than a word or two, it is a part of another sentence, or too common
    to be looked for."""
    chunks = []
    for part in re.split(r"%[-0-9.*]*(?:ll|z)?[a-zA-Z]", sentence):
        words = part.strip().split(" ")
        chunks += [" ".join(words[first : first + 4]) for first in range(max(1, len(words) - 3))]
    chunks = [chunk for chunk in chunks if len(chunk) > 12]
    own = [chunk for chunk in chunks if sum(chunk in other for other in all_sentences()) == 1]
    return not chunks or any(chunk in quoted() for chunk in own or chunks)


@pytest.mark.parametrize("module", MODULES)
def test_every_sentence_is_caused(module):
    missing = [sentence for sentence in sentences(f"src/{module}.c", records=False) if not is_quoted(sentence)]
    assert [sentence for sentence in missing if not any(part in sentence for part in UNQUOTED)] == []


def test_nothing_is_excused_that_is_not_said():
    said = [sentence for module in MODULES for sentence in sentences(f"src/{module}.c", records=False)]
    assert [part for part in UNQUOTED if not any(part in sentence for sentence in said)] == []


def test_no_module_is_forgotten():
    """Each that can say something is looked at here or, with unheard(), in another test."""
    modules = [str(path.relative_to(ROOT / "src").with_suffix("")) for path in sorted((ROOT / "src").rglob("*.c"))]
    speaking = {module for module in modules if found_sentences(f"src/{module}.c", records=False)}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    heard = set(re.findall(r'\bunheard\("src/([\w/-]+)\.c"', tests))
    assert len(heard) > 20 and not heard & set(MODULES)
    assert speaking - heard - set(MODULES) == set(EXCUSED)


@pytest.mark.parametrize("module", MODULES)
def test_no_sentence_ends_with_what_the_kernel_says(module):
    for sentence in sentences(f"src/{module}.c", records=False):
        # what follows is a sentence of ours, or a gate's place
        assert not re.search(r": %s\.?$", sentence) or sentence in ("%s does not exist: %s", "none: firewalld has it open already: %s"), sentence
        assert sentence not in BARE
