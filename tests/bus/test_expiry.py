# SPDX-License-Identifier: GPL-2.0-or-later
"""What everybody is told of a profile's certificate, and when the log warns that it ends."""

import os
import re
import time

import pytest
from callers import PROFILE, WINDOW, Signals, error_of, profile
from certificates import DAY, make_certificate
from story import IDS
from testbed import PATH

WEB = f"{PATH}/profile/web"
EXPIRY = IDS["expiry"]
UNKNOWN = {"NotAfter": 0, "NotBefore": 0, "SerialNumber": "", "Names": [], "NamesLeftOut": 0}


@pytest.fixture
def host(testbed):
    testbed.certificate = testbed.directory / "certificate.pem"
    testbed.next = testbed.directory / "next.pem"
    script = testbed.directory / "renewal.sh"
    # takes the next one, if there is one; fails where it is told to
    script.write_text(
        f"#!/bin/sh\n[ ! -e {testbed.next} ] || mv {testbed.next} {testbed.certificate}\n"
        f"[ ! -e {testbed.directory}/fail ]\n"
    )
    script.chmod(0o755)
    testbed.profile("web", profile(str(script), more=f"Certificate={testbed.certificate}"))
    return testbed


def told(host) -> dict:
    return {name: host.bus.get(WEB, PROFILE, name, user="visitor") for name in UNKNOWN}


def renew(host):
    return host.bus.call("Renew", "stt", "web", 0, 0, user="deploy")


def warnings(daemon) -> list[str]:
    return [line for line in daemon.text().splitlines() if EXPIRY in line]


def days_from_now(begin: float, end: float) -> dict[str, int]:
    now = int(time.time())
    return {"begin": now + int(begin * DAY), "end": now + int(end * DAY)}


def announced(seen, path: str) -> dict:
    """The last value that PropertiesChanged gave for each property of this object."""
    changes = [body[1] for member, where, body in seen if (member, where) == ("PropertiesChanged", path)]
    return {name: value for change in changes for name, (_, value) in change.items()}


def test_what_is_told(host):
    begin, end = make_certificate(host.certificate, serial="0a", names="DNS:example.com")
    next_begin, next_end = make_certificate(
        host.next, serial="0b", end=begin + 6 * DAY, names="DNS:example.com, IP:192.0.2.1, URI:http://x"
    )
    of_window = {
        "SerialNumberBefore": "0a", "NotAfterBefore": end * 10**6,
        "SerialNumber": "0b", "NotBefore": next_begin * 10**6, "NotAfter": next_end * 10**6,
    }  # fmt: skip
    of_profile = {
        "SerialNumber": "0b", "NotBefore": next_begin * 10**6, "NotAfter": next_end * 10**6,
        "Names": ["example.com", "192.0.2.1"], "NamesLeftOut": 1,
    }  # fmt: skip
    with host.daemon(), Signals(host) as signals:
        assert told(host) == UNKNOWN
        result, _, window = renew(host)
        assert result == "renewed"
        for name, value in of_window.items():
            assert host.bus.get(window, WINDOW, name, user="visitor") == value
        assert told(host) == of_profile
        seen = signals.until("WindowClosed")
        while not announced(seen, WEB):
            seen = signals.until("PropertiesChanged")
        assert announced(seen, window).items() >= of_window.items()
        assert announced(seen, WEB).items() >= of_profile.items()
    with host.daemon():
        assert told(host) == of_profile


def test_told_whatever_the_result_is(host):
    make_certificate(host.certificate, serial="0a")
    (host.directory / "fail").touch()
    with host.daemon():
        assert "failed" in error_of(renew, host).text
        last = told(host)
        assert last["SerialNumber"] == "0a"
        # one that cannot be read is no news
        host.certificate.unlink()
        error_of(renew, host)
        assert told(host) == last
        make_certificate(host.certificate, serial="0b")
        error_of(renew, host)
        assert told(host)["SerialNumber"] == "0b"


