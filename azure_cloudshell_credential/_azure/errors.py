"""Failures as azure-identity's exceptions.

``ChainedTokenCredential`` continues with its next credential after azure-identity's own ``CredentialUnavailableError``
and after nothing else, so every failure becomes one. Importing this module imports azure-identity (with msal and
cryptography): the rest of the package does it only when there is an error to raise.
"""

from __future__ import annotations

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from .._endpoint.failures import Failure


class AudienceNotSupportedError(CredentialUnavailableError):
    """Cloud Shell does not issue tokens for this resource.

    A ``CredentialUnavailableError``, so a chain continues with its next credential.

    :param message: what happened and what to do.
    :keyword str resource: the resource requested.
    :keyword supported_audiences: the resources that the endpoint said it supports. Empty when it did not say: it has
        not since 2024-08 (Azure/CloudShell#477).
    :paramtype supported_audiences: tuple[str, ...]
    """

    # The name to import it by is the one to show in a traceback.
    __module__ = "azure_cloudshell_credential"

    def __init__(self, message: str, *, resource: str = "", supported_audiences: tuple[str, ...] = ()) -> None:
        super().__init__(message=message)
        self.resource = resource
        self.supported_audiences = supported_audiences


def as_exception(failure: Failure) -> ClientAuthenticationError:
    """The exception to raise for a failure.

    A chain's failure is a plain ``ClientAuthenticationError``, as with azure-identity's own chains: one of its
    credentials may have been refused, or its token be another user's, and a chain around it must not hide that.
    """
    kinds: dict[str, type[ClientAuthenticationError]] = {
        "chain": ClientAuthenticationError,
        "identity": ClientAuthenticationError,
        "audience": AudienceNotSupportedError,
    }
    error = kinds.get(failure.kind, CredentialUnavailableError)(message=failure.message)
    if isinstance(error, AudienceNotSupportedError):
        error.resource, error.supported_audiences = failure.resource, failure.supported_audiences
    # azure-core keeps what the caller is handling, and a traceback has no pickle.
    error.exc_value = error.exc_traceback = None
    return error
