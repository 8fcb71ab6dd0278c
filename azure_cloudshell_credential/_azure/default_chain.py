"""``DefaultCloudShellCredential``: azure-identity's default chain, with Cloud Shell in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import AzureError

from .._endpoint import protocol
from .._endpoint.environment import Environment, is_led_to_a_broker, managed_identity_is_cloud_shell
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight
from . import explanation
from .credential import CloudShellCredential, SyncCredential
from .explanation import Reason
from .identities import Identities
from .sources import Credential, TokenRequest, TokenSource, check_is_synchronous, importing

PROCESS_TIMEOUT = 30
"""Seconds for az, azd and PowerShell, each. azure-identity's 10 are too few for az in a small container."""

_BUDGET = 600.0
"""Seconds for a walk through a chain. How long each credential takes is its own business, but not without end."""

# What AZURE_TOKEN_CREDENTIALS may say for a step to be in the chain; see azure-identity's documentation of it. Cloud
# Shell is a managed identity to azure-identity, and its user's own login to everyone else.
_ENVIRONMENT = "EnvironmentCredential"
_SERVICE_PRINCIPAL = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_USERNAME")
_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_PASSWORD")
_ENVIRONMENT_WHEN = ("", "prod", "environmentcredential")
_CLOUD_SHELL_WHEN = ("", "prod", "dev", "managedidentitycredential")


