"""Failures as azure-identity's exceptions.

``ChainedTokenCredential`` goes on to its next credential after azure-identity's own ``CredentialUnavailableError``
and after nothing else, so every failure becomes one. Importing this module imports azure-identity (with msal and
cryptography): the rest of the package does it only when there is an error to raise.
"""

from __future__ import annotations

from typing import Any

from azure.identity import CredentialUnavailableError

from ._failures import Failure


class AudienceNotSupportedError(CredentialUnavailableError):
    """Cloud Shell does not hand out tokens for this resource.

    A :class:`~azure.identity.CredentialUnavailableError`, so a chain goes on to its next credential.

    :param message: what happened and what to do.
    :param resource: the resource asked for.
    :param supported_audiences: the resources that the endpoint said it supports. Empty when it did not say: it has
        not since 2024-08 (Azure/CloudShell#477).
    """

    # The name to import it by is the one to show in a traceback.
    __module__ = "azure_cloudshell_credential"

    def __init__(self, message: str, *, resource: str = "", supported_audiences: tuple[str, ...] = ()) -> None:
        super().__init__(message=message)
        self.resource = resource
        self.supported_audiences = supported_audiences

    def __reduce__(self) -> tuple[Any, ...]:
        return _audience_not_supported, (self.message, self.resource, self.supported_audiences)


def _audience_not_supported(
    message: str, resource: str, supported_audiences: tuple[str, ...]
) -> AudienceNotSupportedError:
    return AudienceNotSupportedError(message, resource=resource, supported_audiences=supported_audiences)


def as_exception(failure: Failure) -> CredentialUnavailableError:
    """The exception to raise for a failure."""
    if failure.kind == "audience":
        return _audience_not_supported(failure.message, failure.resource, failure.supported_audiences)
    return CredentialUnavailableError(message=failure.message)
