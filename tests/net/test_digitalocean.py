# SPDX-License-Identifier: GPL-2.0-or-later
"""The example for DigitalOcean's cloud firewalls, against a stand-in for their API: what it answers in each of
its moods, and what has become of the admin's own rules then."""

import os
import subprocess
from pathlib import Path

import pytest
from bus import MANAGER, PATH
from digitalocean import FIREWALL, TOKEN, Api
from process import in_netns, new_directory, now, wait_until
from scene import Renewal, state, wait_state

SCRIPT = Path(__file__).parents[2] / "docs/examples/digitalocean-firewall"


@pytest.fixture
def api(net):
    with Api() as value:
        value.token = new_directory("token") / "token"
        value.token.write_text(TOKEN + "\n")
        value.token.chmod(0o600)
        yield value


def environment(api, ports: str = "80/tcp", **more: str) -> dict[str, str]:
    return {
        "DIGITALOCEAN_FIREWALL": FIREWALL, "DIGITALOCEAN_TOKEN_FILE": str(api.token), "DIGITALOCEAN_API": api.url,
        "DIGITALOCEAN_SECONDS": "20", "POSTERN_PORTS": ports, **more,
    }  # fmt: skip


def command(api, verb: str, **more: str) -> tuple[int, str]:
    done = subprocess.run([*in_netns("host"), str(SCRIPT), verb], env={**environment(api, **more), "PATH": os.environ["PATH"]},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert TOKEN not in done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def test_opens_and_closes(api):
    """And may do each twice."""
    for _ in range(2):
        assert command(api, "open", ports="80/tcp 8443/udp") == (0, "open: 80/tcp 8443/udp\n")
        assert api.ours() == ["80/tcp", "8443/udp"]
    for _ in range(2):
        assert command(api, "close", ports="80/tcp 8443/udp")[0] == 0
        assert api.is_as_before()
    assert [method for method, _ in api.requests if method != "GET"] == ["POST", "DELETE"]


def test_the_admin_s_own_rule_for_the_port_stays(api):
    assert command(api, "open", ports="443/tcp")[0] == 0
    assert api.ours() == ["443/tcp"]
    assert command(api, "close", ports="443/tcp")[0] == 0
    assert api.is_as_before()


@pytest.mark.parametrize("verb", ["open", "close"])
def test_waits_until_the_droplets_have_it(api, verb):
    if verb == "close":
        command(api, "open")
        api.requests.clear()
    api.slow = 3
    assert command(api, verb)[0] == 0
    assert [method for method, _ in api.requests].count("GET") == 5


# how the API fails: what comes of one request, with or without the change having been made
MOODS = {
    "429": {"how": 429, "headers": [("Retry-After", "2")]},
    "429-without-a-time": {"how": 429},
    "500": {"how": 500},
    "503-done": {"how": 503, "done": True},
    "502": {"how": 502},
    "cut": {"how": "cut"},
    "cut-done": {"how": "cut", "done": True},
}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("mood", MOODS)
def test_moods(api, mood, method):
    """Each is got over, and nothing is done twice or left half done."""
    verb = "close" if method == "DELETE" else "open"
    if verb == "close":
        command(api, "open")
    api.faults = [{**MOODS[mood], "method": method}]
    begun = now()
    code, text = command(api, verb)
    assert code == 0, text
    assert api.faults == []
    assert "waiting: " in text
    if mood == "429":
        assert now() - begun >= 2_000_000_000
    assert api.ours() == ([] if verb == "close" else ["80/tcp"])
    command(api, "close")
    assert api.is_as_before()


@pytest.mark.parametrize("how", [500, 429, "hang"])
def test_gives_up(api, how):
    """Before posternd does, and says why."""
    api.faults = [{"how": how, "headers": [("Retry-After", "3600")]} for _ in range(50)]
    begun = now()
    code, text = command(api, "open", DIGITALOCEAN_SECONDS="3")
    assert code == 1 and "gave up: " in text
    assert now() - begun < 10_000_000_000
    assert api.is_as_before()


def test_the_provider_fails(api):
    api.failed = True
    code, text = command(api, "open")
    assert code == 1 and "the change has failed" in text
    api.failed = False
    assert command(api, "close")[0] == 0 and api.is_as_before()


def test_wrong_token(api):
    api.token.write_text("another\n")
    code, text = command(api, "open")
    assert code == 1 and "401: Unable to authenticate you" in text
    assert len(api.requests) == 1 and api.is_as_before()


def test_no_such_firewall(api):
    code, text = command(api, "open", DIGITALOCEAN_FIREWALL=FIREWALL.replace("b", "c"))
    assert code == 1 and "404: " in text and len(api.requests) == 1


def test_is_not_sent_elsewhere(api):
    with Api() as other:
        api.faults = [{"how": 302, "headers": [("Location", f"{other.url}/v2/firewalls/{FIREWALL}")]}]
        code, text = command(api, "open")
        assert code == 1 and "302" in text
        assert other.requests == []


@pytest.mark.parametrize("change, said", [
    ({"DIGITALOCEAN_FIREWALL": "../droplets"}, "is no firewall's id"),
    ({"DIGITALOCEAN_TOKEN_FILE": "/nonexistent"}, "cannot read the token"),
    ({"DIGITALOCEAN_API": "http://192.0.2.1"}, "is not https"),
])  # fmt: skip
def test_what_is_not_tried(api, change, said):
    code, text = command(api, "open", **change)
    assert code == 1 and said in text and api.requests == []


def test_a_token_that_others_may_read(api):
    api.token.chmod(0o640)
    code, text = command(api, "open")
    assert code == 1 and "chmod 600" in text and api.requests == []


def test_with_posternd(testbed):
    """From the profile's environment to the rules, once in order and once with the API down at the end."""
    with Api() as api:
        token = testbed.directory / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        api.token = token
        lines = "".join(f"Environment={key}={value}\n" for key, value in environment(api).items() if key != "POSTERN_PORTS")
        gate = f"[Gate]\nType=command\nOpenCommand={SCRIPT} open\nCloseCommand={SCRIPT} close\n[Renewal]\n{lines}"
        renewal = Renewal(testbed, gate=gate)
        with testbed.daemon() as daemon:
            window = renewal.request()
            assert api.ours() == ["80/tcp"]
            renewal.finish()
            wait_state(testbed, window, "closed")
            assert state(testbed, window, "Result") == "success" and api.is_as_before()

            window = renewal.request()
            token.write_text("withdrawn")
            renewal.finish()
            wait_state(testbed, window, "closed")
            assert testbed.bus.get(PATH, MANAGER, "OwedCloses") == 1 and api.ours() == ["80/tcp"]
            assert "401: Unable to authenticate you" in daemon.text()
            token.write_text(TOKEN)
            wait_until(lambda: testbed.bus.get(PATH, MANAGER, "OwedCloses") == 0, "the close")
            assert api.is_as_before()
