"""The exchange as an azure-core pipeline: the transport and the policies that a token request runs through.

It is azure-identity's pipeline without retries (``acquisition`` decides those, in one place), proxies and redirects
(the request never leaves this machine), and decoding (the protocol reads the bytes). The default transport is the
loopback exchange: azure-core's own ones cannot bound the time of a whole reply, take proxies and ``.netrc`` from the
environment, and cost a script the import of requests. Next to the transport comes a policy that reads the reply within
a bound, so that hooks see a whole reply; its body, which holds the token, is not logged.
"""

from __future__ import annotations

import email.utils  # noqa: F401 - what the protocol needs of it, not to be imported in the thread of an acquisition
import json
import platform
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline import Pipeline, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    CustomHookPolicy,
    DistributedTracingPolicy,
    HeadersPolicy,
    HttpLoggingPolicy,
    HTTPPolicy,
    NetworkTraceLoggingPolicy,
    RequestIdPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.core.utils import case_insensitive_dict

from .._endpoint import exchange, protocol
from .._endpoint.acquisition import Send
from .._endpoint.environment import Endpoint
from .._endpoint.failures import redacted
from .._endpoint.protocol import NoReply, Reply
from .._version import __version__


def make_send(endpoint: Endpoint, options: dict[str, Any]) -> Send:
    """A function that sends token requests through a pipeline.

    :param endpoint: where to.
    :param options: the credential's keyword arguments.
    """
    pipeline = Pipeline(options.get("transport") or LoopbackTransport(), _policies(options))

    def send(resource: str, seconds: float) -> Reply | NoReply:
        request = HttpRequest("POST", endpoint.url, headers=dict(protocol.HEADERS), content=protocol.form(resource))
        try:
            return _reply(pipeline.run(request, **_run_options(options, seconds)).http_response)
        except (AzureError, OSError) as error:
            return _no_reply(error)

    return send


def _policies(options: dict[str, Any]) -> list[Any]:
    """The policies, outermost first."""
    user_agent = f"azsdk-python-cloudshell-credential/{__version__} Python/{platform.python_version()}"
    return [
        RequestIdPolicy(**options),
        HeadersPolicy(**options),
        UserAgentPolicy(base_user_agent=f"{user_agent} ({platform.platform()})", **options),
        CustomHookPolicy(**options),
        NetworkTraceLoggingPolicy(**options),
        DistributedTracingPolicy(**options),
        HttpLoggingPolicy(**options),
        _ReadReply(),
    ]


def _run_options(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What to run one request with.

    :param seconds: what is left of the budget; the transport's own timeouts are cut down to it.
    """
    return {
        # Keeps azure-core from reading a body without a bound, and from logging it.
        "stream": True,
        # For a transport of the user's: None takes out the proxy that the environment names.
        "proxies": {"http": None, "https": None, "all": None},
        "connection_timeout": min(seconds, options.get("connection_timeout", seconds)),
        "read_timeout": min(seconds, options.get("read_timeout", seconds)),
    }


def _reply(response: HttpResponse) -> Reply:
    """The reply that came through the pipeline, in the protocol's terms."""
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def _no_reply(error: AzureError | OSError) -> NoReply:
    """Why no reply came through. The error's text stays behind: it may quote what the peer sent."""
    if isinstance(error, (ServiceRequestTimeoutError, ServiceResponseTimeoutError, TimeoutError)):
        return NoReply("it did not answer in time", timed_out=True)
    if isinstance(error, _NoReplyError):
        return NoReply(error.reason)
    if isinstance(error, _TooLargeError):
        return exchange.TOO_LARGE
    return NoReply("the connection to it failed")


class BufferedResponse(HttpResponse):
    """A reply that has been read to its end, in azure-core's form. Its repr does not show the body.

    azure-core logs headers, so anything that looks like a token is taken out of them.
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
        if chosen := encoding or self._encoding:
            return self._body.decode(chosen, "replace")
        return self._body.decode(errors="replace").removeprefix("\ufeff")

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
        return iter((self._body,))

    def iter_bytes(self, **kwargs: Any) -> Iterator[bytes]:
        """The body, in one piece."""
        return iter((self._body,))

    def close(self) -> None:
        """Do nothing: the connection is closed already."""

    def __enter__(self) -> BufferedResponse:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class _NoReplyError(ServiceRequestError):
    """There is no reply; ``reason`` is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LoopbackTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends each request over a connection of its own, to this machine only. Keeps nothing open."""

    def open(self) -> None:
        """Do nothing: connections are opened for each request."""

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def __exit__(self, *args: object) -> None:
        self.close()

    def send(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Send a request and read the reply.

        :keyword float connection_timeout: seconds for connecting.
        :keyword float read_timeout: seconds for everything: connecting, sending and reading.
        :raises ValueError: if a hook has pointed the request away from this machine.
        :raises azure.core.exceptions.ServiceRequestError: if the connection fails.
        :raises azure.core.exceptions.ServiceResponseTimeoutError: if the reply is not complete in time.
        """
        endpoint = Endpoint(request.url)
        outcome = exchange.post(
            endpoint, request.headers, request.content, kwargs["read_timeout"], kwargs["connection_timeout"]
        )
        if isinstance(outcome, Reply):
            return BufferedResponse(request, outcome.status, outcome.headers, outcome.body)
        if outcome.timed_out:
            raise ServiceResponseTimeoutError(outcome.reason)
        raise _NoReplyError(outcome.reason)


class _TooLargeError(HttpResponseError):
    """The reply has grown past the bound."""


class _ReadReply(HTTPPolicy[HttpRequest, HttpResponse]):
    """Reads the reply of any transport within the bound."""

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, HttpResponse]:
        """Send the request, and put the whole reply in place of the one that is still to be read."""
        response = self.next.send(request)
        response.http_response = _buffered(response.http_response)
        return response


def _buffered(response: HttpResponse) -> BufferedResponse:
    if isinstance(response, BufferedResponse):
        return response
    body = bytearray()
    with response:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > exchange.MAX_BODY:
                raise _TooLargeError("The reply is too large.")
    return BufferedResponse(response.request, response.status_code, response.headers, bytes(body))
