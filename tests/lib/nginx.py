# SPDX-License-Identifier: GPL-2.0-or-later
"""nginx in the namespace `host`, with files of its own: the machine's own one is not touched."""

from pathlib import Path

from process import Process, new_directory, run

CONFIGURATION = """daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2; fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
    {servers}
}}
"""
PLAIN = "server {{ listen 80 backlog=512; listen [::]:80 backlog=512; {what} }}\n"
TLS = ("server {{ listen 443 ssl; listen [::]:443 ssl; ssl_certificate {directory}/tls.pem; "
       "ssl_certificate_key {directory}/tls.key; root {root}; }}\n")  # fmt: skip


class Nginx:
    """Serves root on port 80; with `redirect` it leads from there to port 443, where it serves it."""

    def __init__(self, root: Path, *, redirect: bool = False) -> None:
        self._root, self._redirect = root, redirect

    def __enter__(self):
        self._directory = new_directory("nginx")
        where = {"directory": self._directory, "root": self._root}
        servers = PLAIN.format(what=f"root {self._root};")
        if self._redirect:
            run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-days", "2", "-subj", "/CN=expired long ago", "-keyout", str(self._directory / "tls.key"),
                 "-out", str(self._directory / "tls.pem")])  # fmt: skip
            servers = PLAIN.format(what="return 301 https://$host$request_uri;") + TLS.format(**where)
        configuration = self._directory / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(servers=servers, **where))
        self._process = Process(["nginx", "-c", str(configuration)], ns="host")
        port = 443 if self._redirect else 80
        self._process.wait_ready(lambda: run(["ss", "-Hltn", f"sport = :{port}"], ns="host"), "to listen")
        return self

    def __exit__(self, *_) -> None:
        self._process.close()

    def asked(self) -> list[str]:
        """Its log: one line for each answer."""
        return (self._directory / "access.log").read_text().splitlines()
