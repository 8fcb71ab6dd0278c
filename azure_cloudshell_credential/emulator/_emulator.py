"""``CloudShellEmulator``: the token endpoint of Cloud Shell, on this machine, with made-up tokens.

What it does is what is known of the real endpoint. Three things are not, and are its own choice: a trailing slash
makes no difference to the audiences it supports, ``resource`` in a reply is what was asked for, and ``expires_in`` of
a cached token is what is left of its life.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import time
from typing import Any

from aiohttp import web
from azure.core.credentials import TokenCredential

from .. import _audiences, _cache, _environment, _failures
from . import _tokens, faults
from ._server import MAX_REQUEST_BODY, BackgroundServer, error_response, refuse_strangers
from ._tokens import Identity
from .faults import ScriptedReply

_LOGGER = logging.getLogger(__name__)

DEFAULT_LIFETIME = 3900
"""Seconds, as in the one reply that has been published (azure-cli#14218)."""

DEFAULT_AUDIENCES = (
    *(identifier for audience in _audiences.KNOWN for identifier in audience.listed),
    *_audiences.UNNAMED_APP_IDS,
)

_PATHS = ("/oauth2/token", "/metadata/identity/oauth2/token")
_VARIABLES_OF_OTHER_HOSTS = (*_environment.VARIABLES_OF_OTHER_HOSTS, "IDENTITY_HEADER")


@dataclass
class TokenRequest:
    """One request that the emulator was sent.

    :param headers: with names in lower case.
    :param parameters: the form, or the query of a GET.
    :param status: what it was answered; 0 until it is.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    status: int = 0

    @property
    def resource(self) -> str:
        """The resource asked for."""
        return self.parameters.get("resource", "")


class CloudShellEmulator:
    """The token endpoint of Cloud Shell, emulated over a real socket on loopback.

    ::

        with CloudShellEmulator() as shell:
            credential = CloudShellCredential(endpoint=shell.endpoint)

    Its tokens are made up: signed by a key that only this process has, good for nothing in Azure. Every method may be
    called from any thread, while it serves or before.

    :keyword int port: the port; 0, the default, takes a free one. Tools with the address built in (azure-cli, azd,
        MSAL for Python) need 50342.
    :keyword Identity identity: who is signed in.
    :keyword int lifetime: how long tokens live, in seconds.
    :keyword audiences: the resources it hands out tokens for; None: all.
    :keyword float latency: seconds before each reply.
    :keyword bool list_audiences: name the supported audiences in ``AudienceNotSupported``, as the endpoint did before
        2024-08.
    :keyword credential: answer with this credential's tokens instead of made-up ones.
    :paramtype credential: ~azure.core.credentials.TokenCredential
    """

    def __init__(
        self,
        *,
        port: int = 0,
        identity: Identity | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        audiences: Iterable[str] | None = DEFAULT_AUDIENCES,
        latency: float = 0.0,
        list_audiences: bool = False,
        credential: TokenCredential | None = None,
    ) -> None:
        self._defaults: dict[str, Any] = {
            "identity": identity or Identity(),
            "lifetime": lifetime,
            "audiences": None if audiences is None else list(audiences),
            "latency": latency,
            "list_audiences": list_audiences,
        }
        self._mutex = Lock()
        self._server = BackgroundServer(self._app, port)
        self._serial = 0
        self._credential = credential
        self._is_environment = False
        self.reset()

    def reset(self) -> None:
        """Forget all requests, tokens, scripts and changed settings."""
        with self._mutex:
            self.identity: Identity = self._defaults["identity"]
            self.lifetime: int = self._defaults["lifetime"]
            supported = self._defaults["audiences"]
            self.audiences: list[str] | None = None if supported is None else list(supported)
            self.latency: float = self._defaults["latency"]
            self.list_audiences: bool = self._defaults["list_audiences"]
            self.requests: list[TokenRequest] = []
            self.most_at_once: int = 0
            self._under_way = 0
            self._script: deque[ScriptedReply] = deque()
            self._cache: dict[str, tuple[str, int, int]] = {}
            self._revoked_before = 0
        _cache.forget_all_refusals()

    def start(self) -> CloudShellEmulator:
        """Start serving.

        :raises OSError: if the port is taken.
        """
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving, whatever connections are open."""
        self._server.stop()

    def __enter__(self) -> CloudShellEmulator:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it serves."""
        return self._server.port

    @property
    def origin(self) -> str:
        """``http://localhost:PORT``."""
        return f"http://localhost:{self.port}"

    @property
    def endpoint(self) -> str:
        """The URL of the token endpoint."""
        return f"{self.origin}/oauth2/token"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a Cloud Shell container has."""
        return {
            "MSI_ENDPOINT": self.endpoint,
            "ACC_CLOUD": "PROD",
            "ACC_TID": self.identity.tenant_id,
            "ACC_OID": self.identity.object_id,
            "AZUREPS_HOST_ENVIRONMENT": "cloud-shell/1.0",
            "AZD_IN_CLOUDSHELL": "1",
            "POWERSHELL_DISTRIBUTION_CHANNEL": "CloudShell",
        }

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Put this process into the emulated Cloud Shell: set ``os.environ``, and restore it afterwards."""
        before = {name: os.environ.get(name) for name in (*self.environment, *_VARIABLES_OF_OTHER_HOSTS)}
        os.environ.update(self.environment)
        for name in _VARIABLES_OF_OTHER_HOSTS:
            os.environ.pop(name, None)
        self._is_environment = True
        try:
            yield
        finally:
            self._is_environment = False
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @property
    def openid_configuration_url(self) -> str:
        """Where to find the keys that verify its tokens."""
        return f"{self.origin}/{self.identity.tenant_id}/.well-known/openid-configuration"

    def script(self, *replies: ScriptedReply) -> None:
        """Answer the next requests like this, one reply each, before answering as usual again."""
        with self._mutex:
            self._script.extend(replies)

    def deny(self, resource: str) -> None:
        """Support an audience no longer, under any of its spellings."""
        audience = _audiences.lookup(resource)
        spellings = audience.identifiers if audience else (resource,)
        denied = {_plain(spelling) for spelling in spellings}
        with self._mutex:
            listed = DEFAULT_AUDIENCES if self.audiences is None else self.audiences
            self.audiences = [audience for audience in listed if _plain(audience) not in denied]

    def allow(self, resource: str) -> None:
        """Support an audience."""
        with self._mutex:
            if self.audiences is not None:
                self.audiences.append(resource)
        # The credentials of this process need not wait until they would ask again by themselves.
        _cache.forget_all_refusals()

    def sign_in(self, **changes: str) -> None:
        """Sign in as somebody else, or to another tenant.

        :param changes: what is different: fields of :class:`Identity`, such as ``user`` or ``tenant_id``.
        """
        with self._mutex:
            self.identity = self.identity.changed(**changes)
            self._cache.clear()
        if self._is_environment:
            os.environ.update(self.environment)

    def revoke_tokens(self) -> None:
        """End the life of all tokens handed out so far: new ones are issued, and stand-ins take no old one.

        Clients do not know, as after a revocation by Entra: they go on using those that they hold.
        """
        with self._mutex:
            self._cache.clear()
            self._revoked_before = self._serial

    def expire_tokens(self) -> None:
        """As :meth:`revoke_tokens`, and let the credentials of this process notice: they ask for new tokens."""
        self.revoke_tokens()
        _cache.forget_all_tokens()

    def has_expired(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token with these claims is past its life."""
        return int(claims["exp"]) <= time() or int(claims.get("serial", 0)) <= self._revoked_before

    def issue(self, resource: str) -> tuple[str, int]:
        """The token for a resource, from the cache until it expires, and its expiry in Unix time."""
        token, _, expires_on = self._issue(resource)
        return token, expires_on

    def _issue(self, resource: str) -> tuple[str, int, int]:
        with self._mutex:
            cached = self._cache.get(resource)
            if cached is None or cached[2] <= time():
                cached = self._cache[resource] = self._mint(resource, self.lifetime)
            return cached

    def _mint(self, resource: str, lifetime: int) -> tuple[str, int, int]:
        issued_at = int(time())
        self._serial += 1
        expires_on = issued_at + lifetime
        # Seen live: asked without the slash, for one of its two names, the token is for the other (azure-cli#29313).
        audience = "https://management.core.windows.net/" if resource == "https://management.azure.com" else resource
        token = _tokens.mint(self.identity, audience, min(issued_at, expires_on), expires_on, self._serial)
        return token, issued_at, expires_on

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[refuse_strangers], client_max_size=MAX_REQUEST_BODY)
        for path in _PATHS:
            app.router.add_route("*", path, self._answer)
        app.router.add_get("/{tenant}/.well-known/openid-configuration", self._openid_configuration)
        app.router.add_get("/common/discovery/keys", self._keys)
        return app

    async def _openid_configuration(self, request: web.Request) -> web.Response:
        tenant_id = request.match_info["tenant"]
        return web.json_response(
            {
                "issuer": _tokens.issuer(tenant_id),
                "jwks_uri": f"{self.origin}/common/discovery/keys",
                "authorization_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/authorize",
                "token_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/token",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response(_tokens.key_set())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "POST"):
            raise web.HTTPNotFound
        fields = request.query if request.method == "GET" else await request.post()
        asked = TokenRequest(
            request.method,
            request.path,
            {name.lower(): value for name, value in request.headers.items()},
            {name: value for name, value in fields.items() if isinstance(value, str)},
        )
        with self._mutex:
            self.requests.append(asked)
            scripted = self._script.popleft() if self._script else ScriptedReply()
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await asyncio.sleep(self.latency + scripted.seconds)
        finally:
            with self._mutex:
                self._under_way -= 1
        if scripted.drops and request.transport is not None:
            _LOGGER.info("%s %s %s -> dropped", asked.method, asked.path, asked.resource or "-")
            request.transport.abort()
            return web.Response()
        response = await self._reply(asked, scripted)
        asked.status = response.status
        _LOGGER.info("%s %s %s -> %d", asked.method, asked.path, asked.resource or "-", asked.status)
        return response

    async def _reply(self, asked: TokenRequest, scripted: ScriptedReply) -> web.Response:
        if asked.headers.get("metadata", "").lower() != "true":
            return error_response(400, "bad_request_102", "Required metadata header not specified")
        if not asked.resource:
            return error_response(400, "invalid_request", "Required audience parameter not specified")
        if scripted.body is not None:
            text = scripted.body.replace("{resource}", asked.resource)
            headers = {"Content-Type": "application/json; charset=utf-8", **scripted.headers}
            return web.Response(status=scripted.status, text=text, headers=headers)
        resource = scripted.token_for or asked.resource
        if self.audiences is not None and _plain(resource) not in map(_plain, self.audiences):
            listing = f" Supported audiences: {','.join(self.audiences)}" if self.list_audiences else ""
            return error_response(
                400, "AudienceNotSupported", f"Audience {resource} is not a supported MSI token audience.{listing}"
            )
        if scripted.token_life is not None:
            token, issued_at, expires_on = self._mint(resource, scripted.token_life)
        elif self._credential is None:
            token, issued_at, expires_on = self._issue(resource)
        else:
            try:
                token, expires_on = await asyncio.to_thread(self._credential.get_token, f"{resource}/.default")
            except Exception as error:
                return _refusal(resource, error)
            issued_at = int(time())
        content = {
            "access_token": token,
            "refresh_token": "",
            "expires_in": str(max(0, expires_on - int(time()))),
            "expires_on": str(expires_on),
            "not_before": str(issued_at),
            "resource": asked.resource,
            "token_type": "Bearer",
        }
        return web.json_response(text=faults.compact(content))


def _refusal(resource: str, error: Exception) -> web.Response:
    """The failure of the credential behind the emulator, as the endpoint would word it."""
    text = _failures.quoted(getattr(error, "message", None) or str(error) or type(error).__name__)
    # AADSTS500011, AADSTS650057: Entra knows no such resource for this tenant or client.
    if "AADSTS500011" in text or "AADSTS650057" in text:
        return error_response(
            400, "AudienceNotSupported", f"Audience {resource} is not a supported MSI token audience."
        )
    return error_response(400, "invalid_request", text)


def _plain(audience: str) -> str:
    return audience.rstrip("/").casefold()
