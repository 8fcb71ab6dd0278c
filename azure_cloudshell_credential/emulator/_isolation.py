"""This process inside an emulated Cloud Shell, with nothing of the developer's own in reach: for tests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from .._serving.proxies import without_proxy
from .._tokens.in_flight import THREAD_NAME
from ._azure_cli import SUBSCRIPTION_ID
from ._emulator import CloudShellEmulator

_OF_THE_DEVELOPER = (
    "ACC_STORAGE_PROFILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_TOKEN_CREDENTIALS",
)
"""Variables that would have a test depend on the machine it runs on."""

_SECONDS = 10.0


@contextmanager
def isolated(shell: CloudShellEmulator, *programs: str) -> Iterator[None]:
    """Set ``os.environ`` for a test, and restore it afterwards.

    No service principal, no sign-in of az, azd or PowerShell, no proxy for loopback, no virtual machine's identity.
    What another test left is forgotten before, and what this one leaves afterwards.

    :param programs: which of az, azd, pwsh and powershell stand-ins are put on PATH for; all if none is named.
    """
    shell.reset()
    try:
        with shell.programs(*programs) as variables:
            changes = {
                **dict.fromkeys(_OF_THE_DEVELOPER),
                **variables,
                # Whoever asks for the default is not led to ask Azure itself.
                "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION_ID,
                **shell.no_imds_environment,
                **without_proxy(os.environ),
            }
            with shell.as_environment(changes):
                try:
                    yield
                finally:
                    shell.reset()
                    _wait_for_acquisitions()
    finally:
        shell.reset()


def _wait_for_acquisitions() -> None:
    """Let what a test has left in flight end here: a chain that goes on would come to the developer's own az."""
    deadline = monotonic() + _SECONDS
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(max(0.0, deadline - monotonic()))
