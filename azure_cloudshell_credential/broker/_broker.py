"""``CloudShellBroker``: requests in, tokens of a credential out.

What a request looks like is known by ``token_protocols``, how it is served by ``server``. Here it is decided who may
ask, which credential answers, and what is said when it cannot.
"""

from __future__ import annotations

import logging
import os
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any

from .._endpoint import failures
from .._endpoint.environment import read_environment, without_proxy_for_loopback
from .._serving.messages import Request, Response, error_response, refusal
from .._serving.server import Server
from .._serving.token_protocols import (
    IDENTITY_VARIABLES,
    MODE_VARIABLES,
    AppServiceProtocol,
    AzdProtocol,
    CloudShellProtocol,
    ImdsProtocol,
    TokenProtocol,
    same,
)

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from .._azure.sources import TokenSource

_LOGGER = logging.getLogger(__name__)

PROTOCOLS = ("cloud-shell", "app-service", "imds")
"""What ``protocol`` may be. azd's own protocol is served beside each of them."""

_SECRET_BYTES = 32


class CloudShellBroker:
    """A token endpoint on this machine that answers with the tokens of a credential.

    For example:

        with CloudShellBroker() as broker:
            subprocess.run(command, env=broker.child_environment(os.environ))

    It listens on loopback only. A request without its URL, which carries 256 random bits, gets a 404; so
    only the programs that were given its environment can ask. Every program of the same user can read that environment
    (``/proc/PID/environ``), as it can run ``az`` itself.

    Tokens are cached in memory as everywhere in this package, and a hundred programs that ask at once make one request.

    :param credential: where tokens come from, a synchronous one. Default: a ``DefaultCloudShellCredential``, made with
        the first request from the environment of this process.
    :paramtype credential: azure.core.credentials.TokenCredential
    :keyword str protocol: ``cloud-shell`` (what azure-identity speaks in every language), ``app-service`` (MSAL and
        most others) or ``imds`` (the Azure CLI). Default ``cloud-shell``.
    :keyword int port: the port; 0, the default, takes a free one.
    :keyword bool path_secret: put a secret into the URL. Default True. Without it every program of every user of this
        machine can ask: only for tools with a hard-coded address.
    :raises ValueError: for an unknown protocol.
    :raises TypeError: for a credential without ``get_token``.
    """

    __module__ = "azure_cloudshell_credential.broker"

    def __init__(
        self,
        credential: TokenCredential | None = None,
        *,
        protocol: str = "cloud-shell",
        port: int = 0,
        path_secret: bool = True,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
        if credential is not None and not callable(getattr(credential, "get_token", None)):
            raise TypeError("credential must have a get_token method.")
        self._credential = credential
        self._secret = os.urandom(_SECRET_BYTES).hex()
        self._prefix = f"/{self._secret}" if path_secret else ""
        main: dict[str, TokenProtocol] = {
            "cloud-shell": CloudShellProtocol(),
            "app-service": AppServiceProtocol(self._secret),
            "imds": ImdsProtocol(),
        }
        self._protocol = protocol
        self._protocols: tuple[TokenProtocol, ...] = (main[protocol], AzdProtocol(self._secret))
        self._server = Server(self._respond, port)
        self._mutex = Lock()
        self._tokens: TokenSource | None = None

    def start(self) -> CloudShellBroker:
        """Start serving.

        :raises OSError: if the port is taken.
        """
        self._server.start()
        return self

    def bind(self) -> None:
        """Take the port, so that the environment is known. Requests are kept waiting until ``serve``.

        :raises OSError: if the port is taken.
        """
        self._server.bind()

    def serve(self) -> None:
        """Serve, in a thread."""
        self._server.serve()

    def stop(self) -> None:
        """Stop serving, even with connections open."""
        self._server.stop()

    def __enter__(self) -> CloudShellBroker:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.stop()

    async def __aenter__(self) -> CloudShellBroker:
        return self.start()

    async def __aexit__(self, *args: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        # Without the URL, which holds the secret.
        return f"CloudShellBroker(protocol={self._protocol!r}, port={self.port})"

    @property
    def port(self) -> int:
        """The port it serves."""
        return self._server.port

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a program to the broker. They hold its secret."""
        base = f"http://localhost:{self.port}{self._prefix}"
        variables: dict[str, str] = {}
        for protocol in self._protocols:
            variables.update(protocol.environment(base))
        return variables

    @property
    def removed(self) -> tuple[str, ...]:
        """The variables that would lead a program elsewhere, to be unset."""
        names = IDENTITY_VARIABLES + (MODE_VARIABLES if self._protocol == "imds" else ())
        return tuple(name for name in names if name not in self.environment)

    def child_environment(self, environ: Any) -> dict[str, str]:
        """The variables for a program that is to ask the broker.

        ``NO_PROXY`` gains this machine's names.

        :param environ: the variables it would have without the broker, usually ``os.environ``.
        """
        removed = self.removed
        variables = {name: value for name, value in environ.items() if name not in removed}
        return {**variables, **self.environment, **without_proxy_for_loopback(variables)}

    def get_token(self, scope: str, tenant_id: str | None = None) -> tuple[str, int]:
        """A token as the broker's clients get it, and its expiry in Unix time.

        :raises azure.core.exceptions.ClientAuthenticationError: if the credential has none.
        """
        from .._azure.sources import TokenRequest

        request = TokenRequest((scope,), {"tenant_id": tenant_id})
        token = self._tokens_of_credential().token(request).token
        return token.value, token.expires_on

    def _outcome(self, scope: str, tenant_id: str | None) -> Any:
        from .._azure.sources import TokenRequest

        return self._tokens_of_credential().outcome(TokenRequest((scope,), {"tenant_id": tenant_id}))

    def _tokens_of_credential(self) -> TokenSource:
        """The credential's tokens. Made with the first request: a command that asks for none starts without waiting."""
        with self._mutex:
            if self._tokens is None:
                from .._azure.default_chain import DefaultCloudShellCredential, source_of

                # In a shell that has been led here, the environment names this very broker.
                endpoint = read_environment(os.environ).endpoint
                is_here = endpoint is not None and endpoint.port == self.port
                credential = self._credential or DefaultCloudShellCredential(exclude_cloud_shell_credential=is_here)
                self._tokens = source_of(credential)
            return self._tokens

    def _respond(self, request: Request) -> Response:
        not_found = error_response(404, "NotFound", "There is nothing here.")
        start, rest = request.path[: len(self._prefix)], request.path[len(self._prefix) :]
        if not same(start, self._prefix):
            return not_found
        protocol = next((known for known in self._protocols if rest in known.paths), None)
        if protocol is None or request.method not in ("GET", "POST"):
            return not_found
        if (refused := refusal(request)) is not None:
            return refused
        requested = protocol.resource_of(request)
        if isinstance(requested, Response):
            return requested
        return self._answer(protocol, requested, protocol.tenant_of(request))

    def _answer(self, protocol: TokenProtocol, requested: str, tenant_id: str | None) -> Response:
        from .._endpoint.failures import Failure

        shown = failures.quoted(requested, 200)
        if not requested.isprintable() or " " in requested:
            return protocol.error("invalid_request", "A resource has no white space and no control characters.")
        # azd sends scopes, everyone else resources; a resource with a slash at its end keeps it.
        scope = requested if isinstance(protocol, AzdProtocol) else f"{requested}/.default"
        try:
            outcome = self._outcome(scope, tenant_id)
        except Exception as error:
            outcome = Failure("error", f"{type(error).__name__}: {failures.quoted(str(error))}", "")
        if isinstance(outcome, Failure):
            code = "AudienceNotSupported" if "(AudienceNotSupported)" in outcome.message else "invalid_request"
            _LOGGER.info("%s: refused (%s)", shown, code)
            return protocol.error(code, _explain(outcome))
        token = outcome.token
        _LOGGER.info("%s: a token for %d more seconds", shown, token.expires_on - time())
        return protocol.token(requested, token.value, token.expires_on, min(int(time()), token.expires_on))


def _explain(failure: failures.Failure) -> str:
    """The reason of Cloud Shell first, then one line of each further credential."""
    if not failure.attempts:
        return failure.what
    # Without Cloud Shell's advice: a chain and the broker are what is asking.
    said = [(name, text.partition(" Sign in with 'az login'")[0]) for name, text in failure.attempts]
    return "\n".join(f"{name}: {failures.sentence(text)}" for name, text in said)
