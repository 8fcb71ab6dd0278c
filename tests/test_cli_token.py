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
from typing import Any

import pytest
from azure.identity import AzureCliCredential
from hypothesis import given
from hypothesis import strategies as st

from azure_cloudshell_credential import _cli
from azure_cloudshell_credential._cli import _parser, _shells
from azure_cloudshell_credential._cli import token as token_command
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from .command import COMMAND, run, without_coverage
from .conftest import CANARY, claims_of
from .test_imports import HEAVY


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
    assert "not a JWT" in done.stderr


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
        "azure-cloudshell: Cloud Shell does not issue tokens for https://containerregistry.azure.net "
        "(AudienceNotSupported). Sign in with 'az login' and add --fallback.\n"
    )


def test_the_fallback_is_the_default_chain(shell: CloudShellEmulator, fake_az: str) -> None:
    assert token(shell, "acr", "--fallback").stdout == f"{fake_az}\n"


def test_the_fallback_does_not_ask_cloud_shell_again(shell: CloudShellEmulator, fake_az: str) -> None:
    shell.script(faults.hang())
    assert token(shell, "--timeout", "2", "--fallback").stdout == f"{fake_az}\n"
    assert len(shell.requests) == 1


@pytest.mark.parametrize(
    ("chosen", "advice"),
    [
        ("", "sign in with 'az login'."),
        ("prod", "AZURE_TOKEN_CREDENTIALS=prod leaves the Azure CLI out; unset it to use 'az login'."),
        (
            "managedidentitycredential",
            "AZURE_TOKEN_CREDENTIALS=managedidentitycredential leaves the Azure CLI out; unset it to use 'az login'.",
        ),
    ],
)
def test_a_fallback_in_vain_is_one_line_unless_debugging(shell: CloudShellEmulator, chosen: str, advice: str) -> None:
    nobody = {**shell.environment, "PATH": os.devnull, "AZURE_TOKEN_CREDENTIALS": chosen}
    done = run("token", "acr", "--fallback", **nobody)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "azure-cloudshell: Cloud Shell does not issue tokens for https://containerregistry.azure.net "
        f"(AudienceNotSupported). No other credential in the default chain has a token either: {advice} "
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


def test_a_bad_choice_of_credentials_is_named(shell: CloudShellEmulator) -> None:
    done = run("token", "acr", "--fallback", **{**shell.environment, "AZURE_TOKEN_CREDENTIALS": "nonsense"})
    assert done.returncode == 1
    assert "AZURE_TOKEN_CREDENTIALS" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--resource", ""], ["--scope", ""], [""], ["--resource", " "]])
