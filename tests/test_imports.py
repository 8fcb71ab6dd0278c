"""What importing and constructing costs: nothing heavy is imported until it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import pytest

import azure_cloudshell_credential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .command import without_coverage

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


def test_the_core_imports_the_standard_library_only() -> None:
    modules = modules_after("from azure_cloudshell_credential import _exchange, _protocol, _environment, _audiences")
    tops = {name.partition(".")[0] for name in modules} - {"azure_cloudshell_credential", "__main__"}
    assert not {top for top in tops if not top.startswith("_")} - set(sys.stdlib_module_names) - {"sitecustomize"}


def test_the_public_names_are_there() -> None:
    for name in azure_cloudshell_credential.__all__:
        assert getattr(azure_cloudshell_credential, name)
        assert name in dir(azure_cloudshell_credential)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        azure_cloudshell_credential.Nonsense  # noqa: B018


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
