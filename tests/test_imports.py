"""What importing and constructing costs: nothing heavy is imported until it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

import azure_cloudshell_credential
import azure_cloudshell_credential.aio
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .command import without_coverage

PACKAGE = Path(azure_cloudshell_credential.__file__).parent

WINGS = ("the top", "_cli", "aio", "broker", "emulator", "_serving", "_azure", "_tokens", "_endpoint")
"""Highest first. A wing imports from those after it."""

HEAVY = ("msal", "cryptography", "azure.identity", "requests", "aiohttp", "jwt")


def modules_after(program: str, **environment: str) -> set[str]:
    """The modules that a fresh interpreter has imported after running a program."""
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        env={**without_coverage(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing_else() -> None:
    modules = modules_after("import azure_cloudshell_credential")
    assert not modules & {*HEAVY, "azure.core", "typing", "logging"}


@pytest.mark.parametrize("package", ["azure_cloudshell_credential", "azure_cloudshell_credential.aio"])
def test_constructing_imports_nothing_heavy(package: str) -> None:
    modules = modules_after(f"from {package} import CloudShellCredential; CloudShellCredential()")
    assert not modules & set(HEAVY)


def test_getting_a_token_imports_nothing_heavy(shell: CloudShellEmulator) -> None:
    program = (
        "from azure_cloudshell_credential import CloudShellCredential\n"
        "CloudShellCredential().get_token('https://management.azure.com/.default')"
    )
    assert not modules_after(program, **shell.environment) & set(HEAVY)


def test_the_endpoint_wing_imports_the_standard_library_only() -> None:
    wing = ", ".join(path.stem for path in (PACKAGE / "_endpoint").glob("*.py") if path.stem != "__init__")
    modules = modules_after(f"from azure_cloudshell_credential._endpoint import {wing}")
    tops = {name.partition(".")[0] for name in modules} - {"azure_cloudshell_credential", "__main__"}
    assert not {top for top in tops if not top.startswith("_")} - set(sys.stdlib_module_names) - {"sitecustomize"}


def wing_of(module: str) -> str:
    """The folder of a module of this package; the files beside the folders belong to the highest one."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "the top"


def imports(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports, wherever in it."""
    package = ["azure_cloudshell_credential", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_wing_imports_from_itself_and_those_below_only(path: Path) -> None:
    own = wing_of(".".join(["azure_cloudshell_credential", *path.relative_to(PACKAGE).with_suffix("").parts]))
    for module in imports(path):
        wing = wing_of(module)
        if module.endswith(".__version__") or module.split(".")[1:2] == ["_version"]:
            continue
        assert wing == own or WINGS.index(wing) > WINGS.index(own), f"{path.name} imports {module}"


def test_no_imports_go_round_in_a_circle() -> None:
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): set(imports(path)) for path, name in names.items()}

    def module_of(name: str) -> str:
        return name if name in modules else name.rpartition(".")[0]

    sorter = TopologicalSorter({name: {*map(module_of, used)} - {name} for name, used in modules.items()})
    assert len(list(sorter.static_order())) > 50


@pytest.mark.parametrize("module", [azure_cloudshell_credential, azure_cloudshell_credential.aio])
def test_a_module_lists_its_public_names_alone(module: Any) -> None:
    assert dir(module) == sorted(module.__all__)


def test_the_public_names_are_there() -> None:
    for name in azure_cloudshell_credential.__all__:
        assert getattr(azure_cloudshell_credential, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        azure_cloudshell_credential.Nonsense  # noqa: B018


ON_A_LOOP = """
import asyncio, sys, threading
from azure_cloudshell_credential.aio import CloudShellCredential

went_on = threading.Event()
while_importing = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "azure.identity":
            loop.call_soon_threadsafe(went_on.set)
            is_elsewhere = threading.current_thread() is not threading.main_thread()
            while_importing.append(is_elsewhere and went_on.wait(10))

async def refused(credential):
    try:
        await credential.get_token("https://example.net/.default")
    except Exception as error:
        assert "{said}" in str(error), error

async def main():
    global loop
    loop = asyncio.get_running_loop()
    credential = CloudShellCredential()
    await asyncio.gather(*(refused(credential) for _ in range(20)))

sys.meta_path.insert(0, Watch())
asyncio.run(main())
assert while_importing == [True], while_importing
"""


@pytest.mark.parametrize("is_here", [False, True], ids=["elsewhere", "in Cloud Shell"])
def test_the_first_refusal_does_not_hold_up_the_event_loop(shell: CloudShellEmulator, is_here: bool) -> None:
    said = "AudienceNotSupported" if is_here else "This is not Azure Cloud Shell"
    environment = shell.environment if is_here else {}
    assert "azure.identity" in modules_after(ON_A_LOOP.replace("{said}", said), **environment)


def test_a_traceback_shows_the_name_to_import_an_error_by() -> None:
    from azure_cloudshell_credential import AudienceNotSupportedError

    (line,) = traceback.format_exception_only(AudienceNotSupportedError("no"))
    assert line == "azure_cloudshell_credential.AudienceNotSupportedError: no\n"


ASYNC = """
import asyncio, sys
from azure_cloudshell_credential.aio import CloudShellCredential
asyncio.run(CloudShellCredential().get_token("https://management.azure.com/.default"))
assert not {"aiohttp", "trio"} & sys.modules.keys()
"""


def test_the_asynchronous_credential_needs_no_aiohttp(shell: CloudShellEmulator) -> None:
    # Recorders and mocks of aiohttp see nothing of it, and so no token.
    subprocess.run(
        [sys.executable, "-c", ASYNC],
        env={**os.environ, **shell.environment},
        check=True,
        capture_output=True,
        timeout=60,
    )
