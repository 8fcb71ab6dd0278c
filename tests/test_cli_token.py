"""``azure-cloudshell token``, as scripts use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from azure.identity import AzureCliCredential

from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from .conftest import CANARY, claims_of
from .test_cli import COMMAND, run
from .test_imports import HEAVY, without_coverage


def token(shell: CloudShellEmulator, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("token", *arguments, **{**shell.environment, **environment})


def audience(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return str(claims_of(done.stdout.strip())["aud"])


def test_alone_it_prints_the_token_and_nothing_else(shell: CloudShellEmulator) -> None:
    done = token(shell)
    assert done.stdout == shell.issue("https://management.azure.com/")[0] + "\n"
    assert done.stderr == ""
    assert shell.requests[0].headers["user-agent"].startswith("azure-cloudshell/")


@pytest.mark.parametrize(
    ("arguments", "resource"),
    [
        (["vault"], "https://vault.azure.net"),
        (["ms-graph"], "https://graph.microsoft.com/"),
        (["https://storage.azure.com/"], "https://storage.azure.com/"),
        (["https://graph.microsoft.com/User.Read"], "https://graph.microsoft.com"),
        (["2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"], "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"),
        (["2FF814A6-3304-4AB8-85CB-CD0E6F879C1D/.default"], "2FF814A6-3304-4AB8-85CB-CD0E6F879C1D"),
        (["--scope", "https://vault.azure.net/.default"], "https://vault.azure.net"),
        (["--resource", "https://vault.azure.net/"], "https://vault.azure.net/"),
    ],
)
def test_the_resource_can_be_named(shell: CloudShellEmulator, arguments: list[str], resource: str) -> None:
    assert audience(token(shell, *arguments)) == resource


def test_the_default_is_that_of_the_cloud(shell: CloudShellEmulator) -> None:
    shell.allow("https://management.core.usgovcloudapi.net/")
    assert audience(token(shell, ACC_CLOUD="Fairfax")) == "https://management.core.usgovcloudapi.net/"


def test_json_has_the_fields_of_az(shell: CloudShellEmulator) -> None:
    fields = json.loads(token(shell, "--output", "json", AZURE_SUBSCRIPTION_ID="s").stdout)
    # azure-cli 2.91: az account get-access-token.
    assert list(fields) == ["accessToken", "expiresOn", "expires_on", "subscription", "tenant", "tokenType"]
    assert fields["expires_on"] > time.time()
    assert datetime.fromisoformat(fields["expiresOn"]).timestamp() == fields["expires_on"]
    assert (fields["subscription"], fields["tenant"]) == ("s", shell.identity.tenant_id)


def test_what_reads_the_json_of_az_reads_ours(
    shell: CloudShellEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\nexec {sys.executable} -m azure_cloudshell_credential token -o json\n")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("MSI_ENDPOINT", shell.endpoint)
    expected = shell.issue("https://management.azure.com/")
    assert AzureCliCredential().get_token("https://management.azure.com/.default") == expected


def test_the_header_is_for_curl(shell: CloudShellEmulator) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    line = f"{' '.join(COMMAND)} token --output header | curl -s -H @- {shell.endpoint} -H Metadata:true -d resource=x"
    subprocess.run(["bash", "-c", line], env={**os.environ, **shell.environment}, check=True, timeout=30)
    assert shell.requests[1].headers["authorization"] == f"Bearer {shell.issue('https://management.azure.com/')[0]}"


def test_it_can_be_captured(shell: CloudShellEmulator) -> None:
    script = f'access_token=$({" ".join(COMMAND)} token); echo "<$access_token>"'
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **shell.environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"<{shell.issue('https://management.azure.com/')[0]}>\n"


@pytest.mark.parametrize("value", ["eyJ.plain", 'it\'s; rm -rf $HOME `x` "y"'.replace(" ", "_")])
def test_env_is_for_eval(shell: CloudShellEmulator, value: str) -> None:
    body = json.dumps({"access_token": value, "expires_in": 60})
    shell.script(ScriptedReply(200, body))
    script = f'eval "$({" ".join(COMMAND)} token --output env)"; printf %s "$AZURE_ACCESS_TOKEN"'
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **shell.environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout == value


def test_claims_tell_whose_it_is_and_never_the_token(shell: CloudShellEmulator) -> None:
    done = token(shell, "--output", "claims")
    assert json.loads(done.stdout)["upn"] == shell.identity.user
    assert "eyJ" not in done.stdout


def test_the_claims_of_an_opaque_token_are_an_error(shell: CloudShellEmulator) -> None:
    shell.script(ScriptedReply(200, json.dumps({"access_token": CANARY, "expires_in": 60})))
    done = token(shell, "-o", "claims")
    assert (done.returncode, done.stdout) == (1, "")
    assert CANARY not in done.stderr
    assert "opaque" in done.stderr


def test_outside_cloud_shell_one_line_names_az_login() -> None:
    done = run("token")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "not Azure Cloud Shell" in done.stderr
    assert "az login" in done.stderr


def test_a_denied_audience_names_the_fallback(shell: CloudShellEmulator) -> None:
    done = token(shell, "acr")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "azure-cloudshell: Cloud Shell does not hand out tokens for https://containerregistry.azure.net "
        "(AudienceNotSupported). Sign in with 'az login' and add --fallback.\n"
    )


def test_the_fallback_is_the_default_chain(shell: CloudShellEmulator, fake_az: str) -> None:
    assert token(shell, "acr", "--fallback").stdout == f"{fake_az}\n"


def test_the_fallback_does_not_ask_cloud_shell_again(shell: CloudShellEmulator, fake_az: str) -> None:
    shell.script(faults.hang())
    assert token(shell, "--timeout", "2", "--fallback").stdout == f"{fake_az}\n"
    assert len(shell.requests) == 1


@pytest.mark.parametrize("chosen", ["", "prod", "managedidentitycredential"])
def test_a_fallback_in_vain_is_one_line_unless_debugging(shell: CloudShellEmulator, chosen: str) -> None:
    nobody = {**shell.environment, "PATH": os.devnull, "AZURE_TOKEN_CREDENTIALS": chosen}
    done = run("token", "acr", "--fallback", **nobody)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "azure-cloudshell: Cloud Shell does not hand out tokens for https://containerregistry.azure.net "
        "(AudienceNotSupported). Nobody else in the default chain has a token either: sign in with 'az login'. "
        "(--debug shows what each of them said.)\n"
    )
    debugging = run("token", "acr", "--fallback", "--debug", **nobody)
    assert debugging.returncode == 1
    assert "Traceback" in debugging.stderr
    assert "redential" in debugging.stderr


def test_a_hanging_endpoint_is_left_after_the_timeout(shell: CloudShellEmulator) -> None:
    shell.script(faults.hang())
    start = time.monotonic()
    done = token(shell, "--timeout", "0.5")
    assert time.monotonic() - start < 5
    assert done.returncode == 1
    assert "did not answer within 0.5 seconds" in done.stderr


def test_a_portal_timeout_is_retried(shell: CloudShellEmulator) -> None:
    shell.script(faults.portal_timeout())
    assert token(shell).returncode == 0
    assert len(shell.requests) == 2


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], [""], ["--scope", "a b"], ["--scope", "https://x/\n"], ["arm", "--scope", "x"], ["-o", "xml"]]
    + [["--timeout", value] for value in ("x", "-1", "nan", "inf")],
)
def test_wrong_usage_is_status_2(shell: CloudShellEmulator, arguments: list[str]) -> None:
    done = token(shell, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert shell.requests == []


def test_its_path_is_the_standard_library(shell: CloudShellEmulator) -> None:
    program = (
        "import sys; from azure_cloudshell_credential._cli import main; main(['token']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**without_coverage(), **shell.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stderr.split())
    assert not modules & {*HEAVY, "azure.core", "http.client", "ssl", "email", "logging", "dataclasses", "inspect"}


def test_no_token_is_a_process_argument(shell: CloudShellEmulator) -> None:
    # What the command takes on its line is a resource and options; there is no way to pass it a token.
    assert "eyJ" not in run("token", "--help").stdout
