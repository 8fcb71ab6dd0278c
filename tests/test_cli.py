"""The command line, run as its users run it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from azure_cloudshell_credential import _cli
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .command import Emulate, on_a_terminal, run


def test_demo_lists_emulated_machines_outside_cloud_shell() -> None:
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("These are the machines of a made-up company")
    assert lines[2].split() == ["NAME", "RESOURCE", "GROUP", "REGION", "SIZE", "OS", "STATE"]
    assert lines[3].split() == ["web-01", "shop-prod", "westeurope", "Standard_D2s_v5", "Linux", "running"]
    assert lines[6].split() == ["build-agent", "ci", "eastus", "Standard_F4s_v2", "Linux", "deallocated"]
    assert lines[9].startswith("Signed in as ada@contoso.example in tenant 11111111-aaaa-4bbb-8ccc-222222222222, ")
    assert "through http://localhost:" in lines[9]
    assert lines[9].endswith("the token is valid for another 65 minutes.")
    assert lines[11].startswith("Next: ")


def test_demo_works_behind_a_proxy() -> None:
    done = run("demo", HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")


def test_demo_fits_the_terminal_and_loses_no_name() -> None:
    output = on_a_terminal("demo", COLUMNS="60")
    assert "\x1b[32mrunning" in output
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in output.splitlines()]
    assert max(map(len, lines)) <= 60
    assert "…" not in output
    assert "azure-cloudshell" in "".join(lines[-4:])


def test_demo_aligns_wide_characters(mocker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from azure_cloudshell_credential._cli import demo

    rows = [("東京-01", "g", "japaneast", "s", "Linux", "running"), ("web", "g", "eastus", "s", "Linux", "stopped")]
    mocker.patch.object(demo, "_machines", return_value=rows)
    assert _cli.main(["demo"]) == 0
    first, second = [line for line in capsys.readouterr().out.splitlines() if "Linux" in line]
    # Each of the two characters takes two columns.
    assert first.index("g") + 2 == second.index("g ")


def test_demo_shows_names_that_others_chose_as_plain_text(
    mocker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from azure_cloudshell_credential.emulator import _resource_manager

    hostile = "x\x1b]0;OWNED\x07\x1b[2J\nok  forged\u202e"
    machine: tuple[Any, ...] = (hostile, "ci", "eastus", hostile, "Linux", "running", {})
    mocker.patch.object(_resource_manager, "_MACHINES", (machine,))
    for name in ("AZURE_CONFIG_DIR", "PATH"):
        monkeypatch.setenv(name, "/nonexistent")
    assert _cli.main(["demo"]) == 0
    output = capsys.readouterr().out
    assert all(line.isprintable() for line in output.splitlines())
    assert "ok forged" in output
    assert not [line for line in output.splitlines() if line.startswith("ok")]


def test_demo_says_how_to_get_the_command_onto_path() -> None:
    done = run("demo", PATH="/usr/bin:/bin")
    folder = Path(sys.executable).parent
    assert done.stdout.splitlines()[-1].endswith(f'export PATH="{folder}:$PATH"')
    done = run("demo", PATH=f"{folder}:/usr/bin:/bin")
    assert "PATH=" not in done.stdout


def test_demo_inside_cloud_shell_reports_in_one_line_what_fails(shell: CloudShellEmulator) -> None:
    shell.deny("https://management.azure.com/")
    done = run("demo", **shell.environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("azure-cloudshell: Cloud Shell does not issue tokens for")
    assert done.stderr.count("\n") == 1


def test_demo_without_its_extra_says_what_to_install(shell: CloudShellEmulator) -> None:
    program = (
        "import sys; sys.modules['trustme'] = None; from azure_cloudshell_credential._cli import main; main(['demo'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith("azure-cloudshell: This needs trustme, which is not installed: pip install azure-id")
    assert " trustme " in done.stderr.partition("pip install")[2]


def test_without_arguments_it_says_how_to_use_it() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: azure-cloudshell")


@pytest.mark.parametrize("command", ["token", "doctor", "demo", "emulate"])
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
    mocker.patch("azure_cloudshell_credential._cli.demo.run", side_effect=RuntimeError())
    assert _cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "azure-cloudshell: RuntimeError; run again with --debug for details\n"
    assert _cli.main(["demo", "--debug"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "RuntimeError")


@pytest.mark.parametrize(("words", "status"), [("nosuch", 2), ("token --timeout x", 2), ("run no-such-command", 127)])
def test_debugging_changes_no_status(words: str, status: int) -> None:
    done = run("--debug", *words.split())
    assert done.returncode == status
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("module", "package"),
    [("azure.mgmt", "azure-mgmt-compute"), ("azure.core", "azure-core"), ("jwt", "PyJWT[crypto]"), ("rich", "rich")],
)
def test_a_missing_package_is_named_as_it_is_installed(mocker: Any, capsys: Any, module: str, package: str) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    mocker.patch("azure_cloudshell_credential._cli.demo.run", side_effect=missing)
    assert _cli.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"azure-cloudshell: This needs {package}, which is not installed: pip install azure-identity"
    )


def test_an_interrupt_is_silent(mocker: Any, capsys: Any) -> None:
    mocker.patch("azure_cloudshell_credential._cli.demo.run", side_effect=KeyboardInterrupt)
    assert _cli.main(["demo"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{sys.executable} -m azure_cloudshell_credential demo | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("These are the machines of a made-up company")
