# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of firewalld's hosts by itself: what it finds in a real firewalld, opens there and shuts
again, and what becomes of it with one that does not behave."""

import pytest
from firewalld import NAME, PATH, Firewalld
from firewalld_gate import Gate, Pretender
from jeepney import DBusAddress, HeaderFields, new_signal
from jeepney.bus_messages import message_bus
from process import now, run, wait_until
from testbed import Testbed


@pytest.fixture
def host():
    with Testbed("") as testbed:
        yield testbed


@pytest.fixture
def firewalld(host):
    """Its permanent configuration is afterwards as before."""
    with Firewalld(host) as firewalld:
        before = firewalld.files()
        yield firewalld
        assert firewalld.files() == before


def add_interface(name):
    run(["ip", "-n", "host", "link", "add", name, "type", "veth", "peer", f"{name}-far"])
    for end in (name, f"{name}-far"):
        run(["ip", "-n", "host", "link", "set", end, "up"])


def test_opens_and_shuts(host, firewalld):
    with Gate(host) as gate:
        assert gate.plan(ports="80/tcp,443/udp") == "done [public:80/tcp public:443/udp] firewalld: public"
        assert firewalld.ports() == []
        assert gate.open() == "done "
        assert firewalld.ports() == ["443/udp", "80/tcp"]
        assert gate.shut() == "done "
        assert firewalld.ports() == []


def test_zones(host, firewalld):
    """The default zone, and those of the interfaces by which strangers come; a route to somewhere is
    nobody's way in. Zone= is the only one."""
    with Gate(host) as gate:
        for name in ("lan", "wan4", "wan6"):
            add_interface(name)
        for zone, interface in (("internal", "lan"), ("external", "wan4"), ("dmz", "wan6")):
            firewalld.command(f"--zone={zone}", f"--add-interface={interface}")
        run(["ip", "-n", "host", "route", "add", "198.51.100.0/24", "dev", "lan"])
        run(["ip", "-n", "host", "route", "add", "default", "dev", "wan4"])
        run(["ip", "-n", "host", "-6", "route", "add", "default", "nexthop", "via", "fe80::1", "dev",
             "wan6", "nexthop", "via", "2001:db8:1::1", "dev", "uplink"])  # fmt: skip
        assert gate.plan() == "done [public:80/tcp external:80/tcp dmz:80/tcp] firewalld: public, external, dmz"
        assert gate.open() == "done "
        assert [firewalld.ports(zone) for zone in ("public", "external", "dmz")] == [["80/tcp"]] * 3
        assert firewalld.ports("internal") == []
        assert gate.shut() == "done "
        assert [firewalld.ports(zone) for zone in ("public", "external", "dmz")] == [[]] * 3
        assert gate.plan("w2", zone="dmz") == "done [dmz:80/tcp] firewalld: dmz"
        assert gate.plan("w3", zone="nowhere").startswith("refused firewalld has no zone nowhere: ")


# how an admin may have opened 80/tcp, and what is left to claim
OPEN = {
    "port": ["--add-port=80/tcp"],
    "range": ["--add-port=70-90/tcp"],
    "service": ["--add-service=http"],
    "included service": ["--add-service=freeipa-4"],
    "protocol": ["--add-protocol=tcp"],
    "rich port": ["--add-rich-rule=rule port port=80 protocol=tcp accept"],
    "rich range": ["--add-rich-rule=rule priority=-5 port port=1-100 protocol=tcp accept"],
    "rich service": ["--add-rich-rule=rule service name=http accept"],
    "forward": ["--add-forward-port=port=80:proto=tcp:toport=8080"],
}
NOT_OPEN = {
    "another port": ["--add-port=8080/tcp"],
    "another protocol": ["--add-port=80/udp"],
    "range beside": ["--add-port=81-90/tcp"],
    "source port": ["--add-source-port=80/tcp"],
    "for some": ["--add-rich-rule=rule family=ipv4 source address=192.0.2.0/24 port port=80 protocol=tcp accept"],
    "one family": ["--add-rich-rule=rule family=ipv6 port port=80 protocol=tcp accept"],
    "denied": ["--add-rich-rule=rule port port=80 protocol=tcp reject"],
    "limited": ["--add-rich-rule=rule port port=80 protocol=tcp accept limit value=1/m"],
}


def test_what_is_open_is_left_alone(host, firewalld):
    def settings():
        return firewalld.command("--list-all")

    with Gate(host) as gate:
        untouched = settings()
        for number, command in enumerate([*OPEN.values(), *NOT_OPEN.values()]):
            firewalld.command(*command)
            before, name = settings(), f"w{number}"
            planned = gate.plan(name)
            if command in OPEN.values():
                assert planned == "done [] none: firewalld has it open already: public", command
            else:
                assert planned == "done [public:80/tcp] firewalld: public", command
            assert gate.open(name) == "done "
            assert gate.shut(name) == "done "
            assert settings() == before, command
            firewalld.command(*(word.replace("--add-", "--remove-") for word in command))
            assert settings() == untouched


