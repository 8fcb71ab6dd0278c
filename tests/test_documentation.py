"""Every code block of the documentation runs, and every link between files resolves."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from azure.mgmt import compute

from azure_cloudshell_credential import CloudShellAuth
from azure_cloudshell_credential._azure import explanation, subscription
from azure_cloudshell_credential._cli._parser import COMMANDS as COMMAND_NAMES
from azure_cloudshell_credential._cli._parser import parse
from azure_cloudshell_credential._endpoint import audiences, failures
from azure_cloudshell_credential._endpoint.environment import Environment
from azure_cloudshell_credential._endpoint.scopes import TokenRequest
from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure

from .test_failures import MAKERS, sample

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)")
NAMED = re.compile(r"# (\w+\.py)\n")
COMMANDS = re.compile(rf"azure-cloudshell (?:{'|'.join(COMMAND_NAMES)})\b[^`|)>'\"\\\n]*")


def blocks(*languages: str) -> list[Any]:
    """The code blocks of all pages in a language, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] in languages:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


@pytest.fixture
def azure(
    cloud_shell: CloudShellEmulator, cloud_shell_azure: EmulatedAzure, mocker: Any, fake_az: str
) -> Iterator[None]:
    """Cloud Shell, and Azure behind it, both emulated; az is logged in. Clients are closed afterwards."""
    clients: list[Any] = []
    client = compute.ComputeManagementClient

    def make(*arguments: Any, **options: Any) -> Any:
        clients.append(client(*arguments, **options))
        return clients[-1]

    mocker.patch.object(compute, "ComputeManagementClient", make)
    yield
    for each in clients:
        each.close()


def run_pytest(folder: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", *options, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("code", [block for block in blocks("python") if "def test_" not in block.values[0]])
def test_a_python_block_runs(azure: None, code: str) -> None:
    exec(compile(code, "<documentation>", "exec"), {"__name__": "documentation"})


@pytest.mark.slow
def test_the_tests_that_are_shown_pass_beside_the_script_that_is_shown(tmp_path: Path) -> None:
    files = {match[1]: code for (code,) in (each.values for each in blocks("python")) if (match := NAMED.match(code))}
    assert {"app.py", "machines.py", "test_machines.py", "test_troubles.py"} == files.keys()
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    run_pytest(tmp_path, "-W", "error", "-p", "no:asyncio")


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "plugins").glob("test_*.py")), ids=lambda file: file.stem)
def test_another_pytest_plugin_has_nothing_against_the_fixtures(file: Path, tmp_path: Path) -> None:
    for each in (file, ROOT / "tests" / "downstream" / "machines.py"):
        (tmp_path / each.name).write_text(each.read_text(encoding="utf-8"))
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    run_pytest(tmp_path, *(first.removeprefix("# pytest ").split() if first.startswith("# pytest ") else ()))


