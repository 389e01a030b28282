# SPDX-License-Identifier: GPL-2.0-or-later
"""All that can be wrong with a profile: what is said of it, and what to do next."""

import os

import pytest
from bus import BusError
from sentences import check_text, unheard

GOOD = {"Renewal": ["Exec=/bin/true"], "Window": ["Ports=80/tcp"]}
COMMANDS = ["Type=command", "OpenCommand=/bin/true", "CloseCommand=/bin/true"]


def profile(**sections: list[str]) -> bytes:
    whole = {"Profile": [], **GOOD, "Gate": [], **sections}
    return "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in whole.items()).encode()


def window(*lines: str) -> bytes:
    return profile(Window=["Ports=80/tcp", *lines])


def renewal(*lines: str) -> bytes:
    return profile(Renewal=["Exec=/bin/true", *lines])


# the file; what is said; what to do
TEXTS = [
    # lines
    (b"#" + b"x" * 4097 + b"\n", "is longer than 4096 bytes", "put what is so long into a script"),
    (b"[Profile]\n\0\n", "holds a NUL byte", "save the file as plain UTF-8"),
    (b"[Profile]\r\n", "holds a carriage return", "save the file with Unix line ends"),
    (b"\xef\xbb\xbf[Profile]\n", "begins with a byte order mark", "save the file as UTF-8 without one"),
    (b"# \xff\n", "is not valid UTF-8", "save the file as plain UTF-8"),
    (b"# \x07\n", "holds a control character", "take it out"),
    (b"[Profile\n", "this is no section", "write [Profile], [Renewal]"),
    (b"Renew\n", "neither [Section] nor Key=value", "write one of them"),
    (b"Ports=80/tcp\n", "stands above the first section", "write its section"),
    (b"[Renewal]\nExec=/bin/true \\\n", "ends with a backslash", "write all of it on one line"),
    # sections and keys
    (b"[Windows]\n", "there is no section [Windows]", "write [Window]"),
    (b"[Service]\n", "there is no section [Service]", "the sections are [Profile], [Renewal]"),
    (profile(Profile=["Ports=80/tcp"]), "Ports= belongs in [Window]", "move it there"),
    (window("Port=80/tcp"), "[Window] has no key Port=", "write Ports= in [Window]"),
    (window("Firewall=yes"), "[Window] has no key Firewall=", "leave it out; its keys are Ports="),
    (window("Ports=443/tcp"), "Ports= stands in line", "leave one of them out"),
    (profile(Window=[]), "[Window] lacks Ports=", "add it, as in Ports=80/tcp"),
    (profile(Renewal=[]), "[Renewal] lacks Exec=", "add it, as in Exec=/usr/bin/certbot renew"),
    # [Profile]
    (profile(Profile=["Description=<b>"]), "Description= holds control characters, angle brackets", "plain text"),
    (profile(Profile=["Certificate=a.pem"]), "Certificate= is no absolute path", "write one such as /etc/letsencrypt"),
    # [Renewal]
    (profile(Renewal=["Exec="]), "Exec= is empty", "write a command such as Exec=/usr/bin/certbot renew"),
    (profile(Renewal=["Exec=/bin/sh -c 'true"]), "an unfinished quote", "close the quote"),
    (profile(Renewal=["Exec=certbot renew"]), "does not begin with an absolute path", "write the program's full path"),
    (profile(Renewal=["Unit=certbot"]), "Unit= is no service's name", "write the whole name, as in Unit=certbot.service"),
    (renewal("Unit=certbot.service"), "Unit= stands beside Exec=", "leave one of them out"),
    (profile(Renewal=["Unit=a.service", "User=x"]), "User= is the unit's own to say", "leave it out"),
    (profile(Renewal=["Unit=a.service"], Window=["Ports=80/tcp", "Reach=renewal"]), "does not go with Unit=", "write Reach=any"),
    (renewal("User=a b"), "User= is no user name", "write one such as User=certbot"),
    (renewal("Environment=A B"), "Environment= is no KEY=value", "as in Environment=LANG=C"),
    (renewal("Environment=A=\u009f"), "Environment= holds control characters", "write plain text"),
    (renewal("Environment=LD_PRELOAD=/x"), "sets a variable that is not the profile's", "leave it out"),
    (renewal("Environment=A=1", "Environment=A=2"), "sets a variable for the second time", "leave one of them out"),
    (renewal("NoNewPrivileges=maybe"), "NoNewPrivileges= is neither yes nor no", "write one of them"),
    # [Window]
    (profile(Window=["Ports=80"]), "Ports= is no list of ports", "write it as in Ports=80/tcp"),
    (profile(Window=["Ports=80/tcp 80/tcp"]), "names a port twice", "leave one of them out"),
    (profile(Window=["Ports=" + " ".join(f"{port}/tcp" for port in range(1, 18))]), "more than 16 ports", "write at most 16"),
    (window("MaxDuration=2h"), "MaxDuration= is not within 1s and 1h", "write a time such as 2min"),
    (window("MaxDuration=long"), "MaxDuration= is no time span", "write one such as 90s"),
    (window("DefaultDuration=20min"), "DefaultDuration= is longer than MaxDuration=", "write a shorter time"),
    (window("RateLimit=often"), "RateLimit= is not a number", "as in RateLimit=5/1h"),
    (window("Reach=me"), "Reach= has a value that it cannot have", "write Reach=any or Reach=renewal"),
    (profile(Window=["Ports=none", "Reach=renewal"]), "Reach= opens nothing", "leave it out"),
    (window("OpenOn=never"), "OpenOn= has a value that it cannot have", "write OpenOn=start or OpenOn=challenge"),
    (window("OpenOn=challenge"), "needs ChallengeDirectory=", "add where the client puts its tokens"),
    (profile(Window=["Ports=none", "OpenOn=challenge", "ChallengeDirectory=/x"]), "OpenOn= opens nothing", "leave it out"),
    (window("ChallengeDirectory=x"), "ChallengeDirectory= is no absolute path", "write one such as /var/www"),
    (window("ChallengeDirectory=/x"), "means nothing with OpenOn=start", "leave it out or write OpenOn=challenge"),
    # [Gate]
    (profile(Gate=["Type=ufw"]), "Type= has a value that it cannot have", "write Type=auto, Type=nftables"),
    (profile(Gate=["Precedence=second"]), "Precedence= has a value", "write Precedence=last or Precedence=first"),
    (profile(Gate=["Chain=input"]), "Chain= is not a family", "as in Chain=inet filter input"),
    (profile(Gate=["Type=none", "Chain=inet a b"]), "Chain= means nothing with Type=none", "leave it out or write Type=nft"),
    (profile(Gate=["Type=none", "Precedence=last"]), "Precedence= means nothing", "leave it out or write Type=nftables"),
    (profile(Gate=["Zone=a zone"]), "Zone= is no zone's name", "that `firewall-cmd --get-zones` lists"),
    (profile(Gate=["Zone=public"]), "means nothing without Type=firewalld", "or write Type=firewalld"),
    (profile(Gate=COMMANDS[1:2]), "OpenCommand= means nothing", "or write Type=command"),
    (profile(Gate=COMMANDS[2:]), "CloseCommand= means nothing", "or write Type=command"),
    (profile(Gate=[COMMANDS[0], COMMANDS[2]]), "needs OpenCommand=", "add it, as in OpenCommand=/usr/local/sbin/"),
    (profile(Gate=COMMANDS[:2]), "needs CloseCommand=", "add it, as in CloseCommand=/usr/local/sbin/"),
    (profile(Gate=[COMMANDS[0], "OpenCommand=", "CloseCommand=/x"]), "needs OpenCommand=", "as in OpenCommand="),
    (profile(Window=["Ports=none"], Gate=COMMANDS), "has nothing to open with Ports=none", "name the ports"),
]  # fmt: skip
# what the file itself can be: how it is made so; what is said; what to do
FILES = [
    (lambda path: path.chmod(0o666), "can be written by others than root", "take that away with chmod go-w"),
    (lambda path: os.chown(path, 1, 1), "does not belong to root", "make it root's with chown root"),
    (lambda path: os.link(path, f"{path}.other"), "has another name (a hard link)", "replace it with a copy"),
    (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "is a symlink", "put the file itself there"),
    (lambda path: (path.unlink(), path.mkdir()), "is not a regular file", "put one there"),
    (lambda path: path.write_bytes(b"#\n" * 40000), "is larger than 64 KiB", "leave out what is not needed"),
]
# and its directory
DIRECTORIES = [
    (lambda path: path.chmod(0o777), "can be written by others than root", "take that away with chmod go-w"),
    (lambda path: (path.rename(f"{path}.real"), path.symlink_to(f"{path}.real")), "is a symlink", "put the directory itself there"),
    (lambda path: (path.rename(f"{path}.real"), path.write_text("")), "is not a directory", "put one there"),
]  # fmt: skip


