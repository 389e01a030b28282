# SPDX-License-Identifier: GPL-2.0-or-later
"""People who have logged in, at their terminals: polkit's own text agent asks who has to be asked."""

import pytest
from booted import BUSES
from process import wait_until

PASSWORD = "open sesame"


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


@pytest.fixture
def ready(host):
    """An administrator who has a password, and something to renew."""
    host.profile("good", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n")
    host.run("sh", "-c", f"echo 'root:{PASSWORD}' | chpasswd")
    return host


def asked(host, terminal) -> None:
    """Until the password is asked for in earnest; by then the session is logind's, too."""
    terminal.wait_for("Password:")
    wait_until(lambda: not terminal.echoes(), "the question to be in earnest")
    assert host.run("loginctl", "list-sessions", "--no-legend").split()[2] == "visitor"


def test_the_password_lets_in_who_is_not_in_the_group(ready):
    before = ready.net.ruleset()
    with ready.session("visitor", "postern renew good") as terminal:
        asked(ready, terminal)
        assert ready.net.ruleset() == before
        terminal.type(f"{PASSWORD}\n")
        assert terminal.wait(60) == 0, terminal.text
    assert "good: " in terminal.text and "success" in terminal.text
    # a desktop's own, if there were one, would have been the one to ask
    assert "pkttyagent --notify-fd" in ready.messages("--unit=polkit.service")
    assert "--fallback" in ready.messages("--unit=polkit.service")
    assert ready.net.ruleset() == before


def test_a_wrong_password_does_not(ready):
    before = ready.net.ruleset()
    with ready.session("visitor", "postern renew good") as terminal:
        asked(ready, terminal)
        terminal.type("wrong\n")
        assert terminal.wait(60) == 3, terminal.text
    assert "postern: " in terminal.text
    assert ready.net.ruleset() == before and " is open" not in ready.messages("--identifier=posternd")


def test_who_is_in_the_group_is_not_asked(ready):
    with ready.session("deploy", "postern renew good") as terminal:
        assert terminal.wait() == 0, terminal.text
    assert "success" in terminal.text and "AUTHENTICATING" not in terminal.text


def test_sigkill_of_polkitd_while_the_password_is_asked_for(ready):
    before = ready.net.ruleset()
    with ready.session("visitor", "postern renew good") as terminal:
        asked(ready, terminal)
        ready.run("systemctl", "kill", "--signal=SIGKILL", "polkit.service")
        assert terminal.wait(60) == 3, terminal.text
        assert "systemctl status polkit" in terminal.text
    assert ready.net.ruleset() == before and " is open" not in ready.messages("--identifier=posternd")
    assert ready.renew("deploy", "good").data[:2] == ["success", 0]
