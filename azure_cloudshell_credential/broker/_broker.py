"""``CloudShellBroker``: requests in, tokens of a credential out.

What a request looks like is known by ``token_protocols``, how it is served by ``server``. Here it is decided who may
ask, for what, which credential answers, and what is said when it cannot.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from time import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from .._endpoint.text import quoted
from .._serving.messages import Request, Response, error_response, refusal
from .._serving.proxies import LOOPBACK, without_proxy
from .._serving.server import Served, Server
from .._serving.token_protocols import (
    IDENTITY_FIELDS,
    AppServiceProtocol,
    AzdProtocol,
    CloudShellProtocol,
    TokenProtocol,
    same,
)
from .._serving.variables import CLOUD_SHELLS_FORM, MISLEADING
from ._allowed import Allowed

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from .._azure.credential import SyncCredential

_LOGGER = logging.getLogger(__name__)

_STEPS = (
    *("environment", "cloud_shell", "workload_identity", "managed_identity", "shared_token_cache"),
    *("visual_studio_code", "cli", "powershell", "developer_cli", "broker"),
)
"""Of DefaultCloudShellCredential."""

_NO_RESOURCE = "A resource is a URI or an application id, such as https://vault.azure.net."
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")
_SECRET_BYTES = 32
_AZ_SECONDS = 30


class _Secrets(NamedTuple):
    """One for each form of request, so that a URL in somebody's error text does not open the others.

    Cloud Shell's form has its secret in the path, App Service's in a header, azd's is a key.
    """

    path: str
    header: str
    key: str


class CloudShellBroker(Served):
    """A token endpoint on this machine that answers with the tokens of a credential.

    For example:

        with CloudShellBroker() as broker:
            subprocess.run(command, env=broker.child_environment(os.environ))

    A request without its URL, which carries 256 random bits, gets a 404; so only the programs that were given its
    environment can ask. Every program of the same user can read that environment (``/proc/PID/environ``), as it can
    run ``az`` itself.

    Tokens are cached in memory as everywhere in this package, and a hundred programs that ask at once make one request.

    :param credential: where tokens come from, a synchronous one. Default: a ``DefaultCloudShellCredential``, made with
        the first request from the environment of this process.
    :paramtype credential: azure.core.credentials.TokenCredential
    :keyword int port: the port; 0, the default, takes a free one.
    :keyword bool path_secret: put a secret into the URL. Default True. Without it every program of every user of this
        machine can ask: only for tools with a hard-coded address.
    :keyword allow: the only resources it serves: URIs, application ids, or short names such as ``vault``. Default: all.
    :paramtype allow: ~collections.abc.Iterable[str]
    :keyword str listen: the IP address to listen on, for programs in containers. Default ``127.0.0.1``. What is sent to
        another address crosses a network without encryption.
    :keyword host_names: the names by which such programs reach that address, such as ``host.docker.internal``. The
        first one is the host of the URLs.
    :paramtype host_names: ~collections.abc.Sequence[str]
    :raises ValueError: for a name in ``allow`` that is not a resource, for one in ``host_names`` that is not a host
        name, for a wildcard, multicast or broadcast address, or for an address that is not loopback without
        ``path_secret``.
    :raises TypeError: for anything other than a synchronous credential.
    """

    __module__ = "azure_cloudshell_credential.broker"

    def __init__(
        self,
        credential: TokenCredential | None = None,
        *,
        port: int = 0,
        path_secret: bool = True,
        allow: Iterable[str] | None = None,
        listen: str = "127.0.0.1",
        host_names: Sequence[str] = (),
    ) -> None:
        if credential is not None:
            from .._azure.credential import check_is_synchronous

            check_is_synchronous(credential)
        address = _address(listen)
        if not (address.is_loopback or path_secret):
            raise ValueError(f"Without a secret in the path it listens on this machine only, not on {listen}.")
        self._credential = credential
        self._allowed = None if allow is None else Allowed(allow)
        self._address = f"[{address}]" if address.version == 6 else str(address)
        self._host_names = tuple(map(_host_name, host_names))
        self._path_secret = path_secret
        self._keep(_Secrets(*(os.urandom(_SECRET_BYTES).hex() for _ in _Secrets._fields)))
        # Tools with a hard-coded address ask localhost, which is either of the two.
        addresses = (str(address),) if path_secret else ("127.0.0.1", "::1")
        self._server = Server(self._respond, port, addresses=addresses, refused=_log_refused)
        self._mutex = Lock()
        self._asked: SyncCredential | None = None
        self._has_told_of_identities = False

    def _keep(self, secrets: _Secrets) -> None:
        self._secrets = secrets
        self._prefix = f"/{secrets.path}" if self._path_secret else ""
        self._protocols: tuple[TokenProtocol, ...] = (
            CloudShellProtocol(),
            AppServiceProtocol(secrets.header),
            AzdProtocol(secrets.key),
        )

    def _prefix_of(self, asked: TokenProtocol) -> str:
        """What the paths of a form begin with."""
        return self._prefix if isinstance(asked, CloudShellProtocol) else ""

    def _hand_over(self) -> tuple[list[socket.socket], _Secrets]:
        """Listen, and leave it to another process to serve.

        :raises OSError: if there can be no socket.
        """
        self._server.bind()
        return self._server.release(), self._secrets

    def _take_over(self, listeners: Sequence[socket.socket], secrets: Iterable[str]) -> None:
        """Serve what another process has handed over."""
        self._keep(_Secrets(*secrets))
        self._server.adopt(listeners)
        self._server.serve()

    def __reduce__(self) -> NoReturn:
        raise TypeError("A broker holds a port and secrets, and cannot be copied. Start another one.")

    async def __aenter__(self) -> CloudShellBroker:
        return self.start()

    async def __aexit__(self, *args: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        # Without the URL, which holds the secret.
        return f"CloudShellBroker(port={self.port})"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a program to the broker. They hold its secrets."""
        host = self._host_names[0] if self._host_names else self._address
        variables: dict[str, str] = {}
        for each in self._protocols:
            variables.update(each.environment(f"http://{host}:{self.port}{self._prefix_of(each)}"))
        return {**variables, **dict.fromkeys(CLOUD_SHELLS_FORM, variables["MSI_ENDPOINT"])}

    @property
    def removed(self) -> tuple[str, ...]:
        """The variables that would lead a program elsewhere, to be unset."""
        return MISLEADING

    def without_proxy(self, environ: Mapping[str, str]) -> dict[str, str]:
        """``NO_PROXY`` in both spellings, with the names of the broker added to those that are exempt.

        :param environ: the variables that it is added to.
        :rtype: dict[str, str]
        """
        return without_proxy(environ, [*LOOPBACK, *dict.fromkeys((self._address, *self._host_names))])

    def child_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables for a program that is to ask the broker.

        :param environ: the variables it would have without the broker, usually ``os.environ``.
        :rtype: dict[str, str]
        """
        variables = {name: value for name, value in environ.items() if name not in MISLEADING}
        return {**variables, **self.environment, **self.without_proxy(variables)}

    def get_token(self, scope: str, tenant_id: str | None = None) -> tuple[str, int]:
        """A token as the broker's clients get it, and its expiry in Unix time.

        :param scope: the scope, such as ``https://vault.azure.net/.default``.
        :param tenant_id: the tenant that the token must be for. Default: any.
        :rtype: tuple[str, int]
        :raises azure.core.exceptions.ClientAuthenticationError: if the credential has none.
        """
        token = self._cached_credential().get_token(scope, tenant_id=tenant_id)
        return token.token, token.expires_on

    def _cached_credential(self) -> SyncCredential:
        """The credential to ask. Made with the first request: a command that asks for none starts without waiting."""
        with self._mutex:
            if self._asked is None:
                from .._azure.default_chain import DefaultCloudShellCredential, cached

                # AZURE_TOKEN_CREDENTIALS is the program's, and narrows nothing here.
                options = {f"exclude_{step}_credential": False for step in _STEPS}
                # A process that has been led here is not to ask itself.
                if any(os.environ.get(name) == value for name, value in self.environment.items()):
                    options |= {"exclude_cloud_shell_credential": True, "exclude_managed_identity_credential": True}
                credential = self._credential or DefaultCloudShellCredential(**options)
                self._asked = cached(credential)
            return self._asked

    def _respond(self, request: Request) -> Response:
        nothing = error_response(404, "NotFound", "There is nothing here.")
        asked = next((each for each in self._protocols if self._is_at(request.path, each)), None)
        if asked is None or request.method not in ("GET", "POST"):
            return _refused(nothing, "nothing is there")
        if (response := refusal(request, (self._address, *self._host_names))) is not None:
            return _refused(response, "not from a program that was led here")
        requested = asked.resource_of(request)
        if isinstance(requested, Response):
            # Who does not know the secret is not told what there is to know.
            response = nothing if requested.status == 401 else requested
            return _refused(response, "its secret, header or resource is missing or wrong")
        if not requested.isprintable() or " " in requested:
            message = "A resource has no white space and no control characters."
            return _refused(asked.error("invalid_request", message), "its resource is malformed")
        if not self._has_told_of_identities and request.fields().keys() & set(IDENTITY_FIELDS):
            self._has_told_of_identities = True
            _LOGGER.info("A client named a managed identity: that makes no difference, the token is the user's.")
        return self._answer(asked, request, requested)

    def _is_at(self, path: str, asked: TokenProtocol) -> bool:
        """Whether a path is one of a form's."""
        prefix = self._prefix_of(asked)
        return path[len(prefix) :] in asked.paths and same(path[: len(prefix)], prefix)

    def _answer(self, asked: TokenProtocol, request: Request, requested: str) -> Response:
        from .._endpoint.failures import Failure
        from .._endpoint.scopes import TokenRequest

        shown = quoted(requested, 200)
        # azd sends scopes, everyone else resources; a resource with a slash at its end keeps it.
        scope = requested if isinstance(asked, AzdProtocol) else f"{requested}/.default"
        wanted = TokenRequest((scope,), {"tenant_id": asked.tenant_of(request)})
        if wanted.mistake:
            said = wanted.mistake if scope == requested else _NO_RESOURCE
            return _refused(asked.error("invalid_request", said), "its resource is malformed")
        if self._allowed is not None and wanted.resource not in self._allowed:
            _LOGGER.info("%s: refused, not one of the resources that are allowed", shown)
            return asked.error("AudienceNotSupported", f"This broker was told not to serve {shown} (--allow).")
        try:
            outcome = self._cached_credential()._outcome(wanted)
        except Exception as error:
            outcome = Failure("error", f"{type(error).__name__}: {quoted(str(error))}", "")
        if isinstance(outcome, Failure):
            code = outcome.code or "invalid_request"
            _LOGGER.info("%s: refused (%s)", shown, code)
            return asked.error(code, outcome.message)
        token = outcome.token
        expires_on = int(token.expires_on)
        _LOGGER.info("%s: a token of %s, valid for %d seconds", shown, token.identity.who, expires_on - time())
        version = request.query.get("api-version", "")
        return asked.token(requested, token.value, expires_on, min(int(time()), expires_on), version)


def _address(listen: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise ValueError(f"{listen!r} is not an IP address of this machine.") from None
    if address.is_unspecified:
        raise ValueError(f"{listen} is every address of this machine: name the one that the programs are to ask.")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError(f"{listen} is an address of many machines: name one of this machine.")
    return address


def _host_name(name: str) -> str:
    # It is written into URLs, NO_PROXY and lines of shells and env files.
    if not _HOST_NAME.fullmatch(name.lower()):
        raise ValueError(f"{name!r} is not a host name such as host.docker.internal, without scheme and port.")
    return name.lower()


def _refused(response: Response, why: str) -> Response:
    """The response to what gets no further. Nothing of the request is logged: it may hold a secret.

    The connection ends: whoever may not ask is not to keep a place from those who may.
    """
    response.closes = True
    _log_refused(response.status, why)
    return response


def _log_refused(status: int, why: str) -> None:
    _LOGGER.info("A request was refused with %d: %s", status, why)
