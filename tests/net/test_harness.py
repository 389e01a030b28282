# SPDX-License-Identifier: GPL-2.0-or-later
"""The testbed itself: a test that stands on it is worth what this shows. Needs no posternd."""

import itertools
import os
from pathlib import Path

import pytest
from process import Process
from testbed import (
    FAMILIES,
    HOST4,
    HOST6,
    OFFICE4,
    OFFICE6,
    Bus,
    BusError,
    HeldConnection,
    Listener,
    Net,
    Outcome,
    Polkit,
    Prober,
    Users,
    conntrack,
    leftovers,
    now,
    ruleset,
    wait_until,
)

ECHO = Path(__file__).parents[1] / "lib/echo.py"  # a server that keeps up with a thousand knocks a second
OPEN_BY_HAND = "add rule inet filter input tcp dport 80 accept comment \"by hand\"\n"
WITHOUT_STATE = """
flush ruleset
table inet filter {{
    chain input {{
        type filter hook input priority 0; policy drop;
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} {}
    }}
}}
"""
ADDRESSES = {"v4": HOST4, "v6": HOST6}
OFFICES = {"v4": OFFICE4, "v6": OFFICE6}
POLKIT = dict(
    interface="org.freedesktop.PolicyKit1.Authority",
    path="/org/freedesktop/PolicyKit1/Authority",
    destination="org.freedesktop.PolicyKit1",
)


def shut_by_hand(net):
    from net import DEFAULT_DENY

    net.replace(DEFAULT_DENY)


def test_office_is_admitted_and_strangers_are_not(net):
    with Listener(), Prober() as stranger, Prober(source4=OFFICE4, source6=OFFICE6) as office:
        for family in FAMILIES:
            assert stranger.outcomes(family, now()) == {Outcome.SILENT}
            office.wait_for(Outcome.OPEN, family)


def test_prober_tells_no_listener_from_a_firewall(net):
    with Prober() as stranger, Prober(source4=OFFICE4, source6=OFFICE6) as office:
        for family in FAMILIES:
            assert stranger.outcomes(family, now()) == {Outcome.SILENT}
            office.wait_for(Outcome.REFUSED, family)


def test_prober_sees_a_port_open_and_shut(net):
    # few enough to find room in the listener's queue while this process stands still
    with Listener(), Prober(interval=0.01) as prober:
        opening = now()
        net.nft(OPEN_BY_HAND)
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family)
        shutting = now()
        for family in FAMILIES:
            prober.wait_for(Outcome.OPEN, family, since=shutting)
        shut_by_hand(net)
        shut = now()
        for family in FAMILIES:
            prober.wait_for(Outcome.SILENT, family)
            first, last = prober.first_success(family), prober.last_success(family)
            assert opening < first.ended and shutting < last.ended and last.begun < shut
            assert [k.outcome for k in prober.transitions(family)] == [Outcome.SILENT, Outcome.OPEN, Outcome.SILENT]
            assert not prober.first_success(family, since=shut)


def knocks_often(knocks) -> bool:
    """Somewhere among them."""
    return any(
        last.begun - first.begun < 1_500_000_000
        for (_, run) in itertools.groupby(knocks, lambda knock: knock.outcome is Outcome.OPEN)
        for taken in [list(run)]
        if taken[0].outcome is Outcome.OPEN
        for first, last in zip(taken, taken[499:])
    )


def test_prober_knocks_often(net):
    """A rate that shows openings of a few milliseconds; on a busy machine half of it is enough."""
    with Process(["/usr/bin/python3", str(ECHO), "80"], ns="host") as server:
        server.wait_ready(lambda: "listening" in server.text(), "its port")
        with Prober(source4=OFFICE4, source6=OFFICE6) as prober:
            for family in FAMILIES:
                wait_until(lambda: knocks_often(prober.knocks(family)), "500 knocks in a second and a half")


