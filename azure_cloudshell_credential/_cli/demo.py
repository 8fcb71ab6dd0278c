"""``azure-cloudshell demo``: the main job, end to end."""

from __future__ import annotations

import argparse
import os

from .. import CloudShellCredential
from . import CommandError

try:
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.compute import ComputeManagementClient

    from .._subscription import known_subscription_id
    from ..demo import HEADINGS, first_enabled, print_table, signed_in, virtual_machines
    from ..emulator.anywhere import anywhere
except ModuleNotFoundError as missing:
    raise CommandError(f"The demo needs {missing.name}: pip install 'azure-cloudshell-credential[demo]'") from None


def run(arguments: argparse.Namespace) -> int:
    """List the virtual machines of a subscription, and say who was signed in."""
    with anywhere() as azure, CloudShellCredential() as credential:
        if azure.is_emulated:
            print("These are the machines of a made-up company: an emulated Cloud Shell issues the token, and a")
            print("stand-in for Azure Resource Manager checks it and answers.\n")
        # The subscription that this machine knows of is none of the stand-in's.
        known = None if azure.is_emulated else known_subscription_id(os.environ)
        subscription = arguments.subscription or azure.subscription_id or known or first_enabled(azure, credential)
        with ComputeManagementClient(credential, subscription, **azure.client_options) as client:
            try:
                print_table(HEADINGS, virtual_machines(client))
            except HttpResponseError as error:
                raise CommandError(f"Azure Resource Manager refused: {error.message}") from None
        print(f"\n{signed_in(credential, azure.scope)}")
        if azure.is_emulated:
            print("Next: run it in Cloud Shell, where it lists your own machines; or azure-cloudshell doctor here.")
    return 0
