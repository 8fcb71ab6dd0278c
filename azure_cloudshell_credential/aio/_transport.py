"""How the async credential sends a request: over aiohttp if it is installed, else over the loopback exchange."""

from __future__ import annotations

from functools import partial
from typing import Any

from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

from .. import _background, _transport
from .._pipeline import Body
from ._waiting import is_done_within


def default_transport() -> AsyncHttpTransport[Any, Any]:
    """A transport for one request.

    Not kept for the next one: an aiohttp session belongs to one event loop, a credential may be used from several.
    """
    try:
        from azure.core.pipeline.transport import AioHttpTransport
    except ImportError:
        return LoopbackTransport()
    # Without the environment's settings: they are proxies and .netrc.
    transport: AsyncHttpTransport[Any, Any] = AioHttpTransport(use_env_settings=False)
    return transport


class LoopbackTransport(AsyncHttpTransport[HttpRequest, Any]):
    """The sync loopback transport in a thread of its own, which ends by the request's deadline."""

    async def open(self) -> None:
        """Do nothing: connections are opened for each request."""

    async def close(self) -> None:
        """Do nothing: no connection is kept."""

    async def __aexit__(self, *args: object) -> None:
        await self.close()

    async def send(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Send a request, as the sync transport does."""
        send = partial(_transport.send, request, kwargs["connection_timeout"], kwargs["read_timeout"])
        reply = _background.start(send)
        await is_done_within(reply, None)
        return reply.result()


class ReadReply(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Reads the reply of any transport within the bound."""

    async def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Send the request and read the reply."""
        response = await self.next.send(request)
        if not isinstance(response.http_response, _transport.CompleteResponse):
            body = Body()
            async with response.http_response as unread:
                async for chunk in unread.iter_raw():
                    body.add(chunk)
            body.complete(response)
        return response
