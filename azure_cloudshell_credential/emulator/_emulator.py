"""``CloudShellEmulator``: the token endpoint of Cloud Shell, on this machine, with made-up tokens.

What it answers is what ``assumptions`` says of the real endpoint.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic, sleep, time
from typing import Any, NamedTuple

from .._azure.credential import living
from .._azure.identities import forget
from .._endpoint.audiences import identifiers_of, plain
from .._endpoint.text import quoted
from .._serving.messages import Request, Response, compact, error_response, refusal
from .._serving.server import Served, Server
from .._serving.token_protocols import APP_SERVICE_PATH, IMDS_PATH, AppServiceProtocol, ImdsProtocol, TokenProtocol
from . import _azure_cli, _tokens, _variables, assumptions
from ._cloud_shell import AssumedProtocol
from ._identity import MARK, Identity
from ._services import supported_audiences
from .assumptions import Refusal, Value
from .faults import ScriptedReply

_LOGGER = logging.getLogger(__name__)

DEFAULT_LIFETIME = assumptions.LIFETIME
"""Seconds, as in the one reply that has been published."""

DEFAULT_AUDIENCES = supported_audiences()

_IDENTITY_HEADER = "made-up-identity-header"
_IMDS_PREFIX = "/imds"
_NO_IMDS_PREFIX = "/no-imds"
_OPENID_CONFIGURATION = "/.well-known/openid-configuration"
_OTHER_PROTOCOLS: dict[str, TokenProtocol] = {
    APP_SERVICE_PATH: AppServiceProtocol(_IDENTITY_HEADER),
    f"{_IMDS_PREFIX}{IMDS_PATH}": ImdsProtocol(),
}
_POLL_SECONDS = 0.05
_DRAIN_SECONDS = 1.0


@dataclass
class TokenRequest:
    """One request that the emulator was sent.

    :param method: ``GET`` or ``POST``.
    :param path: without the query.
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