class Chain(TokenSource):
    """Credentials in an order: the first token is taken.

    :param steps: makes the credentials.
    :param argument: what from.
    """

    def reset(self) -> None:
        """Begin anew, in the environment as it is now."""
        steps, argument = self._arguments
        self.credentials: tuple[Any, ...] = tuple(steps(argument))
        self.cache = TokenCache(_BUDGET)
        self._identities = Identities()

    def open(self) -> None:
        """Open the transport of each credential."""
        for credential in self.credentials:
            credential.__enter__()

    def close(self) -> None:
        """Close the transport of each credential."""
        for credential in self.credentials:
            credential.__exit__()

    def claim(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for."""
        if not request.scopes:
            raise ValueError("get_token requires a scope.")
        if len(request.scopes) == 1:
            protocol.scope_to_resource(request.scopes)
        resource = " ".join(request.scopes)
        return self.cache.claim(request.key, lambda: self._acquire(request), resource, request.claims)

    def _acquire(self, request: TokenRequest) -> Token | Failure:
        """Ask one credential after the other. Runs in the thread of an acquisition."""
        resource = " ".join(request.scopes)
        cloud_shells: Failure | None = None
        reasons: list[Reason] = []
        for credential in self.credentials:
            if isinstance(credential, CloudShellCredential):
                outcome = credential._source.ask(request)
                if isinstance(outcome, Token):
                    self._identities.answered(outcome)
                    return outcome
                cloud_shells = outcome
            elif (name := type(credential).__name__) == _ENVIRONMENT and not _names_a_service_principal(os.environ):
                # It would log a warning at each request.
                reasons.append(Reason(name, "the environment variables are not fully configured"))
            else:
                answer, is_final = _ask(credential, request)
                if isinstance(answer, Token):
                    if cloud_shells is None:
                        return answer
                    return self._identities.judge(resource, cloud_shells, answer, request.tenant_id) or answer
                reasons += answer
                if is_final:
                    break
        return explanation.nobody_has_a_token(request, cloud_shells, reasons)


def _names_a_service_principal(environ: Mapping[str, str]) -> bool:
    """Whether the variables that EnvironmentCredential reads are set."""
    return "AZURE_CLIENT_ID" in environ and any(name in environ for name in _SECRETS)


def _ask(credential: Any, request: TokenRequest) -> tuple[Token | list[Reason], bool]:
    """Ask a credential that is not ours.

    :return: its token, checked, or why it has none; and whether the chain ends with it: a credential that is configured
        and fails is not to be replaced by another one, as in azure-identity.
    """
    with importing:
        from azure.identity import CredentialUnavailableError

    name = type(credential).__name__
    try:
        if hasattr(credential, "get_token_info"):
            info: AccessTokenInfo = credential.get_token_info(*request.scopes, options=dict(request.options))
        else:
            token = credential.get_token(*request.scopes, **request.options)
            info = AccessTokenInfo(token.token, token.expires_on)
    except AzureError as error:
        return explanation.reasons_in(name, error), not isinstance(error, CredentialUnavailableError)
    checked = protocol.checked_token(info.token, info.expires_on, info.refresh_on, info.token_type)
    return ([Reason(name, f"it returned {checked}")], True) if isinstance(checked, str) else (checked, True)


def _default_steps(options: Mapping[str, Any]) -> list[Any]:
    """The credentials of ``DefaultCloudShellCredential``, in order.

    :param options: its keyword arguments.
    :raises ValueError: if none is left, or for a value that one of them refuses.
    """
    # Here, so that importing the package's asynchronous part does not import it.
    from azure.identity import DefaultAzureCredential, EnvironmentCredential

    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()

    def is_in(step: str, values: tuple[str, ...]) -> bool:
        is_excluded = options.get(f"exclude_{step}_credential")
        return chosen in values if is_excluded is None else not is_excluded

    own = {"endpoint", "exclude_cloud_shell_credential", "logging_enable"}
    others = {name: options[name] for name in options.keys() - own}
    steps: list[Any] = []
    is_partly_there = any(name in os.environ for name in (*_SERVICE_PRINCIPAL, *_SECRETS))
    # Where its variables are only partly there, it would log a warning. Whoever has chosen it is to see that.
    is_usable = _names_a_service_principal(os.environ) or not is_partly_there or chosen == _ENVIRONMENT.lower()
    if is_in("environment", _ENVIRONMENT_WHEN) and is_usable:
        steps.append(EnvironmentCredential(**others))
    if is_in("cloud_shell", _CLOUD_SHELL_WHEN):
        # azure-identity would log tokens and secrets.
        logging_enable = bool(options.get("logging_enable"))
        steps.append(CloudShellCredential(endpoint=options.get("endpoint"), logging_enable=logging_enable, **others))
    rest = {"process_timeout": PROCESS_TIMEOUT, **others, "exclude_environment_credential": True}
    is_ours = is_led_to_a_broker(os.environ) and Environment(os.environ).endpoint is not None
    if is_ours or managed_identity_is_cloud_shell(os.environ):
        # It would ask Cloud Shell's endpoint again, and stop the chain.
        rest["exclude_managed_identity_credential"] = True
    try:
        steps.append(DefaultAzureCredential(**rest))
    except ValueError as error:
        # Exclusions may have emptied the rest, which is a fault only if nothing else is left either.
        if not steps or "at least one credential" not in str(error):
            raise
    return steps


def source_of(credential: Any) -> TokenSource:
    """The tokens of any synchronous credential, cached and acquired once for all who wait.

    :raises TypeError: for what is no synchronous credential.
    """
    check_is_synchronous(credential)
    return credential._source if isinstance(credential, SyncCredential) else Chain(list, [credential])


class FromDefaultChain(Credential):
    """What the synchronous and the asynchronous ``DefaultCloudShellCredential`` have in common."""

    _source: Chain

    def __init__(self, *, exclude_cloud_shell_credential: bool | None = None, **kwargs: Any) -> None:
        options = {**kwargs, "exclude_cloud_shell_credential": exclude_cloud_shell_credential}
        self._source = Chain(_default_steps, options)

    @property
    def credentials(self) -> tuple[Any, ...]:
        """The credentials of the chain, in order. They are synchronous ones."""
        return self._source.credentials


class DefaultCloudShellCredential(FromDefaultChain, SyncCredential):
    """A ``DefaultAzureCredential`` that works in Cloud Shell: one line for a script that runs there and anywhere else.

    For example:

        client = ComputeManagementClient(DefaultCloudShellCredential(), subscription_id)

    It tries, in this order, and takes the first token: a service principal from environment variables; Cloud Shell;
    and the rest of ``DefaultAzureCredential`` (workload identity, managed identity, Azure CLI,
    Azure PowerShell, Azure Developer CLI, ...). Where the managed identity step would ask Cloud Shell's endpoint once
    more, it is left out: an error there would end the chain before the Azure CLI is reached.

    A token of another user is never returned unnoticed. If Cloud Shell does not support a resource and another
    credential, signed in as somebody else, does, a warning names both. If Cloud Shell has issued tokens before and
    fails this time, such a token is refused.

    Tokens are cached in memory, by scope and tenant, whichever credential they are from. All keyword arguments of
    ``DefaultAzureCredential`` and of ``CloudShellCredential`` are accepted; ``process_timeout`` is 30 seconds by
    default. ``logging_enable`` is for Cloud Shell's requests alone: azure-identity logs tokens with it.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default: whether ``AZURE_TOKEN_CREDENTIALS``
        leaves it out.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential"
