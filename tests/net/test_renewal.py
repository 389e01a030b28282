# SPDX-License-Identifier: GPL-2.0-or-later
"""Real certificates: certbot, a certificate authority, and a door that is open just for that."""

import pytest
from net import HOST4, HOST6
from probe import FAMILIES, Outcome, Prober
from process import now, run, wait_until
from scene import WINDOW, printed, state, wait_state
from testbed import leftovers


def assert_certificate_is_told(testbed, acme, window: str) -> None:
    """What openssl reads in it, although certbot's live/ is root's alone."""
    facts = acme.certificate_facts()
    names = [name.removeprefix("DNS:") for name in facts["names"].split(", ")]
    profile = f"/org/postern/Renewal1/profile/{state(testbed, window, 'Profile')}"
    for path, interface in ((window, WINDOW), (profile, "org.postern.Renewal1.Profile")):
        told = {name: testbed.bus.get(path, interface, name) for name in ("SerialNumber", "NotBefore", "NotAfter")}
        # openssl writes whole bytes
        assert told["SerialNumber"].lstrip("0") == facts["serial"].lower().lstrip("0")
        for name, date in (("NotBefore", facts["notBefore"]), ("NotAfter", facts["notAfter"])):
            assert told[name] == int(run(["date", "-d", date, "+%s"])) * 10**6
    assert testbed.bus.get(profile, "org.postern.Renewal1.Profile", "Names") == names


@pytest.mark.parametrize("reach", ["both", "v4", "v6"])
def test_certbot(testbed, acme, reach):
    """First issue, forced renewal, nothing due: what the caller is told, and what a stranger saw."""
    acme.dns(v4=None if reach == "v6" else HOST4, v6=None if reach == "v4" else HOST6)
    testbed.profile("web", acme.profile(force=False))
    testbed.profile("force", acme.profile(force=True))
    before = testbed.net.ruleset()
    with testbed.daemon(), Prober(interval=0.05) as prober:
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
        # where the kernel forgot some before they were looked at, that is said
        known = state(testbed, renewed.data[2], "SourceNetworksComplete")
        assert state(testbed, renewed.data[2], "SourceNetworks") > 0 or not known
        assert state(testbed, renewed.data[2], "SerialNumberBefore").lstrip("0") == serial.lower().lstrip("0")
        assert_certificate_is_told(testbed, acme, renewed.data[2])

        unchanged = testbed.renew("deploy", "web")
        assert unchanged.data[:2] == ["unchanged", 0]
        assert state(testbed, unchanged.data[2], "Hint") == ""
        assert_certificate_is_told(testbed, acme, unchanged.data[2])

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
        log = printed(testbed, answer.text)
        assert "Challenge failed" in log or "Certbot failed" in log, log
        assert testbed.net.ruleset() == before


def test_authority_that_never_answers(testbed, acme):
    testbed.profile("web", acme.profile())
    here = leftovers()
    with testbed.daemon(), Prober(interval=0.01) as prober:
        acme.stop()
        window = testbed.bus.call("RequestWindow", "stt", "web", 8_000_000, 0, user="deploy")[0]
        until = state(testbed, window, "DeadlineBoottime") * 1000
        wait_state(testbed, window, "closed")
        acme.cont()
        assert state(testbed, window, "Result") == "timeout"
        assert prober.outcomes("v4", until + 100_000_000) == {Outcome.SILENT}
    wait_until(lambda: leftovers() == here, "certbot to be gone")
