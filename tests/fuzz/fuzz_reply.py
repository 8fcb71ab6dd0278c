"""Coverage-guided fuzzing of everything that reads bytes from the endpoint, with atheris.

``make fuzz`` runs it for ten minutes from the corpus beside it, ``make fuzz SECONDS=36000`` longer. What it looks for:
an exception that is not a verdict, a token that breaks its promises, a secret in a message.
"""

import sys
import time

import atheris

with atheris.instrument_imports(include=["azure_cloudshell_credential"]):
    from azure_cloudshell_credential._endpoint import exchange, protocol
    from azure_cloudshell_credential._endpoint.environment import Endpoint

SECRET = "canary-token-that-nobody-may-see"
RESOURCE = "https://management.azure.com/"
NOW = 1_800_000_000.0


class Peer:
    """A socket that has received everything already, and hands it out in pieces."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = data, piece

    def settimeout(self, seconds: float) -> None:
        pass

    def recv(self, size: int) -> bytes:
        taken, self._data = self._data[: self._piece], self._data[self._piece :]
        return taken


def judge(reply: protocol.Reply) -> None:
    outcome = protocol.read_reply(RESOURCE, reply, NOW)
    if isinstance(outcome, protocol.Token):
        assert outcome.value.isascii()
        assert outcome.value.isprintable()
        assert " " not in outcome.value
        assert NOW < outcome.expires_on <= NOW + 367 * 86400
        assert outcome.refresh_on is None or NOW <= outcome.refresh_on < outcome.expires_on
        assert len(outcome.value) < 20 or outcome.value not in repr(outcome)
    else:
        assert RESOURCE in outcome.message
        assert outcome.message.isprintable()
        assert len(outcome.message) < 50_000
        if b'"error' not in reply.body:
            assert SECRET not in outcome.message


def read_http(data: bytes) -> None:
    stream = exchange._Stream(Peer(data[1:], data[0] % 100 + 1), time.monotonic() + 60)  # type: ignore[arg-type]
    try:
        judge(exchange._read(stream))
    except exchange._Abort as stop:
        assert stop.outcome.reason


def read_body(data: bytes) -> None:
    judge(protocol.Reply(STATUSES[data[0] % len(STATUSES)], {}, data[1:]))


def read_headers(data: bytes) -> None:
    value, _, body = data.partition(b"\n")
    name = "retry-after" if data[0] % 2 else "content-encoding"
    judge(protocol.Reply(503, {name: value.decode("latin-1")}, body))


def read_scope(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert isinstance(protocol.claims_of(text), dict)
    try:
        resource = protocol.scope_to_resource((text,))
    except ValueError:
        return
    assert resource
    assert text.startswith(resource)


def read_endpoint(data: bytes) -> None:
    try:
        endpoint = Endpoint(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return
    assert endpoint.host.lower() in ("localhost", "::1") or endpoint.host.startswith("127.")


STATUSES = (200, 200, 200, 400, 400, 429, 500, 302, 404, 204)
TARGETS = {b"h": read_http, b"b": read_body, b"r": read_headers, b"s": read_scope, b"e": read_endpoint}


def fuzz(data: bytes) -> None:
    # The first byte chooses, so that a seed is readable: a letter and what is to be read.
    target = TARGETS.get(data[:1])
    if target is not None and len(data) > 1:
        target(data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
