# SPDX-License-Identifier: GPL-2.0-or-later
"""What the firewall's and the renewal's modules can say to people: a test causes each of it, and quotes it.
What requests, profiles, the client, the helper and posternd's start can say has tables of its own:
tests/bus/test_errors.py, test_profile_errors.py, test_client_errors.py, test_start_errors.py and
tests/run/test_helper_errors.py."""

import functools
import re

import pytest
from sentences import BARE, ROOT, sentences

MODULES = [
    "broker/broker", "broker/challenge", "broker/firewalld-call", "broker/firewalld-hold", "broker/firewalld-survey",
    "broker/gate-command", "broker/gate-nftables", "broker/gate-ports", "broker/installation-explain", "broker/passage",
    "broker/renewal", "broker/runner", "broker/door", "broker/door-mend", "run/unit",
]  # fmt: skip
# what no test quotes: a part of it, and why
UNQUOTED = {
    "Memory ran out": "for want of memory, which tests/faults takes away",
    "the kernel refused the rules": "of a kernel that refuses what its like take",
    "The kernel refused to change the firewall": "of a kernel that refuses what its like take",
    "its name or its table's is no text that can be shown": "of a name that nft itself cannot write",
    "More than %d chains deny": "of a host with more denying chains than anybody has",
    "firewalld could not be asked": "for want of memory",
    "firewalld cannot be called": "for want of memory",
    "postern-run could not be started; the service's log": "for want of descriptors",
    "It could not be opened; the service's log": "where a gate found no words, for want of memory",
    "is not shut there yet": "of a window whose id was drawn before",
    "had not ended after": "after a minute, which no test waits",
    "the helper was lost": "of a helper that was killed, where it is tried again",
    "the window's rules were put back": "no error",
    "prints is in its journal": "no error",
    "%s has ended: %s": "no error",
    "cannot be looked at: see systemctl status": "of a systemd that does not answer",
    "cannot be waited for": "of a systemd that does not answer",
    "cannot be stopped": "of a systemd that does not answer",
    "posternd may not read ChallengeDirectory=": "posternd is root where the tests run",
    "No directory can be watched any more": "a limit of the whole machine's",
    "too many doors are open": "more than may be, which requests are refused for before",
    "names no label, by which iptables fails": "tests/net/test_iptables.py has such a file, and looks for the file's name",
}


@functools.cache
def quoted() -> str:
    """All tests, with the strings joined that stand on several lines."""
    tests = [path for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".c", ".nft") and path.name != "test_error_texts.py"]
    return re.sub(r'"\s*\n?\s*f?"', "", "\n".join(path.read_text() for path in tests))


def is_quoted(sentence: str) -> bool:
    """Three words of it that stand together."""
    for part in re.split(r"%[-0-9.*]*(?:ll|z)?[a-zA-Z]", sentence):
        words = part.split(" ")
        for chunk in (" ".join(words[first : first + 3]).strip() for first in range(len(words) - 2)):
            if len(chunk) > 12 and chunk in quoted():
                return True
    return False


@pytest.mark.parametrize("module", MODULES)
def test_every_sentence_is_caused(module):
    missing = [sentence for sentence in sentences(f"src/{module}.c", records=False) if not is_quoted(sentence)]
    assert [sentence for sentence in missing if not any(part in sentence for part in UNQUOTED)] == []


def test_nothing_is_excused_that_is_not_said():
    said = [sentence for module in MODULES for sentence in sentences(f"src/{module}.c", records=False)]
    assert [part for part in UNQUOTED if not any(part in sentence for sentence in said)] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_sentence_ends_with_what_the_kernel_says(module):
    for sentence in sentences(f"src/{module}.c", records=False):
        assert not re.search(r": %s\.?$", sentence) or sentence == "%s has ended: %s\n", sentence
        assert sentence not in BARE
