"""The loopback exchange as an azure-core transport.

The default transport of both credentials. azure-core's own ones cannot bound the time of a whole reply, take proxies
and ``.netrc`` from the environment, and cost a script the import of requests or aiohttp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseTimeoutError
from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.core.utils import case_insensitive_dict

from . import _exchange
from ._environment import Endpoint
from ._failures import redacted
from ._protocol import NoReply


class CompleteResponse(HttpResponse):
    """A reply that has been read to its end, in azure-core's form. Its repr does not show the body.

    azure-core logs headers, so that whatever looks like a token is taken out of them.
    """

    def __init__(self, request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._request = request
        self._status = status
        self._headers = case_insensitive_dict({redacted(name): redacted(headers[name]) for name in headers})
        self._body = body
        self._encoding: str | None = None

    @property
    def request(self) -> HttpRequest:
        """The request that this answers."""
        return self._request

    @property
    def url(self) -> str:
        """The URL that this came from."""
        return self._request.url

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def reason(self) -> str:
        """Empty: the reason phrase is not read."""
        return ""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """The headers, whatever the case of a name."""
        return self._headers

    @property
    def content_type(self) -> str | None:
        """The ``Content-Type`` header."""
        return self._headers.get("content-type")

    @property
    def content(self) -> bytes:
        """The body."""
        return self._body

    @property
    def encoding(self) -> str | None:
        """The encoding of the text; None means UTF-8."""
        return self._encoding

    @encoding.setter
    def encoding(self, value: str | None) -> None:
        self._encoding = value

    def text(self, encoding: str | None = None) -> str:
        """The body as text."""
        return self._body.decode(encoding or self._encoding or "utf-8-sig", "replace")

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text())

    def raise_for_status(self) -> None:
        """Raise azure-core's ``HttpResponseError`` for an error status, without the body."""
        if self._status >= 400:
            raise HttpResponseError(f"The Cloud Shell token endpoint answered {self._status}.")

    @property
    def is_closed(self) -> bool:
        """True: the connection is gone."""
        return True

    @property
    def is_stream_consumed(self) -> bool:
        """True: the body has been read."""
        return True

    def read(self) -> bytes:
        """The body."""
        return self._body

    def iter_raw(self, **kwargs: Any) -> Iterator[bytes]:
        """The body, in one piece."""
        yield self._body

    def iter_bytes(self, **kwargs: Any) -> Iterator[bytes]:
        """The body, in one piece."""
        yield self._body

    def close(self) -> None:
        """Do nothing: the connection is closed already."""

    def __enter__(self) -> CompleteResponse:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class NoReplyError(ServiceRequestError):
    """There is no reply; ``reason`` is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def send(request: HttpRequest, connection_timeout: float, read_timeout: float) -> CompleteResponse:
    """Send a request and read the reply.

    :param connection_timeout: seconds for connecting.
    :param read_timeout: seconds for everything: connecting, sending and reading.
    :raises ValueError: if a hook has pointed the request away from this machine.
    :raises NoReplyError: if the connection fails.
    :raises ServiceResponseTimeoutError: if the reply is not complete in time.
    """
    outcome = _exchange.post(Endpoint(request.url), request.headers, request.content, read_timeout, connection_timeout)
    if isinstance(outcome, NoReply):
        if outcome.timed_out:
            raise ServiceResponseTimeoutError(outcome.reason)
        raise NoReplyError(outcome.reason)
    return CompleteResponse(request, outcome.status, outcome.headers, outcome.body)


class LoopbackTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends each request over a connection of its own, to this machine only. Keeps nothing open."""

    def open(self) -> None:
        """Do nothing: connections are opened for each request."""

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def __exit__(self, *args: object) -> None:
        self.close()

    def send(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Send a request; see :func:`send`."""
        return send(request, kwargs["connection_timeout"], kwargs["read_timeout"])
