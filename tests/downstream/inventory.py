"""Somebody's script: counts the secrets of a vault, as whoever is signed in."""

from azure.core.exceptions import ClientAuthenticationError

from azure_cloudshell_credential import AudienceNotSupportedError, CloudShellCredential

CREDENTIAL = CloudShellCredential  # constructed late, where the environment is known


def token_for_the_vault(credential: CloudShellCredential) -> str:
    try:
        return credential.get_token("https://vault.azure.net/.default").token
    except AudienceNotSupportedError as error:
        raise SystemExit(f"Run az login first: no tokens for {error.resource}") from None
    except ClientAuthenticationError as error:
        raise SystemExit(f"Not signed in: {error.message}") from None
