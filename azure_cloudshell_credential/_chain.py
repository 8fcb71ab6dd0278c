"""``DefaultCloudShellCredential``: azure-identity's default chain, with Cloud Shell in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from azure.identity import ChainedTokenCredential, DefaultAzureCredential, EnvironmentCredential

from ._credential import CloudShellCredential

# What AZURE_TOKEN_CREDENTIALS may say for a step to be in the chain; see azure-identity's documentation of it. Cloud
# Shell is a managed identity to azure-identity, and its user's own login to everyone else.
_ENVIRONMENT_WHEN = ("", "prod", "environmentcredential")
_CLOUD_SHELL_WHEN = ("", "prod", "dev", "managedidentitycredential")


class DefaultCloudShellCredential(ChainedTokenCredential):
    """``DefaultAzureCredential`` that works in Cloud Shell: one line for a script that runs there and anywhere else.

    Asks, in this order, and takes the first token: a service principal in environment variables; Cloud Shell; and the
    rest of :class:`~azure.identity.DefaultAzureCredential` (workload identity, managed identity, Azure CLI, Azure
    PowerShell, Azure Developer CLI, ...). Inside Cloud Shell the managed identity step is left out: it would ask the
    same endpoint, and an error there would end the chain before the Azure CLI is reached.

    All keywords of ``DefaultAzureCredential`` and of :class:`CloudShellCredential` are taken.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    def __init__(self, *, exclude_cloud_shell_credential: bool = False, **kwargs: Any) -> None:
        super().__init__(
            *steps(
                EnvironmentCredential,
                CloudShellCredential,
                DefaultAzureCredential,
                exclude_cloud_shell=exclude_cloud_shell_credential,
                options=kwargs,
            )
        )


def steps(
    environment: Callable[..., Any],
    cloud_shell: Callable[..., Any],
    default: Callable[..., Any],
    *,
    exclude_cloud_shell: bool,
    options: dict[str, Any],
) -> list[Any]:
    """The credentials of the chain, in order.

    :param environment: makes an ``EnvironmentCredential``, sync or async.
    :param cloud_shell: makes a ``CloudShellCredential``.
    :param default: makes a ``DefaultAzureCredential``.
    :param exclude_cloud_shell: leave out Cloud Shell.
    :param options: the keywords that the user gave.
    """
    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()
    exclude_environment = options.pop("exclude_environment_credential", None)
    if exclude_environment is None:
        exclude_environment = chosen not in _ENVIRONMENT_WHEN
    shell = cloud_shell(endpoint=options.pop("endpoint", None), **options)
    rest = {**options, "exclude_environment_credential": True}
    if shell.endpoint is not None:
        rest["exclude_managed_identity_credential"] = True
    chain = [] if exclude_environment else [environment(**options)]
    if not exclude_cloud_shell and chosen in _CLOUD_SHELL_WHEN:
        chain.append(shell)
    try:
        chain.append(default(**rest))
    except ValueError as error:
        # Exclusions may have emptied the rest, which is a fault only if nothing else is left either.
        if not chain or "at least one credential" not in str(error):
            raise
    return chain
