"""What az says when it has no token, and how Microsoft Entra ID refuses who is signed in to it."""

from __future__ import annotations

from typing import NamedTuple

_CLOUD_SHELL_PROBLEM = (
    "WARNING: A Cloud Shell credential problem occurred. When you report the issue with the error below, please "
    "mention the hostname 'SandboxHost-1'\nERROR: {what}\n"
    "Run the command below to authenticate interactively; additional arguments may be added as needed:\n"
    "az logout\naz login --scope {{resource}}/.default"
)
FAILURES = {
    "signed-out": "ERROR: Please run 'az login' to setup account.",
    "audience": _CLOUD_SHELL_PROBLEM.format(what="Audience {resource} is not a supported MSI token audience."),
    "portal-timeout": _CLOUD_SHELL_PROBLEM.format(what="Timeout waiting for token from portal. Audience: {resource}"),
    "msi": (
        "ERROR: Failed to connect to MSI. Please make sure MSI is configured correctly.\n"
        "Get Token request returned: <Response [400]>"
    ),
    "other-tenant": (
        "ERROR: For Cloud Shell account, getting access token for non-current tenants is not supported. The specified "
        "tenant must be the current tenant {tenant}"
    ),
    "cross-tenant": (
        "ERROR: Cross-tenant authentication is not supported by managed identity and Cloud Shell. "
        "Please run `az login` with a user account or a service principal."
    ),
}
"""What az is known to say when it has no token: azure-cli's sources, and issues such as azure-cli#30428."""


class Refused(NamedTuple):
    """How Microsoft Entra ID refuses a user who is signed in.

    :param code: its error, the number behind ``AADSTS``.
    :param what: its words, in which {resource} and {tenant} are filled in.
    :param until: what ends it: ``login``, any sign-in; ``scope``, one that names the scope; ``never``, none.
    :param resource: the only resource that is refused; empty: all.
    :param tenant: the only tenant that is; empty: all.
    :param names_command: whether az says how to sign in again, as it does from 2.58 on.
    """

    code: str
    what: str
    until: str = "never"
    resource: str = ""
    tenant: str = ""
    names_command: bool = True


REFUSALS = {
    "expired": Refused("700082", "The refresh token has expired due to inactivity.", "login"),
    "expired-old-az": Refused("700082", "The refresh token has expired.", "login", names_command=False),
    "mfa": Refused(
        "50076",
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must "
        "use multi-factor authentication to access '{resource}'.",
        "scope",
    ),
    "consent": Refused(
        "65001", "The user or administrator has not consented to use the application 'Microsoft Azure CLI'."
    ),
    "conditional-access": Refused("53003", "Access has been blocked by Conditional Access policies."),
    "not-in-tenant": Refused("50020", "User account from identity provider does not exist in tenant '{tenant}'."),
}
"""How a user who is signed in may be refused: https://learn.microsoft.com/entra/identity-platform/reference-error-codes."""

UNKNOWN_RESOURCE = Refused("500011", "The resource principal named {resource} was not found in the tenant {tenant}.")
IDS = (
    "Trace ID: 00000000-aaaa-4bbb-8ccc-111111111111 Correlation ID: 22222222-aaaa-4bbb-8ccc-333333333333 "
    "Timestamp: 2026-01-01 00:00:00Z\n"
)
AGAIN = (
    "Run the command below to authenticate interactively; additional arguments may be added as needed:\n"
    'az logout\naz login --tenant "{tenant}" --scope "{resource}/.default"'
)


def filled(text: str, resource: str, tenant: str) -> str:
    """Such words, for a resource and a tenant."""
    return text.replace("{resource}", resource).replace("{tenant}", tenant).rstrip() + "\n"
