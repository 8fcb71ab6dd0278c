"""Nothing of the developer's own in reach: for tests, and for the commands that ``emulate`` starts."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep
from typing import cast

from .._serving.proxies import without_proxy
from .._serving.variables import OF_THIS_MACHINE
from .._tokens.in_flight import THREAD_NAME
from ._azure_cli import SUBSCRIPTION_ID
from ._emulator import CloudShellEmulator

NOBODY = {"AZURE_USERNAME": "nobody@emulated-cloud-shell.invalid"}
"""Hides the token cache that Microsoft's developer tools share: ``~/.IdentityService``, or the system's keychain.

It says whose tokens a default chain takes from there. HOME would hide the files too, and with them whatever else
programs find by it, such as packages of Python's user site. A ``SharedTokenCacheCredential`` that a program makes
itself does not read the variable.
"""

_BROKER = "azure.identity.broker"

_SECONDS = 10.0
_POLL_SECONDS = 0.005


@contextmanager
def without_sign_ins(shell: CloudShellEmulator, *programs: str) -> Iterator[dict[str, str]]:
    """The variables that hide the developer's own sign-ins, once ``SIGN_INS`` are removed.

    az and azd have empty folders. PowerShell, whose folder no variable names (Az.Accounts' AzureSessionInitializer), is
    a stand-in. ``NOBODY`` hides the shared token cache. No variable hides what azure-identity-broker finds: the account
    of Windows, and Visual Studio Code's.

    :param programs: which of az, azd, pwsh and powershell stand-ins are put on PATH for; all if none is named.
    """
    with shell.programs(*programs) as variables:
        yield {**variables, **NOBODY, **shell.no_imds_environment}


@contextmanager
def sealed_off(shell: CloudShellEmulator, *programs: str) -> Iterator[dict[str, str]]:
    """As ``without_sign_ins``, with nothing else of this machine in reach, once ``OF_THIS_MACHINE`` are removed."""
    with without_sign_ins(shell, *programs) as variables:
        # Whoever asks for the default subscription is not led to ask Azure itself.
        yield {**variables, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION_ID, **without_proxy(os.environ)}


@contextmanager
def isolated(shell: CloudShellEmulator, *programs: str) -> Iterator[None]:
    """Set ``os.environ`` for a test, and restore it afterwards.

    No service principal, no sign-in of az, azd or PowerShell, no proxy for loopback, no virtual machine's identity, no
    azure-identity-broker. What another test left is forgotten before, and what this one leaves afterwards.

    :param programs: as for ``sealed_off``.
    """
    shell.reset()
    try:
        with (
            sealed_off(shell, *programs) as variables,
            _without_identity_broker(),
            shell.as_environment({**dict.fromkeys(OF_THIS_MACHINE), **shell.environment, **variables}),
        ):
            try:
                yield
            finally:
                shell.reset()
                _wait_for_acquisitions()
    finally:
        shell.reset()


@contextmanager
def _without_identity_broker() -> Iterator[None]:
    """Have azure-identity find azure-identity-broker not installed. It imports it when a chain is made."""
    # None stops an import.
    modules = cast("dict[str, object]", sys.modules)
    before = modules.get(_BROKER)
    modules[_BROKER] = None
    try:
        yield
    finally:
        modules.pop(_BROKER, None)
        if before is not None:
            modules[_BROKER] = before


def _wait_for_acquisitions() -> None:
    """Let what a test has left in flight end here: a chain that goes on would come to the developer's own az."""
    for _ in range(int(_SECONDS / _POLL_SECONDS)):
        # Some may not have started yet, and cannot be joined.
        if not any(thread.name == THREAD_NAME for thread in threading.enumerate()):
            return
        sleep(_POLL_SECONDS)