def test_end_of_a_window_warns(host):
    """While less than a third is left, each time; and not once it is renewed, or for one that is fresh."""
    make_certificate(host.certificate, **days_from_now(-61, 29))
    with host.daemon() as daemon:
        for number in (1, 2):
            result, _, window = renew(host)
            assert (result, len(warnings(daemon))) == ("unchanged", number)
        warning = warnings(daemon)[-1]
        assert warning.startswith("<4>The certificate of profile web expires in 28 d, at 20")
        assert "less than a third of its 90 d is left" in warning and "postern renew --verbose web" in warning
        assert f"POSTERN_PROFILE=web POSTERN_WINDOW={window.rsplit('/')[-1]} POSTERN_RESULT=unchanged" in warning
        assert f"POSTERN_EXPIRES={told(host)['NotAfter']}" in warning

        make_certificate(host.next, **days_from_now(-1, 89))
        assert renew(host)[0] == "renewed"
        make_certificate(host.next, **days_from_now(-59, 31))
        assert renew(host)[0] == "renewed"
        assert len(warnings(daemon)) == 2

        make_certificate(host.next, **days_from_now(-4.5, 1.5))  # of the six-day kind
        assert renew(host)[0] == "renewed"
        assert "expires in 35 h" in warnings(daemon)[-1]


def test_window_that_cannot_run_warns(host):
    """It reads no certificate, and is why there is no new one."""
    make_certificate(host.certificate, **days_from_now(-61, 29))
    with host.daemon() as daemon:
        renew(host)
        (host.directory / "renewal.sh").unlink()
        assert "run-failed" in error_of(renew, host).text
        assert "POSTERN_RESULT=run-failed" in warnings(daemon)[-1] and len(warnings(daemon)) == 2
        path = host.config / "profiles/web.conf"
        path.write_text(path.read_text().replace("Certificate=", "#Certificate="))
        error_of(renew, host)
        assert len(warnings(daemon)) == 2, "who names no certificate is not told of one"


def test_one_that_has_expired(host):
    make_certificate(host.certificate, **days_from_now(-93, -3))
    (host.directory / "fail").touch()
    with host.daemon() as daemon:
        error_of(renew, host)
        assert len(warnings(daemon)) == 1
        assert warnings(daemon)[0].startswith("<3>The certificate of profile web expired 3 d ago, at 20")


@pytest.mark.parametrize("changes, warns", [
    ({}, True),  # the last window left it so
    # it was fresh when the last one ended, half a day ago: the next one may be about to begin
    ({"LastClosedAt": 0.5, "NotBefore": 60.2, "NotAfter": -29.8}, False),
    ({"LastClosedAt": 3, "NotBefore": 61.5, "NotAfter": -28.5}, True),  # nothing has renewed it since
    ({"LastClosedAt": 3, "NotBefore": 1, "NotAfter": -89}, False),
])  # fmt: skip
def test_start_warns(host, changes, warns):
    """changes: so many days ago."""
    make_certificate(host.certificate, **days_from_now(-61, 29))
    with host.daemon():
        renew(host)
    file = host.state / "profiles/web"
    text = file.read_text()
    for key, days in changes.items():
        text, n = re.subn(rf"^{key}=.*$", f"{key}={int((time.time() - days * DAY) * 10**6)}", text, flags=re.M)
        assert n == 1
    file.write_text(text)
    with host.daemon() as daemon:
        assert len(warnings(daemon)) == warns
        assert all("POSTERN_WINDOW" not in line for line in warnings(daemon))
    # once a day
    for said, again in ((time.time() - 23 * 3600, 0), (time.time() - 25 * 3600, warns), (time.time() + 3600, warns)):
        if warns:
            os.utime(host.runtime / "expiry-said", (said, said))
        with host.daemon() as daemon:
            assert len(warnings(daemon)) == again
    assert (host.runtime / "expiry-said").exists() == warns


def test_start_warns_of_profiles_that_are_there(host):
    make_certificate(host.certificate, **days_from_now(-61, 29))
    with host.daemon():
        renew(host)
    path = host.config / "profiles/web.conf"
    text = path.read_text()
    for other, warns in ((text + "Nonsense=\n", 1), (text.replace("Certificate=", "#Certificate="), 0)):
        path.write_text(other)
        with host.daemon() as daemon:
            assert len(warnings(daemon)) == warns
        (host.runtime / "expiry-said").unlink(missing_ok=True)
    path.unlink()
    with host.daemon() as daemon:
        assert not warnings(daemon)