def test_accepting_zone_and_policy(host):
    with Firewalld(host) as firewalld, Gate(host) as gate:
        firewalld.command("--permanent", "--zone=public", "--add-interface=uplink")
        assert gate.plan(zone="trusted") == "done [] none: firewalld has it open already: trusted"
        for command in (["--new-policy=in"], ["--policy=in", "--add-ingress-zone=public"],
                        ["--policy=in", "--add-egress-zone=HOST"], ["--policy=in", "--add-service=http"]):
            firewalld.command("--permanent", *command)
        firewalld.command("--reload")
        assert gate.plan("w2") == "done [] none: firewalld has it open already: public"
        assert gate.plan("w3", zone="dmz") == "done [dmz:80/tcp] firewalld: dmz"


def test_claims_of_two(host, firewalld):
    """A port that two have claimed is shut with the last of them, in whatever order."""
    with Gate(host) as gate:
        for first, second in (("w1", "w2"), ("w2", "w1")):
            for name in ("w1", "w2"):
                assert gate.plan(name) == "done [public:80/tcp] firewalld: public"
                assert gate.open(name) == "done "
            assert gate.shut(first) == "done "
            assert firewalld.ports() == ["80/tcp"]
            assert gate.shut(second) == "done "
            assert firewalld.ports() == []


def test_planned_and_shut_meanwhile(host, firewalld):
    """What one has planned while another one had it open is opened anew."""
    with Gate(host) as gate:
        gate.plan()
        gate.open()
        assert gate.plan("w2") == "done [public:80/tcp] firewalld: public"
        assert gate.shut() == "done "
        assert firewalld.ports() == []
        assert gate.open("w2") == "done "
        assert firewalld.ports() == ["80/tcp"]
        assert gate.shut("w2") == "done "
        assert firewalld.ports() == []


def test_left_by_an_earlier_one(host, firewalld):
    """What is claimed on disk alone is removed, of the same firewalld; another one has forgotten it."""
    instance = host.bus.owner(NAME)
    firewalld.command("--add-port=80/tcp")
    with Gate(host) as gate:
        assert gate.shut("w1", instance, "public:80/tcp", "public:443/tcp", "nowhere:80/tcp") == "done "
        assert firewalld.ports() == []
        firewalld.end()
        assert gate.shut("w2", instance, "public:80/tcp") == "absent "
        firewalld.start()
        firewalld.command("--add-port=80/tcp")
        assert gate.shut("w2") == "done "
        assert firewalld.ports() == ["80/tcp"]


def test_reload(host, firewalld):
    with Gate(host) as gate:
        gate.plan()
        gate.open()
        firewalld.command("--reload")
        assert " public:80/tcp]" in gate.wait("claimed w1")
        assert gate.wait("mended w1") == "firewalld was reloaded or restarted; the window's ports were opened in it again"
        assert firewalld.ports() == ["80/tcp"]
        assert gate.shut() == "done "
        assert firewalld.ports() == []


def test_opened_for_good_meanwhile(host):
    """With a reload the admin has it open: it is left open."""
    with Firewalld(host) as firewalld, Gate(host) as gate:
        gate.plan(ports="80/tcp,443/tcp")
        gate.open()
        firewalld.command("--permanent", "--add-port=80/tcp")
        firewalld.command("--reload")
        assert gate.wait("claimed w1").endswith(" public:443/tcp]")
        gate.wait("mended w1")
        assert firewalld.ports() == ["443/tcp", "80/tcp"]
        assert gate.shut() == "done "
        assert firewalld.ports() == ["80/tcp"]


@pytest.mark.parametrize("how", ["end", "kill9"])
def test_restart(host, firewalld, how):
    with Gate(host) as gate:
        gate.plan()
        gate.open()
        getattr(firewalld, how)()
        firewalld.start()
        assert host.bus.owner(NAME) in gate.wait("claimed w1")
        gate.wait("mended w1")
        assert firewalld.ports() == ["80/tcp"]
        assert gate.shut() == "done "
        assert firewalld.ports() == []


def test_gone_for_good(host, firewalld):
    """A firewalld that does not come back within 10 s: the window is lost, and its close is owed."""
    with Gate(host) as gate:
        assert gate.plan() == "done [public:80/tcp] firewalld: public"
        gate.open()
        firewalld.end()
        assert gate.wait("lost w1") == "firewalld has ended and did not come back; see `systemctl status firewalld`."
        assert gate.shut() == "absent "
        firewalld.start()
        assert gate.shut() == "done "


