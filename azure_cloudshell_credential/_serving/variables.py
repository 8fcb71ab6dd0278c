"""Environment variables by which programs find an identity. Each list stands here alone."""

from __future__ import annotations

from .._endpoint.environment import VARIABLES_OF_OTHER_HOSTS

_OF_MANAGED_IDENTITIES = (
    "MSI_ENDPOINT",
    *VARIABLES_OF_OTHER_HOSTS,
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
)
"""Without AZURE_POD_IDENTITY_AUTHORITY_HOST, which says where a virtual machine's identity is asked, after these."""

MISLEADING = ("MSI_SECRET", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "AZD_AUTH_CERT")
"""With one of these a client takes a broker's variables for those of another host, or asks in another way."""

CHOICE = "AZURE_TOKEN_CREDENTIALS"
"""Which credentials a ``DefaultAzureCredential`` asks; azure-identity for Python reads it from 1.23 on."""

SECRETS = ("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_PASSWORD")
"""With one of these a program signs in by itself, as a service principal, a workload or a user."""

SIGN_INS = (
    *_OF_MANAGED_IDENTITIES,
    *SECRETS,
    "ARM_MSI_ENDPOINT",
    "AZD_AUTH_CERT",
    "AZD_AUTH_ENDPOINT",
    "AZD_AUTH_KEY",
    "AZURE_CLIENT_ID",
    "AZURE_MSI_ENDPOINT",
    "AZURE_TENANT_ID",
    "AZURE_USERNAME",
)
"""Those by which a program finds another identity than Cloud Shell's, a broker's too: none is set in Cloud Shell."""

OF_THIS_MACHINE = (*SIGN_INS, "ACC_STORAGE_PROFILE", "AZURE_AUTHORITY_HOST", "AZURE_TOKEN_CREDENTIALS")
"""Those, and the ones by which an outcome depends on the machine."""
