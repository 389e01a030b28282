# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall part of DigitalOcean's API, as its documentation describes it, on this machine: what it answers,
and how it fails."""

import http.server
import json
import threading

from process import netns

TOKEN = "dop_v1_0123456789"
FIREWALL = "bb4b2611-3d72-467b-8602-280330ecd65c"
ADMINS = [
    {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["192.0.2.0/24"], "tags": ["office"]}},
    {"protocol": "tcp", "ports": "443", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}},
]


class Api:
    """Inside the context it listens on 127.0.0.1 of a namespace, at `url`. answers: what the next requests get
    instead of what they ask for: (status, headers) with `method`, or "cut" or "hang"; with done=True the change
    is made all the same. slow: so many looks it takes until a change has taken effect."""

    def __init__(self, ns: str = "host") -> None:
        self._ns = ns
        self.rules = [json.loads(json.dumps(rule)) for rule in ADMINS]
        self.requests: list[tuple[str, str]] = []
        self.faults: list[dict] = []
        self.slow = 0
        self.failed = False
        self._waiting = 0
        self._released = threading.Event()

    def __enter__(self):
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_GET(self) -> None:
                api._handle(self)

            do_POST = do_DELETE = do_PUT = do_GET

        with netns(self._ns):
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @staticmethod
    def _reply(handler, status: int, body=None, headers=()) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        if body is not None:
            handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _handle(self, handler) -> None:
        size = int(handler.headers.get("Content-Length", 0))
        body = json.loads(handler.rfile.read(size)) if size else None
        method, path = handler.command, handler.path
        self.requests.append((method, path))
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._reply(handler, 401, {"id": "Unauthorized", "message": "Unable to authenticate you"})
        fault = next((fault for fault in self.faults if fault.get("method", method) == method), None)
        if fault:
            self.faults.remove(fault)
            if fault.get("done"):
                self._act(method, path, body)
            if fault["how"] == "cut":
                handler.close_connection = True
                return handler.connection.close()
            if fault["how"] == "hang":
                self._released.wait()
                return handler.connection.close()
            message = {429: ("too_many_requests", "API Rate limit exceeded."), 302: ("moved", "elsewhere")}
            code, text = message.get(fault["how"], ("server_error", "Unexpected server-side error"))
            return self._reply(handler, fault["how"], {"id": code, "message": text}, fault.get("headers", ()))
        return self._reply(handler, *self._act(method, path, body))

    def _act(self, method: str, path: str, body) -> tuple:
        if not path.startswith(f"/v2/firewalls/{FIREWALL}"):
            return 404, {"id": "not_found", "message": "The resource you requested could not be found."}
        tail = path.removeprefix(f"/v2/firewalls/{FIREWALL}")
        if method == "GET" and tail == "":
            return 200, {"firewall": self._show()}
        if method in ("POST", "DELETE") and tail == "/rules":
            return self._change(method, body["inbound_rules"])
        return 405, {"id": "method_not_allowed", "message": "The method is not allowed."}

    def _show(self) -> dict:
        pending = [{"droplet_id": 8043964, "removing": False, "status": "waiting"}] if self._waiting else []
        status = "failed" if self.failed else "waiting" if self._waiting else "succeeded"
        self._waiting = max(self._waiting - 1, 0)
        return {
            "id": FIREWALL, "name": "firewall", "status": status, "created_at": "2020-05-23T21:24:00Z",
            "pending_changes": pending, "inbound_rules": self.rules, "outbound_rules": [],
            "droplet_ids": [8043964], "tags": [],
        }  # fmt: skip

    def _change(self, method: str, rules: list) -> tuple:
        stored = [{**rule, "sources": {**rule["sources"]}} for rule in rules]
        if method == "POST":
            if any(rule in self.rules for rule in stored):
                return 422, {"id": "unprocessable_entity", "message": "duplicate rule"}
            self.rules += stored
        else:
            if not all(rule in self.rules for rule in stored):
                return 404, {"id": "not_found", "message": "The resource you requested could not be found."}
            self.rules = [rule for rule in self.rules if rule not in stored]
        self._waiting = self.slow
        return 204, None

    def ours(self) -> list[str]:
        return [f"{rule['ports']}/{rule['protocol']}" for rule in self.rules if rule not in ADMINS]

    def is_as_before(self) -> bool:
        return self.rules == ADMINS and not any(method == "PUT" for method, _ in self.requests)
