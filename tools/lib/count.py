#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints `PASSED FAILED SKIPPED` of a run: count.py meson TESTLOG.json | count.py pytest JUNIT.xml...

No report, or none with a test in it, is a failure. A case that a cmocka program skips counts as
skipped, though the program as a whole says it passed.
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path


def count_meson(path: Path) -> tuple[int, int, int]:
    passed = failed = skipped = 0
    for line in path.read_text().splitlines():
        test = json.loads(line)
        output = test.get("stdout", "") + test.get("stderr", "")
        cases = len(re.findall(r"^\[       OK \]", output, re.M))
        skipped += len(re.findall(r"^\[  SKIPPED \] (?!\d+ test)", output, re.M))
        if test["result"] == "OK":
            passed += max(cases, 1)
        elif test["result"] == "SKIP":
            skipped += 1
        else:
            failed += 1
    return passed, failed, skipped


def count_pytest(path: Path) -> tuple[int, int, int]:
    passed = failed = skipped = 0
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        failed += bad
        skipped += int(suite.get("skipped"))
        passed += max(0, int(suite.get("tests")) - bad - int(suite.get("skipped")))
    return passed, failed, skipped


def main() -> None:
    kind, paths = sys.argv[1], sys.argv[2:]
    total = [0, 0, 0]
    for path in paths:
        try:
            counts = {"meson": count_meson, "pytest": count_pytest}[kind](Path(path))
        except (OSError, ValueError, xml.etree.ElementTree.ParseError):
            counts = (0, 1, 0)
        total = [a + b for a, b in zip(total, counts, strict=True)]
    print(*(total if sum(total) else (0, 1, 0)))


if __name__ == "__main__":
    main()
