"""The credentials that start a program (az, azd, PowerShell): one start at a time, and whether somebody has signed in.

az locks its cache of tokens, and fails where several of it are started at once (azure-cli#21744, #25485).

azure-identity keeps none of az's tokens, so that ``az login``, ``az logout`` and ``az account set`` take effect at
once. Whoever keeps them has to notice. Each of the three writes azureProfile.json; ``get-access-token``, ``account
show`` and ``vm list`` leave it alone (azure-cli 2.91.0). azd and PowerShell keep their sign-ins elsewhere: those are
not noticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from subprocess import TimeoutExpired
from time import monotonic
from typing import Any

from .._endpoint.azure_cli import profile_path
from .._endpoint.turns import Turn

_STARTING = ("AzureCliCredential", "AzureDeveloperCliCredential", "AzurePowerShellCredential")
"""azure-identity's classes that start a program."""

_SECONDS = 600.0
"""Seconds to wait for a turn and to have it. How long a program takes is bounded by ``process_timeout``."""

_hung: dict[str, tuple[float, str]] = {}
"""For each class, when a program of it last ran into its timeout, and what was said."""


def watch_sign_in() -> Callable[[], bool]:
    """Tells whether nobody has signed in to az, signed out or chosen another subscription since this call."""
    path = profile_path(os.environ)
    before = _time_and_size(path)
    return lambda: _time_and_size(path) == before


def _time_and_size(path: str) -> tuple[int, int] | None:
    # az writes in place: who reads the file may find it empty.
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def one_at_a_time(credential: Any) -> Any:
    """Have a credential of azure-identity, and those inside a chain of it, start one program after the other."""
    for each in (credential, *getattr(credential, "credentials", ())):
        if type(each).__name__ in _STARTING:
            for name in ("get_token", "get_token_info"):
                if (method := getattr(each, name, None)) is not None:
                    setattr(each, name, _in_turn(type(each).__name__, method))
    return credential


def _in_turn(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a credential that starts a program.

    A program that hangs costs its timeout once: whoever was waiting for a turn meanwhile gets the same failure.
    """

    def ask(*scopes: str, **options: Any) -> Any:
        from azure.identity import CredentialUnavailableError

        asked_at = monotonic()
        with Turn(name, _SECONDS) as seconds:
            hung_at, said = _hung.get(name, (0.0, ""))
            if hung_at > asked_at:
                raise CredentialUnavailableError(message=said)
            if not seconds:
                raise CredentialUnavailableError(message="Other requests of this process took too long")
            try:
                return method(*scopes, **options)
            except CredentialUnavailableError as error:
                if isinstance(error.__cause__, TimeoutExpired):
                    _hung[name] = (monotonic(), error.message or str(error))
                raise

    return ask
