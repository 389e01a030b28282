# SPDX-License-Identifier: GPL-2.0-or-later
"""Renewals that nobody asks for: the timer, a real authority, and what the journal tells of them."""

import pytest
from booted import BUSES, DOMAIN
from bus import NAME, PATH
from probe import FAMILIES, Listener, Outcome, Prober
from process import now, wait_until
from story import IDS, kind, of_window, tell

CLOSED = f"MESSAGE_ID={IDS['closed']}"
OFTEN = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=100ms\n"


@pytest.fixture(params=BUSES)
def bus_kind(request):
    return request.param


def results(host) -> list[str]:
    return [entry["POSTERN_RESULT"] for entry in host.journal("--identifier=posternd", CLOSED)]


def test_timer(host, acme):
    """First there is no certificate, then nothing is due, then something is."""
    host.certbot_profile("web", acme, force=False, extra="RateLimit=100/1h")
    # as it is installed it fires twice a day
    assert host.run("systemd-analyze", "calendar", host.show("postern@web.timer", "TimersCalendar").split("=")[1].split(" ;")[0])
    host.write("/etc/systemd/system/postern@.timer.d/often.conf", OFTEN)
    host.run("systemctl", "daemon-reload")
    # certbot's server takes one visitor after the other, and lets five wait
    with Prober(interval=0.05) as prober:
        host.run("systemctl", "enable", "--now", "postern@web.timer")
        wait_until(lambda: results(host)[:2] == ["renewed", "unchanged"], "the first one, and one without need", 60)
        due = f"/etc/letsencrypt/renewal/{DOMAIN}.conf"
        host.run("sed", "-i", "1i renew_before_expiry = 9999 days", due)
        wait_until(lambda: "renewed" in results(host)[2:], "one that is due", 60)
        host.run("systemctl", "disable", "--now", "postern@web.timer")
        # it may just have started one that has not asked for its window yet
        wait_until(lambda: host.show("postern@web.service", "ActiveState") == "inactive", "the last one to end")
        assert host.windows() == [] and host.is_shut()
        for family in FAMILIES:
            assert prober.outcomes(family, now()) == {Outcome.SILENT}
    assert set(results(host)) == {"renewed", "unchanged"}
    assert host.run("systemctl", "--failed", "--quiet", "--plain", "--no-legend") == ""
    uid = host.run("id", "--user", "_postern-renew").strip()
    assert {entry["POSTERN_UID"] for entry in host.journal("--identifier=posternd", CLOSED)} == {uid}


def test_failure_is_the_units(host):
    host.profile("false", "[Renewal]\nExec=/bin/false\n[Window]\nPorts=none\n")
    started = host.tried("systemctl", "start", "postern@false.service")
    assert started.returncode == 1
    assert "failed" in host.messages("--unit=postern@false.service")
    missing = host.tried("systemctl", "start", "postern@missing.service")
    assert missing.returncode == 1 and "no profile missing" in host.messages("--unit=postern@missing.service")


SAY = """#!/bin/sh
echo said so
until [ -e /srv/go ]; do sleep 0.1; done
exit 3
"""


def test_the_journal_tells_the_whole_story(host):
    """journalctl -t posternd -o json, and nothing else: who asked for what, that it was granted, when what
    was open where, how many came in, what the renewal said and how it ended."""
    host.write("/srv/say", SAY, 0o755)
    host.profile("say", "[Renewal]\nExec=/srv/say\n[Window]\nPorts=80/tcp\nDefaultDuration=5min\n")
    with Listener(), Prober(interval=0.05) as prober:
        call = host.start_renewing("deploy", "say")
        host.wait_window("say")
        prober.wait_for(Outcome.OPEN, FAMILIES[0])
        host.write("/srv/go", "")
        call.communicate(timeout=60)
    # sent before the caller was answered, but journald reads when it can
    wait_until(lambda: results(host), "the record of the end")
    records = host.journal("--identifier=posternd")
    (window,) = [record["POSTERN_WINDOW"] for record in records if kind(record) == "closed"]
    told = tell(records, window)
    assert told.kinds == ["asked", "granted", "opened", "output", "run_ended", "closed"]
    assert told.asked_by == int(host.run("id", "--user", "deploy")) and told.joined_by == []
    assert (told.profile, told.ports, told.asked_for_usec) == ("say", "80/tcp", 300_000_000)
    assert told.gate == "nftables: inet filter input" and told.output == ["said so"]
    assert (told.result, told.exit_status) == ("failed", 3)
    # the same as whoever asks in time is told
    called = host.call("root", "GetAll", "s", f"{NAME}.Window", path=f"{PATH}/window/{window}",
                       interface="org.freedesktop.DBus.Properties")  # fmt: skip
    shown = {name: value["data"] for name, value in called.data[0].items()}
    assert (told.opened_at, told.deadline, told.closed_at) == (shown["OpenedAt"], shown["Deadline"], shown["ClosedAt"])
    assert told.opened_at < told.closed_at < told.deadline
    assert told.admitted == shown["AdmittedConnections"] > 0 and told.hint == shown["Hint"]
    # each by the service itself, and no record is without its place in the story
    assert {record["_SYSTEMD_UNIT"] for record in of_window(records, window)} == {"posternd.service"}
    # what a record means
    explained = host.run("journalctl", "--catalog", "--no-pager", f"POSTERN_WINDOW={window}", CLOSED)
    assert "A window of profile say is closed: failed" in explained and f"{told.admitted} connections" in explained


def test_check_says_what_is_so_for_the_confined_broker(host):
    """Whom to ask whether the check can see what it looks at: a host where nothing is wrong."""
    host.profile("web", "[Renewal]\nExec=/usr/bin/certbot renew\n[Window]\nPorts=80/tcp\n")
    called = host.call("deploy", "Check", "s", "web")
    print(called.data)
    assert called.ok, called.text
