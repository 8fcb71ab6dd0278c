"""Cloud Shell's own protocol, as a ``Behaviour`` has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import time

from .._serving.messages import Request, Response
from .._serving.token_protocols import TokenProtocol
from ._questions import GRANTED, TOKEN_PATH, VM_PATH, Outcome
from ._settings import Settings
from .behaviour import Behaviour


class AssumedProtocol(TokenProtocol):
    """Answers as a behaviour says.

    :param settings: have it, at the time of each answer.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def resource_of(self, request: Request) -> str | Response:
        """The resource that a request is for, or the answer to one that is refused for its form."""
        resource = request.fields().get("resource", "")
        for outcome in _oddities(request, self._settings.assumed):
            if outcome != GRANTED:
                return self.refused(outcome, resource)
        return resource

    def refused(self, outcome: Outcome, resource: str, more: str = "") -> Response:
        """The answer to what is refused.

        :param more: goes after the message.
        """
        message = outcome.message.replace("{resource}", resource)
        # The body of an error whose code is not known is the emulator's own.
        error = {"code": outcome.code or "NotFound", "message": f"{message}{more}" or "There is nothing here."}
        return self._response(outcome.status, {"error": error})

    def token(self, resource: str, token: str, expires_on: int, not_before: int, _api_version: str = "") -> Response:
        """The answer with a token."""
        behaviour = self._settings.assumed
        left = behaviour.expires_in_when_kept == "what is left"
        numbers = {
            "expires_in": max(0, expires_on - (int(time()) if left else not_before)),
            "expires_on": expires_on,
            "not_before": not_before,
        }
        values: dict[str, str | int] = {
            "access_token": token,
            "refresh_token": "" if behaviour.refresh_token_is_empty else "made-up",
            "resource": resource if behaviour.resource_echo == "as it was asked for" else resource.rstrip("/"),
            "token_type": behaviour.token_type,
            **numbers,
        }
        if "number" not in behaviour.token_types:
            values.update((name, str(number)) for name, number in numbers.items())
        return self._response(behaviour.token_status, {name: values[name] for name in behaviour.token_fields})

    def _response(self, status: int, content: object) -> Response:
        behaviour = self._settings.assumed
        body = json.dumps(content, separators=(",", ":") if behaviour.json_is_compact else None)
        return Response(status, body, {"Content-Type": behaviour.content_type})


def _oddities(request: Request, behaviour: Behaviour) -> Iterator[Outcome]:
    """What comes of each thing that is odd about a request, in the order in which the emulator looks at them."""
    yield from _oddities_of_the_target(request, behaviour)
    metadata, fields = request.headers.get("metadata"), request.fields()
    if metadata is None:
        yield behaviour.no_metadata
    elif metadata != "true":
        yield behaviour.metadata_capitalised if metadata.lower() == "true" else behaviour.metadata_false
    if "transfer-encoding" in request.headers:
        yield behaviour.chunked_body
    if request.method == "POST" and "content-type" not in request.headers:
        yield behaviour.body_without_content_type
    if not fields.get("resource"):
        yield behaviour.no_resource
    if fields.keys() - {"resource", "api-version"}:
        yield behaviour.unknown_parameter


def _oddities_of_the_target(request: Request, behaviour: Behaviour) -> Iterator[Outcome]:
    path = request.target.partition("?")[0]
    known_path = path.removesuffix("/")
    if known_path not in (TOKEN_PATH, VM_PATH):
        yield behaviour.metadata_folder if path == "/metadata" else behaviour.unknown_path
    if request.method not in ("GET", "POST"):
        yield behaviour.other_method
    if path.endswith("/"):
        yield behaviour.slash_after_path
    if known_path == VM_PATH:
        yield behaviour.vm_path_get if request.method == "GET" else behaviour.vm_path_post
    elif request.method == "GET":
        yield behaviour.get
