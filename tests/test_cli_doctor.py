"""``azure-cloudshell doctor`` in every state a user may be in."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential._endpoint import audiences
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from . import misbehaving as peer
from .command import COMMAND, interrupted_after, on_a_terminal, run
from .conftest import ARM, Everything
from .misbehaving import Behaviour, MisbehavingServer

NO_AZ = {"PATH": os.devnull}
PORTAL = faults.portal_timeout()


NO_KEY: Any = None


def sections(output: str) -> dict[str, list[str]]:
    """The lines under each heading."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in output.splitlines():
        if line and not line.startswith(" "):
            heading = line
            found[heading] = []
        elif line:
            found[heading].append(line.strip())
    return found


def test_healthy(shell: CloudShellEmulator) -> None:
    done = run("doctor", **shell.environment, **NO_AZ)
    assert (done.returncode, done.stderr) == (0, "")
    page = sections(done.stdout)
    assert f"ok  MSI_ENDPOINT={shell.endpoint}" in page["Environment"]
    assert page["Endpoint"][0].startswith(f"ok  {shell.endpoint}: answered in ")
    assert page["Signed in"] == [
        "ok  user       ada@contoso.example",
        f"ok  tenant     {shell.identity.tenant_id}",
        f"ok  object id  {shell.identity.object_id}",
        "ok  token      valid for another 65 minutes",
    ]
    refused = sum(line.startswith("no") for line in page["Resources"])
    granted = len(audiences.KNOWN) - refused
    assert page["Resources"][0] == f"ok  {granted} resources granted; --all lists them"
    assert "no  acr               https://containerregistry.azure.net" in page["Resources"]
    first, second = page["What to do"]
    assert first == f"There are tokens for Azure Resource Manager and {granted - 1} more resources."
    assert second.startswith(f"{refused} resources are refused. Install the Azure CLI and run 'az login': Default")
    # What to do comes first.
    assert list(page)[2] == "What to do"
    assert "\x1b" not in done.stdout
    assert "eyJ" not in done.stdout


def test_all_lists_what_is_granted_too(shell: CloudShellEmulator) -> None:
    page = sections(run("doctor", "--all", **shell.environment, **NO_AZ).stdout)
    assert len([line for line in page["Resources"] if line[:2] in ("ok", "no")]) == len(audiences.KNOWN)
    assert "ok  vault             https://vault.azure.net" in page["Resources"]


def test_outside_cloud_shell() -> None:
    done = run("doctor", **NO_AZ)
    assert done.returncode == 1
    assert sections(done.stdout)["What to do"] == [
        "This is not Azure Cloud Shell: neither MSI_ENDPOINT nor a Cloud Shell variable is set.",
        "Install the Azure CLI and run 'az login': DefaultCloudShellCredential(), 'azure-cloudshell token --fallback' "
        "and 'azure-cloudshell run' use that sign-in.",
    ]


def test_an_endpoint_that_is_not_cloud_shells() -> None:
    done = run("doctor", MSI_ENDPOINT="http://169.254.169.254/x", **NO_AZ)
    assert done.returncode == 1
    assert "MSI_ENDPOINT is not Cloud Shell's" in sections(done.stdout)["What to do"][0]


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run("doctor", MSI_ENDPOINT=f"http://localhost:{port}/oauth2/token", **NO_AZ)
    assert done.returncode == 1
    page = sections(done.stdout)
    assert page["Endpoint"] == [f"no  http://localhost:{port}/oauth2/token: cannot be reached"]
    assert "Restart Cloud Shell" in page["What to do"][0]


def test_hanging(misbehaving: Callable[[Behaviour], MisbehavingServer]) -> None:
    server = misbehaving(peer.hang())
    start = time.monotonic()
    done = run("doctor", "--timeout", "0.3", MSI_ENDPOINT=server.endpoint, **NO_AZ)
    assert time.monotonic() - start < 10
    assert done.returncode == 1
    page = sections(done.stdout)
    assert page["Endpoint"] == [f"no  {server.endpoint}: no answer in time"]
    assert [line[:4].strip() for line in page["Resources"]] == ["no", "no", "-"]
    assert page["Resources"][2].endswith(
        f"{len(audiences.KNOWN) - 2} more were not asked for after 2 failures in a row"
    )
    assert "Keep the browser tab with Cloud Shell open and active" in page["What to do"][0]
    assert len(server.requests) == 2


