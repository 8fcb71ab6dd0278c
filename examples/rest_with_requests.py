"""Call Azure's REST API with requests: the documented call that lists virtual machines.

Needs ``pip install azure-cloudshell-credential``::

    python examples/rest_with_requests.py [--subscription ID]

``--emulate`` lists those of a made-up company instead; it needs ``azure-cloudshell-credential[demo]``.
"""

import argparse
from contextlib import ExitStack

import requests

from azure_cloudshell_credential import CloudShellAuth, DefaultCloudShellCredential, default_subscription_id


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    parser.add_argument("--emulate", action="store_true", help="list those of a made-up company")
    arguments = parser.parse_args()

    with ExitStack() as stack:
        subscription, base = arguments.subscription, "https://management.azure.com"
        verify: bool | str = True
        if arguments.emulate:
            from azure_cloudshell_credential.emulator.anywhere import emulated

            azure = stack.enter_context(emulated())
            print("Emulated: these machines are made up.")
            subscription, base, verify = azure.subscription_id, azure.resource_manager, azure.verify
        credential = stack.enter_context(DefaultCloudShellCredential())
        auth = CloudShellAuth(credential=credential)
        subscription = subscription or default_subscription_id(credential)
        url = f"{base}/subscriptions/{subscription}/providers/Microsoft.Compute/virtualMachines?api-version=2024-07-01"
        while url:
            reply = requests.get(url, auth=auth, verify=verify, timeout=30)
            reply.raise_for_status()
            page = reply.json()
            for machine in page["value"]:
                print(machine["name"], machine["location"])
            url = page.get("nextLink")


if __name__ == "__main__":
    main()
