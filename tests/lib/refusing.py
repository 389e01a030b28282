#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An ACME authority that knows everybody, and has had enough of everybody's orders.

    refusing.py ADDRESS PORT CERTIFICATE KEY"""

import http.server
import json
import ssl
import sys

RETRY_AFTER = "4711"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: dict | None = None, kind: str = "application/json", **headers: str) -> None:
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Replay-Nonce": "bm9uY2U", "Content-Type": kind, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_GET(self) -> None:
        base = f"https://{self.headers['Host']}"
        self._answer(200, {name: f"{base}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")})

    def do_HEAD(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/newOrder":
            problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many of yours", "status": 429}
            self._answer(429, problem, "application/problem+json", Retry_After=RETRY_AFTER)
        else:
            self._answer(201, {"status": "valid"}, Location=f"https://{self.headers['Host']}/account/1")


def main() -> None:
    address, port, certificate, key = sys.argv[1:]
    server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
