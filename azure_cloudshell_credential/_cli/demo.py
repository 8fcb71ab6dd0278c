"""``azure-cloudshell demo``: the main job, end to end."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

from .._azure.cloud_shell import CloudShellCredential
from .._azure.subscription import default_subscription_id
from .._endpoint import audiences
from .._endpoint.environment import Environment
from .._endpoint.identity import identity_in
from .._endpoint.text import count, printable, quoted
from .._endpoint.token import claims_of
from ..emulator._azure_cli import SUBSCRIPTION_ID
from ..emulator._identity import MARK
from ._errors import CommandError
from ._parser import Parser
from ._urls import shown_url

try:
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.compute.models import VirtualMachine
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError:
    raise CommandError("The demo needs more packages: pip install 'azure-cloudshell-credential[demo]'") from None

_HEADINGS = ("NAME", "RESOURCE GROUP", "REGION", "SIZE", "OS", "STATE")
_MADE_UP = (
    "These are the machines of a made-up company: an emulated Cloud Shell issues the token, and a stand-in for Azure "
    "Resource Manager checks it and answers.\n"
)
_COLOURS = {"running": "green", "stopped": "yellow", "deallocated": "yellow"}
_LONGEST_CELL = 90
"""Characters: the longest name of a resource group has 90."""

_WIDE_ENOUGH = 1000
"""Columns for output that is not shown on a terminal: another program reads it, by lines."""


EXAMPLES = (
    "azure-cloudshell demo",
    "azure-cloudshell demo --subscription 00000000-0000-0000-0000-000000000000",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--subscription",
        metavar="ID",
        help="default: AZURE_SUBSCRIPTION_ID, or the first enabled subscription of the signed-in user",
    )


def run(arguments: argparse.Namespace) -> int:
    """List the virtual machines of a subscription, and say who was signed in."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE_ENOUGH)
    with _in_cloud_shell(), CloudShellCredential() as credential:
        cloud = audiences.cloud_named(os.environ.get("ACC_CLOUD"))
        scope = f"{cloud.resource_manager}/.default"
        is_made_up = MARK in claims_of(credential.get_token(scope).token)
        if is_made_up:
            _check_for_a_stand_in()
            _say(console, _MADE_UP)
        subscription = arguments.subscription or default_subscription_id(credential)
        options: dict[str, Any] = {"base_url": cloud.resource_manager, "credential_scopes": [scope]}
        with ComputeManagementClient(credential, subscription, **options) as client:
            try:
                machines = list(_machines(client))
            except HttpResponseError as error:
                said = quoted(error.message.splitlines()[0])
                raise CommandError(f"Azure Resource Manager refused: {said}") from None
        if machines:
            console.print(_table(machines))
        else:
            _say(console, "(no virtual machines in this subscription)")
        _say(console, f"\n{_signed_in(credential, scope)}")
        for line in _next_steps(is_made_up):
            _say(console, line)
    return 0


@contextmanager
def _in_cloud_shell() -> Iterator[None]:
    """Cloud Shell itself, or an emulated one with this process inside."""
    if Environment(os.environ).endpoint is not None:
        yield
        return
    from ..emulator import CloudShellEmulator, EmulatedAzure

    with CloudShellEmulator() as shell, EmulatedAzure(shell) as azure, azure.as_environment():
        yield


def _check_for_a_stand_in() -> None:
    # EmulatedAzure sets it. Azure itself is not to be asked with a made-up token.
    if os.environ.get("AZURE_SUBSCRIPTION_ID") != SUBSCRIPTION_ID:
        raise CommandError(
            "The token is made up, and there is no stand-in for Azure to ask with it. Run: "
            "azure-cloudshell emulate --with-azure --exec azure-cloudshell demo"
        )


def _say(console: Console, line: str) -> None:
    console.print(Text(line))


def _machines(client: ComputeManagementClient) -> Iterator[tuple[str, ...]]:
    """A row for each virtual machine."""
    # Resource Manager tells whether machines run only when asked for nothing else.
    power = {vm.id.lower(): _power_state(vm) for vm in client.virtual_machines.list_all(status_only="true") if vm.id}
    for vm in client.virtual_machines.list_all():
        identifier = vm.id or ""
        disk = vm.storage_profile.os_disk if vm.storage_profile else None
        yield (
            _text(vm.name),
            _text(identifier.split("/")[4] if identifier.count("/") > 4 else None),
            _text(vm.location),
            _text(vm.hardware_profile.vm_size if vm.hardware_profile else None),
            _text(disk.os_type if disk else None),
            _text(power.get(identifier.lower())),
        )


def _text(value: object) -> str:
    # The client turns the values it knows into enumeration members.
    return printable(str(getattr(value, "value", value) or "-"))[:_LONGEST_CELL]


def _power_state(vm: VirtualMachine) -> str:
    statuses = (vm.instance_view.statuses if vm.instance_view else None) or []
    codes = (status.code or "" for status in statuses)
    return next((code.partition("/")[2] for code in codes if code.startswith("PowerState/")), "-")


def _table(machines: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for *cells, state in machines:
        table.add_row(*map(Text, cells), Text(state, style=_COLOURS.get(state, "")))
    return table


def _signed_in(credential: CloudShellCredential, scope: str) -> str:
    """Who is signed in, in which tenant, through which endpoint, and for how long."""
    token = credential.get_token(scope)
    claims = claims_of(token.token)
    user = identity_in(claims)
    minutes = max(0, round((token.expires_on - time()) / 60))
    where = shown_url(credential.endpoint or "")
    return f"Signed in as {user.who}, through {where}; the token is valid for another {count(minutes, 'minute')}."


def _next_steps(is_made_up: bool) -> Iterator[str]:
    yield ""
    if is_made_up:
        yield "Next: run it in Cloud Shell to list your own machines, or run azure-cloudshell doctor here."
    else:
        yield "Next: azure-cloudshell doctor shows which services you get tokens for."
    if shutil.which("azure-cloudshell") is None and (folder := _folder_of_the_command()):
        yield f'The command is not on PATH. This puts it there: export PATH="{folder}:$PATH"'


def _folder_of_the_command() -> Path | None:
    scripts = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    folders = (Path(sys.executable).parent, Path(scripts))
    return next((folder for folder in folders if (folder / "azure-cloudshell").exists()), None)
