"""What is made from the code is current, and the completions complete."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator import _services as services
from azure_cloudshell_credential.emulator._services import Observation

ROOT = Path(__file__).parent.parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load("docs/generate.py")


def test_what_is_generated_is_current(generate: ModuleType) -> None:
    outdated = [file.name for file, text in generate.generated().items() if file.read_text(encoding="utf-8") != text]
    assert outdated == [], "run: make generated"
    assert generate.TABLE.read_text(encoding="utf-8") == generate.written(services.observations())


def test_what_ci_installs_is_what_the_project_asks_for() -> None:
    """Where a requirement is new or has moved past its pin: .ci/lock."""
    project = load(".ci/release/sbom.py").read_pyproject()
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for group in (project["project"]["optional-dependencies"], project["dependency-groups"]):
        asked += [each for requirements in group.values() for each in requirements]
    pinned: dict[str, list[str]] = {}
    for line in (ROOT / ".ci" / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([\w.]+)", line):
            pinned.setdefault(match[1], []).append(match[2])
    for requirement in map(Requirement, asked):
        if requirement.name != "azure-cloudshell-credential":
            versions = pinned.get(canonicalize_name(requirement.name), [])
            assert any(map(requirement.specifier.contains, versions)), f"{requirement}, pinned to {versions}: .ci/lock"


def test_every_public_name_is_in_the_reference(generate: ModuleType) -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    names = [line.partition("(")[0].partition(":")[0] for line in generate.public_api().splitlines()]
    modules = [name for name in generate.PUBLIC_MODULES if f"::: {name}\n" in page]
    shown = [match.strip() for match in re.findall(r"^::: (.+)$", page, re.MULTILINE)] + modules
    assert [name for name in names if not any(name == each or name.startswith(f"{each}.") for each in shown)] == []


def test_every_public_class_says_where_to_import_it_from(generate: ModuleType) -> None:
    for name in generate.PUBLIC_MODULES:
        module = import_module(name)
        for each in map(partial(getattr, module), generate.public_names(module)):
            if isinstance(each, type):
                assert not re.search(r"\._", each.__module__), each
                assert getattr(import_module(each.__module__), each.__name__) is each


def test_every_observation_says_who_made_it() -> None:
    table = services.observations()
    assert all(row.source and row.cloud for row in table)
    assert len({(row.resource, row.cloud, row.host) for row in table}) == len(table)
    assert {row.supported for row in table} == {True, False}


def test_a_report_of_doctor_is_merged_into_the_table(
    generate: ModuleType, shell: CloudShellEmulator, tmp_path: Path
) -> None:
    shell.deny("vault")
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "azure_cloudshell_credential", "doctor", "--report", str(file)]
    subprocess.run(command, env={**os.environ, **shell.environment}, check=True, capture_output=True, timeout=60)
    report = json.loads(file.read_text())
    table = generate.merge(services.observations(), report, "portal", "https://example.org/1")
    added = {row.resource: row for row in table if row.host == "portal"}
    assert added["https://storage.azure.com/"].supported
    assert not added["https://vault.azure.net"].supported
    assert added["https://vault.azure.net"][2:] == ("PROD", "portal", report["month"], "https://example.org/1")
    assert table[: len(services.observations())] == services.observations()
    assert generate.merge(table, report, "portal", "https://example.org/1") == table


def test_the_latest_report_stays(generate: ModuleType) -> None:
    def merged(month: str, error: str) -> Any:
        answers = [{"resource": "r", "outcome": "error", "error": error}, {"resource": "s", "outcome": "no answer"}]
        report = {"cloud": "PROD", "month": month, "answers": answers}
        return generate.merge([Observation("r", True, "PROD", "portal", "2026-05", "a")], report, "portal", "b")

    refused = '{"code": "AudienceNotSupported"}'
    assert merged("2026-06", refused) == [Observation("r", False, "PROD", "portal", "2026-06", "b")]
    assert merged("2026-04", refused) == [Observation("r", True, "PROD", "portal", "2026-05", "a")]
    assert merged("2026-06", "the portal did not answer") == [Observation("r", True, "PROD", "portal", "2026-05", "a")]


def run_in(shell: str, script: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    flags = ["-f"] if shell == "zsh" else []
    done = subprocess.run(
        [shell, *flags, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPLETED = [
    ("", ["completion", "doctor", "emulate", "run", "serve", "token"]),
    ("tok", ["token"]),
    ("token va", ["vault"]),
    ("token --output h", ["header"]),
    ("serve --output e", ["env-file"]),
    ("run -- azure-cloudsh", ["azure-cloudshell"]),
    ("run azure-cloudsh", ["azure-cloudshell"]),
    ("emulate --exec azure-cloudsh", ["azure-cloudshell"]),
    ("emulate --port 0 azure-cloudsh", ["azure-cloudshell"]),
]


@pytest.mark.parametrize(("words", "completed"), COMPLETED)
def test_bash_completes(words: str, completed: list[str]) -> None:
    found = run_in(
        "bash",
        f"""
        eval "$(azure-cloudshell completion bash)"
        COMP_WORDS=(azure-cloudshell {words} {"''" if not words else ""})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p azure-cloudshell | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """,
    )
    assert sorted(set(found.split())) == completed


@pytest.mark.parametrize(("words", "completed"), COMPLETED)
def test_fish_completes(words: str, completed: list[str]) -> None:
    found = run_in("fish", f'azure-cloudshell completion fish | source; complete -C "azure-cloudshell {words}"')
    assert sorted({line.split("\t")[0] for line in found.splitlines()}) == completed


def test_zsh_completes() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    environment = {**os.environ, "PS1": "", "TERM": "dumb"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = 'autoload -U compinit; compinit -u -D; eval "$(azure-cloudshell completion zsh)"; print READ""Y'
    master, slave = pty.openpty()
    # One for all: starting its completions takes it seconds.
    zsh = subprocess.Popen(["zsh", "-f", "-i"], stdin=slave, stdout=slave, stderr=slave, env=environment)
    try:
        os.write(master, f"{start}\n".encode())
        read_until(master, "READY")
        for words, completed in COMPLETED[1:]:
            os.write(master, f"azure-cloudshell {words}\t".encode())
            read_until(master, f"azure-cloudshell {words.rpartition(' ')[0]} {completed[0]}".replace("  ", " "))
            # Ctrl-U: the next words are the only ones on the line.
            os.write(master, b'\x15print NEX""T\n')
            read_until(master, "\nNEXT")
    finally:
        zsh.kill()
        zsh.wait()
        os.close(master)
        os.close(slave)


def read_until(descriptor: int, text: str) -> None:
    received = ""
    while text not in received:
        ready, _, _ = select.select([descriptor], [], [], 20)
        assert ready, f"{received!r} is all there is, and not {text!r}"
        received += os.read(descriptor, 65536).decode(errors="replace").replace("\a", "")
