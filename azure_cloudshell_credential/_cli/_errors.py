"""What ends a command, and what is said of it."""

from __future__ import annotations

_PACKAGES = {
    "azure": "azure-core",
    "cryptography": "PyJWT[crypto]",
    "jwt": "PyJWT[crypto]",
}
"""The names to install modules by that are called otherwise."""

_NEEDED = {"emulate": "azure-identity 'PyJWT[crypto]' trustme"}
"""What to install for a command beside the one file of a release, where it is not azure-identity alone."""


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
        needed = _NEEDED.get(command, "azure-identity")
        return f"This needs {package}, which is not installed: pip install {needed}"
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return text or f"{type(error).__name__}; run again with --debug for details"
