# SPDX-License-Identifier: GPL-2.0-or-later
"""The sentences that a source can say, and which of them have been heard."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
# as strerror() has them: alone, they leave a person with nothing to do
BARE = {os.strerror(number) for number in range(1, 134)}


def found_sentences(name: str, records: bool) -> list[str]:
    """The texts for people among a source's literals, as formats for printf(). records: also what goes to
    the journal alone."""
    text = re.sub(r"/\*.*?\*/", " ", (ROOT / name).read_text(), flags=re.S)
    literal = r'"(?:[^"\\\n]|\\.)*"'
    if not records:
        text = re.sub(rf"\b(?:\w+_)?log(?:_\w+)?\s*\((?:[^;\"]|{literal})*;", " ", text)
    found = []
    for match in re.finditer(rf"{literal}(?:\s*(?:PRI\w+\s*)?{literal})*", text):
        parts = re.findall(rf"{literal}|PRI\w+", match[0])
        whole = "".join(part[1:-1] if part.startswith('"') else "d" for part in parts)
        if re.search(r"[a-z%]+,? [a-z]{2,}", whole):
            found.append(whole.replace('\\"', '"').replace("\\\\", "\\").replace("\\n", "\n"))
    return found


def sentences(name: str, records: bool) -> list[str]:
    """The same, of a source that has some."""
    found = found_sentences(name, records)
    assert found, f"{name} says nothing"
    return found


def pattern(sentence: str) -> re.Pattern:
    """What the sentence can become."""
    parts = re.split(r"%[-0-9.*]*(?:ll|z)?[a-zA-Z]", sentence)
    return re.compile(".*?".join(map(re.escape, parts)), flags=re.S)


def unheard(name: str, heard: Iterable[str], elsewhere: Mapping[str, str], *, records: bool = False) -> list[str]:
    """The sentences of a source that nobody has heard. elsewhere: of those that are caused in another
    test, a part that this test quotes, and the test; a sentence that none can cause has its reason
    there, in place of a test."""
    heard = list(heard)
    missing = [sentence for sentence in sentences(name, records) if not any(pattern(sentence).search(text) for text in heard)]
    for part, test in elsewhere.items():
        those = [sentence for sentence in missing if part in sentence]
        assert those, f"{part!r} is heard here, or said no more by {name}"
        if test.startswith("tests/") and test.endswith((".py", ".c")):
            assert part in re.sub(r'"\s*\n?\s*"', "", (ROOT / test).read_text()), f"{test} does not quote {part!r}"
        missing = [sentence for sentence in missing if sentence not in those]
    return missing


def check_text(text: str, says: str, advice: str) -> None:
    """Of one that was caused: that it says what it is about, and what to do."""
    assert says in text and advice in text, text
    assert text.rstrip(".") not in BARE
    for bare in BARE:
        assert not text.endswith((f": {bare}", f": {bare}.")), text
