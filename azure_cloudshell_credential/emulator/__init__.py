"""Azure Cloud Shell's token endpoint, emulated: run and test Cloud Shell code anywhere.

Needs the extra ``emulator``: ``pip install azure-cloudshell-credential[emulator]``. ``faults`` has replies to
script, to see what a client makes of them.
"""

from __future__ import annotations

try:
    from . import faults
    from ._emulator import DEFAULT_AUDIENCES, DEFAULT_LIFETIME, CloudShellEmulator, TokenRequest
    from ._tokens import Identity
    from .faults import ScriptedReply
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"The emulator needs {_missing.name}: pip install 'azure-cloudshell-credential[emulator]'", name=_missing.name
    ) from None

__all__ = [
    "DEFAULT_AUDIENCES",
    "DEFAULT_LIFETIME",
    "CloudShellEmulator",
    "Identity",
    "ScriptedReply",
    "TokenRequest",
    "faults",
]
