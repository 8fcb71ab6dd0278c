"""Call Azure's REST API with requests: the documented call that lists virtual machines.

Needs ``pip install azure-cloudshell-credential``::

    python examples/rest_with_requests.py [--subscription ID]

``azure-cloudshell emulate --with-azure --exec`` in front of it lists those of a made-up company instead; that needs
``azure-cloudshell-credential[emulator]``.
"""

import argparse

import requests

from azure_cloudshell_credential import CloudShellAuth, DefaultCloudShellCredential, default_subscription_id

MACHINES = "https://management.azure.com/subscriptions/{}/providers/Microsoft.Compute/virtualMachines"


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    arguments = parser.parse_args()

    with DefaultCloudShellCredential() as credential:
        auth = CloudShellAuth(credential=credential)
        subscription = arguments.subscription or default_subscription_id(credential)
        url = f"{MACHINES.format(subscription)}?api-version=2024-07-01"
        while url:
            reply = requests.get(url, auth=auth, timeout=30)
            reply.raise_for_status()
            page = reply.json()
            for machine in page["value"]:
                print(machine["name"], machine["location"])
            url = page.get("nextLink")


if __name__ == "__main__":
    main()
