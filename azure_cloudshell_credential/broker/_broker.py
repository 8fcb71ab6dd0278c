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

from .._endpoint.audiences import plain
from .._endpoint.environment import Environment, is_led_to_a_broker
from .._endpoint.text import quoted, redacted
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
from .._serving.variables import CHOICE, MISLEADING
from ._allowed import Allowed

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from .._azure.credential import SyncCredential

_LOGGER = logging.getLogger(__name__)

_ADDRESSES = ("MSI_ENDPOINT", "IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
"""Where azure-identity finds a managed identity."""

_STEPS = (
    *("environment", "cloud_shell", "workload_identity", "managed_identity", "shared_token_cache"),
    *("visual_studio_code", "cli", "powershell", "developer_cli", "broker"),
)
"""Of DefaultCloudShellCredential."""

_NO_RESOURCE = "A resource is a URI or an application id, such as https://vault.azure.net."
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")
_SECRET_BYTES = 32
_MAX_WARNINGS = 100
_OWN_CLIENTS = ("azure-cloudshell/", "azsdk-python-cloudshell-credential/")
"""How the user agents of ``azure-cloudshell`` and of our credentials begin."""


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
        # The resources whose refusal has been a warning.
        self._unserved: set[str] = set()

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

    def _take(self, secrets: Iterable[str]) -> None:
        """Take the secrets of another one, instead of those made for this one."""
        self._keep(_Secrets(*secrets))

    def _take_over(self, listeners: Sequence[socket.socket], secrets: Iterable[str]) -> None:
        """Serve what another process has handed over."""
        self._take(secrets)
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
        return {
            **variables,
            # Terraform: Cloud Shell's form, by GET.
            "ARM_MSI_ENDPOINT": variables["MSI_ENDPOINT"],
            # Rust's object_store, which sends App Service's header too, and prints the URL when it is refused a token.
            "AZURE_MSI_ENDPOINT": variables["IDENTITY_ENDPOINT"],
        }

    @property
    def removed(self) -> tuple[str, ...]:
        """The variables that would lead a program elsewhere, to be unset."""
        return MISLEADING

    def variables_for(self, environ: Mapping[str, str]) -> dict[str, str]:
        """All variables to set in an environment: those that lead a program to the broker, and two that keep it there.

        ``NO_PROXY``, in both spellings, exempts the names of the broker besides those that are exempt already.
        ``AZURE_TOKEN_CREDENTIALS`` is ``prod`` unless it has a value: a ``DefaultAzureCredential`` takes a refusal for
        "not here" otherwise, and goes on to the Azure CLI by itself.

        :param environ: the variables that they are added to.
        :rtype: dict[str, str]
        """
        return {
            **self.environment,
            CHOICE: environ.get(CHOICE, "").strip() or "prod",
            **without_proxy(environ, [*LOOPBACK, *dict.fromkeys((self._address, *self._host_names))]),
        }

    def child_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables for a program that is to ask the broker.

        :param environ: the variables it would have without the broker, usually ``os.environ``.
        :rtype: dict[str, str]
        """
        variables = {name: value for name, value in environ.items() if name not in MISLEADING}
        return {**variables, **self.variables_for(variables)}

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
                # Nobody is to ask themselves: neither where variables lead here, nor where we have the default address.
                cloud_shells = Environment(os.environ).endpoint
                if cloud_shells is not None and self._is_ours(cloud_shells.url):
                    options["exclude_cloud_shell_credential"] = True
                if any(self._is_ours(os.environ.get(name, "")) for name in _ADDRESSES):
                    options["exclude_managed_identity_credential"] = True
                credential = self._credential or DefaultCloudShellCredential(**options)
                self._asked = cached(credential)
            return self._asked

    def _is_ours(self, url: str) -> bool:
        """Whether a URL leads to this broker."""
        from urllib.parse import urlsplit

        try:
            host, port = urlsplit(url).hostname, urlsplit(url).port or 80
        except ValueError:
            return False
        names = {*self._server.addresses, *self._host_names}
        return port == self.port and (host in names or (host == "localhost" and not names.isdisjoint(LOOPBACK)))

    def _respond(self, request: Request) -> Response:
        nothing = error_response(404, "NotFound", "There is nothing here.")
        asked = next((each for each in self._protocols if self._is_at(request.path, each)), None)
        if asked is None or request.method not in ("GET", "POST"):
            return _refused(nothing, "nothing is there")
        requested = asked.resource_of(request)
        if isinstance(requested, Response) and requested.status == 401:
            # Who does not know the secret is not told what there is to know.
            return _refused(nothing, "its secret is missing or wrong")
        if (response := refusal(request, (self._address, *self._host_names))) is not None:
            return _refused(response, "not from a program that was led here")
        if isinstance(requested, Response):
            return _refused(requested, "its header or resource is missing or wrong")
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
        from .._endpoint import advice
        from .._endpoint.failures import Failure
        from .._endpoint.scopes import TokenRequest

        # azd sends scopes, everyone else resources; a resource with a slash at its end keeps it.
        scope = requested if isinstance(asked, AzdProtocol) else f"{requested}/.default"
        options = {"tenant_id": asked.tenant_of(request)}
        wanted = TokenRequest((scope,), options)
        if wanted.mistake:
            said = wanted.mistake if scope == requested else _NO_RESOURCE
            return _refused(asked.error("invalid_request", said), "its resource is malformed")
        # What is judged is what is asked for. A credential may take a permission for a part of the resource.
        wanted = TokenRequest((f"{wanted.resource}/.default",), options)
        shown = quoted(wanted.resource, 200)
        if self._allowed is not None and wanted.resource not in self._allowed:
            self._log_unserved(request, shown, "not one of the resources that are allowed (--allow)")
            said = f"This broker was told not to serve {shown} (--allow). {advice.for_one_not_allowed()}"
            return asked.error("AudienceNotSupported", said)
        try:
            outcome = self._cached_credential()._outcome(wanted)
        except Exception as error:
            outcome = Failure("error", f"{type(error).__name__}: {quoted(str(error))}", "nothing")
        if isinstance(outcome, Failure):
            code = outcome.code or "invalid_request"
            # Where another broker is asked, it is what needs mending.
            is_led = self._credential is None and is_led_to_a_broker(os.environ)
            message = advice.message(outcome, advice.LED if is_led else advice.PROGRAM)
            self._log_unserved(request, shown, f"{self._not_asked()}{message}", code)
            return asked.error(code, message)
        token = outcome.token
        expires_on = int(token.expires_on)
        _LOGGER.info("%s: a token of %s, valid for %d seconds", shown, token.identity.who, expires_on - time())
        version = request.query.get("api-version", "")
        return asked.token(requested, token.value, expires_on, min(int(time()), expires_on), version)

    def _not_asked(self) -> str:
        """Why Cloud Shell was not among those that were asked, as ``azure-cloudshell token`` says it; empty if it was.

        The program has been led here and is not told: where it runs is not its business. But its user may have lost
        Cloud Shell's variables on the way, to cron or to sudo.
        """
        from .._endpoint.failures import not_in_cloud_shell

        environment = Environment(os.environ)
        if self._credential is not None or environment.endpoint is not None:
            return ""
        return f"{not_in_cloud_shell(environment.refusal, environment.other_host).what} "

    def _log_unserved(self, request: Request, resource: str, why: str, code: str = "") -> None:
        """Log that a resource was refused: the first time as a warning, since not every client passes the reason on.

        azure-identity for Python 1.23 and older say "App Service managed identity configuration not found" instead.
        Our own clients do pass it on, and ``doctor`` asks for dozens of resources.
        """
        is_ours = request.headers.get("user-agent", "").startswith(_OWN_CLIENTS)
        with self._mutex:
            is_new = not (is_ours or plain(resource) in self._unserved or len(self._unserved) >= _MAX_WARNINGS)
            if is_new:
                self._unserved.add(plain(resource))
        if is_new:
            _LOGGER.warning("%s: refused, %s", resource, why)
        else:
            _LOGGER.info("%s: refused, %s", resource, code or why)


def _address(listen: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise ValueError(f"{redacted(repr(listen))} is not an IP address of this machine.") from None
    if address.is_unspecified:
        raise ValueError(f"{listen} is every address of this machine: name the one that the programs are to ask.")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError(f"{listen} is an address of many machines: name one of this machine.")
    return address


def _host_name(name: str) -> str:
    # It is written into URLs, NO_PROXY and lines of shells and env files.
    if not _HOST_NAME.fullmatch(name.lower()):
        raise ValueError(
            f"{redacted(repr(name))} is not a host name such as host.docker.internal, without scheme and port."
        )
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