# What would install, build, wait for Ctrl-C or leave this machine; each is run elsewhere: by .ci/run, or in the tests
# of the commands.
NOT_RUN_HERE = re.compile(
    r"pip install|pipx install|make |uvx|pre-commit|app\.py|\.pyz|sha256sum|docker|kubectl|serve |^pytest$|less |run$"
)


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("console"))
def test_a_console_block_runs(
    in_cloud_shell: CloudShellEmulator, text: str, fake_az: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    monkeypatch.setenv("HOME", str(tmp_path))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        if not NOT_RUN_HERE.search(command):
            subprocess.run(
                ["bash", "-c", command], env=environment, check=True, capture_output=True, timeout=60, cwd=tmp_path
            )


@pytest.mark.parametrize("text", blocks("json"))
def test_a_json_block_is_json(text: str) -> None:
    assert json.loads(text)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_yaml_block_is_yaml(text: str) -> None:
    yaml: Any = pytest.importorskip("yaml")
    assert yaml.safe_load(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_is_one(page: Path) -> None:
    """Those in a sentence or a table too, which no other test runs."""
    written = BLOCK.sub(lambda block: "" if block[1] == "text" else block[2], page.read_text(encoding="utf-8"))
    for command in COMMANDS.findall(written):
        parse(command.partition("#")[0].split()[1:])


def test_what_doctor_prints_is_shown_whole() -> None:
    program = (
        f"import runpy; make = runpy.run_path({str(ROOT / 'docs' / 'pictures' / 'make.py')!r}); "
        "import sys; open(sys.argv[1], 'w').write(make['doctor']())"
    )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "doctor.txt"
        subprocess.run([sys.executable, "-c", program, str(file)], check=True, timeout=60, stdout=subprocess.DEVNULL)
        assert file.read_text() in (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8"), "make generated"


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may say, as GitHub and the site make it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_resolve(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_every_environment_variable_is_in_the_table() -> None:
    name = re.compile(r'"((?:ACC|AZD|AZURE|AZUREPS|IDENTITY|IMDS|MSI|POWERSHELL|REQUESTS|SSL)_[A-Z_]+[A-Z])"')
    sources = (ROOT / "azure_cloudshell_credential").rglob("*.py")
    named = {match for source in sources for match in name.findall(source.read_text(encoding="utf-8"))}
    page = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("behaviour.md", "programs.md"))
    assert {variable for variable in named if f"`{variable}`" not in page} == set()
    assert len(named) > 15


def what_failures_say() -> dict[str, str]:
    """What each failure says, by its name."""
    said = {name: sample(maker).what for name, maker in MAKERS.items()}
    refused = Environment({"MSI_ENDPOINT": "https://x.example"}).refusal
    said["unusable_endpoint"] = failures.not_in_cloud_shell(refused).what
    request = TokenRequest(("https://vault.azure.net/.default",), {})
    with pytest.raises(ValueError, match="scope") as not_a_scope:
        CloudShellAuth("vault")
    said["not_a_scope"] = str(not_a_scope.value)
    said["no_subscription"] = inspect.getsource(subscription.first_enabled_subscription_id)
    said["chain"] = explanation.nobody_has_a_token(request, None, []).what
    return said


def test_every_error_is_in_troubleshooting() -> None:
    """Each error contains the text of a heading, so that a search for the error finds its section."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition("## Errors of this package\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
    patterns = {heading: re.compile(re.escape(heading).replace("…", ".*")) for heading in headings}
    said = what_failures_say()
    assert len(said) > 15
    found = {name: [heading for heading in headings if patterns[heading].search(text)] for name, text in said.items()}
    assert [name for name in found if not found[name]] == []
    assert {heading for matches in found.values() for heading in matches} == set(headings)


@pytest.mark.parametrize("name", ["Fairfax", "Mooncake"])
def test_every_resource_of_a_sovereign_cloud_is_in_its_table(name: str) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## Sovereign clouds")[2].splitlines() if line.startswith("- `")]
    resources = audiences.cloud_named(name).resources
    assert len(rows) == len(resources)
    for short, resource in resources.items():
        assert [row for row in rows if row.startswith(f"- `{short}`: ") and f"`{resource}`" in row], short


CHANGES_WITH_EVERY_RUN = re.compile(r"of \d+ characters")


@pytest.mark.slow
def test_the_picture_in_the_readme_is_current(tmp_path: Path) -> None:
    program = (
        f"import runpy; make = runpy.run_path({str(ROOT / 'docs' / 'pictures' / 'make.py')!r}); "
        f"open({str(tmp_path / 'now.txt')!r}, 'w').write(make['recorded']().export_text())"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "TERM": "xterm"}, check=True, timeout=60)
    then = (ROOT / "docs" / "pictures" / "terminal.txt").read_text(encoding="utf-8")
    now = (tmp_path / "now.txt").read_text(encoding="utf-8")
    # How many blank lines there are depends on the version of rich.
    assert CHANGES_WITH_EVERY_RUN.sub("", now).split() == CHANGES_WITH_EVERY_RUN.sub("", then).split(), (
        "run: make generated"
    )
