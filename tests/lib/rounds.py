# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a random test is done, and with which luck: said in its output, set by the environment."""

import os
import random


def number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def seed() -> int:
    value = number("POSTERN_TEST_SEED", random.SystemRandom().randrange(1 << 32))
    print(f"POSTERN_TEST_SEED={value}")
    return value
