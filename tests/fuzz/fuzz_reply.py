"""Coverage-guided fuzzing of everything that reads bytes from the endpoint, with atheris.

``make fuzz`` runs it for ten minutes from the corpus beside it, ``make fuzz SECONDS=36000`` for longer. What it looks for:
an exception that is not a verdict, a token that breaks its promises, a secret in a message.
"""

import sys
import time

import atheris

with atheris.instrument_imports(include=["azure_cloudshell_credential"]):
    from azure_cloudshell_credential import _environment, _exchange, _protocol

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


def judge(reply: _protocol.Reply) -> None:
    outcome = _protocol.read_reply(RESOURCE, reply, NOW)
    if isinstance(outcome, _protocol.Token):
        assert outcome.value.isascii()
        assert outcome.value.isprintable()
        assert " " not in outcome.value
        assert NOW < outcome.expires_on <= NOW + 367 * 86400
        assert outcome.refresh_on is None or NOW <= outcome.refresh_on < outcome.expires_on
        assert outcome.value not in repr(outcome)
    else:
        assert RESOURCE in outcome.message
        assert outcome.message.isprintable()
        assert len(outcome.message) < 50_000
        if b'"error' not in reply.body:
            assert SECRET not in outcome.message


def fuzz(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    choice = provider.ConsumeIntInRange(0, 3)
    if choice == 0:
        piece = provider.ConsumeIntInRange(1, 100)
        stream = _exchange._Stream(Peer(provider.ConsumeBytes(1 << 16), piece), time.monotonic() + 60)  # type: ignore[arg-type]
        try:
            judge(_exchange._read(stream))
        except _exchange._Stop as stop:
            assert stop.outcome.reason
    elif choice == 1:
        status = provider.ConsumeIntInRange(100, 599)
        headers = {"retry-after": provider.ConsumeUnicodeNoSurrogates(30)} if provider.ConsumeBool() else {}
        judge(_protocol.Reply(status, headers, provider.ConsumeBytes(1 << 16)))
    elif choice == 2:
        text = provider.ConsumeUnicode(1 << 10)
        assert isinstance(_protocol.claims_of(text), dict)
        try:
            resource = _protocol.scope_to_resource((text,))
        except ValueError:
            return
        assert resource
        assert text.startswith(resource)
    else:
        try:
            endpoint = _environment.Endpoint(provider.ConsumeUnicode(1 << 10))
        except ValueError:
            return
        assert endpoint.host.lower() in ("localhost", "::1") or endpoint.host.startswith("127.")


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
