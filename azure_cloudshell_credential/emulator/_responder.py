"""HTTP: what each request to the emulator is answered.

Requests for tokens, in Cloud Shell's protocol and two others; those of the stand-ins for az; and the documents by which
tokens are verified.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from threading import Lock
from time import monotonic, sleep

from .._endpoint.text import quoted
from .._serving.messages import Request, Response, compact, error_response, refusal
from .._serving.token_protocols import APP_SERVICE_PATH, IMDS_PATH, AppServiceProtocol, ImdsProtocol, TokenProtocol
from . import _azure_cli
from ._cloud_shell import AssumedProtocol
from ._issuer import Issuer, key_set, openid_configuration
from ._questions import GRANTED, TOKEN_PATH, VM_PATH
from ._settings import Settings, supports
from .faults import NAMED, ScriptedReply

_LOGGER = logging.getLogger(__name__)

IMDS_PREFIX = "/imds"
NO_IMDS_PREFIX = "/no-imds"
OPENID_CONFIGURATION = "/.well-known/openid-configuration"
APP_SERVICE = AppServiceProtocol("made-up-identity-header")

_OTHER_PROTOCOLS: dict[str, TokenProtocol] = {
    APP_SERVICE_PATH: APP_SERVICE,
    f"{IMDS_PREFIX}{IMDS_PATH}": ImdsProtocol(),
}
_POLL_SECONDS = 0.05
_DRAIN_SECONDS = 1.0

KEPT = 10_000
"""Requests that are remembered, the last ones: an emulator may run for days."""


@dataclass
class RecordedRequest:
    """One request that the emulator was sent.

    :param method: ``GET`` or ``POST``.
    :param path: without the query.
    :param headers: with names in lower case.
    :param parameters: the form, or the query of a GET.
    :param status: what it was answered; 0 until it is.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    status: int = 0

    @property
    def resource(self) -> str:
        """The resource asked for."""
        return self.parameters.get("resource", "")


def reply_given(reply: object) -> ScriptedReply:
    """What somebody gave as a reply.

    :raises TypeError: if it is not one. Otherwise the server would fail over it, which a client that retries hides.
    """
    if isinstance(reply, ScriptedReply):
        return reply
    if callable(reply):
        name = getattr(reply, "__name__", type(reply).__name__)
        raise TypeError(f"{name} is a function, not a reply. Did you mean {name}()?")
    if isinstance(reply, Iterable) and not isinstance(reply, str):
        raise TypeError(f"A {type(reply).__name__} is not a reply. Give each reply by itself: script(*replies).")
    close = get_close_matches(str(reply).casefold().replace("_", "-"), NAMED, n=1)
    hint = (
        f"Did you mean faults.{NAMED[close[0]].__name__}()?" if close else "Give one of faults, such as faults.hang()."
    )
    raise TypeError(f"{reply!r} is not a reply. {hint}")


