# SPDX-License-Identifier: GPL-2.0-or-later
"""The package as it lies there, before it is on any host."""

import pytest
from booted import prepared
from process import new_directory, run

# tenths, as systemd-analyze counts: the best of the system's own services have 10 to 30
EXPOSURE = {"posternd.service": 15, "postern@.service": 15, "postern-run@.service": 45}


@pytest.fixture(scope="module")
def unpacked():
    directory = new_directory("package")
    (package,) = prepared().glob("postern_*.deb")
    run(["dpkg", "--extract", str(package), str(directory)])
    return directory


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(unpacked, unit):
    run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[unit]}", "--no-pager",
         str(unpacked / "lib/systemd/system" / unit)])  # fmt: skip


def test_manual_pages_and_completion(unpacked):
    share = unpacked / "usr/share"
    assert sorted(str(path.relative_to(share / "man")) for path in share.glob("man/*/*")) == [
        "man1/postern.1.gz", "man5/org.postern.Renewal1.5.gz", "man5/postern.profile.5.gz", "man8/posternd.8.gz",
    ]  # fmt: skip
    assert "complete -F _postern postern" in (share / "bash-completion/completions/postern").read_text()


def test_lintian():
    (changes,) = prepared().glob("*.changes")
    run(["lintian", "--fail-on", "error,warning", "--allow-root", str(changes)])


def test_maintainer_scripts_leave_the_slice_to_itself():
    """Whatever they stop or start, a renewal is ended by posternd, or by its end."""
    directory = new_directory("scripts")
    (package,) = prepared().glob("postern_*.deb")
    run(["dpkg-deb", "--control", str(package), str(directory)])
    scripts = [path.read_text() for path in directory.iterdir() if path.name in ("preinst", "postinst", "prerm", "postrm")]
    assert any("posternd.service" in text for text in scripts)
    assert not any("postern.slice" in text for text in scripts)
