"""Environment variables by which programs find an identity."""

from __future__ import annotations

from .._serving.token_protocols import IDENTITY_VARIABLES

SIGN_IN_VARIABLES = (
    *IDENTITY_VARIABLES,
    "ARM_MSI_ENDPOINT",
    "AZD_AUTH_CERT",
    "AZD_AUTH_ENDPOINT",
    "AZD_AUTH_KEY",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_MSI_ENDPOINT",
    "AZURE_PASSWORD",
    "AZURE_TENANT_ID",
    "AZURE_USERNAME",
)
"""Those by which a program finds another identity than Cloud Shell's, a broker's too: none is set in Cloud Shell."""

HIDDEN_VARIABLES = (
    *SIGN_IN_VARIABLES,
    "ACC_STORAGE_PROFILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_TOKEN_CREDENTIALS",
)
"""Those, and the ones that would have the outcome depend on the machine: what ``sealed_off`` begins with."""

NOBODY = {"AZURE_USERNAME": "nobody@emulated-cloud-shell.invalid"}
"""Hides the token cache that Microsoft's developer tools share: ``~/.IdentityService``, or the system's keychain.

It says whose tokens a default chain takes from there. HOME would hide the files too, and with them whatever else
programs find by it, such as packages of Python's user site. A ``SharedTokenCacheCredential`` that a program makes
itself does not read the variable.
"""
