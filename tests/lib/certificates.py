# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates of every shape, made by openssl: for a test to say what should be read of them."""

import tempfile
import time
from pathlib import Path

from process import run

CONFIG = """[ca]
default_ca = here
[here]
database = {directory}/index
new_certs_dir = {directory}
serial = {directory}/serial
default_md = sha256
unique_subject = no
policy = anything
copy_extensions = none
x509_extensions = shape
[anything]
commonName = supplied
[shape]
basicConstraints = CA:FALSE
{names}
"""

KEYS = {
    "ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["-newkey", "rsa:2048"],
    "ed25519": ["-newkey", "ed25519"],
}
DAY = 24 * 60 * 60


def make_certificate(path: Path, *, names: str = "", begin: int | None = None, end: int | None = None, serial: str = "01",
                     key: str = "ecdsa") -> tuple[int, int]:  # fmt: skip
    """Writes it to path. names: as subjectAltName has them in openssl's configuration, or "" for none. begin and
    end: seconds since 1970 (now, and 90 days on), which are returned."""
    begin = int(time.time()) if begin is None else begin
    end = begin + 90 * DAY if end is None else end
    directory = Path(tempfile.mkdtemp(dir=path.parent))
    (directory / "index").touch()
    (directory / "serial").write_text(serial + "\n")
    (directory / "config").write_text(
        CONFIG.format(directory=directory, names=f"subjectAltName = {names}" if names else "")
    )
    run(["openssl", "req", "-new", *KEYS[key], "-nodes", "-subj", "/CN=example.com", "-keyout", str(directory / "key"),
         "-out", str(directory / "request")])  # fmt: skip

    def date(seconds: int) -> str:
        return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds))

    run(["openssl", "ca", "-batch", "-selfsign", "-notext", "-config", str(directory / "config"), "-keyfile",
         str(directory / "key"), "-startdate", date(begin), "-enddate", date(end), "-in", str(directory / "request"),
         "-out", str(path)])  # fmt: skip
    return begin, end