@pytest.mark.parametrize("family", FAMILIES)
def test_held_connection_tells_how_it_ended(net, family):
    with Listener(), HeldConnection(ADDRESSES[family], source=OFFICES[family]) as held:
        assert held.state() == "alive"
        # a firewall that knows no established connections: its packets are dropped
        net.nft(WITHOUT_STATE.format("accept"))
        assert held.state(patience=0.3) == "silent"
        net.nft(WITHOUT_STATE.format("accept; tcp dport 80 reject with tcp reset"))
        assert held.state() == "reset"


def test_ruleset_compares_rules_and_not_counts(net):
    net.nft("add rule inet filter input tcp dport 7 counter drop")
    before = ruleset()
    with Prober(port=7) as prober:
        for family in FAMILIES:
            prober.outcomes(family, now())
    assert ruleset() == before
    net.nft(OPEN_BY_HAND)
    assert ruleset() != before


def test_conntrack_shows_connections(net):
    with Listener(), HeldConnection(HOST6, source=OFFICE6):
        assert [line for line in conntrack() if f"src={OFFICE6} dst={HOST6}" in line and "dport=80" in line]


def test_nothing_is_left_over():
    before = leftovers()
    with Net(), Users(), Bus() as bus, Polkit(bus), Listener(), Prober():
        assert leftovers() != before
    assert leftovers() == before


def test_bus_tells_users_apart():
    with Users(), Bus() as bus:
        mine = dict(interface="org.freedesktop.DBus", path="/org/freedesktop/DBus", destination="org.freedesktop.DBus")
        with pytest.raises(BusError) as refused:
            bus.call("RequestName", "su", "org.example.Mine", 0, user="deploy", **mine)
        assert refused.value.name == "org.freedesktop.DBus.Error.AccessDenied"
        listed = bus.busctl("visitor", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListNames")
        assert listed.ok and "org.freedesktop.DBus" in listed.data[0]
        failed = bus.busctl("visitor", "call", "org.example.Nobody", "/", "org.example.Nobody", "Anything")
        assert not failed.ok and failed.text


def test_polkit_is_asked_for_real():
    with Users(), Bus() as bus, Polkit(bus) as polkit:

        def may(user):
            with bus.holder(user) as unique_name:
                subject = ("system-bus-name", {"name": ("s", unique_name)})
                action = "org.freedesktop.hostname1.set-hostname"
                return bus.call("CheckAuthorization", "(sa{sv})sa{ss}us", subject, action, {}, 0, "", **POLKIT)[0][0]

        assert may("root") is True  # polkitd says so without a rule
        assert may("deploy") is False
        polkit.add_rule('polkit.addRule(function(action, subject) { if (subject.isInGroup("postern")) return "yes"; });')
        assert may("deploy") is True
        assert may("visitor") is False
        polkit.remove_rule()
        assert may("deploy") is False


def test_certbot_fails_at_a_shut_port(net, acme):
    with pytest.raises(RuntimeError, match="(?i)timeout"):
        acme.run_certbot()


@pytest.mark.parametrize("answers", [{}, {"v4": None}], ids=["v4+v6", "v6-only"])
def test_certbot_gets_a_certificate_through_an_open_port(net, acme, answers):
    acme.dns(**answers)
    net.nft(OPEN_BY_HAND)
    acme.run_certbot()
    facts = acme.certificate_facts()
    assert "DNS:example.test" in facts["names"]
    assert "Pebble" in facts["issuer"]
    acme.run_certbot(force=False)
    assert acme.certificate_facts()["serial"] == facts["serial"]
    acme.run_certbot()
    assert acme.certificate_facts()["serial"] != facts["serial"]


def test_profile_text_is_complete(net, acme):
    text = acme.profile(extra="MaxDuration=5min")
    assert "Exec=/usr/bin/certbot certonly" in text and "MaxDuration=5min" in text
    assert os.path.exists(acme.ca)