@pytest.fixture
def bus_kind():
    return "dbus-daemon"  # which one, makes no difference to a profile


def refused(host, name: str) -> BusError:
    with pytest.raises(BusError) as caught:
        host.bus.call("Renew", "stt", name, 0, 0, user="deploy")
    return caught.value


def test_each_says_what_is_wrong_and_what_to_do(testbed):
    heard = []
    for number, (text, _, _) in enumerate(TEXTS):
        testbed.profile(f"text{number}", "").write_bytes(text)
    for number, (spoil, _, _) in enumerate(FILES):
        spoil(testbed.profile(f"file{number}", profile().decode()))
    testbed.profile("good", profile().decode())
    with testbed.daemon():
        problems = {row[0]: row[3] for row in testbed.bus.call("ListProfiles")[0]}
        assert problems.pop("good") == ""
        assert len(problems) == len(TEXTS) + len(FILES)
        for kind, table in (("text", TEXTS), ("file", FILES)):
            for number, (_, says, advice) in enumerate(table):
                problem = problems[f"{kind}{number}"]
                assert problem.startswith(f"{kind}{number}.conf:"), problem
                check_text(problem, says, advice)
                heard.append(problem)
        # as the error of a request
        error = refused(testbed, "text0")
        assert (error.name, error.text) == ("org.postern.Renewal1.Error.BadProfile", problems["text0"])
        for name in ("absent", "no name"):
            error = refused(testbed, name)
            assert error.name == "org.postern.Renewal1.Error.NoSuchProfile"
            check_text(error.text, "profile", "ListProfiles says which there are")
        directory = testbed.config / "profiles"
        for spoil, says, advice in DIRECTORIES:
            spoil(directory)
            error = refused(testbed, "good")
            assert error.name == "org.postern.Renewal1.Error.BadProfile"
            check_text(error.text, says, advice)
            heard.append(error.text)
            if directory.is_symlink() or directory.is_file():
                directory.unlink()
                os.rename(f"{directory}.real", directory)
            directory.chmod(0o755)
        assert refused(testbed, "text0").text == problems["text0"]
    # and that is all that can be said
    assert unheard("src/core/profile-reader.c", heard, {}) == []
    assert unheard("src/core/profile-keys.c", heard, {}) == []
    assert unheard("src/core/profile-together.c", heard, {}) == []
    assert unheard("src/core/profile-file.c", heard, {
        "There is no profile %s; create it as": "the broker says it in its own words",
        "was replaced by a symlink; put the file": "tests/unit/test-profile-faults.c",
        "is being changed; try again": "tests/unit/test-profile-faults.c",
        "cannot be reached by this service": "tests/unit/test-profile-file.c",
        "may not be read by this service": "tests/unit/test-profile-file.c",
    }) == []  # fmt: skip
