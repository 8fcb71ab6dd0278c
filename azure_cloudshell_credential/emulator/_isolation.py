"""This process inside an emulated Cloud Shell, with nothing of the developer's own in reach: for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .._serving.proxies import without_proxy
from . import _variables
from ._emulator import CloudShellEmulator

_OF_THE_DEVELOPER = (
    "ACC_STORAGE_PROFILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_TOKEN_CREDENTIALS",
)
"""Variables that would have a test depend on the machine it runs on."""


@contextmanager
def isolated(shell: CloudShellEmulator, *programs: str) -> Iterator[None]:
    """Set ``os.environ`` for a test, and restore it afterwards.

    No service principal, no sign-in of az, azd or PowerShell, no proxy for loopback, no virtual machine's identity.
    What another test left is forgotten before, and what this one leaves afterwards.

    :param programs: which of az, azd, pwsh and powershell stand-ins are put on PATH for; all if none is named.
    """
    shell.reset()
    try:
        with ExitStack() as stack:
            stack.enter_context(shell.as_environment())
            variables = stack.enter_context(shell.programs(*programs))
            changes = {
                **dict.fromkeys(_OF_THE_DEVELOPER),
                **variables,
                **shell.no_imds_environment,
                **without_proxy(os.environ),
            }
            stack.enter_context(_variables.changed(changes))
            yield
    finally:
        shell.reset()