def test_resource_manager_denied(shell: CloudShellEmulator) -> None:
    shell.deny("https://management.azure.com/")
    done = run("doctor", **shell.environment, **NO_AZ)
    assert done.returncode == 1
    assert sections(done.stdout)["What to do"][1].startswith("Restart Cloud Shell, or ")


def test_a_portal_that_sleeps_for_one_audience(shell: CloudShellEmulator) -> None:
    shell.script(ScriptedReply(), ScriptedReply(), PORTAL)
    done = run("doctor", **shell.environment, **NO_AZ)
    assert done.returncode == 0
    page = sections(done.stdout)
    assert (
        "no  vault             https://vault.azure.net  (the portal in the browser did not answer)" in page["Resources"]
    )
    assert page["What to do"][-1].endswith("try again for: vault.")


def test_proxies_and_az_are_shown(shell: CloudShellEmulator, fake_az: str) -> None:
    done = run("doctor", **shell.environment, HTTP_PROXY="http://user:secret@proxy.example", MSI_SECRET="")
    page = sections(done.stdout)
    assert page["Environment"][-1].startswith("!   HTTP_PROXY is set: other tools send token requests through it")
    who = "linus@contoso.example in tenant t, subscription Contoso"
    assert page["Azure CLI"] == [f"!   signed in as {who}: a different user from Cloud Shell's"]
    assert "The Azure CLI is signed in as linus@contoso.example: Def" in done.stdout
    assert "secret" not in done.stdout
    assert fake_az not in done.stdout


THROUGH_CLOUD_SHELL = """echo '{"user":{"cloudShellID":true,"name":"x"}}'"""


def path_with_az(folder: Path, script: str) -> str:
    """A ``PATH`` on which ``az`` is a shell script."""
    az = folder / "az"
    az.write_text(f"#!/bin/sh\n{script}\n")
    az.chmod(0o755)
    return f"{folder}:/bin:/usr/bin"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 1", "no  az is not signed in"),
        ("echo nonsense", "no  az is not signed in"),
        (THROUGH_CLOUD_SHELL, "signed in as x in tenant unknown, subscription unknown: Cloud Shell's own sign-in"),
    ],
)
def test_an_az_in_another_state(tmp_path: Path, script: str, expected: str) -> None:
    assert expected in run("doctor", PATH=path_with_az(tmp_path, script)).stdout


def test_the_login_that_az_has_from_cloud_shell_is_no_workaround(shell: CloudShellEmulator, tmp_path: Path) -> None:
    done = run("doctor", **shell.environment, PATH=path_with_az(tmp_path, THROUGH_CLOUD_SHELL))
    advice = sections(done.stdout)["What to do"][1]
    assert "Run 'az login' (the user that 'az account show' names is Cloud Shell's own sign-in): Default" in advice


def test_the_user_that_cloud_shell_has_is_nobody_else(shell: CloudShellEmulator, tmp_path: Path) -> None:
    account = {"user": {"name": shell.identity.user.upper()}, "tenantId": shell.identity.tenant_id, "name": "Contoso"}
    path = path_with_az(tmp_path, f"echo '{json.dumps(account)}'")
    page = sections(run("doctor", **shell.environment, PATH=path).stdout)
    assert page["Azure CLI"][0].startswith("ok  signed in as ADA@")
    assert "somebody else" not in page["Azure CLI"][0]


@pytest.mark.parametrize("script", ["sleep 100", "sleep 100 & wait", "exec >&-; sleep 100", "yes"])
def test_an_az_that_hangs_or_never_stops_is_left(tmp_path: Path, script: str) -> None:
    start = time.monotonic()
    done = run("doctor", "--timeout", "0.5", PATH=path_with_az(tmp_path, script))
    assert time.monotonic() - start < 20
    assert sections(done.stdout)["Azure CLI"] == ["no  az did not answer in time"]


@pytest.mark.parametrize(
    "account",
    ["[" * 100_000, '{"user":' * 50_000, "7", "null", '{"user": 7, "name": [], "tenantId": {}}'],
    # pytest puts a test's name into the environment, where one so long leaves no room.
    ids=["a deep list", "a deep object", "a number", "null", "other types"],
)
def test_an_az_that_answers_nonsense_is_survived(tmp_path: Path, account: str) -> None:
    (tmp_path / "account").write_text(account)
    path = path_with_az(tmp_path, f"cat {tmp_path / 'account'}")
    for option in ([], ["--json"]):
        done = run("doctor", *option, PATH=path)
        assert (done.returncode, done.stderr) == (1, "")


