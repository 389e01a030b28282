# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/demo, as a person runs it."""

import os
import re
import subprocess
from pathlib import Path

DEMO = Path(__file__).parents[2] / "tools/demo"


def test_the_demo_tells_its_whole_story():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
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
