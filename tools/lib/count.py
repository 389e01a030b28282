#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints `PASSED FAILED SKIPPED` of a run, and a line for each test that failed or was skipped:
count.py meson TESTLOG.json | count.py pytest JUNIT.xml...

No report, or none with a test in it, is a failure. A case that a cmocka program skips counts as
skipped, though the program as a whole says it passed.
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path


Counts = tuple[int, int, int]


def count_meson(path: Path) -> tuple[Counts, list[str]]:
    passed = failed = skipped = 0
    names = []
    for line in path.read_text().splitlines():
        test = json.loads(line)
        output = test.get("stdout", "") + test.get("stderr", "")
        cases = len(re.findall(r"^\[       OK \]", output, re.M))
        left_out = re.findall(r"^\[  SKIPPED \] (?!\d+ test)(.*)", output, re.M)
        skipped += len(left_out)
        names += [f"{test['name']}: {case} skipped" for case in left_out]
        if test["result"] == "OK":
            passed += max(cases, 1)
        elif test["result"] == "SKIP":
            skipped += 1
            names.append(f"{test['name']}: skipped")
        else:
            failed += 1
            names.append(f"{test['name']}: {test['result']}, status {test['returncode']}")
    return (passed, failed, skipped), names


def count_pytest(path: Path) -> tuple[Counts, list[str]]:
    passed = failed = skipped = 0
    names = []
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        failed += bad
        skipped += int(suite.get("skipped"))
        passed += max(0, int(suite.get("tests")) - bad - int(suite.get("skipped")))
        for case in suite.iter("testcase"):
            names += [
                f"{case.get('classname')}::{case.get('name')}: {kind}"
                for kind in ("failure", "error", "skipped")
                if case.find(kind) is not None
            ]
    return (passed, failed, skipped), names


def main() -> None:
    kind, paths = sys.argv[1], sys.argv[2:]
    total = [0, 0, 0]
    names = []
    for path in paths:
        try:
            counts, bad = {"meson": count_meson, "pytest": count_pytest}[kind](Path(path))
        except (OSError, ValueError, xml.etree.ElementTree.ParseError) as problem:
            counts, bad = (0, 1, 0), [f"no report: {problem}"]
        names += bad
        total = [a + b for a, b in zip(total, counts, strict=True)]
    print(*(total if sum(total) else (0, 1, 0)))
    print(*names, sep="\n", end="\n" if names else "")


if __name__ == "__main__":
    main()