def test_what_others_wrote_is_one_bounded_printable_line(shell: CloudShellEmulator, tmp_path: Path) -> None:
    hostile = "x\x1b]0;OWNED\x07\n  ok  forged\u202e" + "y" * 5000
    account = {"user": {"name": hostile}, "tenantId": hostile, "name": hostile, "id": hostile}
    (tmp_path / "account").write_text(json.dumps(account))
    environment = {
        **shell.environment,
        **dict.fromkeys(("ACC_CLOUD", "ACC_TID", "POWERSHELL_DISTRIBUTION_CHANNEL"), hostile),
        "PATH": path_with_az(tmp_path, f"cat {tmp_path / 'account'}"),
    }
    text = run("doctor", **environment).stdout
    found = run("doctor", "--json", **environment).stdout
    assert not [line for line in text.splitlines() if line.strip().startswith("ok  forged") or not line.isprintable()]
    assert max(map(len, text.splitlines())) < 500
    assert "\\u001b" not in found
    assert max(map(len, json.loads(found)["az"]["user"].splitlines())) <= 100
    assert len(json.loads(found)["az"]["user"].splitlines()) == 1


@pytest.fixture
def under_a_broker(shell: CloudShellEmulator) -> Iterator[dict[str, str]]:
    """The environment that ``run`` makes, and behind it the emulated Cloud Shell."""
    with shell.as_environment(), CloudShellBroker(CloudShellCredential()) as broker:
        yield broker.child_environment({**os.environ, **NO_AZ})


@pytest.mark.parametrize("option", ["--all", "--json"])
def test_a_brokers_secrets_are_not_shown(under_a_broker: dict[str, str], option: str) -> None:
    done = run("doctor", option, **under_a_broker)
    assert done.returncode == 0
    values = [value for name, value in under_a_broker.items() if name.endswith(("_ENDPOINT", "_HEADER", "_KEY"))]
    secrets = {part for value in values for part in value.split("/") if len(part) > 20}
    assert secrets
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]


def test_under_a_broker_it_says_so(under_a_broker: dict[str, str]) -> None:
    page = sections(run("doctor", **under_a_broker).stdout)
    assert page["Endpoint"][0] == "-   a broker (azure-cloudshell run or serve) stands before Cloud Shell"
    assert "/…: answered in" in page["Endpoint"][1]
    assert page["Signed in"][0] == "ok  user       ada@contoso.example"
    assert "where azure-cloudshell was started" in page["What to do"][1]
    assert json.loads(run("doctor", "--json", **under_a_broker).stdout)["broker"] is True


def test_under_a_broker_that_serves_one_resource_that_one_counts(shell: CloudShellEmulator) -> None:
    with shell.as_environment(), CloudShellBroker(CloudShellCredential(), allow=["vault"]) as broker:
        done = run("doctor", **broker.child_environment({**os.environ, **NO_AZ}))
    assert done.returncode == 0
    advice = sections(done.stdout)["What to do"]
    assert advice[0] == "There is a token for 1 resource, but none for Azure Resource Manager."
    assert advice[1] == f"{len(audiences.KNOWN) - 1} resources are refused. " + (
        "Run 'az login' where azure-cloudshell was started, or see its --allow."
    )


class NotSignedIn:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        raise ClientAuthenticationError("Please run 'az login'.")


def test_under_a_broker_without_a_sign_in_not_everything_is_asked_for() -> None:
    with CloudShellBroker(NotSignedIn()) as broker:
        done = run("doctor", **broker.child_environment({**os.environ, **NO_AZ}))
    assert done.returncode == 1
    page = sections(done.stdout)
    assert [line[:4].strip() for line in page["Resources"]] == ["no", "no", "-"]
    assert "Please run 'az login'." in page["What to do"][0]


def test_under_a_broker_token_leaves_it_to_the_broker_to_ask_again() -> None:
    with CloudShellBroker(NotSignedIn()) as broker:
        said = run("token", **broker.child_environment(os.environ)).stderr
    assert "Please run 'az login'." in said
    assert "Asked" not in said


def test_under_a_broker_token_asks_it(under_a_broker: dict[str, str], shell: CloudShellEmulator) -> None:
    assert run("token", "vault", **under_a_broker).stdout.strip() == shell.issue("https://vault.azure.net")[0]


def test_it_fits_a_narrow_terminal(shell: CloudShellEmulator) -> None:
    output = on_a_terminal("doctor", "--all", COLUMNS="60", **shell.environment, **NO_AZ)
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in output.rpartition("\x1b[K")[2].splitlines()]
    assert max(map(len, lines)) <= 60
    # Between words, and each piece of a finding below its first one.
    assert "      https://ai.azure.com/.default (not verified against" in lines


