"""A proxy on loopback that leads to stand-ins, and to nothing else.

A program with Azure's addresses built in is told of it by the variables that nearly every HTTP client reads. It asks
for a connection to a host (CONNECT); if there is a stand-in for that host, TLS with a certificate of a throwaway CA
follows on the same connection. Every other host is refused, so that nothing leaves the machine.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import trustme

from .._endpoint.text import printable
from .._serving.messages import Request, Response, error_response
from .._serving.server import Server

_LOGGER = logging.getLogger("azure_cloudshell_credential.emulator")

_MAX_HEAD = 16 * 1024
_HTTPS = "443"


class Proxy:
    """Serves while it is entered.

    :param stand_ins: who responds for each host.
    :param ca_file: where to put the certificate of the CA.
    :ivar refused: the other hosts that were asked for, each once.
    """

    def __init__(self, stand_ins: Mapping[str, Callable[[Request], Response]], ca_file: Path) -> None:
        self._stand_ins = stand_ins
        self._ca_file = ca_file
        self.refused: list[str] = []
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(ca_file))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*stand_ins).configure_cert(context)
        self._server = Server(self._respond, ssl_context=context, opening=self._connect)

    def __enter__(self) -> Proxy:
        self._server.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead clients here, in every spelling that one of them reads."""
        url = f"http://127.0.0.1:{self._server.port}"
        # Not merged with what is set: a host that the user exempts would be reached for real.
        proxies = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "ALL_PROXY": url, "NO_PROXY": "localhost,127.0.0.1,::1"}
        trust = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        return {
            **proxies,
            **{name.lower(): value for name, value in proxies.items()},
            **dict.fromkeys(trust, str(self._ca_file)),
            # Node's own fetch reads the others only with this, from 22.21 and 24.5 on.
            "NODE_USE_ENV_PROXY": "1",
        }

    def _connect(self, connection: socket.socket) -> None:
        """Answer the CONNECT that comes before TLS.

        :raises ConnectionRefusedError: for a host without a stand-in.
        """
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD and (received := connection.recv(4096)):
            head += received
        method, target = [*head.decode("latin-1").split(" ", 2), "", ""][:2]
        host, _, port = target.rpartition(":")
        if method == "CONNECT" and port == _HTTPS and host.lower() in self._stand_ins:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return
        if head:
            self._refuse(connection, target if method == "CONNECT" else target.partition("?")[0])
        raise ConnectionRefusedError

    def _refuse(self, connection: socket.socket, target: str) -> None:
        shown = printable(target)[:200] or "-"
        if shown not in self.refused:
            self.refused.append(shown)
            _LOGGER.warning("Refused: %s is not emulated, and nothing leaves this machine", shown)
        text = f"{shown} is not emulated".encode("ascii", "replace").decode()
        # In the reason too: that is what Python's clients show of it.
        head = f"HTTP/1.1 403 {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(text) + 1}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n{text}\n".encode())

    def _respond(self, request: Request) -> Response:
        stand_in = self._stand_ins.get(request.headers.get("host", "").partition(":")[0].lower())
        if stand_in is None:
            return error_response(421, "MisdirectedRequest", "The Host header names another host than CONNECT.")
        return stand_in(request)
