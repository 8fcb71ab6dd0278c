"""``DefaultCloudShellCredential``: azure-identity's default chain, with Cloud Shell in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from azure.core.exceptions import AzureError

from .._endpoint import advice, clock
from .._endpoint.environment import Environment, is_led_to_a_broker, managed_identity_is_cloud_shell
from .._endpoint.failures import Failure, Reason
from .._endpoint.scopes import TokenRequest
from .._endpoint.token import Token, checked_token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight
from . import explanation, programs
from .cloud_shell import CloudShellCredential
from .credential import Credential, SyncCredential, check_is_synchronous, importing
from .quiet import quietly

PROCESS_TIMEOUT = 30
"""Seconds for az, azd and PowerShell, each. azure-identity's 10 are too few for az in a small container."""

_BUDGET = 600.0
"""Seconds for a walk through a chain. How long each credential takes is its own business, but not without end."""

# With AZURE_CLIENT_ID, what EnvironmentCredential needs one of.
_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_PASSWORD")


class Chain(Credential):
    """Credentials in an order: the first token is taken."""

    _reader = advice.DEFAULT

    def _steps(self) -> Iterable[Any]:
        return _default_steps(self._options)

    def _reset(self) -> None:
        self.credentials: tuple[Any, ...] = tuple(self._steps())
        """The credentials of the chain, in order. They are synchronous ones."""
        is_led = any(isinstance(each, CloudShellCredential) and each._is_led for each in self.credentials)
        self._reader = advice.LED if is_led else advice.DEFAULT
        self._transports = self.credentials
        self._cache = TokenCache(_BUDGET)

    def _begin(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """A token, a failure, or the acquisition to wait for."""
        if request.mistake and len(request.scopes) == 1:
            raise ValueError(request.mistake)
        return self._cache.begin(request.key, request, lambda: self._acquire_for(request))

    def _acquire_for(self, request: TokenRequest) -> Token | Failure:
        """Ask one credential after the other. Runs in the thread of an acquisition."""
        cloud_shell: CloudShellCredential | None = None
        cloud_shells: Failure | None = None
        reasons: list[Reason] = []
        for credential in self.credentials:
            if isinstance(credential, CloudShellCredential):
                outcome = credential._token_for(request)
                if isinstance(outcome, Token):
                    return outcome
                cloud_shell, cloud_shells = credential, outcome
            else:
                answer, is_final = _token_from(credential, request)
                if isinstance(answer, Token):
                    refused = cloud_shell and cloud_shells and cloud_shell._judge(request, cloud_shells, answer)
                    return refused or answer
                reasons += answer
                if is_final:
                    break
        excludes_az = bool(self._options.get("exclude_cli_credential"))
        return explanation.nobody_has_a_token(request, cloud_shells, reasons, excludes_az=excludes_az)


def _token_from(credential: Any, request: TokenRequest) -> tuple[Token | list[Reason], bool]:
    """Ask a credential that is not ours.

    :return: its token, checked, or why it has none; and whether the chain ends with it: a credential that is configured
        and fails is not to be replaced by another one, as in azure-identity.
    """
    with importing:
        from azure.identity import CredentialUnavailableError

    name = type(credential).__name__
    is_same_sign_in = programs.watch_sign_in()
    try:
        with quietly():
            if hasattr(credential, "get_token_info"):
                token = credential.get_token_info(*request.scopes, options=dict(request.options))
            else:
                token = credential.get_token(*request.scopes, **request.options)
    except AzureError as error:
        return explanation.reasons_in(name, error), not isinstance(error, CredentialUnavailableError)
    refresh_on, token_type = getattr(token, "refresh_on", None), getattr(token, "token_type", None)
    checked = checked_token(token.token, token.expires_on, refresh_on, token_type, clock.current.time())
    if isinstance(checked, Token) and request.is_in_another_tenant(checked.identity.tenant_id):
        checked = f"a token of tenant {checked.identity.tenant_id}, not of {request.tenant_id}"
    if isinstance(checked, str):
        return [Reason(name, f"it returned {checked}")], True
    # Which of a DefaultAzureCredential's steps it is from is not told: it may be from az.
    checked.condition = is_same_sign_in
    return checked, True


def _default_steps(options: Mapping[str, Any]) -> list[Any]:
    """The credentials of ``DefaultCloudShellCredential``, in order.

    :param options: its keyword arguments.
    :raises ValueError: if none is left, or for a value that one of them refuses.
    """
    # Here, so that importing the package's asynchronous part does not import it.
    from azure.identity import DefaultAzureCredential, EnvironmentCredential

    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()

    # The values of AZURE_TOKEN_CREDENTIALS that let a step in; see azure-identity's documentation of it. Cloud Shell is
    # a managed identity to azure-identity, and its user's own login to everyone else.
    def is_in(step: str, *values: str) -> bool:
        is_excluded = options.get(f"exclude_{step}_credential")
        return chosen in values if is_excluded is None else not is_excluded

    own = {"endpoint", "exclude_cloud_shell_credential", "logging_enable"}
    others = {name: options[name] for name in options.keys() - own}
    steps: list[Any] = []
    # Without all of its variables it logs a warning when it is made. Whoever has chosen it gets to see that.
    is_set = "AZURE_CLIENT_ID" in os.environ and any(name in os.environ for name in _SECRETS)
    may_be_set = is_in("environment", "", "prod", "environmentcredential")
    if may_be_set and (is_set or chosen == "environmentcredential"):
        steps.append(EnvironmentCredential(**others))
    if is_in("cloud_shell", "", "prod", "dev", "managedidentitycredential"):
        # azure-identity would log tokens and secrets.
        taken = {name: others[name] for name in others.keys() - {"client_id", "tenant_id"}}
        logging_enable = bool(options.get("logging_enable"))
        steps.append(CloudShellCredential(endpoint=options.get("endpoint"), logging_enable=logging_enable, **taken))
    is_ours = is_led_to_a_broker(os.environ) and Environment(os.environ).endpoint is not None
    if is_ours and options.get("endpoint") is None and steps and isinstance(steps[-1], CloudShellCredential):
        # It has been decided there who may have what: nobody is asked after a broker.
        return steps
    rest = {"process_timeout": PROCESS_TIMEOUT, **others, "exclude_environment_credential": True}
    if is_ours or managed_identity_is_cloud_shell(os.environ):
        # It would ask Cloud Shell's endpoint again, and stop the chain.
        rest["exclude_managed_identity_credential"] = True
    try:
        steps.append(programs.one_at_a_time(DefaultAzureCredential(**rest)))
    except ValueError as error:
        # Exclusions may have emptied the rest, which is a fault only if nothing else is left either.
        if not (steps or may_be_set) or "at least one credential" not in str(error):
            raise
    return steps or [EnvironmentCredential(**others)]


class _OfOne(Chain, SyncCredential):
    """A credential that is not ours, with this package's cache and checks."""

    def _steps(self) -> Iterable[Any]:
        return (self._options["credential"],)


def cached(credential: Any) -> SyncCredential:
    """Any synchronous credential as one whose tokens are cached, and acquired once for all who wait.

    :raises TypeError: for anything other than a synchronous credential.
    """
    check_is_synchronous(credential)
    return credential if isinstance(credential, SyncCredential) else _OfOne(credential=credential)


class DefaultCloudShellCredential(Chain, SyncCredential):
    """A ``DefaultAzureCredential`` that works in Cloud Shell: one line for a script that runs there and anywhere else.

    For example:

        client = ComputeManagementClient(DefaultCloudShellCredential(), subscription_id)

    It tries, in this order, and takes the first token: a service principal from environment variables; Cloud Shell;
    and the rest of ``DefaultAzureCredential`` (workload identity, managed identity, Azure CLI,
    Azure PowerShell, Azure Developer CLI, ...). Where the managed identity step would ask Cloud Shell's endpoint once
    more, it is left out: an error there would end the chain before the Azure CLI is reached.

    Another credential may be signed in as another user. Cloud Shell's last token in this process names Cloud Shell's
    user; before the first one, ``ACC_TID`` and ``ACC_OID`` do. A token that is known to be another user's is refused
    where Cloud Shell merely fails (no answer, an error of the portal, a status of 500, ...) or has already issued one
    for that resource in this process; not where a tenant id was requested that Cloud Shell's token shows is not its
    own. Otherwise it is returned, and a WARNING names both users, once for each other user. Where it is not known whose
    a token is, that is logged at INFO, and the token is looked at again when more becomes known. Outside Cloud Shell,
    and in a ``ChainedTokenCredential`` of your own, none of this holds.

    Under ``azure-cloudshell run``, its broker is asked in the place of Cloud Shell, and nobody after it.

    Tokens are cached in memory, by scope and tenant, whichever credential they are from. All keyword arguments of
    ``DefaultAzureCredential`` and of ``CloudShellCredential`` are accepted.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default: whether ``AZURE_TOKEN_CREDENTIALS``
        leaves it out.
    :keyword bool exclude_managed_identity_credential: leave out the managed identity, and keep Cloud Shell, which is
        one to ``AZURE_TOKEN_CREDENTIALS``. Likewise ``exclude_environment_credential``,
        ``exclude_workload_identity_credential``, ``exclude_cli_credential``, ``exclude_powershell_credential``,
        ``exclude_developer_cli_credential`` and the others of ``DefaultAzureCredential``.
    :keyword str managed_identity_client_id: the client ID of a user-assigned managed identity.
    :keyword str workload_identity_client_id: the client ID of a workload identity.
    :keyword additionally_allowed_tenants: tenants other than their own for which credentials may acquire tokens.
    :paramtype additionally_allowed_tenants: list[str]
    :keyword str authority: the host of Microsoft Entra ID. Default: ``AZURE_AUTHORITY_HOST``, or the public cloud's.
    :keyword int process_timeout: seconds for az, azd and PowerShell, each. Default 30.
    :keyword str endpoint: URL of Cloud Shell's token endpoint, as in ``CloudShellCredential``, like ``timeout``,
        ``connection_timeout``, ``read_timeout``, ``retry_total``, ``retry_backoff_factor``, ``transport``,
        ``user_agent``, ``raw_request_hook`` and ``raw_response_hook``.
    :keyword bool logging_enable: log Cloud Shell's requests and replies, and those of no other credential:
        azure-identity logs tokens with it. Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
