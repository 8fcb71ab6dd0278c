"""Record the commands in a terminal, from a real run: ``make pictures`` writes terminal.svg and terminal.txt.

Inside an emulated Cloud Shell that refuses one service, with an Azure CLI that is logged in (a made-up one, whose
tokens no service accepts).
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure

HERE = Path(__file__).parent
WIDTH = 104
BASH = shutil.which("bash") or "bash"
APP = """
from azure.identity import DefaultAzureCredential

credential = DefaultAzureCredential()
for service in ("https://management.azure.com", "https://search.azure.com"):
    try:
        token = credential.get_token(service + "/.default").token
        print(f"{service}: a token of {len(token)} characters")
    except Exception as error:
        print(f"{service}: {type(error).__name__}")
"""
AZ = """#!{python} -IS
import sys, time
if "show" in sys.argv:
    print('{{"name": "Contoso", "tenantId": "t", "user": {{"name": "ada@contoso.example"}}}}')
else:
    print('{{"accessToken": "{token}", "expires_on": %d}}' % (time.time() + 3600))
"""
COMMANDS = (
    "azure-cloudshell demo",
    "python app.py",
    "azure-cloudshell run -- python app.py",
    "azure-cloudshell doctor",
)
# Of the doctor's list of audiences, what is refused is enough for a picture.
GRANTED = re.compile(r"ok *(?:\x1b\[0m)? *(?!tenant)[a-z-]+ +(?:https|[0-9a-f]{8}-)")


def record(command: str) -> str:
    """What a command prints on a terminal."""
    output = io.BytesIO()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        output.write(data)
        return data

    pty.spawn([BASH, "-c", command], read)
    text = output.getvalue().decode().replace("\r\n", "\n")
    # What a line says while it waits is taken back.
    return re.sub(r"[^\n]*\r", "", text)


def recorded() -> Console:
    """All of them, one after the other."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    with ExitStack() as stack:
        shell = stack.enter_context(CloudShellEmulator())
        stack.enter_context(shell.as_environment())
        azure = stack.enter_context(EmulatedAzure(shell))
        folder = stack.enter_context(TemporaryDirectory())
        shell.deny("search")
        az = Path(folder) / "az"
        az.write_text(AZ.format(python=sys.executable, token="x" * 1200), encoding="utf-8")
        az.chmod(az.stat().st_mode | stat.S_IXUSR)
        (Path(folder) / "app.py").write_text(APP, encoding="utf-8")
        # Nothing else that a machine happens to have is in the picture.
        path = f"{folder}{os.pathsep}{Path(sys.executable).parent}"
        os.environ.update(azure.environment)
        os.environ.update(PATH=path, COLUMNS=str(WIDTH), AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:9")
        os.chdir(folder)
        for command in COMMANDS:
            lines = record(f"{command} 2>/dev/null").splitlines()
            shown = "\n".join(line.rstrip() for line in lines if not GRANTED.search(line))
            console.print(Text.from_ansi(f"\x1b[1;32m$\x1b[0m {command}\n{shown.strip()}\n"))
        os.chdir(HERE)
    return console


def main() -> None:
    """Record, and write both files."""
    console = recorded()
    (HERE / "terminal.txt").write_text(console.export_text(clear=False), encoding="utf-8")
    console.save_svg(str(HERE / "terminal.svg"), title="an emulated Azure Cloud Shell")


if __name__ == "__main__":
    main()
