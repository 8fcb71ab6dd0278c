"""Call Azure's REST API with requests: the documented call that lists virtual machines.

In Cloud Shell they are your own; elsewhere, those of an emulated company::

    python examples/rest_with_requests.py [--subscription ID]
"""

import argparse
import os

import requests

from azure_cloudshell_credential import CloudShellAuth
from azure_cloudshell_credential.emulator.anywhere import anywhere


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID")
    subscription = parser.parse_args().subscription or os.environ.get("AZURE_SUBSCRIPTION_ID")

    with anywhere() as azure:
        subscription = azure.subscription_id or subscription
        if not subscription:
            parser.error("name a subscription with --subscription or AZURE_SUBSCRIPTION_ID")
        auth = CloudShellAuth(azure.scope)
        url = (
            f"{azure.resource_manager}/subscriptions/{subscription}"
            "/providers/Microsoft.Compute/virtualMachines?api-version=2024-07-01"
        )
        while url:
            reply = requests.get(url, auth=auth, verify=azure.verify, timeout=30)
            reply.raise_for_status()
            page = reply.json()
            for machine in page["value"]:
                print(machine["name"], machine["location"])
            url = page.get("nextLink")


if __name__ == "__main__":
    main()
