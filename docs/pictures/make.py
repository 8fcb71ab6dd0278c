"""Record commands in a terminal, from a real run: ``make generated`` writes the picture, and what doctor prints.

Inside an emulated Cloud Shell that refuses one service, with a stand-in for the Azure CLI, whose tokens no service
accepts. The program and what the commands print are shown whole.
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

from azure_cloudshell_credential.emulator import CloudShellEmulator

HERE = Path(__file__).parent
WIDTH = 84
BASH = shutil.which("bash") or "bash"
APP = """\
from azure.identity import DefaultAzureCredential

DefaultAzureCredential().get_token("https://search.azure.com/.default")
print("Azure AI Search: signed in")
"""
# What azure-cli 2.91.0 prints in Cloud Shell, and what it looks for; the second line of ``login`` is Entra's.
AZ = """#!{python} -IS
import os, sys, time
signed_in = {folder!r} + "/signed-in"
if sys.argv[1] == "login":
    print("Cloud Shell is automatically authenticated under the initial account signed-in with."
          " Run 'az login' only if you need to use a different account", file=sys.stderr)
    print("To sign in, use a web browser to open the page https://login.microsoft.com/device"
          " and enter the code CONTOSO42 to authenticate.", file=sys.stderr)
    open(signed_in, "w").close()
elif not os.path.exists(signed_in):
    sys.exit("ERROR: Please run 'az login' to setup account.")
elif "show" in sys.argv:
    print('{{"name": "Contoso", "tenantId": "t", "user": {{"name": "ada@contoso.example"}}}}')
else:
    print('{{"accessToken": "{token}", "expires_on": %d}}' % (time.time() + 3600))
"""
COMMANDS = (
    "cat app.py",
    "python app.py 2>&1 | tail -n 3",
    "az login",
    "python app.py 2>&1 | tail -n 3",
    "azure-cloudshell run python app.py",
)


def record(command: str) -> str:
    """What a command prints on a terminal."""
    output = io.BytesIO()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        output.write(data)
        return data

    pty.spawn([BASH, "-c", command], read)
    return output.getvalue().decode().replace("\r\n", "\n")


def recorded() -> Console:
    """All of them, one after the other."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    with ExitStack() as stack:
        shell = stack.enter_context(CloudShellEmulator())
        stack.enter_context(shell.as_environment())
        folder = stack.enter_context(TemporaryDirectory())
        shell.deny("search")
        az = Path(folder) / "az"
        az.write_text(AZ.format(python=sys.executable, folder=folder, token="x" * 1200), encoding="utf-8")
        az.chmod(az.stat().st_mode | stat.S_IXUSR)
        (Path(folder) / "app.py").write_text(APP, encoding="utf-8")
        # Nothing else that a machine happens to have is in the picture.
        path = os.pathsep.join((folder, str(Path(sys.executable).parent), os.defpath))
        os.environ.update(PATH=path, COLUMNS=str(WIDTH), AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:9")
        os.chdir(folder)
        for command in COMMANDS:
            console.print(Text.from_ansi(f"\x1b[1;32m$\x1b[0m {command}\n{record(command).rstrip()}"))
        os.chdir(HERE)
    return console


TOO = "cognitiveservices eventhubs eventgrid monitor webpubsub communication kusto cosmos appconfig acr fabric"
DOCTOR = (
    f"azure-cloudshell emulate --port 0 {' '.join(f'--audience {name}' for name in TOO.split())}"
    " --az-login grace@contoso.example -- azure-cloudshell doctor"
)
PAGE = HERE.parent / "command-line.md"
ON_THE_PAGE = re.compile(r"(?<=```text\n)azure-cloudshell doctor .*?(?=^```$)", re.DOTALL | re.MULTILINE)


def doctor() -> str:
    """What doctor prints on a terminal of 80 columns, with no other program on PATH. What changes is made the same."""
    os.environ.update(PATH=str(Path(sys.executable).parent), COLUMNS="80", NO_COLOR="1", TERM="xterm")
    os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = "http://127.0.0.1:9"
    printed = record(DOCTOR)
    lines = printed[printed.index("azure-cloudshell doctor") :]
    return re.sub(r"in \d+ ms", "in 12 ms", re.sub(r"localhost:\d+", "localhost:50342", lines))


def main() -> None:
    """Record, and write the files."""
    console = recorded()
    page = PAGE.read_text(encoding="utf-8")
    shown = doctor()
    PAGE.write_text(ON_THE_PAGE.sub(lambda _: shown, page), encoding="utf-8")
    (HERE / "terminal.txt").write_text(console.export_text(clear=False), encoding="utf-8")
    console.save_svg(str(HERE / "terminal.svg"), title="an emulated Azure Cloud Shell")


if __name__ == "__main__":
    main()
