# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/demo, as a person runs it."""

import contextlib
import os
import pty
import re
import subprocess
from pathlib import Path

DEMO = Path(__file__).parents[2] / "tools/demo"


def environment_of_a_person() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}


def test_the_demo_tells_its_whole_story():
    environment = environment_of_a_person()
    done = subprocess.run([str(DEMO)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    assert done.returncode == 0
    for expected in (
        r"visitor\$ busctl .*--timeout=infinity",
        r"refused: .+",
        r"deploy\$ busctl .*--timeout=infinity",
        r"stranger IPv4 ▸ port 80  shut(?s:.)*stranger IPv4 ▸ port 80  open(?s:.)*stranger IPv4 ▸ port 80  shut",
        r"stranger IPv6 ▸ port 80  shut(?s:.)*stranger IPv6 ▸ port 80  open(?s:.)*stranger IPv6 ▸ port 80  shut",
        r"result 'renewed'",
        r"DNS:example\.test",
        r"result 'unchanged'",
        r"rules are what they were",
        r"no process, mount, namespace or cgroup is left",
    ):
        assert re.search(expected, done.stdout), expected


def test_ctrl_c_ends_the_demo_in_order():
    """On a terminal, in the middle of a window: one sentence, and no log of what was ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(DEMO, [str(DEMO)], environment_of_a_person())
    told, story = False, b""
    with contextlib.suppress(OSError):  # what a terminal says at its end
        while part := os.read(terminal, 65536):
            story += part
            if not told and b"deploy$ busctl" in story:
                os.write(terminal, b"\x03")
                told = True
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    text = story.decode(errors="replace")
    print(text)
    after = text.rpartition("deploy$ busctl")[2].split("\n", 1)[1]
    assert status == 1
    assert re.fullmatch(r"(\^C)?\s*demo: interrupted; nothing of it is left\s*", after)
