"""``CloudShellEmulator``: the token endpoint of Cloud Shell, on this machine, with made-up tokens.

What it does is what is known of the real endpoint. Three things are not, and are its own choice: a trailing slash
makes no difference to the audiences it supports, ``resource`` in a reply is what was asked for, and ``expires_in`` of
a cached token is what is left of its life.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import time
from typing import Any, NamedTuple

from .._azure.sources import forget_all_tokens, reset_all
from .._endpoint import audiences, services
from .._serving.messages import Request, Response, compact, error_response, refusal
from .._serving.server import Server
from .._serving.token_protocols import (
    APP_SERVICE_PATH,
    CLOUD_SHELL_PATHS,
    IDENTITY_VARIABLES,
    IMDS_PATH,
    AppServiceProtocol,
    CloudShellProtocol,
    ImdsProtocol,
    TokenProtocol,
)
from . import _tokens, _variables
from ._tokens import Identity
from .faults import ScriptedReply

_LOGGER = logging.getLogger(__name__)

DEFAULT_LIFETIME = 3900
"""Seconds, as in the one reply that has been published (azure-cli#14218)."""

DEFAULT_AUDIENCES = services.supported_audiences()

_IDENTITY_HEADER = "made-up-identity-header"
_IMDS_PREFIX = "/imds"
_OPENID_CONFIGURATION = "/.well-known/openid-configuration"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PROTOCOLS: dict[str, TokenProtocol] = {
    **dict.fromkeys(CLOUD_SHELL_PATHS, CloudShellProtocol()),
    APP_SERVICE_PATH: AppServiceProtocol(_IDENTITY_HEADER),
    f"{_IMDS_PREFIX}{IMDS_PATH}": ImdsProtocol(),
}


@dataclass
class TokenRequest:
    """One request that the emulator was sent.

    :param headers: with names in lower case.
    :param parameters: the form, or the query of a GET.
    :param status: what it was answered; 0 until it is.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    status: int = 0

    @property
    def resource(self) -> str:
        """The resource asked for."""
        return self.parameters.get("resource", "")


class _Issued(NamedTuple):
    """A token that the endpoint has issued, with its times in Unix time."""

    token: str
    issued_at: int
    expires_on: int


class CloudShellEmulator:
    """The token endpoint of Cloud Shell, emulated over a real socket on loopback.

    For example:

        with CloudShellEmulator() as shell:
            credential = CloudShellCredential(endpoint=shell.endpoint)

    Its tokens are made up: signed by a key that only this process has, good for nothing in Azure. Every method may be
    called from any thread, while it serves or before.

    :keyword int port: the port; 0, the default, takes a free one. Tools with a hard-coded address (azure-cli, azd,
        MSAL for Python) need 50342.
    :keyword Identity identity: who is signed in. Default: the made-up ``Identity()``.
    :keyword int lifetime: how long tokens live, in seconds. Default 3900, as has been seen of the endpoint.
    :keyword audiences: the resources it issues tokens for; None: all. Default: ``DEFAULT_AUDIENCES``.
    :keyword float latency: seconds before each reply. Default 0.
    :keyword bool list_audiences: name the supported audiences in ``AudienceNotSupported``, as the endpoint did before
        2024-08. Default False.
    :ivar identity: as the keyword; ``sign_in`` changes it. This and the next four can be set at any time.
    :ivar lifetime: as the keyword, for tokens issued from now on.
    :ivar audiences: as the keyword; ``allow`` and ``deny`` change it.
    :ivar latency: as the keyword.
    :ivar list_audiences: as the keyword.
    :ivar requests: a ``TokenRequest`` for each request so far.
    :ivar max_concurrent_requests: how many requests were there at once, at most.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    def __init__(
        self,
        *,
        port: int = 0,
        identity: Identity | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        audiences: Iterable[str] | None = DEFAULT_AUDIENCES,
        latency: float = 0.0,
        list_audiences: bool = False,
    ) -> None:
        self._defaults: dict[str, Any] = {
            "identity": identity or Identity(),
            "lifetime": lifetime,
            "audiences": None if audiences is None else list(audiences),
            "latency": latency,
            "list_audiences": list_audiences,
        }
        self._mutex = Lock()
        self._server = Server(self._respond, port)
        self._serial = 0
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
            self.max_concurrent_requests: int = 0
            self._under_way = 0
            self._script: deque[ScriptedReply] = deque()
            self._failing: ScriptedReply | None = None
            self._cache: dict[str, _Issued] = {}
            self._revoked_before = 0

    def start(self) -> CloudShellEmulator:
        """Start serving.

        :raises OSError: if the port is taken.
        """
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving, even with connections open."""
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

    @property
    def app_service_environment(self) -> dict[str, str]:
        """The variables that an App Service with a managed identity has, for code that runs there."""
        return _PROTOCOLS[APP_SERVICE_PATH].environment(self.origin)

    @property
    def imds_environment(self) -> dict[str, str]:
        """The variable that leads a virtual machine's managed identity here, for code that runs there."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self.origin}{_IMDS_PREFIX}"}

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Put this process into the emulated Cloud Shell: set ``os.environ``, and restore it afterwards.

        Credentials that were made before, without an endpoint of their own, are led to it too.
        """
        try:
            with _variables.changed({**dict.fromkeys(IDENTITY_VARIABLES), **self.environment}):
                self._is_environment = True
                reset_all()
                yield
        finally:
            self._is_environment = False
            reset_all()

    @property
    def openid_configuration_url(self) -> str:
        """Where to find the keys that verify its tokens."""
        return f"{self.origin}/{self.identity.tenant_id}/.well-known/openid-configuration"

    def script(self, *replies: ScriptedReply) -> None:
        """Answer the next requests like this, one reply each, before answering as usual again."""
        with self._mutex:
            self._script.extend(replies)

    @contextmanager
    def failing(self, reply: ScriptedReply) -> Iterator[None]:
        """Answer every request like this for the length of a ``with`` block."""
        self._failing = reply
        try:
            yield
        finally:
            self._failing = None

    def deny(self, name: str) -> None:
        """Support an audience no longer, under any of its identifiers.

        :param name: a URI, an application id, a scope, or a short name such as ``vault``.
        :raises ValueError: for what is none of these.
        """
        denied = {_plain(identifier) for identifier in _identifiers(name)}
        with self._mutex:
            listed = DEFAULT_AUDIENCES if self.audiences is None else self.audiences
            self.audiences = [audience for audience in listed if _plain(audience) not in denied]

    def allow(self, name: str) -> None:
        """Support an audience, under all of its identifiers.

        :param name: as for ``deny``.
        :raises ValueError: for what is none of these.
        """
        allowed = _identifiers(name)
        with self._mutex:
            if self.audiences is not None:
                self.audiences.extend(allowed)

    def sign_in(self, **changes: str) -> None:
        """Sign in as somebody else, or to another tenant.

        :param changes: what is different: fields of ``Identity``, such as ``user`` or ``tenant_id``.
        """
        with self._mutex:
            self.identity = self.identity.changed(**changes)
            self._cache.clear()
        if self._is_environment:
            os.environ.update(self.environment)

    def revoke_tokens(self) -> None:
        """Expire all tokens issued so far: new ones are issued, and stand-ins refuse the old ones.

        Clients do not know, as after a revocation by Entra: they go on using those that they hold.
        """
        with self._mutex:
            self._cache.clear()
            self._revoked_before = self._serial

    def expire_tokens(self) -> None:
        """As ``revoke_tokens``, and let the credentials of this process notice: they ask for new tokens."""
        self.revoke_tokens()
        forget_all_tokens()

    def has_expired(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token with these claims is past its life."""
        return int(claims["exp"]) <= time() or int(claims.get("serial", 0)) <= self._revoked_before

    def issue(self, resource: str) -> tuple[str, int]:
        """The token for a resource, from the cache until it expires, and its expiry in Unix time."""
        issued = self._issue(resource)
        return issued.token, issued.expires_on

    def _issue(self, resource: str) -> _Issued:
        with self._mutex:
            cached = self._cache.get(resource)
            if cached is None or cached.expires_on <= time():
                cached = self._cache[resource] = self._mint(resource, self.lifetime)
            return cached

    def _mint(self, resource: str, lifetime: int) -> _Issued:
        issued_at = int(time())
        self._serial += 1
        expires_on = issued_at + lifetime
        # Seen live: asked without the slash, for one of its two names, the token is for the other (azure-cli#29313).
        audience = "https://management.core.windows.net/" if resource == "https://management.azure.com" else resource
        token = _tokens.mint(self.identity, audience, min(issued_at, expires_on), expires_on, self._serial)
        return _Issued(token, issued_at, expires_on)

    def _respond(self, request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        protocol = _PROTOCOLS.get(request.path)
        if protocol is not None and request.method in ("GET", "POST"):
            return self._answer(request, protocol)
        if request.method == "GET" and request.path == "/common/discovery/keys":
            return Response(200, compact(_tokens.key_set()))
        if request.method == "GET" and request.path.endswith(_OPENID_CONFIGURATION):
            return self._openid_configuration(request.path.removesuffix(_OPENID_CONFIGURATION).strip("/"))
        return error_response(404, "NotFound", "There is nothing here.")

    def _openid_configuration(self, tenant_id: str) -> Response:
        content = {
            "issuer": _tokens.issuer(tenant_id),
            "jwks_uri": f"{self.origin}/common/discovery/keys",
            "authorization_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/authorize",
            "token_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/token",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return Response(200, compact(content))

    def _answer(self, request: Request, protocol: TokenProtocol) -> Response:
        asked = TokenRequest(request.method, request.path, request.headers, request.fields())
        with self._mutex:
            self.requests.append(asked)
            scripted = self._script.popleft() if self._script else self._failing or ScriptedReply()
            self._under_way += 1
            self.max_concurrent_requests = max(self.max_concurrent_requests, self._under_way)
        try:
            is_there = request.wait(self.latency + scripted.seconds)
        finally:
            with self._mutex:
                self._under_way -= 1
        if scripted.drops or not is_there:
            _LOGGER.info("%s %s %s -> dropped", asked.method, asked.path, asked.resource or "-")
            return Response(0, drops=True)
        response = self._reply(request, protocol, scripted)
        asked.status = response.status
        _LOGGER.info("%s %s %s -> %d", asked.method, asked.path, asked.resource or "-", asked.status)
        return response

    def _reply(self, request: Request, protocol: TokenProtocol, scripted: ScriptedReply) -> Response:
        requested = protocol.resource_of(request)
        if isinstance(requested, Response):
            return requested
        if scripted.body is not None:
            return Response(scripted.status, scripted.body.replace("{resource}", requested), scripted.headers)
        resource = scripted.token_for or requested
        if not self._supports(resource):
            listing = f" Supported audiences: {','.join(self.audiences or ())}" if self.list_audiences else ""
            return protocol.error(
                "AudienceNotSupported", f"Audience {resource} is not a supported MSI token audience.{listing}"
            )
        life = scripted.token_life
        issued = self._issue(resource) if life is None else self._mint(resource, life)
        return protocol.token(requested, issued.token, issued.expires_on, issued.issued_at)

    def _supports(self, resource: str) -> bool:
        return self.audiences is None or _plain(resource) in map(_plain, self.audiences)


def _plain(audience: str) -> str:
    return audience.rstrip("/").casefold()


def _identifiers(name: str) -> tuple[str, ...]:
    """All identifiers of an audience.

    :param name: a short name, a scope, a URI or an application id.
    :raises ValueError: for what is none of these.
    """
    resource = audiences.resource_for(name) or name.removesuffix("/.default")
    audience = audiences.lookup(resource)
    if audience is not None:
        return audience.identifiers
    if "://" not in resource and not _GUID.fullmatch(resource):
        known = ", ".join(sorted(audience.name for audience in audiences.KNOWN))
        raise ValueError(f"{name!r} is not an audience. Give a URI, an application id, a scope, or one of: {known}.")
    return (resource,)