def test_an_interrupt_leaves_a_clean_line(misbehaving: Callable[[Behaviour], MisbehavingServer]) -> None:
    server = misbehaving(peer.hang())
    output = interrupted_after("asking for arm ...", "doctor", MSI_ENDPOINT=server.endpoint, **NO_AZ)
    assert output.endswith("\r\x1b[K")
    assert "Traceback" not in output


def test_json_is_for_machines(shell: CloudShellEmulator, fake_az: str) -> None:
    done = run("doctor", "--json", **shell.environment)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["works"] is True
    assert found["endpoint"] == shell.endpoint
    assert found["signed_in"]["user"] == shell.identity.user
    statuses = {entry["name"]: entry["status"] for entry in found["audiences"]}
    assert (statuses["arm"], statuses["acr"]) == ("ok", "failed")
    assert found["az"]["user"] == "linus@contoso.example"
    assert "eyJ" not in done.stdout


def test_json_outside_cloud_shell() -> None:
    done = run("doctor", "--json", **NO_AZ)
    assert done.returncode == 1
    assert json.loads(done.stdout)["endpoint"] is None


def test_a_terminal_has_colour_and_progress(shell: CloudShellEmulator) -> None:
    output = on_a_terminal("doctor", **shell.environment, **NO_AZ)
    assert "\x1b[32mok  \x1b[0m" in output
    assert "asking for vault ..." in output


def test_no_color_is_honoured(shell: CloudShellEmulator) -> None:
    assert "\x1b[3" not in on_a_terminal("doctor", **shell.environment, **NO_AZ, NO_COLOR="1")


def test_the_report_names_nobody(shell: CloudShellEmulator, tmp_path: Path) -> None:
    identity = shell.identity
    talkative = f"AADSTS50020: User account {identity.user} ({identity.name}) of tenant {identity.tenant_id}"
    shell.script(ScriptedReply(), faults.error(400, "interaction_required", talkative))
    file = tmp_path / "report.json"
    done = run("doctor", "--report", str(file), **shell.environment, ACC_OF_ADA="x")
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    for secret in (identity.user, identity.name, identity.tenant_id, identity.object_id, "ADA", "eyJ"):
        assert secret not in text
    report = json.loads(text)
    assert {"ACC_TID", "MSI_ENDPOINT", "<10>"} <= set(report["variables"])
    assert "content-type" in report["headers"]
    first, refused = report["answers"][:2]
    assert (first["resource"], first["token_is_for"]) == ("https://management.azure.com/",) * 2
    assert (refused["status"], refused["error"][:34]) == (400, "interaction_required: AADSTS50020:")
    assert len(report["answers"]) > 60
    assert {row["same"] for row in report["assumptions"]} <= {True, False, None}


def test_the_report_of_a_silent_endpoint_is_short(
    misbehaving: Callable[[Behaviour], MisbehavingServer], tmp_path: Path
) -> None:
    server = misbehaving(peer.hang())
    file = tmp_path / "report.json"
    done = run("doctor", "--report", str(file), "--timeout", "0.2", MSI_ENDPOINT=server.endpoint)
    assert done.returncode == 1
    questions = json.loads(file.read_text())["answers"]
    assert [question["outcome"] for question in questions] == ["no answer in time"] * 2


def test_a_report_that_stops_early_says_so(shell: CloudShellEmulator) -> None:
    with shell.failing(faults.portal_timeout()):
        done = run("doctor", "--report", "-", **shell.environment)
    assert done.returncode == 1
    assert "Stopped early, since the portal did not answer 3 requests in a row" in done.stderr
    assert json.loads(done.stdout)["stopped"]


def test_a_report_that_cannot_be_written_is_one_line() -> None:
    done = run("doctor", "--report", "/nonexistent/report.json")
    assert done.returncode == 1
    reason, error = done.stderr.splitlines()
    assert reason.endswith("There is nothing to ask.")
    assert error == "azure-cloudshell: Cannot write /nonexistent/report.json: No such file or directory."


def test_a_report_can_go_to_stdout(shell: CloudShellEmulator) -> None:
    done = run("doctor", "--report", "-", ACC_TERM_ID="x", **shell.environment)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert len(report["variables"]) == len(set(report["variables"]))
    assert {"ACC_TERM_ID", "AZUREPS_HOST_ENVIRONMENT"} <= set(report["variables"])


