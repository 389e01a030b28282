# SPDX-License-Identifier: GPL-2.0-or-later
"""Real certificates: certbot, a certificate authority, and a door that is open just for that."""

import pytest
from net import HOST4, HOST6
from probe import FAMILIES, Outcome, Prober
from process import now, wait_until
from scene import state, wait_state
from testbed import leftovers


@pytest.mark.parametrize("reach", ["both", "v4", "v6"])
def test_certbot(testbed, acme, reach):
    """First issue, forced renewal, nothing due: what the caller is told, and what a stranger saw."""
    acme.dns(v4=None if reach == "v6" else HOST4, v6=None if reach == "v4" else HOST6)
    testbed.profile("web", acme.profile(force=False))
    testbed.profile("force", acme.profile(force=True))
    before = testbed.net.ruleset()
    with testbed.daemon(), Prober(interval=0.01) as prober:
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}

        first = testbed.renew("deploy", "web")
        assert first.ok, first.text
        assert first.data[:2] == ["renewed", 0]
        serial = acme.certificate_facts()["serial"]

        renewed = testbed.renew("deploy", "force")
        assert renewed.data[:2] == ["renewed", 0]
        assert acme.certificate_facts()["serial"] != serial
        assert state(testbed, renewed.data[2], "AdmittedConnections") > 0

        unchanged = testbed.renew("deploy", "web")
        assert unchanged.data[:2] == ["unchanged", 0]

        for family in FAMILIES:
            assert prober.first_success(family) or any(
                knock.outcome == Outcome.REFUSED for knock in prober.knocks(family)
            ), "the door never opened"
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
        assert testbed.net.ruleset() == before


def test_failing_renewal(testbed, acme):
    """The name leads elsewhere: the error says what came of it and how to read the log."""
    acme.dns(v4="203.0.113.99", v6=None)
    testbed.profile("web", acme.profile())
    before = testbed.net.ruleset()
    with testbed.daemon():
        answer = testbed.renew("deploy", "web")
        assert not answer.ok
        assert "failed" in answer.text and "GetLog" in answer.text and "journalctl" in answer.text
        assert "No connection" in answer.text, "nobody came, and the hint does not say so"
        window = answer.text.split("/window/")[1].split()[0]
        log = testbed.bus.call("GetLog", "u", 0, path=f"/org/postern/Renewal1/window/{window}",
                               interface="org.postern.Renewal1.Window", user="deploy")[0]  # fmt: skip
        assert any("Challenge failed" in line or "Certbot failed" in line for line in log), log
        assert testbed.net.ruleset() == before


def test_authority_that_never_answers(testbed, acme):
    testbed.profile("web", acme.profile())
    here = leftovers()
    with testbed.daemon(), Prober(interval=0.01) as prober:
        acme.stop()
        window = testbed.bus.call("RequestWindow", "stt", "web", 3_000_000, 0, user="deploy")[0]
        until = state(testbed, window, "DeadlineBoottime") * 1000
        wait_state(testbed, window, "closed")
        acme.cont()
        assert state(testbed, window, "Result") == "timeout"
        assert prober.outcomes("v4", until + 100_000_000) == {Outcome.SILENT}
    wait_until(lambda: leftovers() == here, "certbot to be gone")
