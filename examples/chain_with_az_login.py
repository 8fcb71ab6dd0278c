"""Use Cloud Shell's token where there is one, and the Azure CLI's for everything else.

Cloud Shell does not hand out tokens for every service (here: Container Registry). The chain then asks the Azure CLI, so
the same script works after ``az login``, in Cloud Shell and on a laptop::

    python examples/chain_with_az_login.py
"""

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, ChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator.anywhere import anywhere

SCOPES = ("https://management.azure.com/.default", "https://containerregistry.azure.net/.default")


def main() -> None:
    with anywhere(), ChainedTokenCredential(CloudShellCredential(), AzureCliCredential()) as chain:
        for scope in SCOPES:
            try:
                token = chain.get_token(scope)
            except ClientAuthenticationError as error:
                print(f"{scope}: no token\n{error.message}")
            else:
                print(f"{scope}: a token of {len(token.token)} characters")


if __name__ == "__main__":
    main()