class CloudShellEmulator(Served):
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
    :keyword assumed: what is to differ from the table in ``assumptions``, by the names of its rows.
    :ivar identity: as the keyword; ``sign_in`` changes it. This and the next four can be set at any time.
    :ivar lifetime: as the keyword, for tokens issued from now on.
    :ivar audiences: as the keyword; ``allow`` and ``deny`` change it.
    :ivar latency: as the keyword.
    :ivar list_audiences: as the keyword.
    :ivar assumed: the table with these changes, by the names of its rows.
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
        assumed: Mapping[str, Value | Refusal] | None = None,
    ) -> None:
        self._defaults: dict[str, Any] = {
            "identity": identity or Identity(),
            "lifetime": lifetime,
            "audiences": None if audiences is None else list(audiences),
            "latency": latency,
            "list_audiences": list_audiences,
        }
        self.assumed: dict[str, Value | Refusal] = {**assumptions.by_name(), **(assumed or {})}
        self._cloud_shell = AssumedProtocol(self.assumed)
        self._programs = _azure_cli.Programs(self._issue_to)
        self._mutex = Lock()
        self._server = Server(self._respond, port, addresses=("127.0.0.1", "::1"))
        self._serial = 0
        self._resets = 0
        self._under_way = 0
        self._times_entered = 0
        self.reset()

    def reset(self) -> None:
        """Forget all requests, tokens, scripts and changed settings, and sign out of az.

        Requests that wait for an answer are dropped, and the credentials of this process forget their tokens, their
        failures and what they are acquiring.
        """
        with self._mutex:
            self._resets += 1
        self._drain()
        forget(self.port)
        self._programs.reset()
        with self._mutex:
            self.identity: Identity = self._defaults["identity"]
            self.lifetime: int = self._defaults["lifetime"]
            supported = self._defaults["audiences"]
            self.audiences: list[str] | None = None if supported is None else list(supported)
            self.latency: float = self._defaults["latency"]
            self.list_audiences: bool = self._defaults["list_audiences"]
            self.requests: list[TokenRequest] = []
            self.max_concurrent_requests: int = 0
            self._script: deque[ScriptedReply] = deque()
            self._failing: ScriptedReply | None = None
            self._cache: dict[str, _Issued] = {}
            self._revoked_before = 0
        _reset_all()

    def _drain(self) -> None:
        """Wait until nobody waits for an answer of before: an acquisition that goes on would be the next test's."""
        deadline = monotonic() + _DRAIN_SECONDS
        while self._under_way and monotonic() < deadline:
            sleep(_POLL_SECONDS / 10)

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
        return _OTHER_PROTOCOLS[APP_SERVICE_PATH].environment(self.origin)

    @property
    def imds_environment(self) -> dict[str, str]:
        """The variable that leads a virtual machine's managed identity here, for code that runs there."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self.origin}{_IMDS_PREFIX}"}

    @property
    def no_imds_environment(self) -> dict[str, str]:
        """The variable that leads such code here to be refused at once, instead of waiting for 169.254.169.254."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self.origin}{_NO_IMDS_PREFIX}"}

    @contextmanager
    def as_environment(self, more: Mapping[str, str | None] | None = None) -> Iterator[None]:
        """Put this process into the emulated Cloud Shell: set ``os.environ``, and restore it afterwards.

        Credentials that were made before, without an endpoint of their own, are led to it too.

        :param more: further variables; None removes one.
        """
        try:
            variables = {**dict.fromkeys(_variables.SIGN_IN_VARIABLES), **self.environment, **(more or {})}
            with _variables.changed(variables):
                self._times_entered += 1
                _reset_all()
                try:
                    yield
                finally:
                    self._times_entered -= 1
        finally:
            _reset_all()

    @property
    def openid_configuration_url(self) -> str:
        """Where to find the keys that verify its tokens."""
        return f"{self.origin}/{self.identity.tenant_id}/.well-known/openid-configuration"

    def script(self, *replies: ScriptedReply) -> None:
        """Answer the next requests like this, one reply each, before answering as usual again.

        :param replies: such as ``faults.portal_timeout()``.
        """
        with self._mutex:
            self._script.extend(replies)

    @contextmanager
    def failing(self, reply: ScriptedReply) -> Iterator[None]:
        """Answer every request like this for the length of a ``with`` block.

        :param reply: such as ``faults.hang()``.
        """
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
        denied = {plain(identifier) for identifier in identifiers_of(name)}
        with self._mutex:
            listed = DEFAULT_AUDIENCES if self.audiences is None else self.audiences
            self.audiences = [audience for audience in listed if plain(audience) not in denied]

    def allow(self, name: str) -> None:
        """Support an audience, under all of its identifiers.

        :param name: as for ``deny``.
        :raises ValueError: for what is none of these.
        """
        allowed = identifiers_of(name)
        with self._mutex:
            if self.audiences is not None:
                self.audiences.extend(allowed)

    def az_login(self, *, user: str | None = None, tenant: str | None = None, seconds: float = 0.0) -> None:
        """Sign somebody in to the az that the fixtures and ``emulate --az-login`` put on PATH.

        :keyword str user: the user principal name. Default: somebody else of the emulated company.
        :keyword str tenant: the tenant. Default: the emulated Cloud Shell's.
        :keyword float seconds: how long az takes to answer.
        """
        identity = self.identity.changed(
            user=user or "grace@contoso.example",
            name="Grace Example",
            tenant_id=tenant or self.identity.tenant_id,
            object_id="55555555-eeee-4fff-8aaa-666666666666",
        )
        self._programs.login(identity, seconds)

    def az_fails(self, text: str, *, seconds: float = 0.0) -> None:
        """Let that az fail, as it does before ``az_login``.

        :param text: what it prints on stderr, or a key of ``FAILURES``, such as ``audience``.
        :keyword float seconds: how long it takes.
        """
        self._programs.fail(text, seconds)

    @property
    def az_calls(self) -> list[list[str]]:
        """The program and its arguments, for each call of az, azd or PowerShell so far."""
        return self._programs.calls

    @contextmanager
    def programs(self, *names: str) -> Iterator[dict[str, str]]:
        """Stand-ins for az, azd and PowerShell, to whom nobody is signed in, and an empty ``AZURE_CONFIG_DIR``.

        :param names: which; all if none is named.
        :return: the variables that put them first on PATH.
        """
        with TemporaryDirectory() as folder:
            yield self._programs.install(Path(folder), self.port, names)
            self._programs.uninstall()

    def sign_in(self, **changes: str) -> None:
        """Sign in as somebody else, or to another tenant.

        :param changes: what is different: fields of ``Identity``, such as ``user`` or ``tenant_id``.
        """
        with self._mutex:
            self.identity = self.identity.changed(**changes)
            self._cache.clear()
        if self._times_entered:
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
        _forget_all_tokens()

    def has_expired(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token is past its life.

        :param claims: the token's.
        """
        return int(claims["exp"]) <= time() or int(claims.get(MARK, 0)) <= self._revoked_before

    def issue(self, resource: str) -> tuple[str, int]:
        """The token for a resource, from the cache until it expires, and its expiry in Unix time.

        :param resource: as a client would ask for it.
        """
        issued = self._issue(resource)
        return issued.token, issued.expires_on

    def _issue(self, resource: str) -> _Issued:
        with self._mutex:
            cached = self._cache.get(resource)
            is_cached = self.assumed["token asked for again"] == assumptions.SAME
            if cached is None or cached.expires_on <= time() or not is_cached:
                cached = self._cache[resource] = self._mint(self.identity, resource, self.lifetime)
            return cached

    def _issue_to(self, identity: Identity, resource: str) -> tuple[str, int]:
        with self._mutex:
            issued = self._mint(identity, resource, self.lifetime)
        return issued.token, issued.expires_on

    def _mint(self, identity: Identity, resource: str, lifetime: int) -> _Issued:
        issued_at = int(time())
        self._serial += 1
        expires_on = issued_at + lifetime
        audience = self.assumed.get(f"audience of the token for {resource}", resource)
        token = _tokens.mint(identity, str(audience), min(issued_at, expires_on), expires_on, self._serial)
        return _Issued(token, issued_at, expires_on)

    def _respond(self, request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        if (protocol := _OTHER_PROTOCOLS.get(request.path)) is not None and request.method in ("GET", "POST"):
            return self._answer(request, protocol)
        if request.path == _azure_cli.PATH and request.method == "POST":
            return self._program(request)
        if request.method == "GET" and request.path == "/common/discovery/keys":
            return Response(200, compact(_tokens.key_set()))
        if request.method == "GET" and request.path.endswith(_OPENID_CONFIGURATION):
            return self._openid_configuration(request.path.removesuffix(_OPENID_CONFIGURATION).strip("/"))
        if request.path == f"{_NO_IMDS_PREFIX}{IMDS_PATH}":
            # What a virtual machine without an identity says.
            return ImdsProtocol().error("invalid_request", "Identity not found")
        if request.path in (assumptions.TOKEN_PATH, assumptions.VM_PATH):
            return self._answer(request, self._cloud_shell)
        unknown = self._cloud_shell.resource_of(request)
        return unknown if isinstance(unknown, Response) else error_response(404, "NotFound", "There is nothing here.")

    def _program(self, request: Request) -> Response:
        seconds, printed = self._programs.answer(json.loads(request.body))
        if not self._waits(request, seconds):
            return Response(0, drops=True)
        return Response(200, compact(printed._asdict()))

    def _waits(self, request: Request, seconds: float) -> bool:
        """Wait; False if the client goes away or everything is reset meanwhile."""
        resets = self._resets
        while seconds > 0:
            if not request.wait(min(seconds, _POLL_SECONDS)) or self._resets != resets:
                return False
            seconds -= _POLL_SECONDS
        return True

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
            is_there = self._waits(request, self.latency + scripted.seconds)
        finally:
            with self._mutex:
                self._under_way -= 1
        is_dropped = scripted.drops or not is_there
        response = Response(0, drops=True) if is_dropped else self._reply(request, protocol, scripted)
        asked.status = response.status
        # Any local user can send a request, with anything in it.
        shown = quoted(f"{asked.method} {asked.path} {asked.resource or '-'}")
        _LOGGER.info("%s -> %s", shown, asked.status or "dropped")
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
            if protocol is not self._cloud_shell:
                return protocol.error("AudienceNotSupported", f"{resource} is not a supported audience.{listing}")
            refused = self._cloud_shell.refused("unsupported audience", resource, listing)
            if refused is not None:
                return refused
        life = scripted.token_life
        issued = self._issue(resource) if life is None else self._mint(self.identity, resource, life)
        version = request.fields().get("api-version", "")
        return protocol.token(requested, issued.token, issued.expires_on, issued.issued_at, version)

    def _supports(self, resource: str) -> bool:
        if self.audiences is None or resource in self.audiences:
            return True
        slash_matters = self.assumed["audience with a slash added"] != assumptions.TOKEN
        return not slash_matters and plain(resource) in map(plain, self.audiences)


def _forget_all_tokens() -> None:
    for credential in living():
        credential._cache.forget()


def _reset_all() -> None:
    """Let every credential of this process begin anew, in the environment as it is now."""
    _forget_all_tokens()
    for credential in living():
        # One that could not be made in this environment stays as it is, without its tokens.
        with suppress(OSError, ValueError):
            credential._reset()
