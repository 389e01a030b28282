# SPDX-License-Identifier: GPL-2.0-or-later
"""What bash offers after postern, with bash-completion as it is installed."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from scene import Renewal
from terminal import Terminal
from testbed import build_directory, installed

ROOT = Path(__file__).parents[2]
# name, the fewest and the most of its arguments
COMMANDS = re.findall(r'\{"(\w+)", (\d), (\d), \w+\}', (ROOT / "src/client/main.c").read_text())
BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"
# what bash does at a Tab: the function that was registered, with the words as they stand there
TAB = """
. {library}
_completion_loader postern
[[ $(complete -p postern) == *' -F _postern postern' ]] || exit 9
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9 COMP_KEY=9
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
compopt() {{ :; }}
_postern "$1" "${{@: -1}}" "${{@: -2:1}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def shell(testbed):
    """The environment of a shell in which postern is the one that was built, and its completion is found
    as it is installed."""
    home = testbed.directory / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text("Host mail.example.com vpn.example.com\n")
    # on a busy machine the service may take longer than somebody waits who presses Tab
    patient = home / "bin/timeout"
    patient.parent.mkdir()
    patient.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    patient.chmod(0o755)
    programs = f"{patient.parent}:{build_directory() / 'src/client'}:{os.environ['PATH']}"
    return {
        **os.environ,
        **testbed.bus.environment,
        "PATH": programs,
        "HOME": str(home),
        "BASH_COMPLETION_USER_DIR": str(installed() / "usr/share/bash-completion"),
    }


def tab(shell, *words: str, **environment: str) -> list[str]:
    """What is offered where the last of the words stands, quietly."""
    line = " ".join(["postern", *words])
    parts = [part for word in ["postern", *words] for part in re.split("(?<=[^=])(=)", word)]  # as bash does
    done = subprocess.run(
        ["bash", "--norc", "-c", TAB.format(library=BASH_COMPLETION), "bash", line, *parts],
        env={**shell, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return sorted(line for line in done.stdout.splitlines() if line)


@pytest.fixture
def profiles(testbed):
    body = "[Renewal]\nExec=/bin/true\n[Window]\nPorts=none\n"
    testbed.profile("mail.example.com", body)
    testbed.profile("vpn", '[Profile]\nDescription=quoted "name":"nonsense"\n' + body)
    testbed.profile("broken", "[Window]\nPorts=80/tcp\nPort=1\n")
    return ["broken", "mail.example.com", "vpn"]


@pytest.fixture
def host(testbed, profiles):
    with testbed.daemon():
        yield testbed


def test_commands(shell):
    assert tab(shell, "") == ["check", "close", "list", "log", "monitor", "renew", "status"]
    assert tab(shell, "--json", "c") == ["check", "close"]


# what can be closed is another question
@pytest.mark.parametrize("command", [name for name, _, most in COMMANDS if most == "1" and name != "close"])
def test_profiles_come_from_the_bus(host, shell, profiles, command):
    assert tab(shell, command, "") == profiles
    assert tab(shell, "--json", command, "m") == ["mail.example.com"]
    assert tab(shell, command, "vpn", "") == []


@pytest.mark.parametrize("command", [name for name, _, most in COMMANDS if most == "0"])
def test_commands_without_a_profile(host, shell, command):
    assert tab(shell, command, "") == []


def test_close_offers_what_is_open(host, shell):
    assert tab(shell, "close", "") == []
    renewal = Renewal(host, "slow")
    renewal.request()
    assert tab(shell, "close", "") == ["slow"]
    renewal.finish()


def test_options(shell):
    general = ["--help", "--host=", "--json", "--version", "-H"]
    assert tab(shell, "list", "-") == general
    assert tab(shell, "renew", "--") == sorted([*general[:-1], "--duration=", "--no-wait", "--verbose"])
    assert tab(shell, "renew", "--duration=2") == ["2min"]
    assert "1min" in tab(shell, "renew", "--duration", "")


def test_options_are_those_of_the_program(shell):
    source = (ROOT / "src/client/main.c").read_text()
    assert {name for name, _, _ in COMMANDS} == set(tab(shell, ""))
    table = re.search(r"struct option options\[\] = \{(.*?)\{\}", source, flags=re.S)[1]
    options = {f"--{name}{'=' if takes == 'required' else ''}" for name, takes in
               re.findall(r'\{"([\w-]+)", (required|no)_argument', table)}  # fmt: skip
    assert options == set(tab(shell, "renew", "--"))


def test_hosts_are_those_that_ssh_knows(host, shell):
    hosts = ["mail.example.com", "vpn.example.com"]
    assert [name for name in tab(shell, "-H", "") if name in hosts] == hosts
    assert tab(shell, "--host=root@vpn") == ["root@vpn.example.com"]
    # and nobody goes there at a Tab
    assert tab(shell, "-H", "mail.example.com", "renew", "") == []
    assert tab(shell, "-H", "mail.example.com", "") == tab(shell, "")


def test_what_the_service_says_is_not_run(testbed, shell):
    """Not even by who has taken the service over: compgen expands its words."""
    trace = testbed.directory / "run"
    postern = Path(shell["HOME"]) / "bin/postern"
    postern.write_text(f"#!/bin/sh\ncat <<'END'\n[{{\"name\":\"good\"}},{{\"name\":\"x$(touch {trace})\"}}]\nEND\n")
    postern.chmod(0o755)
    assert tab(shell, "renew", "") == ["good"]
    assert not trace.exists()


def test_silence_where_there_is_no_service(testbed, shell, profiles):
    assert tab(shell, "renew", "") == []
    assert tab(shell, "renew", "", DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent") == []


def test_no_waiting_for_a_service_that_hangs(testbed, shell, profiles):
    (Path(shell["HOME"]) / "bin/timeout").unlink()
    with testbed.daemon() as daemon:
        daemon.stop()
        assert tab(shell, "renew", "") == []
        daemon.cont()


def test_at_a_terminal(host, shell):
    (Path(shell["HOME"]) / ".bashrc").write_text(f"PS1='ready> '\n. {BASH_COMPLETION}\n")
    with Terminal(["bash", "--noprofile", "-i"], shell) as terminal:
        terminal.wait_for("ready> ")
        terminal.type("postern renew mail\t")
        terminal.wait_for("postern renew mail.example.com ")
        terminal.type("--dur\t")
        terminal.wait_for("--duration=")
        terminal.type("1mi\t")
        terminal.wait_for("--duration=1min ")
        terminal.type("\n")
        terminal.wait_for("mail.example.com: \033[32msuccess")
