"""The azure-core pipeline that a request to the endpoint runs through: what the sync and async ones share.

It is azure-identity's pipeline without retries (decided in ``_protocol``, in one place), proxies and redirects (the
request never leaves this machine), and decoding (the protocol reads the bytes). Next to the transport comes a policy
that reads the reply within a bound, so that hooks see a whole reply; its body, which holds the token, is not logged.
"""

from __future__ import annotations

import platform
from typing import Any

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline import PipelineRequest, PipelineResponse
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
from azure.core.rest import HttpRequest, HttpResponse

from . import _exchange, _protocol
from ._environment import Endpoint
from ._protocol import NoReply, Reply
from ._transport import CompleteResponse, NoReplyError
from ._version import __version__


def policies(options: dict[str, Any], read_reply: Any) -> list[Any]:
    """The policies, outermost first.

    :param options: the credential's keyword arguments.
    :param read_reply: the policy that reads the reply, sync or async.
    """
    user_agent = f"azsdk-python-cloudshell-credential/{__version__} Python/{platform.python_version()}"
    return [
        RequestIdPolicy(**options),
        HeadersPolicy(**options),
        UserAgentPolicy(base_user_agent=f"{user_agent} ({platform.platform()})", **options),
        CustomHookPolicy(**options),
        NetworkTraceLoggingPolicy(**options),
        DistributedTracingPolicy(**options),
        HttpLoggingPolicy(**options),
        read_reply,
    ]


def request_for(endpoint: Endpoint, resource: str) -> HttpRequest:
    """The request for a token."""
    return HttpRequest("POST", endpoint.url, headers=dict(_protocol.HEADERS), content=_protocol.form(resource))


def run_options(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What to run one request with.

    :param options: the credential's keyword arguments.
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


def reply_of(response: PipelineResponse[Any, Any]) -> Reply:
    """The reply that came through the pipeline, in the protocol's terms."""
    http_response = response.http_response
    headers = {str(name).lower(): str(value) for name, value in http_response.headers.items()}
    return Reply(http_response.status_code, headers, http_response.content)


def no_reply_of(error: AzureError | OSError) -> NoReply:
    """Why no reply came through. The error's text stays behind: it may quote what the peer sent."""
    if isinstance(error, (ServiceRequestTimeoutError, ServiceResponseTimeoutError)):
        return NoReply("it did not answer in time", timed_out=True)
    if isinstance(error, NoReplyError):
        return NoReply(error.reason)
    if isinstance(error, TooLargeError):
        return _exchange.TOO_LARGE
    return NoReply("the connection to it failed")


class TooLargeError(HttpResponseError):
    """The reply has grown past the bound."""


class Body:
    """A reply's body, collected up to the bound."""

    def __init__(self) -> None:
        self._collected = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add what has come.

        :raises TooLargeError: past the bound.
        """
        self._collected += chunk
        if len(self._collected) > _exchange.MAX_BODY:
            raise TooLargeError("The reply is too large.")

    def complete(self, response: PipelineResponse[Any, Any]) -> None:
        """Put the read reply in place of the one that is still to be read."""
        unread = response.http_response
        response.http_response = CompleteResponse(
            response.http_request, unread.status_code, unread.headers, bytes(self._collected)
        )


class ReadReply(HTTPPolicy[HttpRequest, HttpResponse]):
    """Reads the reply of any transport within the bound."""

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, HttpResponse]:
        """Send the request and read the reply."""
        response = self.next.send(request)
        if not isinstance(response.http_response, CompleteResponse):
            body = Body()
            with response.http_response as unread:
                for chunk in unread.iter_raw():
                    body.add(chunk)
            body.complete(response)
        return response
