"""Azure Cloud Shell's token endpoint, emulated: run and test Cloud Shell code anywhere.

Needs the extra ``emulator``: ``pip install azure-cloudshell-credential[emulator]``. ``EmulatedAzure`` leads unmodified
programs to a stand-in for Azure. ``faults`` has replies to script, to see what a client makes of them.
"""

from __future__ import annotations

from . import faults
from .faults import ScriptedReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._emulated_azure import EmulatedAzure as EmulatedAzure
    from ._emulator import CloudShellEmulator as CloudShellEmulator
    from ._responder import RecordedRequest as RecordedRequest
    from ._settings import DEFAULT_AUDIENCES as DEFAULT_AUDIENCES
    from ._settings import Identity as Identity

__all__ = [
    "DEFAULT_AUDIENCES",
    "CloudShellEmulator",
    "EmulatedAzure",
    "Identity",
    "RecordedRequest",
    "ScriptedReply",
    "faults",
]

# What needs an extra is imported when it is used: doctor --report reads the behaviour without any.
_LAZY_EXPORTS = {
    "DEFAULT_AUDIENCES": "._settings",
    "CloudShellEmulator": "._emulator",
    "EmulatedAzure": "._emulated_azure",
    "Identity": "._settings",
    "RecordedRequest": "._responder",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value: object = getattr(import_module(_LAZY_EXPORTS[name], __name__), name)
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{name} needs more than is installed: pip install 'azure-cloudshell-credential[emulator]'",
            name=missing.name,
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
