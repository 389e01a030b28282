# SPDX-License-Identifier: GPL-2.0-or-later
"""Each allocation and each system call that the door makes fails once, in every way it can: what the
door says is what the firewall does, and it comes to be shut."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from process import in_netns, new_directory, own_cgroup, run
from testbed import SANITIZER_OPTIONS, build_directory

RULESET = """
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        udp dport 9 accept
    }
}
# one that iptables manages: the gate there is of other expressions
table ip filter {
    chain INPUT {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        udp dport 9 accept
    }
}
"""

PHASES = ["first", "open", "shut", "shut-one", "mend", "end", "sweep", "outer", "reach"]
WAYS = ["allocation", "refused", "interrupted", "afterwards", "short", "empty", "late"]


@pytest.fixture
def host():
    """A namespace with its loopback device alone, behind a firewall that denies."""
    run(["ip", "netns", "add", "host"])
    run(["ip", "-n", "host", "link", "set", "lo", "up"])
    file = new_directory("faults") / "ruleset"
    file.write_text(RULESET)
    run(["nft", "-f", str(file)], ns="host")
    yield file
    run(["ip", "netns", "delete", "host"])


def reach() -> str:
    """The level of this process's cgroup, and its id."""
    (path,) = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return f"{len(Path(path).parts) - 1} {own_cgroup().stat().st_ino}"


def start(host: Path, phase: str, way: str, *more: str) -> subprocess.Popen:
    command = [str(build_directory() / "tests/faults/door-faults"), str(new_directory("run"))]
    # one CPU keeps the order of the packets by which it tells open from shut
    command += [str(min(os.sched_getaffinity(0))), phase, way, *more]
    environment = {**os.environ, **SANITIZER_OPTIONS}
    environment |= {"POSTERN_FAULTS_RULESET": str(host), "POSTERN_FAULTS_REACH": reach()}
    # it comes before the sanitizer, whose allocator it calls
    environment["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    log = open(host.with_name(f"{phase}-{way}.log"), "w+")
    return subprocess.Popen(
        [*in_netns("host"), *command], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )


# Allocations are many and alike. Silence of the kernel's about a reload is none of its ways: it says so.
SHARE = {"allocation": 6}
# What these do beside the others, they do in few places.
SHARE_OF_PHASE = {"outer": 3, "reach": 3}
CASES = [(phase, way) for phase in PHASES for way in WAYS if (phase, way) != ("mend", "empty") and way != "late"]
# only what is put up has a time to expire at
CASES += [(phase, "late") for phase in ("first", "open", "mend")]


@pytest.mark.parametrize("phase,way", CASES)
def test_every_call_fails(host, phase, way):
    """POSTERN_TEST_FAULTS=all: each call each time it is made, not once for each place in the program;
    where it is a share of the places that is tried otherwise, which one is up to POSTERN_TEST_SEED."""
    seed = os.environ.get("POSTERN_TEST_SEED") or str(random.randrange(2**32))
    every = max(SHARE.get(way, 1), SHARE_OF_PHASE.get(phase, 1))
    share = os.environ.get("POSTERN_TEST_FAULTS") == "all" and "all"
    print(f"POSTERN_TEST_SEED={seed}")
    process = start(host, phase, way, share or f"{every}/{random.Random(seed).randrange(every)}")
    output = process.communicate()[0]
    log = host.with_name(f"{phase}-{way}.log").read_text()
    print(output)
    assert process.returncode == 0, f"{output}\n{log[-4000:]}"
    faults = int(output.split(" faults")[0].split()[-1])
    assert faults >= 10, output
