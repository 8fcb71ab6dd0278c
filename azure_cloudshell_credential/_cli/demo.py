"""``azure-cloudshell demo``: the main job, end to end."""

from __future__ import annotations

import argparse
import os

from .. import CloudShellCredential
from . import CommandError

try:
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.compute import ComputeManagementClient

    from ..demo import HEADINGS, first_enabled_subscription, print_table, signed_in, virtual_machines
    from ..emulator.anywhere import anywhere
except ModuleNotFoundError as missing:
    raise CommandError(f"The demo needs {missing.name}: pip install 'azure-cloudshell-credential[demo]'") from None


def run(arguments: argparse.Namespace) -> int:
    """List the virtual machines of a subscription, and say who was signed in."""
    with anywhere() as azure, CloudShellCredential() as credential:
        if azure.is_emulated:
            print("This is not Cloud Shell, so here are the machines of an imaginary company: an emulated Cloud Shell")
            print("signs in, and a stand-in for Azure Resource Manager checks its tokens and answers.\n")
        subscription = (
            arguments.subscription
            or (not azure.is_emulated and os.environ.get("AZURE_SUBSCRIPTION_ID"))
            or first_enabled_subscription(azure, credential)
        )
        with ComputeManagementClient(credential, subscription, **azure.client_options) as client:
            try:
                print_table(HEADINGS, virtual_machines(client))
            except HttpResponseError as error:
                raise CommandError(f"Azure Resource Manager refused: {error.message}") from None
        print(f"\n{signed_in(credential, azure.scope)}")
    return 0
