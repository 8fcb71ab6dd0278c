"""Lines for a shell to evaluate: bash (and its relatives), PowerShell and fish.

Half of Cloud Shell's users are in PowerShell, where ``export`` means nothing.
"""

from __future__ import annotations

import os

SHELLS = ("bash", "pwsh", "fish")


def detect() -> str:
    """The shell that this process was started from; bash if nothing tells."""
    name = _parent() or os.path.basename(os.environ.get("SHELL", ""))
    if name.startswith(("pwsh", "powershell")) or (os.name == "nt" and "PSModulePath" in os.environ):
        return "pwsh"
    return "fish" if name == "fish" else "bash"


def _parent() -> str:
    """The name of the parent process, empty where the system does not tell."""
    try:
        with open(f"/proc/{os.getppid()}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def set_variable(shell: str, name: str, value: str) -> str:
    """The line that sets an environment variable.

    :param shell: one of ``SHELLS``.
    """
    if shell == "pwsh":
        # PowerShell takes four more characters for quotes, and reads each line that it is sent as a command.
        quoted = "".join(letter * 2 if letter in "'\u2018\u2019\u201a\u201b" else letter for letter in value)
        lines = quoted.replace("\r", "' + \"`r\" + '").replace("\n", "' + \"`n\" + '")
        return f"$env:{name} = '{lines}'"
    if shell == "fish":
        return f"set -gx {name} '" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    from shlex import quote

    return f"export {name}={quote(value)}"


def unset_variable(shell: str, name: str) -> str:
    """The line that removes an environment variable."""
    if shell == "pwsh":
        return f"Remove-Item Env:{name} -ErrorAction Ignore"
    return f"set -e {name}" if shell == "fish" else f"unset {name}"