def test_another_firewalld_before_it_opens(host, firewalld):
    """What was planned with one that has ended since is not opened, also not in its successor."""
    with Gate(host) as gate:
        for name, comes_back in (("w1", False), ("w2", True)):
            assert gate.plan(name) == "done [public:80/tcp] firewalld: public"
            firewalld.end()
            if comes_back:
                firewalld.start()
            assert gate.open(name) == "refused firewalld ended, or was started anew, while a window was being opened: ask again"
            if not comes_back:
                firewalld.start()
            assert firewalld.ports() == []
            assert gate.shut(name) == "done "


def test_absent(host):
    with Gate(host) as gate:
        assert gate.plan() == "absent "
        assert gate.plan() == "absent "


def test_panic(host, firewalld):
    with Gate(host) as gate:
        firewalld.command("--panic-on")
        assert gate.plan().startswith("refused firewalld is in panic mode ")
        firewalld.command("--panic-off")
        assert gate.plan() == "done [public:80/tcp] firewalld: public"


MAY_LOOK = """polkit.addRule(function(action, subject) {
    if (action.id === "org.fedoraproject.FirewallD1.config.info")
        return polkit.Result.YES;
});"""


def test_polkit(host):
    """By what is installed, the user that posternd runs as may do this, and others may not; the lockdown
    is another thing."""
    with Firewalld(host) as firewalld:
        with Gate(host, "visitor") as gate:
            denied = "refused firewalld does not let posternd call {}: polkit has to grant"
            assert gate.plan().startswith(denied.format("getZoneSettings2"))
            host.polkit.add_rule(MAY_LOOK)  # as where the alternatives have the desktop's policy
            assert gate.plan() == "done [public:80/tcp] firewalld: public"
            assert gate.open().startswith(denied.format("addPort"))
            assert firewalld.ports() == []
        with Gate(host, "_postern") as gate:
            gate.plan()
            assert gate.open() == "done "
            assert firewalld.ports() == ["80/tcp"]
            assert gate.shut() == "done "
            assert firewalld.ports() == []
            firewalld.command("--lockdown-on")
            gate.plan()
            assert gate.open().startswith("refused firewalld's lockdown is on, ")
            firewalld.command("--add-lockdown-whitelist-user=_postern")
            assert gate.shut() == "done "
            gate.plan()
            assert gate.open() == "done "
            assert gate.shut() == "done "


def test_stopped_firewalld(host, firewalld):
    """One that does not answer for 10 s: refused, and nothing is open when it has answered at last."""
    with Gate(host) as gate:
        gate.plan()
        firewalld.stop()
        try:
            assert gate.open().startswith("refused firewalld did not answer addPort within 10 s")
            assert gate.shut().startswith("refused firewalld did not answer removePort within 10 s")
        finally:
            firewalld.cont()
        assert gate.shut() == "done "
        assert firewalld.ports() == []


def test_shut_while_opening(host):
    """The port is not removed before it is known what became of adding it, and not left."""
    with Pretender(host, addPort=Pretender.SILENT) as pretender, Gate(host) as gate:
        gate.plan(ports="80/tcp,443/tcp")
        gate.say("open", "w1")
        wait_until(lambda: "addPort public 80 tcp 0" in pretender.calls(), "a port to be added")
        assert gate.shut() == "done "
        calls = [call for call in pretender.calls() if "Port" in call]
        assert calls == ["addPort public 80 tcp 0", "removePort public 80 tcp"]


