"""The exchange as an azure-core pipeline: the transport and the policies that a token request runs through.

It is azure-identity's pipeline without retries (``acquisition`` decides those, in one place), proxies and redirects
(the request never leaves this machine), and decoding (the protocol reads the bytes). The default transport is the
loopback exchange: azure-core's own ones cannot bound the time of a whole reply, take proxies and ``.netrc`` from the
environment, and cost a script the import of requests. Next to the transport comes a policy that reads the reply within
a bound, so that hooks see a whole reply; its body, which holds the token, is not logged.

Nothing is imported and no program is started while a request is sent: a process may fork meanwhile.
"""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

from azure.core import exceptions
from azure.core.pipeline import Pipeline, PipelineRequest, PipelineResponse, policies
from azure.core.pipeline.transport import HttpResponse, HttpTransport
from azure.core.rest import HttpRequest
from azure.core.utils import case_insensitive_dict

from .._endpoint import exchange, protocol
from .._endpoint.acquisition import Send
from .._endpoint.environment import PATHS, Endpoint
from .._endpoint.protocol import NoReply, Reply
from .._endpoint.text import redacted
from .._version import __version__

_TIMEOUTS = (exceptions.ServiceRequestTimeoutError, exceptions.ServiceResponseTimeoutError, TimeoutError)


def make_send(endpoint: Endpoint, options: dict[str, Any]) -> Send:
    """A function that sends token requests through a pipeline.

    :param endpoint: where to.
    :param options: the credential's keyword arguments.
    """
    # A broker's URL holds a secret, which is not for logs and traces.
    has_secret = endpoint.target not in (*PATHS, "/")
    transport = options.get("transport") or LoopbackTransport(endpoint)
    pipeline = Pipeline(transport, _policies(options, has_secret=has_secret))

    def send(resource: str, seconds: float) -> Reply | NoReply:
        request = HttpRequest("POST", endpoint.url, headers=dict(protocol.HEADERS), content=protocol.form(resource))
        run_options = {
            # Keeps azure-core from reading a body without a bound, and from logging it.
            "stream": True,
            # For a user's own transport: None takes out the proxy that the environment names.
            "proxies": {"http": None, "https": None, "all": None},
            "connection_timeout": min(seconds, options.get("connection_timeout", seconds)),
            "read_timeout": min(seconds, options.get("read_timeout", seconds)),
        }
        try:
            response: WholeResponse = pipeline.run(request, **run_options).http_response
        except _NoReplyError as error:
            return error.no_reply
        except _TIMEOUTS:
            return exchange.TOO_LATE
        except (exceptions.AzureError, OSError):
            # The error's text stays behind: it may quote what the peer sent.
            return NoReply("the connection to it failed")
        return response.reply

    return send


def _policies(options: dict[str, Any], *, has_secret: bool) -> list[Any]:
    """The policies, outermost first."""
    # Not platform.platform(), which runs uname.
    system = f"Python/{platform.python_version()} ({sys.platform})"
    observers = (policies.NetworkTraceLoggingPolicy, policies.DistributedTracingPolicy, policies.HttpLoggingPolicy)
    return [
        policies.RequestIdPolicy(**options),
        policies.HeadersPolicy(**options),
        policies.UserAgentPolicy(f"azsdk-python-cloudshell-credential/{__version__} {system}", **options),
        policies.CustomHookPolicy(**options),
        *(observer(**options) for observer in observers if not has_secret),
        _ReadReply(),
    ]


class _NoReplyError(exceptions.ServiceRequestError):
    """There is no reply; the reason is safe to show."""

    def __init__(self, no_reply: NoReply) -> None:
        super().__init__(no_reply.reason)
        self.no_reply = no_reply


class WholeResponse(HttpResponse):
    """A reply that has been read to its end, in azure-core's form. Its repr does not show the body.

    :param request: the request that this answers.
    :param reply: the reply. azure-core logs headers, so anything that looks like a token is taken out of them.
    """

    def __init__(self, request: Any, reply: Reply) -> None:
        super().__init__(request, None)
        self.reply = reply
        self.status_code = reply.status
        self.headers = case_insensitive_dict({redacted(name): redacted(reply.headers[name]) for name in reply.headers})
        self.reason = ""
        self.content_type = self.headers.get("content-type")

    def body(self) -> bytes:
        """The body."""
        return self.reply.body

    @property
    def content(self) -> bytes:
        """The body, under the name that it has in ``azure.core.rest``."""
        return self.reply.body

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text())

    def raise_for_status(self) -> None:
        """Raise azure-core's ``HttpResponseError`` for an error status, without the body."""
        if self.status_code >= 400:
            raise exceptions.HttpResponseError(f"The Cloud Shell token endpoint answered {self.status_code}.")


class LoopbackTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends each request over a connection of its own, to this machine only. Keeps nothing open.

    :param endpoint: where to, unless a hook changes the request's URL.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

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
        :raises azure.core.exceptions.ServiceRequestError: if there is no reply in time.
        """
        timeouts = kwargs["read_timeout"], kwargs["connection_timeout"]
        endpoint = self._endpoint if request.url == self._endpoint.url else Endpoint(request.url)
        outcome = exchange.post(endpoint, request.headers, request.content, *timeouts)
        if isinstance(outcome, NoReply):
            raise _NoReplyError(outcome)
        return WholeResponse(request, outcome)


class _ReadReply(policies.HTTPPolicy[HttpRequest, Any]):
    """Reads the reply of any transport within the bound."""

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, Any]:
        """Send the request, and put the whole reply in place of the one that is still to be read."""
        answer = self.next.send(request)
        response = answer.http_response
        if not isinstance(response, WholeResponse):
            body = bytearray()
            with response:
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > exchange.MAX_BODY:
                        raise _NoReplyError(exchange.TOO_LARGE)
            headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
            answer.http_response = WholeResponse(response.request, Reply(response.status_code, headers, bytes(body)))
        return answer
