"""``azure-cloudshell token``, as scripts use it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from azure.identity import AzureCliCredential

from azure_cloudshell_credential import _cli
from azure_cloudshell_credential._cli import _shells
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from .command import COMMAND, interrupted_after, on_a_terminal, run, without_coverage
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


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such sockets")
@pytest.mark.parametrize("form", ["token", "claims", "json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_it_prints_leaves_in_one_write(shell: CloudShellEmulator, form: str, unbuffered: str) -> None:
    # What is written to such a socket arrives as it was written.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        variables = {**os.environ, **shell.environment, "PYTHONUNBUFFERED": unbuffered}
        subprocess.run([*COMMAND, "token", "-o", form], stdout=theirs.fileno(), env=variables, check=True, timeout=60)
        theirs.close()
        assert ours.recv(65536).endswith(b"\n")
        assert ours.recv(65536) == b""


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
    done = token(shell, "acr", PATH=os.devnull)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "azure-cloudshell: Cloud Shell does not issue tokens for https://containerregistry.azure.net "
        "(AudienceNotSupported). Install the Azure CLI, run 'az login' and add --fallback.\n"
    )


def test_the_fallback_is_the_default_chain(shell: CloudShellEmulator, fake_az: str) -> None:
    assert token(shell, "acr", "--fallback").stdout == f"{fake_az}\n"


def test_the_fallback_does_not_ask_cloud_shell_again(shell: CloudShellEmulator, fake_az: str) -> None:
    shell.script(faults.hang())
    assert token(shell, "--timeout", "2", "--fallback").stdout == f"{fake_az}\n"
    assert len(shell.requests) == 1


LEFT_OUT = "Install the Azure CLI, run 'az login' and unset AZURE_TOKEN_CREDENTIALS, which leaves out the Azure CLI."


@pytest.mark.parametrize(
    ("chosen", "advice"),
    [
        (
            "",
            "AzureCliCredential: Azure CLI not found on path. Install the Azure CLI and run 'az login'.",
        ),
        ("prod", LEFT_OUT),
        ("managedidentitycredential", LEFT_OUT),
    ],
)
def test_a_fallback_without_a_token_is_one_line_unless_debugging(
    shell: CloudShellEmulator, chosen: str, advice: str
) -> None:
    nobody = {**shell.environment, "PATH": os.devnull, "AZURE_TOKEN_CREDENTIALS": chosen}
    done = run("token", "acr", "--fallback", **nobody)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Cloud Shell does not issue tokens for https://containerregistry.azure.net" in done.stderr
    assert done.stderr.endswith(f"(AudienceNotSupported). {advice}\n")


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
    # argparse imports them to learn the width of the terminal, unless it is told one.
    assert not modules & {"shutil", "lzma", "bz2", "textwrap", "typing"}
    others = {"run", "serve", "doctor", "emulate", "completion"}
    assert not modules & {f"azure_cloudshell_credential._cli.{name}" for name in others}


def test_no_token_is_a_process_argument(shell: CloudShellEmulator) -> None:
    # What the command takes on its line is a resource and options; there is no way to pass it a token.
    assert "eyJ" not in run("token", "--help").stdout


def test_a_bad_choice_of_credentials_is_named(shell: CloudShellEmulator) -> None:
    done = run("token", "acr", "--fallback", **{**shell.environment, "AZURE_TOKEN_CREDENTIALS": "nonsense"})
    assert done.returncode == 1
    assert "AZURE_TOKEN_CREDENTIALS" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--resource", ""], ["--scope", ""], [""], ["--resource", " "], ["--tenant", ""], ["--tenant="]]
)
def test_an_empty_value_is_an_error(shell: CloudShellEmulator, arguments: list[str]) -> None:
    done = token(shell, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the value is empty. Is the variable it comes from set?" in done.stderr
    assert shell.requests == []


def test_every_advice_to_sign_in_names_the_option_that_uses_it(shell: CloudShellEmulator) -> None:
    for done in (run("token"), run("token", MSI_ENDPOINT="http://x.example/")):
        assert done.stderr.endswith("run 'az login' and add --fallback.\n")
    shell.script(*[faults.error(400, "odd", "Odd")] * 4)
    assert token(shell, "--timeout", "0.3").stderr.endswith("run 'az login' and add --fallback.\n")


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


HOSTILE = "a'b\\c $(touch x) `y` \" ;\nexit 7\r\n'\\''\\"


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("bash", 'eval "$LINES_TO_EVALUATE"; printf %s "$V"'),
        ("zsh", 'eval "$LINES_TO_EVALUATE"; printf %s "$V"'),
        ("fish", "echo $LINES_TO_EVALUATE | source; printf %s $V"),
        ("pwsh", "$env:LINES_TO_EVALUATE -split '\n' | Invoke-Expression; [Console]::Write($env:V)"),
    ],
)
def test_hostile_values_stay_values_in_every_shell(name: str, script: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    environment = {**os.environ, "LINES_TO_EVALUATE": _shells.set_variable(name, "V", HOSTILE)}
    done = subprocess.run([name, "-c", script], env=environment, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == HOSTILE


def test_the_lines_for_shells_that_may_not_be_here() -> None:
    assert _shells.set_variable("pwsh", "V", "a'b\u2019c\nd") == "$env:V = 'a''b\u2019\u2019c' + \"`n\" + 'd'"
    assert _shells.set_variable("fish", "V", "a'b\\c $(d)") == "set -gx V 'a\\'b\\\\c $(d)'"
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


def test_waiting_is_said_on_a_terminal_at_once_and_goes_away(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.portal_timeout())
    shown = on_a_terminal("token", "--wait")
    _, first, retry, printed = shown.split("\r\x1b[K")
    assert first == "Waiting for the Azure portal in your browser; Ctrl-C stops."
    assert retry.startswith("No token from the portal yet; next try in ")
    assert printed == in_cloud_shell.issue("https://management.azure.com/")[0] + "\n"


def test_elsewhere_than_on_a_terminal_waiting_is_not_said(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.portal_timeout())
    assert run("token", "--wait").stderr == ""


def test_waiting_ends_after_the_timeout_where_one_is_given(in_cloud_shell: CloudShellEmulator) -> None:
    with in_cloud_shell.failing(faults.portal_timeout()):
        done = run("token", "--wait", "--timeout", "1")
    assert done.returncode == 1
    assert "did not get a token" in done.stderr
    # It has been added.
    assert "--wait" not in done.stderr


def test_a_word_of_waiting_fits_the_terminal_and_a_dumb_one_sees_none(in_cloud_shell: CloudShellEmulator) -> None:
    issued, _ = in_cloud_shell.issue("https://management.azure.com/")
    assert on_a_terminal("token", "--wait", TERM="dumb") == f"{issued}\n"
    narrow = on_a_terminal("token", "--wait", COLUMNS="30")
    assert "\x1b[KWaiting for the Azure portal \r" in narrow


def test_an_interrupt_while_waiting_leaves_a_clean_line(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.hang())
    shown = interrupted_after("Ctrl-C stops.", "token", "--wait")
    assert shown.endswith("\r\x1b[K")


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"apiVersion": ' * 5_000, "7", '{"apiVersion": 7}', "null"])
def test_what_kubectl_says_is_read_safely(shell: CloudShellEmulator, nested: str) -> None:
    done = token(shell, "-o", "exec-credential", KUBERNETES_EXEC_INFO=nested)
    assert json.loads(done.stdout)["apiVersion"] == "client.authentication.k8s.io/v1"


def test_az_s_words_are_understood(shell: CloudShellEmulator) -> None:
    done = token(shell, "--resource-type", "ms-graph", "-o", "tsv")
    assert done.stdout == shell.issue("https://graph.microsoft.com/")[0] + "\n"


def test_debug_always_shows_a_traceback() -> None:
    done = run("token", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "This is not Azure Cloud Shell" in done.stderr


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
    assert done.stderr.endswith("\nTry 'azure-cloudshell token --help'.\n")


def test_a_timeout_of_years_is_a_number(shell: CloudShellEmulator) -> None:
    assert token(shell, "--timeout", "1e9").returncode == 0


@pytest.mark.parametrize("arguments", [["User.Read"], ["--scope", "Mail.Send"]])
def test_a_bare_permission_is_graphs(shell: CloudShellEmulator, arguments: list[str]) -> None:
    assert token(shell, *arguments).returncode == 0
    assert [asked.resource for asked in shell.requests] == ["https://graph.microsoft.com/"]


def test_a_bare_permission_is_not_a_resource(shell: CloudShellEmulator) -> None:
    done = token(shell, "--resource", "User.Read")
    assert done.returncode == 2
    assert "'User.Read' is not a known resource." in done.stderr
    assert shell.requests == []


def test_in_cloud_shells_image_without_its_variables(
    tmp_path: Path, mocker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch("azure_cloudshell_credential._endpoint.environment.IMAGE_FOLDER", str(tmp_path))
    assert _cli.main(["token"]) == 1
    said = "This is Azure Cloud Shell, but its variables are missing. Pass on MSI_ENDPOINT and ACC_CLOUD."
    assert capsys.readouterr().err == f"azure-cloudshell: {said}\n"


@pytest.mark.parametrize("fallback", [[], ["--fallback"]], ids=["alone", "fallback"])
@pytest.mark.parametrize("url", ["https://myvault.vault.azure.net", "https://myvault.vault.azure.net/.default"])
def test_a_services_url_in_the_place_of_its_resource_names_that(
    shell: CloudShellEmulator, tmp_path: Path, url: str, fallback: list[str]
) -> None:
    program = tmp_path / "az"
    program.write_text("#!/bin/sh\necho 'ERROR: AADSTS500011: The resource was not found.' >&2; exit 1\n")
    program.chmod(0o755)
    done = token(shell, url, *fallback, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert "Use the resource https://vault.azure.net." in done.stderr
    assert "az login" not in done.stderr


def test_a_command_to_run_stands_in_quotes(shell: CloudShellEmulator) -> None:
    done = token(shell, "--tenant", "99999999-9999-4999-8999-999999999999")
    assert "Switch the directory in the portal and restart Cloud Shell, or " in done.stderr
    assert done.stderr.endswith("run 'az login --tenant 99999999-9999-4999-8999-999999999999' and add --fallback.\n")


def test_an_unknown_option_is_refused_with_the_one_that_was_meant() -> None:
    done = run("token", "--tenat", "t")
    assert done.returncode == 2
    assert done.stderr == (
        "azure-cloudshell: unknown option --tenat. Did you mean '--tenant'?\nTry 'azure-cloudshell token --help'.\n"
    )


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
