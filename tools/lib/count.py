#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints `PASSED FAILED SKIPPED` of a run, and a line for each test that failed or was skipped, below it
and indented the end of what it said: count.py meson TESTLOG.json | count.py pytest JUNIT.xml...

No report, or none with a test in it, is a failure. A case that a cmocka program skips counts as
skipped, though the program as a whole says it passed.
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

SAID = 25  # lines of a failed test's that are shown

Counts = tuple[int, int, int]


def end_of(text: str) -> list[str]:
    """The last lines; where a sanitizer has ended it, the first of its report, which goes on for long."""
    lines = text.rstrip().splitlines()
    reports = (number for number, line in enumerate(lines) if re.search(r"==\d+==ERROR: |: runtime error: ", line))
    first = next(reports, max(0, len(lines) - SAID))
    return [f"    {line}" for line in lines[first : first + SAID]]


def count_meson(path: Path) -> tuple[Counts, list[str]]:
    passed = failed = skipped = 0
    lines = []
    for line in path.read_text().splitlines():
        test = json.loads(line)
        output = test.get("stdout", "") + test.get("stderr", "")
        cases = len(re.findall(r"^\[       OK \]", output, re.M))
        left_out = re.findall(r"^\[  SKIPPED \] (?!\d+ test)(.*)", output, re.M)
        skipped += len(left_out)
        lines += [f"{test['name']}: {case} skipped" for case in left_out]
        if test["result"] == "OK":
            passed += max(cases, 1)
        elif test["result"] == "SKIP":
            skipped += 1
            lines.append(f"{test['name']}: skipped")
        else:
            failed += 1
            lines.append(f"{test['name']}: {test['result']}, status {test['returncode']}")
            lines += end_of(output)
    return (passed, failed, skipped), lines


def count_pytest(path: Path) -> tuple[Counts, list[str]]:
    passed = failed = skipped = 0
    lines = []
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        failed += bad
        skipped += int(suite.get("skipped"))
        passed += max(0, int(suite.get("tests")) - bad - int(suite.get("skipped")))
        for case in suite.iter("testcase"):
            for kind in ("failure", "error", "skipped"):
                if (found := case.find(kind)) is not None:
                    lines += [f"{case.get('classname')}::{case.get('name')}: {kind}", *end_of(found.text or "")]
    return (passed, failed, skipped), lines


def main() -> None:
    kind, paths = sys.argv[1], sys.argv[2:]
    total = [0, 0, 0]
    lines = []
    for path in paths:
        try:
            counts, bad = {"meson": count_meson, "pytest": count_pytest}[kind](Path(path))
        except (OSError, ValueError, xml.etree.ElementTree.ParseError) as problem:
            counts, bad = (0, 1, 0), [f"no report: {problem}"]
        lines += bad
        total = [a + b for a, b in zip(total, counts, strict=True)]
    print(*(total if sum(total) else (0, 1, 0)))
    print(*lines, sep="\n", end="\n" if lines else "")


if __name__ == "__main__":
    main()