# method: what the pretender does with it, what the gate says of that
MISBEHAVIOUR = {
    "zone silent": (dict(getDefaultZone=Pretender.SILENT), "firewalld did not answer getDefaultZone within 10 s"),
    "zone dies": (dict(getDefaultZone=Pretender.DIES), "firewalld did not answer getDefaultZone within 10 s, or"),
    "zone unfit": (dict(getDefaultZone=("s", ("../../etc",))), "firewalld answered getDefaultZone in a form that"),
    "zone too long": (dict(getDefaultZone=("s", ("z" * 5000,))), "firewalld answered getDefaultZone in a form that"),
    "zone a number": (dict(getDefaultZone=("u", (7,))), "firewalld answered getDefaultZone in a form that"),
    "settings a text": (dict(getZoneSettings2=("s", ("x",))), "firewalld answered getZoneSettings2 in a form that"),
    "ports a number": (dict(getZoneSettings2=("a{sv}", ({"ports": ("u", 80)},))), None),
    "ports of words": (dict(getZoneSettings2=("a{sv}", ({"ports": ("a(ss)", [("http", "tcp"), ("80-", "tcp"),
                       ("-80", "tcp"), ("", ""), ("80", "TCP"), ("4294967376", "tcp")])},))), None),
    "policies a text": (dict(getActivePolicies=("s", ("x",))), "firewalld answered getActivePolicies in a form that"),
    "refuses": (dict(getZoneSettings2="BUILTIN: no"), "firewalld refused getZoneSettings2 with BUILTIN: "),
    "refuses without a word": (dict(getZoneSettings2="no, 17"), "firewalld refused getZoneSettings2: "),
    "denies": (dict(getDefaultZone=f"{NAME}.NotAuthorizedException|no"), "firewalld does not let posternd call"),
    "add denied": (dict(addPort=f"{NAME}.NotAuthorizedException|no"), "firewalld does not let posternd call addPort"),
    "add refused": (dict(addPort="COMMAND_FAILED: nft"), "firewalld refused addPort with COMMAND_FAILED: "),
    "add dies": (dict(addPort=Pretender.DIES), "firewalld did not answer addPort within 10 s, or ended"),
    "add enabled": (dict(addPort="ALREADY_ENABLED: 80"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_misbehaviour(host, name):
    answers, problem = MISBEHAVIOUR[name]
    with Pretender(host, **answers), Gate(host) as gate:
        answer = gate.plan()
        if problem and "addPort" not in answers:
            assert answer.startswith(f"refused {problem}")
            return
        assert answer == "done [public:80/tcp] firewalld: public"
        answer = gate.open()
        assert answer.startswith(f"refused {problem}") if problem else answer == "done "


def test_owed(host):
    """A port that is not removed is asked for again."""
    with Pretender(host, removePort="COMMAND_FAILED: nft") as pretender, Gate(host) as gate:
        gate.plan(ports="80/tcp,443/tcp")
        gate.open()
        for _ in range(2):
            assert gate.shut().startswith("refused firewalld refused removePort with COMMAND_FAILED: ")
        removals = [call for call in pretender.calls() if call.startswith("removePort")]
        assert removals == ["removePort public 80 tcp", "removePort public 443 tcp"] * 2


def test_too_many_zones(host):
    with Gate(host) as gate, Pretender(host, getZoneOfInterface=("s", ("a",))):
        for number in range(17):
            add_interface(f"wan{number}")
            run(["ip", "-n", "host", "route", "add", "default", "dev", f"wan{number}", "metric", str(number + 1)])
        assert gate.plan().startswith("refused firewalld has more zones here than a window can be opened in: ")
        assert gate.plan(zone="public") == "done [public:80/tcp] firewalld: public"


def test_false_reload(host):
    """firewalld says that it has been reloaded, and has not: what is ours stays ours."""
    settings = ("a{sv}", ({"ports": ("a(ss)", [("80", "tcp")])},))
    permanent = {"getZoneByName": ("o", (f"{PATH}/config/zone/1",)), "getSettings2": ("a{sv}", ({},))}
    with Pretender(host, **permanent) as pretender, Gate(host) as gate:
        gate.plan()
        gate.open()
        pretender.answer("getZoneSettings2", settings)
        pretender.reload()
        assert gate.wait("claimed w1").endswith(" public:80/tcp]")
        gate.wait("mended w1")
        assert gate.shut() == "done "
        assert [call for call in pretender.calls() if call.startswith("removePort")] == ["removePort public 80 tcp"]


def test_forged_signals(host):
    """Whoever else says that firewalld was reloaded, or has left, is not even a reason to look."""

    def looks():
        return pretender.calls().count("queryPanicMode")

    def forge():
        driver = DBusAddress("/org/freedesktop/DBus", interface="org.freedesktop.DBus")
        reloaded = new_signal(DBusAddress(PATH, interface=NAME), "Reloaded")
        left = new_signal(driver, "NameOwnerChanged", "sss", (NAME, pretender.instance, ""))
        with host.bus.connect() as connection:
            names = connection.send_and_get_reply(message_bus.ListNames()).body[0]
            for name in names:
                for signal in (reloaded, left) if name.startswith(":") else ():
                    signal.header.fields[HeaderFields.destination] = name
                    connection.send(signal)
            return connection.send_and_get_reply(message_bus.GetId()).body

    with Pretender(host) as pretender, Gate(host) as gate:
        gate.plan()
        gate.open()
        host.bus.do_as("visitor", forge)
        begun, plans = now(), 0
        while now() - begun < 1_000_000_000:  # a look comes a quarter of a second after its reason
            gate.plan(f"x{plans}")
            plans += 1
        assert looks() == 1 + plans
        pretender.reload()
        gate.wait("mended w1")
        assert looks() == 2 + plans
