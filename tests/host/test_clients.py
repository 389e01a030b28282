# SPDX-License-Identifier: GPL-2.0-or-later
"""What people renew with, in the surroundings that the helper's unit leaves it."""

import pytest
from acme import DNS, DOMAIN
from bus import NAME, PATH
from probe import FAMILIES, Listener, Outcome, Prober
from process import now, wait_until
from story import kind, of_window


@pytest.fixture
def bus_kind():
    return "dbus-daemon"


# what a provider's API is asked for
RECORD = f"""#!/usr/bin/python3
import json, os, sys, urllib.request
record = {{"host": "_acme-challenge.{DOMAIN}."}}
if sys.argv[1] == "set-txt":
    record["value"] = os.environ["CERTBOT_VALIDATION"]
urllib.request.urlopen("http://{DNS}/" + sys.argv[1], data=json.dumps(record).encode(), timeout=60)
"""
SITE = f"server {{ listen 80; listen [::]:80; server_name {DOMAIN}; root /var/www/html; }}\n"


def assert_certificate_is_told(host, window: str) -> None:
    """live/ is root's alone, and posternd is not root."""
    live = f"/etc/letsencrypt/live/{DOMAIN}/fullchain.pem"
    assert host.tried("cat", live, user="_postern").returncode != 0
    serial = host.run("openssl", "x509", "-in", live, "-noout", "-serial").strip().split("=")[1].lower().lstrip("0")

    def told(path: str, interface: str, name: str):
        return host.busctl("visitor", "get-property", NAME, path, f"{NAME}.{interface}", name).data

    assert told(f"{PATH}/profile/web", "Profile", "Names") == [DOMAIN]
    for path, interface in ((f"{PATH}/profile/web", "Profile"), (window, "Window")):
        assert told(path, interface, "SerialNumber").lstrip("0") == serial
        assert 0 < told(path, interface, "NotBefore") < told(path, interface, "NotAfter")
    before = told(window, "Window", "SerialNumberBefore")
    assert before and before.lstrip("0") != serial


@pytest.mark.parametrize("method", ["--standalone", "--webroot --webroot-path=/var/www/html", "--nginx"],
                         ids=["standalone", "webroot", "nginx"])  # fmt: skip
def test_certbot(host, acme, method):
    host.write("/etc/nginx/sites-available/default", SITE)
    if method != "--standalone":
        host.run("systemctl", "start", "nginx.service")
    # posternd's unit sees enough of the host to watch for tokens
    extra = "OpenOn=challenge\nChallengeDirectory=/var/www/html/.well-known/acme-challenge" if "webroot" in method else ""
    host.certbot_profile("web", acme, force=True, method=method.split(), extra=extra)
    before = host.net.ruleset()
    for _ in range(2):
        called = host.renew("deploy", "web")
        assert called.ok, called.text + "\n" + host.messages("--identifier=posternd")
        assert called.data[:2] == ["renewed", 0]
    assert host.net.ruleset() == before
    assert_certificate_is_told(host, called.data[2])
    if method == "--nginx":
        assert host.run("cat", "/etc/nginx/sites-available/default") == SITE
        assert host.run("systemctl", "is-active", "nginx.service").strip() == "active"


def test_dns_01_opens_nothing(host, acme):
    host.write("/srv/record", RECORD, 0o755)
    host.certbot_profile("web", acme, force=True, ports="none", method=[
        "--manual", "--preferred-challenges=dns", "--manual-auth-hook=/srv/record set-txt",
        "--manual-cleanup-hook=/srv/record clear-txt"])  # fmt: skip
    before = host.net.ruleset()
    with Prober() as prober:
        called = host.renew("deploy", "web")
        assert called.ok, called.text + "\n" + host.messages("--identifier=posternd")
        assert called.data[:2] == ["renewed", 0]
        for family in FAMILIES:
            prober.outcomes(family, now())
            assert {knock.outcome for knock in prober.knocks(family)} == {Outcome.SILENT}
    assert host.net.ruleset() == before


def test_a_window_that_leads_to_the_renewal_alone(host, acme):
    """Its cgroup is below that of the helper's unit."""
    host.certbot_profile("web", acme, force=True, extra="Reach=renewal")
    called = host.renew("deploy", "web")
    assert called.ok, called.text + "\n" + host.messages("--identifier=posternd")
    host.profile("long", "[Renewal]\nExec=/bin/sleep 1000\n[Window]\nPorts=80/tcp\nReach=renewal\n")
    with Listener(), Prober() as prober:
        call = host.start_renewing("deploy", "long")
        host.wait_window("long")
        for family in FAMILIES:
            assert Outcome.OPEN not in prober.outcomes(family, now())
        assert host.busctl("root", "call", NAME, host.windows()[0][4], f"{NAME}.Window", "Close").ok
        call.communicate(timeout=20)


