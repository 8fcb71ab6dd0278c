"""Write, list and read a blob as the signed-in user.

Needs ``pip install azure-cloudshell-credential azure-storage-blob``. With your storage account::

    python examples/storage_blob.py https://ACCOUNT.blob.core.windows.net

Against Azurite, run with ``--oauth basic`` over HTTPS, which takes the tokens of ``azure-cloudshell emulate``::

    python examples/storage_blob.py https://localhost:10000/devstoreaccount1 --ca-file ca.pem
"""

import argparse

from azure.storage.blob import BlobServiceClient

from azure_cloudshell_credential import DefaultCloudShellCredential


def main() -> None:
    parser = argparse.ArgumentParser(description="Write, list and read a blob.")
    parser.add_argument("account_url", help="such as https://ACCOUNT.blob.core.windows.net")
    parser.add_argument("--container", default="cloud-shell-example")
    parser.add_argument("--ca-file", help="the CA certificate of an account that is emulated")
    arguments = parser.parse_args()

    options = {"connection_verify": arguments.ca_file} if arguments.ca_file else {}
    with (
        DefaultCloudShellCredential() as credential,
        BlobServiceClient(arguments.account_url, credential=credential, **options) as service,
    ):
        container = service.get_container_client(arguments.container)
        if not container.exists():
            container.create_container()
        container.upload_blob("greeting.txt", b"Hello from Cloud Shell", overwrite=True)
        for blob in container.list_blobs():
            print(blob.name, blob.size)
        print(container.download_blob("greeting.txt").readall().decode())


if __name__ == "__main__":
    main()
