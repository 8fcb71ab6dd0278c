"""Every code block of the documentation runs, and every link between files resolves."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt import compute

from azure_cloudshell_credential._endpoint import audiences, failures
from azure_cloudshell_credential._endpoint.environment import Environment
from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)[^)]*\)")


def blocks(language: str) -> list[Any]:
    """The code blocks of all pages in a language, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


@pytest.fixture
def azure(shell: CloudShellEmulator, mocker: Any, fake_az: str) -> Iterator[None]:
    """Cloud Shell, and Azure behind it, both emulated; az is logged in. Clients are closed afterwards."""
    clients: list[Any] = []
    client = compute.ComputeManagementClient

    def make(*arguments: Any, **options: Any) -> Any:
        clients.append(client(*arguments, **options))
        return clients[-1]

    mocker.patch.object(compute, "ComputeManagementClient", make)
    with EmulatedAzure(shell) as azure, azure.as_environment():
        yield
        for each in clients:
            each.close()


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(azure: None, code: str, tmp_path: Path) -> None:
    if "def test_" not in code:
        exec(compile(code, "<documentation>", "exec"), {"__name__": "documentation"})
        return
    (tmp_path / "test_documented.py").write_text(code)
    first = code.partition("\n")[0]
    options = first.removeprefix("# pytest ").split() if first.startswith("# pytest ") else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# What would install, build or leave this machine; each is run elsewhere: by .ci/run, or in the tests of the commands.
NOT_RUN_HERE = re.compile(
    r"pip install|make |curl|pre-commit|app\.js|app\.py|terraform apply|~/venv|\.pyz|pipx|uv tool"
)


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("console"))
def test_a_console_block_runs(in_cloud_shell: CloudShellEmulator, text: str, fake_az: str) -> None:
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        if not NOT_RUN_HERE.search(command):
            subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True, timeout=60)


def test_the_recipe_in_the_readme_is_the_documented_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\|", "|")
    for line in (
        'response=$(curl http://localhost:50342/oauth2/token --data "resource=https://management.azure.com/" '
        "-H Metadata:true -s)",
        "access_token=$(echo $response | python -c 'import sys, json; print (json.load(sys.stdin)[\"access_token\"])')",
    ):
        assert line in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_environment_variable_is_in_the_table() -> None:
    name = re.compile(r'"((?:ACC|AZD|AZURE|AZUREPS|IDENTITY|IMDS|MSI|POWERSHELL|REQUESTS|SSL)_[A-Z_]+[A-Z])"')
    sources = (ROOT / "azure_cloudshell_credential").rglob("*.py")
    named = {match for source in sources for match in name.findall(source.read_text(encoding="utf-8"))}
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert {variable for variable in named if f"`{variable}`" not in page} == set()
    assert len(named) > 15


SAMPLES: dict[str, Any] = {
    "refusal": None,
    "scope": "User.Read",
    "resource": "r",
    "reason": "connection refused by localhost:50342",
    "seconds": 30.0,
    "ago": 3.0,
    "rest": 27.0,
    "code": "c",
    "said": "(c) m.",
    "by_clock": 60,
    "stated": 60,
    "supported": (),
    "advice": "Do.",
    "status": 500,
    "received": "https://graph.windows.net/",
    "claims": "{}",
    "requested": "t",
    "actual": "u",
    "error": "StopIteration",
    "attempts": (),
    "retry_after": None,
}


def what_failures_say() -> dict[str, str]:
    """What each failure says, by the name of the function that makes it."""
    makers = {
        name: maker
        for name, maker in inspect.getmembers(failures, inspect.isfunction)
        if inspect.signature(maker).return_annotation == "Failure"
    }
    said = {}
    for name, maker in makers.items():
        parameters = inspect.signature(maker).parameters
        given = {key: SAMPLES[key] for key in parameters if parameters[key].default is inspect.Parameter.empty}
        said[name] = maker(**given).what
    said["not_cloud_shells"] = failures.not_in_cloud_shell(
        Environment({"MSI_ENDPOINT": "https://x.example"}).refusal
    ).what
    return said


def test_every_error_is_in_troubleshooting() -> None:
    """Each error contains the text of a heading, so that a search for the error finds its section."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = [heading for heading in re.findall(r"^## (.+)$", page, re.MULTILINE) if heading != "Reading the log"]
    patterns = {heading: re.compile(re.escape(heading).replace("…", ".*")) for heading in headings}
    said = what_failures_say()
    assert len(said) > 15
    found = {name: [heading for heading in headings if patterns[heading].search(text)] for name, text in said.items()}
    assert [name for name in found if not found[name]] == []
    assert {heading for matches in found.values() for heading in matches} == set(headings)


@pytest.mark.parametrize("name", ["Fairfax", "Mooncake"])
def test_every_resource_of_a_sovereign_cloud_is_in_its_table(name: str) -> None:
    page = (ROOT / "docs" / "sovereign-clouds.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    resources = audiences.cloud_named(name).resources
    assert len(rows) == len(resources)
    for short, resource in resources.items():
        assert [row for row in rows if row.startswith(f"| `{short}` |") and f"`{resource}`" in row], short


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
