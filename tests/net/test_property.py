# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets that nobody has written: during a window, who came in before comes in, and at its port
everybody whom nothing denies in particular; afterwards, who came in before.

POSTERN_TEST_RULESETS=2000 tries more of them, POSTERN_TEST_SEED= the same again."""

import random

import pytest
from bus import BusError
from corpus import Host
from knocks import everything
from rounds import number, seed
from rulemaker import Maker

RULESETS = number("POSTERN_TEST_RULESETS", 200)


@pytest.mark.seconds(60 + RULESETS)
def test_random_rulesets():
    first = seed()
    opened = refused = widened = 0
    with Host() as host:
        for case in range(first, first + RULESETS):
            maker = Maker(random.Random(case))
            ruleset, window = maker.ruleset(), maker.window()
            text = f"# POSTERN_TEST_SEED={case} POSTERN_TEST_RULESETS=1, ports {window}\n{ruleset.text()}"
            host.gate(ports=" ".join(f"{port}/tcp" for port in window))
            host.visitors.set_uplink(ruleset.uplink_is_known)
            host.load(text=text)
            before = host.who_comes_in()
            rules = host.net.ruleset()
            assert before == {knock for knock in everything() if ruleset.admits(knock)}, text
            must, may = ruleset.refusals(), ruleset.denied_early(window)
            during = {knock for knock in everything() if ruleset.admits(knock, window)}
            try:
                with host.window() as gate:
                    assert gate.startswith("nftables: ") == ruleset.denies_by_default(), text
                    assert host.who_comes_in() == during, text + host.listing()
                assert not must, text
                opened += ruleset.denies_by_default()
                widened += during != before
            except BusError as refusal:
                assert any(part in refusal.text for part in must | may), text + refusal.text
                refused += 1
            assert host.who_comes_in() == before, text
            assert host.net.ruleset() == rules, text
    print(f"{opened} of {RULESETS} windows had something to open, {widened} let somebody in, {refused} were refused")
    assert RULESETS < 100 or (opened > RULESETS / 5 and widened > RULESETS / 10), "rulesets that show nothing"
