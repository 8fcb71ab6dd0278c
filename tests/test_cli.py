"""The command line, run as its users run it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from azure_cloudshell_credential import _cli
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .command import Emulate, run


def test_the_emulator_without_its_extra_says_what_to_install() -> None:
    command = ["emulate", "--port", "0", "--with-azure"]
    program = (
        f"import sys; sys.modules['trustme'] = None; from azure_cloudshell_credential import _cli; _cli.main({command})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith("azure-cloudshell: This needs trustme, which is not installed: pip install azure-id")
    assert " trustme" in done.stderr.partition("pip install")[2]


def test_without_arguments_it_says_how_to_use_it() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: azure-cloudshell")


@pytest.mark.parametrize("command", ["token", "run", "doctor", "emulate"])
def test_help_has_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"examples:\n  azure-cloudshell {command}" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_emulate_prints_exports_serves_and_stops_cleanly(number: int) -> None:
    emulate = Emulate("--port", "0", "--lifetime", "77")
    from azure_cloudshell_credential import CloudShellCredential

    token = CloudShellCredential(endpoint=emulate.variables["MSI_ENDPOINT"]).get_token("https://vault.azure.net")
    assert 70 < token.expires_on - time.time() <= 77
    status, errors = emulate.stop(number)
    assert status == 0
    assert "POST /oauth2/token https://vault.azure.net -> 200" in errors
    assert "Stopped." in errors
    assert "Traceback" not in errors
    assert token.token not in errors


def test_emulate_names_a_port_in_use(shell: CloudShellEmulator) -> None:
    done = run("emulate", "--port", str(shell.port))
    assert done.returncode == 1
    assert f"Port {shell.port} is in use." in done.stderr
    assert "--port 0" in done.stderr


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "x"], ["--lifetime", "0"], ["--lifetime", "-1"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    done = run("emulate", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"azure-cloudshell: argument {arguments[0]}: ")
    assert done.stderr.endswith("\nTry 'azure-cloudshell emulate --help'.\n")


def test_an_unexpected_error_is_one_line_unless_debugging(mocker: Any, capsys: Any) -> None:
    mocker.patch("azure_cloudshell_credential._cli.emulate.run", side_effect=RuntimeError())
    assert _cli.main(["emulate"]) == 1
    assert capsys.readouterr().err == "azure-cloudshell: RuntimeError; run again with --debug for details\n"
    assert _cli.main(["emulate", "--debug"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "RuntimeError")


@pytest.mark.parametrize(("words", "status"), [("nosuch", 2), ("token --timeout x", 2), ("run no-such-command", 127)])
def test_debugging_changes_no_status(words: str, status: int) -> None:
    done = run("--debug", *words.split())
    assert done.returncode == status
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("module", "package"),
    [("azure.core", "azure-core"), ("jwt", "PyJWT[crypto]"), ("trustme", "trustme")],
)
def test_a_missing_package_is_named_as_it_is_installed(mocker: Any, capsys: Any, module: str, package: str) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    mocker.patch("azure_cloudshell_credential._cli.emulate.run", side_effect=missing)
    assert _cli.main(["emulate"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"azure-cloudshell: This needs {package}, which is not installed: pip install azure-identity"
    )


def test_an_interrupt_is_silent(mocker: Any, capsys: Any) -> None:
    mocker.patch("azure_cloudshell_credential._cli.emulate.run", side_effect=KeyboardInterrupt)
    assert _cli.main(["emulate"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{sys.executable} -m azure_cloudshell_credential doctor | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("azure-cloudshell doctor")
