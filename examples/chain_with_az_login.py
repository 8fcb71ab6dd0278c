"""Use Cloud Shell's token where there is one, and the Azure CLI's for everything else.

Cloud Shell does not issue tokens for every service (here: Container Registry). The chain then asks the Azure CLI, so
that the same script works after ``az login``, in Cloud Shell and on a laptop. Needs
``pip install azure-cloudshell-credential``::

    python examples/chain_with_az_login.py
"""

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, ChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential

SCOPES = ("https://management.azure.com/.default", "https://containerregistry.azure.net/.default")


def main() -> None:
    with ChainedTokenCredential(CloudShellCredential(), AzureCliCredential()) as chain:
        for scope in SCOPES:
            try:
                token = chain.get_token(scope)
            except ClientAuthenticationError as error:
                print(f"{scope}: no token\n{error.message}")
            else:
                print(f"{scope}: a token of {len(token.token)} characters")


if __name__ == "__main__":
    main()
