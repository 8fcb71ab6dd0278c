"""``DefaultCloudShellCredential``: azure-identity's default chain, with Cloud Shell in its place."""

from __future__ import annotations

import logging
import os
import re
from contextvars import ContextVar
from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential, DefaultAzureCredential, EnvironmentCredential

from .._endpoint import failures
from .._endpoint.environment import managed_identity_is_cloud_shell
from .._endpoint.failures import Failure
from .._tokens.cache import CachedToken
from .._tokens.in_flight import InFlight
from .caching import CachedTokens
from .credential import CloudShellCredential, as_info, token_or_fail

# What AZURE_TOKEN_CREDENTIALS may say for a step to be in the chain; see azure-identity's documentation of it. Cloud
# Shell is a managed identity to azure-identity, and its user's own login to everyone else.
_ENVIRONMENT_WHEN = ("", "prod", "environmentcredential")
_CLOUD_SHELL_WHEN = ("", "prod", "dev", "managedidentitycredential")


class DefaultCloudShellCredential(ChainedTokenCredential):
    """A ``DefaultAzureCredential`` that works in Cloud Shell: one line for a script that runs there and anywhere else.

    For example:

        client = ComputeManagementClient(DefaultCloudShellCredential(), subscription_id)

    It tries, in this order, and takes the first token: a service principal from environment variables; Cloud Shell;
    and the rest of ``DefaultAzureCredential`` (workload identity, managed identity, Azure CLI,
    Azure PowerShell, Azure Developer CLI, ...). Where the managed identity step would ask Cloud Shell's endpoint once
    more, it is left out: an error there would end the chain before the Azure CLI is reached.

    Tokens are cached in memory, by scope and tenant, whichever credential they are from; a claims challenge is always
    asked for. All keyword arguments of ``DefaultAzureCredential`` and of ``CloudShellCredential`` are accepted.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential"

    def __init__(self, *, exclude_cloud_shell_credential: bool = False, **kwargs: Any) -> None:
        super().__init__(*_steps(kwargs, exclude_cloud_shell=exclude_cloud_shell_credential))
        self._tokens = CachedTokens(self._ask, explain)

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
        :keyword str claims: a claims challenge, which the credentials behind Cloud Shell may be able to satisfy.
        :keyword str tenant_id: the tenant the token must be for.
        :keyword bool enable_cae: whether the token may be subject to Continuous Access Evaluation. Default False.
        :return: the token and its expiry in Unix time.
        :rtype: azure.core.credentials.AccessToken
        :raises azure.core.exceptions.ClientAuthenticationError: if no credential has a token. The message says what
            each of them said.
        """
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae, **kwargs}
        return self._token(scopes, options).access_token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword options: ``claims``, ``tenant_id`` and ``enable_cae`` as in ``get_token``; None counts as absent.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        :raises azure.core.exceptions.ClientAuthenticationError: as ``get_token``.
        """
        return as_info(self._token(scopes, dict(options or {})))

    def _token(self, scopes: tuple[str, ...], options: dict[str, Any]) -> CachedToken:
        outcome = self._tokens.claim(scopes, options)
        if isinstance(outcome, InFlight):
            outcome = outcome.wait()
        return token_or_fail(outcome)

    def _ask(self, scopes: tuple[str, ...], options: dict[str, Any]) -> AccessTokenInfo:
        """Ask the chain. Runs in the thread of the acquisition."""
        _is_within_chain.set(True)
        request_options: Any = options
        return super().get_token_info(*scopes, options=request_options)


def cached_tokens_of(credential: Any) -> CachedTokens:
    """The tokens of any synchronous credential, cached.

    :param credential: one with ``get_token_info`` or ``get_token``.
    """
    if isinstance(credential, DefaultCloudShellCredential):
        return credential._tokens

    def ask(scopes: tuple[str, ...], options: dict[str, Any]) -> AccessTokenInfo:
        if hasattr(credential, "get_token_info"):
            info: AccessTokenInfo = credential.get_token_info(*scopes, options=options)
            return info
        token: AccessToken = credential.get_token(*scopes, **options)
        return AccessTokenInfo(token.token, token.expires_on)

    return CachedTokens(ask, explain)


def _steps(options: dict[str, Any], *, exclude_cloud_shell: bool) -> list[Any]:
    """The credentials of the chain, in order.

    :param options: the keyword arguments that the user gave.
    """
    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()
    rest = {**options, "exclude_environment_credential": True}
    rest.pop("endpoint", None)
    if managed_identity_is_cloud_shell(os.environ):
        rest["exclude_managed_identity_credential"] = True
    exclude_environment = options.get("exclude_environment_credential")
    if exclude_environment is None:
        exclude_environment = chosen not in _ENVIRONMENT_WHEN
    chain: list[Any] = [] if exclude_environment else [EnvironmentCredential(**options)]
    if not exclude_cloud_shell and chosen in _CLOUD_SHELL_WHEN:
        chain.append(CloudShellCredential(**options))
    try:
        chain.append(DefaultAzureCredential(**rest))
    except ValueError as error:
        # Exclusions may have emptied the rest, which is a fault only if nothing else is left either.
        if not chain or "at least one credential" not in str(error):
            raise
    return chain


_ATTEMPT = re.compile(r"\t(\w+): (.*)")
# Where the part of a message begins that is the same for everyone, or starts again.
_BOILERPLATE = re.compile(
    r"\s*(?:See the troubleshooting guide|Visit https?:|To mitigate this issue|Attempted credentials:)"
)
_PREFIX = re.compile(r"\w+ authentication unavailable\. ")


def explain(scope: str, error: ClientAuthenticationError) -> Failure:
    """The failure of a chain: what each of its credentials said, in one paragraph, Cloud Shell first.

    azure-identity says it as a list, and as a list in a list where ``DefaultAzureCredential`` is a part of the chain.
    """
    attempts: list[list[str]] = []
    for line in (error.message or str(error)).splitlines():
        if match := _ATTEMPT.fullmatch(line):
            attempts.append([match[1], match[2]])
        elif attempts:
            attempts[-1][1] += f" {line}"
    said = [
        (name, failures.quoted(_BOILERPLATE.split(_PREFIX.sub("", text, count=1))[0], 300))
        for name, text in attempts
        if not text.startswith(f"{DefaultAzureCredential.__name__} failed to retrieve a token")
    ]
    said.sort(key=lambda attempt: attempt[0] != CloudShellCredential.__name__)
    return failures.nobody_has_a_token(scope, tuple(said) or (("Error", failures.quoted(str(error))),))


_is_within_chain: ContextVar[bool] = ContextVar("is_within_chain", default=False)


def _is_not_said_again(record: logging.LogRecord) -> bool:
    """Whether to log a record: both chains also log, as a warning, the list that the exception has as a paragraph."""
    return not (_is_within_chain.get() and record.levelno == logging.WARNING)


logging.getLogger(ChainedTokenCredential.__module__).addFilter(_is_not_said_again)