def test_a_report_is_written_without_a_stderr(shell: CloudShellEmulator) -> None:
    command = shlex.join([*COMMAND, "doctor", "--report", "-"])
    done = subprocess.run(
        ["bash", "-c", f"{command} 2>&-"],
        env={**os.environ, **shell.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["answers"][0]["outcome"] == "token"


def test_outside_cloud_shell_a_login_of_az_is_no_reason_to_sign_in(fake_az: str) -> None:
    advice = sections(run("doctor").stdout)["What to do"]
    assert advice[0] == "This is not Azure Cloud Shell: neither MSI_ENDPOINT nor a Cloud Shell variable is set."
    assert advice[1].startswith("The Azure CLI is signed in as linus@contoso.example: ")
    assert "token --fallback" in advice[1]
    assert len(advice) == 2


def test_a_choice_that_leaves_az_out_is_said(shell: CloudShellEmulator, fake_az: str) -> None:
    advice = run("doctor", AZURE_TOKEN_CREDENTIALS="prod", **shell.environment).stdout
    assert "Unset AZURE_TOKEN_CREDENTIALS, which leaves out the Azure CLI: DefaultCloudShellCredential()" in advice


@pytest.mark.parametrize(
    ("exempt", "is_warned"), [("localhost", False), ("*", False), ("a, localhost", False), ("a", True)]
)
def test_no_proxy_is_honoured(shell: CloudShellEmulator, exempt: str, is_warned: bool) -> None:
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": exempt}
    page = sections(run("doctor", **shell.environment, **NO_AZ, **proxy).stdout)
    assert any("HTTP_PROXY is set" in line for line in page["Environment"]) == is_warned


def test_an_endpoint_of_another_service_is_explained() -> None:
    page = sections(run("doctor", MSI_ENDPOINT="http://localhost:9/", MSI_SECRET="s", **NO_AZ).stdout)
    assert "!   MSI_ENDPOINT=http://localhost:9/" in page["Environment"]
    assert (
        "!   MSI_SECRET is set: MSI_ENDPOINT belongs to App Service or Azure ML, and is not asked"
        in page["Environment"]
    )
    assert page["What to do"][1:] == [
        "DefaultCloudShellCredential(), 'azure-cloudshell token --fallback' and 'azure-cloudshell run' ask the managed "
        "identity of this place."
    ]


def test_whose_token_it_is_and_a_workaround_are_said(shell: CloudShellEmulator) -> None:
    claims = {
        "upn": "a\nok  forged\x1b]0;OWNED\x07",
        "tid": "t\x1b",
    }
    body = json.dumps({"access_token": jwt.encode(claims, NO_KEY, algorithm="none"), "expires_in": "3600"})
    shell.script(ScriptedReply(200, body))
    done = run("doctor", **shell.environment, **NO_AZ)
    page = sections(done.stdout)
    # A claim cannot move the cursor, and forges no line.
    assert "ok  user       a ok forged ]0;OWNED" in page["Signed in"]
    assert "\x1b" not in done.stdout
    assert not [line for line in page["Signed in"] if line.startswith("ok  forged")]
    assert any(line.startswith("ContainerRegistryClient(") for line in page["Resources"])


def test_the_usual_programs_are_named(shell: CloudShellEmulator, tmp_path: Path) -> None:
    for name in ("terraform", "kubectl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    page = sections(run("doctor", **shell.environment, PATH=str(tmp_path)).stdout)
    assert page["Programs"] == [
        "-   terraform  uses az's sign-in; with ARM_USE_MSI=true: azure-cloudshell run terraform ...",
        "-   kubectl    takes a token from: azure-cloudshell token aks --output exec-credential --fallback",
    ]
    assert sections(run("doctor", PATH=str(tmp_path)).stdout)["Programs"] == page["Programs"]


def test_claims_in_the_tenants_error_and_in_the_log_are_one_printable_line(
    shell: CloudShellEmulator, log: Everything
) -> None:
    body = json.dumps(
        {
            "access_token": jwt.encode({"tid": "x\x1b]0;OWNED\x07\nforged"}, NO_KEY, algorithm="none"),
            "expires_in": "3600",
        }
    )
    shell.script(ScriptedReply(200, body))
    with pytest.raises(CredentialUnavailableError) as raised:
        CloudShellCredential(endpoint=shell.endpoint).get_token(ARM, tenant_id="t")
    assert raised.value.message.isprintable()
    assert not [line for line in log.lines if "\x1b" in line]
