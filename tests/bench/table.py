# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures look like, and how the programs of others are timed."""

import os
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping

WARM_UP = 3  # rounds that are not counted


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def row(what: str, *values: str) -> None:
    print(f"{what:<52}" + "".join(f"{value:>13}" for value in values), flush=True)


def format_ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def compare(what: str, pairs: Iterable[tuple[float, float]]) -> None:
    """pairs: (ours, theirs), seconds."""
    ours, theirs = zip(*pairs)
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    low, _, high = statistics.quantiles(ratios, n=4)
    row(
        what,
        format_ms(statistics.median(ours)),
        format_ms(statistics.median(theirs)),
        f"{statistics.median(ratios):.1f}",
        f" {low:.1f}-{high:.1f}",
    )


def spawn(arguments: list[str], environment: Mapping[str, str] = {}) -> float:
    """Seconds until the program has ended, well."""
    path = shutil.which(arguments[0])
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    begun = time.monotonic()
    pid = os.posix_spawn(path, arguments, {**os.environ, **environment}, file_actions=null)
    status = os.waitpid(pid, 0)[1]
    seconds = time.monotonic() - begun
    if status != 0:
        raise RuntimeError(f"{arguments} failed")
    return seconds