class Responder:
    """Responds to requests, and keeps what was asked.

    :param settings: may change at any time.
    :ivar requests: a ``RecordedRequest`` for each so far, up to ``KEPT``.
    :ivar most_at_once: how many were there at once, at most.
    """

    def __init__(self, settings: Settings, issuer: Issuer, programs: _azure_cli.Programs) -> None:
        self._settings = settings
        self._issuer = issuer
        self._programs = programs
        self._cloud_shell = AssumedProtocol(settings)
        self._mutex = Lock()
        self._times_dropped = 0
        self._under_way = 0
        self.forget()

    def forget(self) -> None:
        """Forget what was asked and scripted."""
        with self._mutex:
            self.requests: list[RecordedRequest] = []
            self.most_at_once = 0
            self._script: deque[ScriptedReply] = deque()
            self._failing: ScriptedReply | None = None

    def drop_waiting(self) -> None:
        """Drop the requests that wait for an answer: an acquisition that goes on would be the next test's."""
        with self._mutex:
            self._times_dropped += 1
        deadline = monotonic() + _DRAIN_SECONDS
        while self._under_way and monotonic() < deadline:
            sleep(_POLL_SECONDS / 10)

    def script(self, *replies: ScriptedReply) -> None:
        """Answer the next requests for tokens like this, one reply each."""
        with self._mutex:
            self._script.extend(replies)

    @contextmanager
    def failing(self, reply: ScriptedReply) -> Iterator[None]:
        """Answer every request for a token like this for the length of a ``with`` block."""
        self._failing = reply
        try:
            yield
        finally:
            self._failing = None

    def respond(self, request: Request, origin: str) -> Response:
        """The answer.

        :param origin: this server's.
        """
        if (refused := refusal(request)) is not None:
            return refused
        if request.path in _OTHER_PROTOCOLS and request.method in ("GET", "POST"):
            return self._answer(request, _OTHER_PROTOCOLS[request.path])
        if request.path == _azure_cli.PATH and request.method == "POST":
            return self._program(request)
        if request.method == "GET" and request.path == "/common/discovery/keys":
            return Response(200, compact(key_set()))
        if request.method == "GET" and request.path.endswith(OPENID_CONFIGURATION):
            tenant_id = request.path.removesuffix(OPENID_CONFIGURATION).strip("/")
            return Response(200, compact(openid_configuration(origin, tenant_id)))
        if request.path == f"{NO_IMDS_PREFIX}{IMDS_PATH}":
            # What a virtual machine without an identity says.
            return ImdsProtocol().error("invalid_request", "Identity not found")
        if request.path in (TOKEN_PATH, VM_PATH):
            return self._answer(request, self._cloud_shell)
        unknown = self._cloud_shell.resource_of(request)
        return unknown if isinstance(unknown, Response) else error_response(404, "NotFound", "There is nothing here.")

    def _program(self, request: Request) -> Response:
        seconds, printed = self._programs.answer(json.loads(request.body))
        if not self._waits(request, seconds):
            return Response(0, drops=True)
        return Response(200, compact(printed._asdict()))

    def _waits(self, request: Request, seconds: float) -> bool:
        """Wait; False if the client goes away or everything is reset meanwhile."""
        times_dropped = self._times_dropped
        while seconds > 0:
            if not request.wait(min(seconds, _POLL_SECONDS)) or self._times_dropped != times_dropped:
                return False
            seconds -= _POLL_SECONDS
        return True

    def _answer(self, request: Request, protocol: TokenProtocol) -> Response:
        asked = RecordedRequest(request.method, request.path, request.headers, request.fields())
        with self._mutex:
            self.requests.append(asked)
            del self.requests[:-KEPT]
            scripted = self._script.popleft() if self._script else self._failing or ScriptedReply()
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            is_there = self._waits(request, self._settings.latency + scripted.seconds)
        finally:
            with self._mutex:
                self._under_way -= 1
        is_dropped = scripted.drops or not is_there
        response = Response(0, drops=True) if is_dropped else self._reply(request, protocol, scripted)
        asked.status = response.status
        # Any local user can send a request, with anything in it.
        shown = quoted(f"{asked.method} {asked.path} {asked.resource or '-'}")
        _LOGGER.info("%s -> %s", shown, asked.status or "dropped")
        return response

    def _reply(self, request: Request, protocol: TokenProtocol, scripted: ScriptedReply) -> Response:
        requested = protocol.resource_of(request)
        if isinstance(requested, Response):
            return requested
        if scripted.portal_times_out:
            return self._cloud_shell.refused(self._settings.assumed.portal_timeout, requested)
        if scripted.body is not None:
            return Response(scripted.status, scripted.body.replace("{resource}", requested), scripted.headers)
        resource, settings = scripted.token_for or requested, self._settings
        if not supports(settings, resource):
            listing = f" Supported audiences: {','.join(settings.audiences or ())}" if settings.list_audiences else ""
            if protocol is not self._cloud_shell:
                return protocol.error("AudienceNotSupported", f"{resource} is not a supported audience.{listing}")
            if settings.assumed.unsupported_audience != GRANTED:
                return self._cloud_shell.refused(settings.assumed.unsupported_audience, resource, listing)
        life = scripted.token_life
        issued = self._issuer.issue(resource) if life is None else self._issuer.mint(resource, lifetime=life)
        version = request.fields().get("api-version", "")
        return protocol.token(requested, issued.token, issued.expires_on, issued.issued_at, version)
