"""What ends a command, and what is said of it."""

from __future__ import annotations

_PACKAGES = {
    "azure": "azure-core",
    "cryptography": "PyJWT[crypto]",
    "jwt": "PyJWT[crypto]",
}
"""The names to install modules by that are called otherwise."""


class CommandError(Exception):
    """Ends the command with a message on stderr: one line, and for wrong usage one more.

    :param status: the exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def message_of(error: Exception, command: str) -> str:
    """What to say of an error of a command, in one line."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        # The one file of a release has no packages beside it.
        package = _PACKAGES.get(error.name, error.name.replace(".", "-"))
        extra = "[emulator]" if command == "emulate" else ""
        return f"{package} is not installed: pip install 'azure-cloudshell-credential{extra}'"
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return text or f"{type(error).__name__}; run again with --debug for details"
