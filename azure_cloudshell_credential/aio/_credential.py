"""The async ``CloudShellCredential``: the decisions of ``_base`` over an asynchronous azure-core pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError
from azure.core.pipeline import AsyncPipeline

from .. import _base, _pipeline
from .._base import CredentialBase, Fly, Step, Wait
from .._cache import Held
from .._protocol import Ask, NoReply, Pause, Reply
from ._transport import ReadReply, default_transport
from ._waiting import is_done_within

T = TypeVar("T")


class CloudShellCredential(CredentialBase):
    """Authenticates as the user who is signed in to Azure Cloud Shell, for asyncio.

    The async twin of :class:`azure_cloudshell_credential.CloudShellCredential`; it takes the same keywords and does the
    same in every situation. One instance can serve several event loops, at once and one after the other. Requests go
    over aiohttp where it is installed (extra ``aio``) and over the package's own transport elsewhere.

    Cancelling a task that waits for a token does not take it from the others that wait for it.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: seconds for one token, retries and waiting included. Default 30.
    :keyword int retry_total: how often to ask again after a failure that may pass. Default 3.
    :keyword float retry_backoff_factor: seconds before the first retry, doubled for each one after it. Default 0.4.
    :keyword float connection_timeout: seconds for connecting, within ``timeout``.
    :keyword float read_timeout: seconds to wait for a reply, within ``timeout``.
    :keyword transport: an azure-core async transport that carries every request. It is entered and closed with the
        credential.
    :keyword str user_agent: put in front of the ``User-Agent``.
    :keyword bool logging_enable: log requests and replies at DEBUG level. The body of a reply, which holds the token,
        is not logged.
    :keyword raw_request_hook: called with each request.
    :keyword raw_response_hook: called with each reply.
    :raises ValueError: for an ``endpoint`` that is not a loopback URL, or a keyword that is not a number.
    """

    def _configure(self, options: dict[str, Any]) -> None:
        super()._configure(options)
        self._transport: Any = options.get("transport")
        self._flights: set[asyncio.Task[None]] = set()

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """Get an access token for a scope. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword str claims: a claims challenge. Cloud Shell cannot satisfy any.
        :keyword str tenant_id: the tenant the token must be for: the one that Cloud Shell is signed in to, or none.
        :keyword bool enable_cae: ignored; the endpoint has no say over it.
        :return: the token and its expiry in Unix time.
        :rtype: ~azure.core.credentials.AccessToken
        :raises ~azure.identity.CredentialUnavailableError: if Cloud Shell cannot hand out the token. The message says
            why and what to do; ``AudienceNotSupportedError`` if the resource is not one of those it supports.
        :raises ValueError: unless there is exactly one valid scope.
        """
        if not claims and not kwargs:
            held = self._cache.fresh(scopes, tenant_id)
            if held is not None:
                return held.access_token
        return (await self._token(scopes, claims, tenant_id, kwargs.get("pop"))).access_token

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword options: ``claims``, ``tenant_id`` and ``enable_cae`` as in :meth:`get_token`; None counts as absent.
        :paramtype options: ~azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: ~azure.core.credentials.AccessTokenInfo
        :raises ~azure.identity.CredentialUnavailableError: as :meth:`get_token`.
        :raises ValueError: unless there is exactly one valid scope.
        """
        claims, tenant_id, pop = _base.wishes(options) if options else _base.NO_WISHES
        held = None if claims or pop else self._cache.fresh(scopes, tenant_id)
        return _base.as_info(held or await self._token(scopes, claims, tenant_id, pop))

    async def close(self) -> None:
        """Close the transport.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        await self.__aexit__()

    async def __aenter__(self) -> CloudShellCredential:
        if self._transport is not None:
            await self._transport.__aenter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        if self._transport is not None:
            await self._transport.__aexit__(*args)

    async def _token(self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object) -> Held:
        return _base.result(await drive(self._obtain(scopes, claims, tenant_id, pop), self._perform))

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Wait):
            return step.future.done() or await is_done_within(step.future, step.seconds)
        if isinstance(step, Fly):
            return await self._fly_in_a_task(step)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        return await self._ask(step)

    async def _fly_in_a_task(self, step: Fly) -> None:
        """Fly, and go on flying if the caller is cancelled: others wait for it."""
        task = asyncio.create_task(drive(self._fly(step.flight), self._perform))
        # The event loop holds tasks weakly.
        self._flights.add(task)
        task.add_done_callback(self._landed)
        await asyncio.shield(task)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        if not task.cancelled():
            # Whatever it raised reached its caller; one that has gone does not need to hear of it.
            task.exception()

    async def _ask(self, ask: Ask) -> Reply | NoReply:
        endpoint = self._environment.endpoint
        assert endpoint is not None
        request = _pipeline.request_for(endpoint, ask.resource)
        options = _pipeline.run_options(self._options, ask.seconds)
        transport = self._transport or default_transport()
        if any(base.__name__ == "RequestsTransport" for base in type(transport).__mro__):
            # azure-core's async transports over requests have one timeout for both, and choke on the other.
            del options["read_timeout"]
        pipeline = AsyncPipeline(transport, _pipeline.policies(self._options, ReadReply()))
        try:
            return _pipeline.reply_of(await asyncio.wait_for(pipeline.run(request, **options), ask.seconds))
        except asyncio.TimeoutError:
            return NoReply("it did not answer in time", timed_out=True)
        except (AzureError, OSError) as error:
            return _pipeline.no_reply_of(error)
        finally:
            if self._transport is None:
                await transport.close()


async def drive(steps: Generator[Step, Any, T], perform: Callable[[Step], Awaitable[Any]]) -> T:
    """As the sync :func:`~azure_cloudshell_credential._protocol.drive`."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await perform(step))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()