def test_an_empty_value_is_an_error(shell: CloudShellEmulator, arguments: list[str]) -> None:
    done = token(shell, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is empty: is the variable it comes from set?" in done.stderr
    assert shell.requests == []


def test_every_advice_to_sign_in_names_the_option_that_uses_it(shell: CloudShellEmulator) -> None:
    assert "Sign in with 'az login' and add --fallback" in run("token").stderr
    shell.script(*[faults.error(400, "odd", "Odd")] * 4)
    assert "sign in with 'az login' and add --fallback" in token(shell, "--timeout", "0.3").stderr
    shell.script(faults.error(400, "x", "AADSTS50057: disabled"))
    assert "--fallback" not in token(shell).stderr


def test_the_tenant_can_be_named(shell: CloudShellEmulator, fake_az: str) -> None:
    tenant = shell.identity.tenant_id
    assert token(shell, "--tenant", tenant.upper()).returncode == 0
    other = "99999999-0000-4000-8000-000000000000"
    refused = token(shell, "--tenant", other)
    assert refused.returncode == 1
    assert f"signed in to tenant {tenant} only" in refused.stderr
    assert token(shell, "--tenant", other, "--fallback").stdout == f"{fake_az}\n"


@pytest.mark.parametrize(
    ("shell_name", "line"),
    [
        ("bash", "export AZURE_ACCESS_TOKEN=a.b-c"),
        ("pwsh", "$env:AZURE_ACCESS_TOKEN = 'a.b-c'"),
        ("fish", "set -gx AZURE_ACCESS_TOKEN 'a.b-c'"),
    ],
)
def test_the_variable_is_set_in_the_words_of_the_shell(shell: CloudShellEmulator, shell_name: str, line: str) -> None:
    shell.script(ScriptedReply(200, json.dumps({"access_token": "a.b-c", "expires_in": "3600"})))
    assert token(shell, "--output", "env", "--shell", shell_name).stdout == f"{line}\n"


def test_hostile_values_stay_values_in_every_shell() -> None:
    value = "a'b\\c $(touch x) `y` \" ;"
    bash = _shells.set_variable("bash", "V", value)
    done = subprocess.run(
        ["bash", "-c", f'{bash}; printf %s "$V"'], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == value
    assert _shells.set_variable("pwsh", "V", value) == "$env:V = 'a''b\\c $(touch x) `y` \" ;'"
    assert _shells.set_variable("fish", "V", value) == "set -gx V 'a\\'b\\\\c $(touch x) `y` \" ;'"
    assert _shells.unset_variable("bash", "V") == "unset V"
    assert _shells.unset_variable("fish", "V") == "set -e V"
    assert _shells.unset_variable("pwsh", "V") == "Remove-Item Env:V -ErrorAction Ignore"


@pytest.mark.parametrize(
    ("parent", "variables", "expected"),
    [
        ("pwsh", {}, "pwsh"),
        ("fish", {}, "fish"),
        ("bash", {"SHELL": "/usr/bin/fish"}, "bash"),
        ("", {"SHELL": "/usr/bin/fish"}, "fish"),
        ("", {}, "bash"),
        ("python3", {}, "bash"),
    ],
)
def test_the_shell_that_asks_is_detected(
    monkeypatch: pytest.MonkeyPatch, parent: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.delenv("SHELL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_shells, "_parent", lambda: parent)
    assert _shells.detect() == expected


WORDS = [
    "token",
    "vault",
    "--output",
    "json",
    "-o",
    "--fallback",
    "--scope",
    "https://x/.default",
    "--tenant",
    "t",
    "--x",
]


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_plain_arguments_mean_what_argparse_makes_of_them(words: list[str]) -> None:
    plain = token_command.plain_arguments(["token", *words])
    if plain is None:
        return
    parsed = vars(_parser.make_parser().parse_args(["token", *words]))
    assert {name: parsed[name] for name in vars(plain)} == vars(plain)


@pytest.mark.parametrize(
    "words",
    [
        ["token"],
        ["token", "vault"],
        ["token", "--output", "json"],
        ["token", "vault", "-o", "header", "--fallback"],
        ["token", "--scope", "https://vault.azure.net/.default", "--tenant", "t"],
    ],
)
def test_the_usual_arguments_are_plain(words: list[str]) -> None:
    assert token_command.plain_arguments(words) is not None


def test_waiting_is_said_on_a_terminal(in_cloud_shell: CloudShellEmulator, mocker: Any, capsys: Any) -> None:
    in_cloud_shell.script(faults.portal_timeout(), faults.portal_timeout())
    mocker.patch.object(token_command, "_is_terminal", lambda stream: True)
    mocker.patch("azure_cloudshell_credential._endpoint.acquisition.clock.sleep")
    assert _cli.main(["token", "--wait"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("the portal in the browser did not answer; asking again in") == 2
    assert shown.out.startswith("eyJ")


def test_elsewhere_than_on_a_terminal_waiting_is_not_said(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.portal_timeout())
    assert run("token", "--wait").stderr == ""


def test_the_subscription_is_the_one_to_work_in(shell: CloudShellEmulator) -> None:
    profile = json.dumps({"storageAccountResourceId": "/subscriptions/abc/resourceGroups/g", "diskSizeInGB": 5})
    done = token(shell, "--output", "json", ACC_STORAGE_PROFILE=profile, AZURE_CONFIG_DIR=os.devnull)
    assert json.loads(done.stdout)["subscription"] == "abc"


def test_debug_may_stand_before_the_command(shell: CloudShellEmulator) -> None:
    assert run("--debug", "token", **shell.environment).returncode == 0


@pytest.mark.parametrize(("value", "said"), [("0", "more than 0 seconds"), ("x", "not a number of seconds")])
def test_a_wrong_timeout_is_explained_with_the_commands_own_usage(value: str, said: str) -> None:
    done = run("token", "--timeout", value)
    assert done.returncode == 2
    assert said in done.stderr
    assert "usage: azure-cloudshell token" in done.stderr


def test_a_timeout_of_years_is_a_number(shell: CloudShellEmulator) -> None:
    assert token(shell, "--timeout", "1e9").returncode == 0


@pytest.mark.parametrize("arguments", [["User.Read"], ["--scope", "Mail.Send"], ["--resource", "User.Read"]])
def test_a_bare_permission_says_which_scope_to_use(shell: CloudShellEmulator, arguments: list[str]) -> None:
    done = token(shell, *arguments)
    assert done.returncode == 2
    assert "is a permission without its resource" in done.stderr
    assert "https://graph.microsoft.com/.default" in done.stderr
    assert shell.requests == []


def test_a_command_to_run_stands_at_the_end_of_an_error(shell: CloudShellEmulator) -> None:
    done = token(shell, "--tenant", "9999")
    assert "Add --fallback, which tries the other ways to sign in. Either switch the directory" in done.stderr
    assert done.stderr.endswith("or run az login --tenant 9999\n")


def test_an_unknown_option_shows_the_commands_own_usage() -> None:
    done = run("token", "--nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: azure-cloudshell token")
    assert "unrecognized arguments: --nonsense" in done.stderr


def test_a_closed_stdout_is_an_error_and_no_traceback(shell: CloudShellEmulator) -> None:
    command = " ".join([*COMMAND, "token", ">&-"])
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **shell.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
