# SPDX-License-Identifier: GPL-2.0-or-later
"""A certificate authority in `internet`: Pebble, its name server, and certbot to talk to them."""

import json
import shlex
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from net import HOST4, HOST6, STRANGER4
from process import PATIENCE, Process, netns, new_directory, run

DOMAIN = "example.test"
DIRECTORY = f"https://{STRANGER4}:14000/dir"
DNS = f"{STRANGER4}:8055"  # where the name server takes records


class Acme:
    def __enter__(self):
        self.directory = new_directory("acme")
        self.ca = self.directory / "api-ca.pem"
        self._make_api_certificate()
        config = {
            "pebble": {
                "listenAddress": f"{STRANGER4}:14000",
                "managementListenAddress": "127.0.0.1:15000",
                "certificate": str(self.directory / "api.pem"),
                "privateKey": str(self.directory / "api.key"),
                "httpPort": 80,
                "tlsPort": 443,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": False,
            }
        }
        (self.directory / "pebble.json").write_text(json.dumps(config))
        self._dns = Process(
            ["pebble-challtestsrv", "-dns01", f"127.0.0.1:8053,{STRANGER4}:8053", "-management", DNS,
             "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", HOST4, "-defaultIPv6", HOST6],
            ns="internet",
        )  # fmt: skip
        self._start_pebble({})
        self._dns.wait_ready(lambda: self._answers(f"http://{DNS}/"), "its management port")
        return self

    def _start_pebble(self, settings: dict[str, str]) -> None:
        self._pebble = Process(
            ["pebble", "-config", str(self.directory / "pebble.json"), "-dnsserver", "127.0.0.1:8053"],
            ns="internet",
            environment={
                "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0", **settings,
            },
        )  # fmt: skip
        self._pebble.wait_ready(lambda: self._answers(DIRECTORY), "its directory")

    def __exit__(self, *_) -> None:
        self._pebble.close()
        self._dns.close()

    def _make_api_certificate(self) -> None:
        # one certificate that is its own authority: who trusts it trusts this API and nothing else
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", "/CN=Pebble API", "-addext", f"subjectAltName=IP:{STRANGER4}",
             "-keyout", str(self.directory / "api.key"), "-out", str(self.ca)])  # fmt: skip
        (self.directory / "api.pem").write_text(self.ca.read_text())

    def _answers(self, url: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca)) if url.startswith("https") else None
        try:
            with netns("internet"), urllib.request.urlopen(url, timeout=2, context=context):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def dns(self, *, v4: str | None = HOST4, v6: str | None = HOST6) -> None:
        """Where DOMAIN leads; None: no such record."""
        for path, address in (("set-default-ipv4", v4), ("set-default-ipv6", v6)):
            body = json.dumps({"ip": address or ""}).encode()
            with netns("internet"):
                urllib.request.urlopen(f"http://{DNS}/{path}", data=body, timeout=PATIENCE).close()

    def pebble_log(self) -> str:
        return self._pebble.text()

    def again(self, **settings: str) -> None:
        """Another Pebble in its place, which knows nobody; settings: of its environment."""
        self._pebble.close()
        self._start_pebble(settings)

    def stop(self) -> None:
        """The CA stops answering."""
        self._pebble.stop()

    def cont(self) -> None:
        self._pebble.cont()

    # --- the client ------------------------------------------------------------------------------

    @property
    def certificate(self) -> Path:
        return self.directory / "letsencrypt/live" / DOMAIN / "fullchain.pem"

    @property
    def environment(self) -> dict[str, str]:
        return {"REQUESTS_CA_BUNDLE": str(self.ca)}

    def certbot(self, *, force: bool = True, webroot: Path | None = None, names: Sequence[str] = (DOMAIN,),
                server: str = DIRECTORY) -> list[str]:  # fmt: skip
        """The command line. Without force a certificate that is not due is left as it is; without a
        webroot certbot listens itself."""
        return [
            "/usr/bin/certbot", "certonly", *(["--webroot", "-w", str(webroot)] if webroot else ["--standalone"]),
            "--non-interactive", "--agree-tos",
            "--register-unsafely-without-email", "--server", server, *self._places(), "-d", ",".join(names),
            "--force-renewal" if force else "--keep-until-expiring",
        ]  # fmt: skip

    def certbot_renew(self, *, force: bool) -> list[str]:
        """The same of what it has learnt with the first certificate; with its hooks."""
        return [
            "/usr/bin/certbot", "renew", "--cert-name", DOMAIN, "--no-random-sleep-on-renew", *self._places(),
            *(["--force-renewal"] if force else []),
        ]  # fmt: skip

    def _places(self) -> list[str]:
        return ["--config-dir", str(self.directory / "letsencrypt"), "--work-dir", str(self.directory / "work"),
                "--logs-dir", str(self.directory / "logs")]  # fmt: skip

    def run_certbot(self, *, force: bool = True, ns: str = "host") -> str:
        """By hand, without Postern; raises with its output when it fails."""
        return run(["env", *(f"{k}={v}" for k, v in self.environment.items()), *self.certbot(force=force)], ns=ns)

    def profile(self, *, ports: str = "80/tcp", extra: str = "", **certbot) -> str:
        """The text of a profile that renews; extra: more lines for [Window]."""
        environment = "".join(f"Environment={key}={value}\n" for key, value in self.environment.items())
        return (
            f"[Profile]\nDescription={DOMAIN} by HTTP-01\nCertificate={self.certificate}\n\n"
            f"[Renewal]\nExec={shlex.join(self.certbot(**certbot))}\n{environment}\n"
            f"[Window]\nPorts={ports}\n{extra}\n"
        )

    def certificate_facts(self) -> dict[str, str]:
        """subject, issuer, serial, notBefore, notAfter, as openssl writes them."""
        text = run(["openssl", "x509", "-in", str(self.certificate), "-noout",
                    "-subject", "-issuer", "-serial", "-dates", "-ext", "subjectAltName"])  # fmt: skip
        facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        facts["names"] = ", ".join(line.strip() for line in text.splitlines() if "DNS:" in line)
        return facts
