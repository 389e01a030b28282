# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error of the root helper's, caused: what it says, and what to do next. posternd passes it on to who
asked for the window."""

import os
import subprocess
from pathlib import Path

from helper import Helper, Profiles, cgroup_mount
from sentences import check_text, unheard
from testbed import build_directory


def refused(profiles, name: str = "web", **options) -> str:
    with Helper(profiles) as helper:
        helper.renew(name, **options)
        return helper.problem("refused")


def failed(profiles, program: str, mode: int = 0o755, user: str = "root") -> str:
    """What keeps a program from being started; None is none."""
    profiles.write(str(profiles.script(program, "program", mode)) if program else "/nonexistent", user=user)
    with Helper(profiles) as helper:
        helper.start()
        return helper.problem("failed")


def busy(profiles) -> str:
    """Somebody writes to it still."""
    with open(profiles.script("#!/bin/sh\n", "program"), "ab"):
        profiles.write(str(profiles.directory / "program"))
        with Helper(profiles) as helper:
            helper.start()
            return helper.problem("failed")


def without_cgroup(profiles) -> str:
    profiles.write("/bin/true")
    with Helper(profiles) as helper:
        helper.renew()
        Path(cgroup_mount() + helper.receive()[1]["cgroup"]).rmdir()
        helper.send("go", deadline=1)
        return helper.problem("failed")


def changed(profiles) -> str:
    profiles.write("/bin/true")
    version = profiles.version("web")
    profiles.write("/bin/false")
    return refused(profiles, version=version)


def written(profiles, **options) -> Profiles:
    profiles.write("/bin/true", **options)
    return profiles


def without_gate(profiles) -> str:
    with Helper(written(profiles)) as helper:
        helper.gate("gate-open")
        return helper.problem("refused")


def owner(profiles) -> str:
    profiles.write("/bin/true", user="nobody")
    with Helper(profiles, owner=65534) as helper:
        helper.renew()
        return helper.problem("refused")


def misunderstood(profiles) -> str:
    with Helper(written(profiles)) as helper:
        helper.send_raw(b"reboot\n")
        assert helper.wait() == 1
        return helper.log.read_text()


def typed(*arguments: str) -> str:
    done = subprocess.run(
        [str(build_directory() / "src/run/postern-run"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_each_says_what_is_wrong_and_what_to_do(profiles):
    # how it is caused; what is said; what to do
    table = [
        (lambda: refused(written(profiles, extra="Colour=blue")), "has no key Colour=", "leave it out"),
        (lambda: refused(profiles, "absent"), "There is no profile absent.conf", "create it as"),
        (lambda: changed(profiles), "the profile was changed after the window was authorised", "ask again"),
        (lambda: without_gate(profiles), "names no gate commands any more", "write Type=command, OpenCommand="),
        (lambda: refused(written(profiles, user="nosuchuser")), "is no user of this host", "name one that exists"),
        (lambda: owner(profiles), "is the user that posternd runs as", "name another one"),
        (lambda: failed(profiles, ""), "does not exist (or its interpreter does not)", "install it, or correct Exec="),
        (lambda: failed(profiles, "#!/bin/sh\n", 0o644), "may not execute the program", "make it executable"),
        (lambda: failed(profiles, "neither\n"), "is not a program", "its first line must name the interpreter"),
        (lambda: busy(profiles), "could not be started (Text file busy)", "see to that and ask again"),
        (lambda: without_cgroup(profiles), "entering the cgroup failed", "see to that and ask again"),
        (lambda: misunderstood(profiles), "said something that this version does not know", "restart posternd"),
        (lambda: typed(), "standard input is not posternd's socket", "and postern renews"),
        (lambda: typed("web"), "no arguments are taken", "see --help"),
        (lambda: typed("--help"), "it is not for people", "To renew: busctl"),
    ]
    heard = []
    for cause, says, advice in table:
        text = cause()
        check_text(text, says, advice)
        heard.append(text)
    lacking = "for want of memory or descriptors"
    step = "a step, which the sentence for it names; one of them is made to fail here"
    assert unheard("src/run/main.c", heard, {
        "cannot be removed": "of a cgroup that somebody else has filled after its last process",
        "the profile could not be read": "of a broken disk",
        "there is no such profile": lacking,
        "memory ran out": lacking,
        "cannot see whether legacy iptables is loaded": "without /proc",
        "the run could not be seen to": lacking,
    }) == []  # fmt: skip
    assert unheard("src/run/child.c", heard, {
        "is in more than %d groups": "of a user in more groups than this kernel allows a test",
        "making a session": step,
        "resetting signals": step,
        "resetting limits": step,
        "arranging descriptors": step,
        "changing to /": step,
        "dropping capabilities": step,
        "becoming the user": step,
        "setting no_new_privs": step,
        "tying it to the helper": step,
        "memory or descriptors ran out": lacking,
        "no process could be made": lacking,
        "the kernel has no pidfds": "of an old kernel",
    }) == []  # fmt: skip
