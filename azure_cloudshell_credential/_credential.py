"""``CloudShellCredential``: the decisions of ``_base`` over a synchronous azure-core pipeline."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from time import sleep
from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError

from . import _base
from ._base import CredentialBase, Fly, Step, Wait
from ._cache import Held
from ._protocol import Ask, NoReply, Pause, Reply, drive


class CloudShellCredential(CredentialBase):
    """Authenticates as the user who is signed in to Azure Cloud Shell.

    Cloud Shell hands out its user's tokens at a local endpoint; this is that endpoint as a credential for any Azure
    SDK client. Outside Cloud Shell, and whenever the endpoint cannot help, it raises ``CredentialUnavailableError``, so
    that a :class:`~azure.identity.ChainedTokenCredential` goes on to its next credential.

    The environment is read when the credential is constructed; constructing it raises nothing because of the
    environment, opens no connection and imports nothing heavy. An instance can be shared by threads, survives ``fork``
    and can be pickled (its configuration travels, tokens do not). Tokens are cached in memory.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: seconds for one token, retries and waiting included. Default 30.
    :keyword int retry_total: how often to ask again after a failure that may pass. Default 3.
    :keyword float retry_backoff_factor: seconds before the first retry, doubled for each one after it. Default 0.4.
    :keyword float connection_timeout: seconds for connecting, within ``timeout``.
    :keyword float read_timeout: seconds to wait for a reply, within ``timeout``.
    :keyword transport: an azure-core transport that carries every request. It is entered and closed with the
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
        self._pipeline: Any = None

    def get_token(
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
        return self._token(scopes, claims, tenant_id, kwargs.get("pop")).access_token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
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
        return _base.as_info(held or self._token(scopes, claims, tenant_id, pop))

    def close(self) -> None:
        """Close the transport.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        self.__exit__()

    def __enter__(self) -> CloudShellCredential:
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        if self._transport is not None:
            self._transport.__exit__(*args)

    def _token(self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object) -> Held:
        return _base.result(drive(self._obtain(scopes, claims, tenant_id, pop), self._perform))

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Wait):
            try:
                step.future.exception(step.seconds)
            except FutureTimeoutError:
                return False
            return True
        if isinstance(step, Fly):
            return drive(self._fly(step.flight), self._perform)
        if isinstance(step, Pause):
            return sleep(step.seconds)
        return self._ask(step)

    def _ask(self, ask: Ask) -> Reply | NoReply:
        # Here, so that importing the credential costs a script next to nothing.
        from azure.core.pipeline import Pipeline

        from . import _background, _pipeline
        from ._transport import LoopbackTransport

        endpoint = self._environment.endpoint
        assert endpoint is not None
        if self._pipeline is None:
            transport = self._transport or LoopbackTransport()
            self._pipeline = Pipeline(transport, _pipeline.policies(self._options, _pipeline.ReadReply()))
        request = _pipeline.request_for(endpoint, ask.resource)
        run = partial(self._pipeline.run, request, **_pipeline.run_options(self._options, ask.seconds))
        try:
            if self._transport is None:
                return _pipeline.reply_of(run())
            # A transport of the user's may bound each read but not their sum.
            return _pipeline.reply_of(_background.start(run).result(ask.seconds))
        except FutureTimeoutError:
            return NoReply("it did not answer in time", timed_out=True)
        except (AzureError, OSError) as error:
            return _pipeline.no_reply_of(error)
