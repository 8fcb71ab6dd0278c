"""The pieces of the main job, for the command ``azure-cloudshell demo`` and for the examples.

Which subscription, which virtual machines in what state, and who is signed in. Needs the extra ``demo``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import time

from azure.core.credentials import TokenCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import VirtualMachine

from . import _failures
from ._credential import CloudShellCredential
from ._protocol import claims_of, shown_claim, user_in
from ._subscription import first_enabled_subscription_id
from .emulator.anywhere import Azure

HEADINGS = ("NAME", "RESOURCE GROUP", "REGION", "SIZE", "OS", "STATE")


def first_enabled(azure: Azure, credential: TokenCredential) -> str:
    """The first enabled subscription that Resource Manager lists for the user.

    :raises LookupError: if there is none.
    """
    return first_enabled_subscription_id(
        credential, resource_manager=azure.resource_manager, scope=azure.scope, verify=azure.verify
    )


def virtual_machines(client: ComputeManagementClient) -> Iterable[tuple[str, ...]]:
    """A row for each virtual machine."""
    # Resource Manager tells whether machines run only when asked for nothing else.
    power = {vm.id.lower(): _power_state(vm) for vm in client.virtual_machines.list_all(status_only="true") if vm.id}
    for vm in client.virtual_machines.list_all():
        identifier = vm.id or ""
        disk = vm.storage_profile.os_disk if vm.storage_profile else None
        yield (
            vm.name or "-",
            identifier.split("/")[4] if identifier.count("/") > 4 else "-",
            vm.location,
            _text(vm.hardware_profile.vm_size if vm.hardware_profile else None),
            _text(disk.os_type if disk else None),
            power.get(identifier.lower(), "-"),
        )


def _text(value: object) -> str:
    # The client turns the values it knows into enumeration members.
    return str(getattr(value, "value", value) or "-")


def _power_state(vm: VirtualMachine) -> str:
    statuses = (vm.instance_view.statuses if vm.instance_view else None) or []
    codes = (status.code or "" for status in statuses)
    return next((code.partition("/")[2] for code in codes if code.startswith("PowerState/")), "-")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(lines) == 1:
        print("(no virtual machines in this subscription)")


def signed_in(credential: CloudShellCredential, scope: str) -> str:
    """Who is signed in, in which tenant, through which endpoint, and for how long."""
    token = credential.get_token(scope)
    claims = claims_of(token.token)
    who = user_in(claims) or shown_claim(claims, "oid") or "an unnamed user"
    minutes = max(0, round((token.expires_on - time()) / 60))
    return (
        f"Signed in as {who} in tenant {shown_claim(claims, 'tid') or 'unknown'}, through {credential.endpoint}; "
        f"the token is valid for another {_failures.count(minutes, 'minute')}."
    )
