"""Cloud Shell's own protocol, as the table of assumptions has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import time

from .._serving.messages import Request, Response
from .._serving.token_protocols import TokenProtocol
from . import assumptions
from .assumptions import Refusal, Value


class AssumedProtocol(TokenProtocol):
    """Answers as the table says.

    :param assumed: the table, by the names of its rows; may change at any time.
    """

    def __init__(self, assumed: Mapping[str, Value | Refusal]) -> None:
        super().__init__()
        self._assumed = assumed

    def resource_of(self, request: Request) -> str | Response:
        """The resource that a request is for, or the answer to one that a row refuses."""
        fields = request.fields()
        resource = fields.get("resource", "")
        path = request.target.partition("?")[0]
        for name in assumptions.rows_for(request.method, path, request.headers, fields):
            if (refused := self.refused(name, resource)) is not None:
                return refused
        return resource

    def refused(self, row: str, resource: str, more: str = "") -> Response | None:
        """The answer of a row that refuses; None for one that grants.

        :param more: goes after the row's message.
        """
        refusal = self._assumed[row]
        if not isinstance(refusal, Refusal):
            return None
        message = refusal.message.replace("{resource}", resource)
        # The body of an error whose code is not known is the emulator's own.
        error = {"code": refusal.code or "NotFound", "message": f"{message}{more}" or "There is nothing here."}
        return self._response(refusal.status, {"error": error})

    def token(self, resource: str, token: str, expires_on: int, not_before: int, _api_version: str = "") -> Response:
        """The answer with a token."""
        assumed = self._assumed
        left = assumed["token asked for again: expires_in"] == assumptions.LEFT
        numbers = {
            "expires_in": max(0, expires_on - (int(time()) if left else not_before)),
            "expires_on": expires_on,
            "not_before": not_before,
        }
        is_as_asked = assumed["token: resource"] == assumptions.AS_ASKED
        values: dict[str, str | int] = {
            "access_token": token,
            "refresh_token": "" if assumed["token: refresh_token"] == assumptions.EMPTY else "made-up",
            "resource": resource if is_as_asked else resource.rstrip("/"),
            "token_type": str(assumed["token: token_type"]),
            **numbers,
        }
        if assumed["token: types of the values"] == "string":
            values.update((name, str(number)) for name, number in numbers.items())
        names = str(assumed["token: fields"]).split()
        return self._response(int(str(assumed["token: status"])), {name: values[name] for name in names})

    def _response(self, status: int, content: object) -> Response:
        compact = self._assumed["JSON"] == assumptions.COMPACT
        body = json.dumps(content, separators=(",", ":") if compact else None)
        return Response(status, body, {"Content-Type": str(self._assumed["content type"])})