def test_a_window_that_opens_for_each_challenge(host, acme):
    """The confined broker sees the token in the directory of a web server, opens until it is gone, and with
    nothing due never opens."""
    host.write("/etc/nginx/sites-available/default", SITE)
    host.run("systemctl", "start", "nginx.service")
    extra = "OpenOn=challenge\nChallengeDirectory=/var/www/html/.well-known/acme-challenge"
    for name, force, end in (("due", True, "renewed"), ("idle", False, "unchanged")):
        host.certbot_profile(name, acme, force=force, method=["--webroot", "--webroot-path=/var/www/html"], extra=extra)
        before = host.net.ruleset()
        with Prober(interval=0.05) as prober:
            begun = now()
            called = host.renew("deploy", name)
            assert called.ok, called.text + "\n" + host.messages("--identifier=posternd")
            assert called.data[:2] == [end, 0]
            window = called.data[2]
            admitted = host.busctl("root", "get-property", NAME, window, f"{NAME}.Window", "AdmittedConnections").data
            # it is the authority that has to have come in
            assert (admitted > 0) == force
            if not force:
                for family in FAMILIES:
                    prober.outcomes(family, now())
                    outcomes = {knock.outcome for knock in prober.knocks(family) if knock.begun >= begun}
                    assert outcomes == {Outcome.SILENT}
        assert host.net.ruleset() == before

        def kinds() -> list[str]:
            records = of_window(host.journal("--identifier=posternd"), window.rsplit("/", 1)[1])
            return [kind(record) for record in records if kind(record) not in (None, "output")]

        wait_until(lambda: "closed" in kinds(), "journald to have read all of it")
        told = kinds()
        assert told[:3] + told[-2:] == ["asked", "granted", "armed", "run_ended", "closed"], told
        # the renewal may have ended before the last token was seen to go
        opened = told[3:-2]
        assert opened == (["opened", "shut"] * len(opened))[: len(opened)] and bool(opened) == force, told


def test_hooks_can_do_what_hooks_do(host):
    """Write where certificates go, test and reload a server, change user; and no more than that."""
    host.run("systemctl", "start", "nginx.service")
    host.write("/srv/hook", """#!/bin/sh
set -ex
install -m 0600 -o www-data /dev/null /etc/ssl/private/renewed.key
nginx -t
systemctl reload nginx.service
nginx -s reload
setpriv --reuid=www-data --regid=www-data --clear-groups id
! touch /usr/bin/something
! nft list ruleset
! mount -t tmpfs none /mnt
! sysctl -w kernel.panic=1
""", 0o755)  # fmt: skip
    host.profile("hook", "[Renewal]\nExec=/srv/hook\n[Window]\nPorts=none\n")
    called = host.renew("deploy", "hook")
    assert called.ok, called.text + "\n" + host.messages("--identifier=posternd")


def test_a_user_of_its_own_and_set_uid_programs(host):
    host.run("useradd", "--create-home", "renewer")
    host.write("/srv/see", "#!/bin/sh\nid -un; grep NoNewPrivs /proc/self/status; echo w >~/written\n", 0o755)
    for name, extra, expected in (("strict", "", "1"), ("lax", "NoNewPrivileges=no", "0")):
        host.profile(name, f"[Renewal]\nExec=/srv/see\nUser=renewer\n{extra}\n[Window]\nPorts=none\n")
        called = host.renew("deploy", name)
        assert called.ok, called.text
        said = host.messages("--identifier=posternd", f"POSTERN_PROFILE={name}")
        assert "renewer" in said and f"NoNewPrivs: {expected}" in said, said
    assert host.run("cat", "/home/renewer/written") == "w\n"


def test_a_profile_that_not_everybody_may_read(host):
    host.profile("secret", "[Renewal]\nExec=/bin/true\nEnvironment=TOKEN=x\n[Window]\nPorts=none\n")
    host.run("chown", "root:_postern", "/etc/postern/profiles/secret.conf")
    host.run("chmod", "0640", "/etc/postern/profiles/secret.conf")
    assert host.renew("deploy", "secret").data[:2] == ["success", 0]


def test_a_gate_command_elsewhere(host):
    """Both of its commands run as helpers of their own."""
    host.write("/srv/gate", "#!/bin/sh\necho \"$1 $POSTERN_PORTS\" >>/srv/gate.log\n", 0o755)
    host.profile("cloud", "[Renewal]\nExec=/bin/true\n[Window]\nPorts=80/tcp\n"
                          "[Gate]\nType=command\nOpenCommand=/srv/gate open\nCloseCommand=/srv/gate close\n")  # fmt: skip
    called = host.renew("deploy", "cloud")
    assert called.ok, called.text
    assert host.run("cat", "/srv/gate.log") == "open 80/tcp\nclose 80/tcp\n"
