"""``CloudShellEmulator``: the token endpoint of Cloud Shell, on this machine, with made-up tokens.

What it answers is what a ``Behaviour`` says of the real endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .._azure.identities import forget
from .._endpoint.audiences import did_you_mean
from .._serving.server import Served, Server
from ._az_words import FAILURES
from ._azure_cli import Programs
from ._issuer import Issuer
from ._process import Process, begin_all_anew, forget_all_tokens, stand_ins
from ._responder import (
    APP_SERVICE,
    IMDS_PREFIX,
    NO_IMDS_PREFIX,
    OPENID_CONFIGURATION,
    RecordedRequest,
    Responder,
    reply_given,
)
from ._settings import DEFAULT_AUDIENCES, Identity, Settings
from .behaviour import Behaviour
from .faults import ScriptedReply


class CloudShellEmulator(Settings, Served):
    """The token endpoint of Cloud Shell, emulated over a real socket on loopback.

    For example:

        with CloudShellEmulator() as shell:
            credential = CloudShellCredential(endpoint=shell.endpoint)

    Its tokens are made up: signed by a key that only this process has; no service accepts them. Every method may be
    called from any thread, while it serves or before.

    :keyword int port: the port; 0, the default, takes a free one. Tools with a hard-coded address (azure-cli, azd,
        MSAL for Python) need 50342.
    :keyword Identity identity: who is signed in. Default: the made-up ``Identity()``.
    :keyword lifetime: how long tokens live, in seconds. Default: as ``assumed`` says, 3900.
    :keyword audiences: the resources it issues tokens for; None: all. Default: ``DEFAULT_AUDIENCES``.
    :keyword float latency: seconds before each reply. Default 0.
    :keyword bool list_audiences: name the supported audiences in ``AudienceNotSupported``, as the endpoint did before
        2024-08. Default False.
    :keyword assumed: what the endpoint does, a ``behaviour.Behaviour``. Default: what is assumed of the real one.
    :ivar identity: as the keyword; ``sign_in`` changes it. This and the next four can be set at any time.
    :ivar lifetime: as the keyword, for tokens issued from now on.
    :ivar audiences: as the keyword; ``allow`` and ``deny`` change it.
    :ivar latency: as the keyword.
    :ivar list_audiences: as the keyword.
    :ivar assumed: as the keyword; it can be replaced at any time.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    def __init__(
        self,
        *,
        port: int = 0,
        identity: Identity | None = None,
        lifetime: int | None = None,
        audiences: Iterable[str] | None = DEFAULT_AUDIENCES,
        latency: float = 0.0,
        list_audiences: bool = False,
        assumed: Behaviour | None = None,
    ) -> None:
        supported = None if audiences is None else list(audiences)
        self._initially = (identity or Identity(), lifetime, supported, latency, list_audiences, assumed or Behaviour())
        super().__init__(*self._initially)
        self._issuer = Issuer(self)
        self._programs = Programs(self._issuer)
        self._responder = Responder(self, self._issuer, self._programs)
        self._process = Process(lambda: self.environment)
        respond = self._responder.respond
        self._server = Server(lambda request: respond(request, self.origin), port, addresses=("127.0.0.1", "::1"))

    def reset(self) -> None:
        """Forget all requests, tokens, scripts and changed settings, and sign out of az.

        Requests that wait for an answer are dropped, and the credentials of this process forget their tokens, their
        failures and what they are acquiring.
        """
        self._responder.drop_waiting()
        forget(self.port)
        self._responder.forget()
        self._programs.reset()
        super().__init__(*self._initially)
        self._issuer.forget()
        begin_all_anew()

    @property
    def requests(self) -> list[RecordedRequest]:
        """A ``RecordedRequest`` for each request so far, of which the last 10,000 are kept."""
        return self._responder.requests

    @property
    def max_concurrent_requests(self) -> int:
        """How many requests were there at once, at most."""
        return self._responder.most_at_once

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
        return APP_SERVICE.environment(self.origin)

    @property
    def imds_environment(self) -> dict[str, str]:
        """The variable that leads a virtual machine's managed identity here, for code that runs there."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self.origin}{IMDS_PREFIX}"}

    @property
    def no_imds_environment(self) -> dict[str, str]:
        """The variable that leads such code here to be refused at once, instead of waiting for 169.254.169.254."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self.origin}{NO_IMDS_PREFIX}"}

    @contextmanager
    def as_environment(self, more: Mapping[str, str | None] | None = None) -> Iterator[None]:
        """Put this process into the emulated Cloud Shell: set ``os.environ``, and restore it afterwards.

        Credentials that were made before, without an endpoint of their own, are led to it too.

        :param more: further variables; None removes one.
        """
        with self._process.inside(more or {}):
            yield

    @property
    def openid_configuration_url(self) -> str:
        """Where to find the keys that verify its tokens."""
        return f"{self.origin}/{self.identity.tenant_id}{OPENID_CONFIGURATION}"

    def script(self, *replies: ScriptedReply) -> None:
        """Answer the next requests like this, one reply each, before answering as usual again.

        :param replies: such as ``faults.portal_timeout()``.
        :raises TypeError: for anything that is not a reply, such as a name or a function.
        """
        self._responder.script(*map(reply_given, replies))

    def failing(self, reply: ScriptedReply) -> AbstractContextManager[None]:
        """Answer every request like this for the length of a ``with`` block.

        :param reply: such as ``faults.hang()``.
        :raises TypeError: as ``script``, at the call.
        """
        return self._responder.failing(reply_given(reply))

    def az_login(self, *, user: str | None = None, tenant: str | None = None, seconds: float = 0.0) -> None:
        """Sign somebody in to the az that the fixtures and ``emulate --az-login`` put on PATH.

        :keyword str user: the user principal name. Default: another user of the emulated company.
        :keyword str tenant: the tenant. Default: the emulated Cloud Shell's.
        :keyword float seconds: how long az takes to answer.
        """
        changes = {"user": user or "grace@contoso.example", "tenant_id": tenant or self.identity.tenant_id}
        self._programs.login(self.identity.changed(**changes), seconds)

    def az_fails(self, text: str, *, seconds: float = 0.0) -> None:
        """Let that az fail, as it does before ``az_login``.

        :param text: what it prints on stderr; a single word is a key of ``FAILURES``, such as ``audience``.
        :keyword float seconds: how long it takes.
        :raises ValueError: for a word that is not a key.
        """
        if text not in FAILURES and len(text.split()) < 2:
            hint = did_you_mean(text, FAILURES) or f" Known are: {', '.join(FAILURES)}."
            raise ValueError(f"{text!r} is not a failure of az.{hint}")
        self._programs.fail(text, seconds)

    @property
    def az_calls(self) -> list[list[str]]:
        """The program and its arguments, for each call of az, azd or PowerShell so far."""
        return self._programs.calls

    @contextmanager
    def programs(self, *names: str) -> Iterator[dict[str, str]]:
        """Stand-ins for az, azd and PowerShell that nobody is signed in to, and an empty ``AZURE_CONFIG_DIR``.

        :param names: which; all if none is named.
        :return: the variables that put them first on PATH.
        """
        with stand_ins(self._programs, self.port, names) as variables:
            yield variables

    def sign_in(self, **changes: str) -> None:
        """Sign in as another user, or to another tenant.

        :param changes: what is different: fields of ``Identity``, such as ``user`` or ``tenant_id``.
        """
        super().sign_in(**changes)
        self._issuer.forget()
        self._process.follow()

    def revoke_tokens(self) -> None:
        """Expire all tokens issued so far: new ones are issued, and stand-ins refuse the old ones.

        Clients do not know, as after a revocation by Entra: they go on using those that they hold.
        """
        self._issuer.revoke()

    def expire_tokens(self) -> None:
        """As ``revoke_tokens``, and let the credentials of this process notice: they ask for new tokens."""
        self.revoke_tokens()
        forget_all_tokens()

    def has_expired(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token is past its life.

        :param claims: the token's.
        """
        return self._issuer.has_expired(claims)

    def issue(self, resource: str) -> tuple[str, int]:
        """The token for a resource, from the cache until it expires, and its expiry in Unix time.

        :param resource: as a client would ask for it.
        """
        issued = self._issuer.issue(resource)
        return issued.token, issued.expires_on
