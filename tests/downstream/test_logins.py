"""Somebody's tests of code with a default chain, on a machine where they are signed in to everything."""

import subprocess
import threading
import time

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    AzureCliCredential,
    AzureDeveloperCliCredential,
    AzurePowerShellCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    EnvironmentCredential,
    ManagedIdentityCredential,
)

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential, default_subscription_id
from azure_cloudshell_credential.emulator import faults

ARM, ACR = "https://management.azure.com/.default", "https://containerregistry.azure.net/.default"

default = DefaultCloudShellCredential()
hasty = CloudShellCredential(timeout=0.3)


def user_of(token):
    return jwt.decode(token.token, options={"verify_signature": False})["upn"]


@pytest.fixture
def team(cloud_shell):
    cloud_shell.az_login(user="grace@contoso.example")
    return cloud_shell


def test_a_chain_asks_cloud_shell(cloud_shell):
    assert user_of(default.get_token(ARM)) == "ada@contoso.example"


def test_a_chain_finds_nobody_else(cloud_shell):
    start = time.monotonic()
    with pytest.raises(ClientAuthenticationError, match="az login"):
        default.get_token(ACR)
    assert time.monotonic() - start < 20


def test_a_chain_goes_on_to_the_made_up_az(team):
    assert user_of(default.get_token(ACR)) == "grace@contoso.example"


def test_each_of_the_others_is_signed_out(cloud_shell, monkeypatch):
    monkeypatch.delenv("MSI_ENDPOINT")
    for kind in (
        AzureCliCredential,
        AzureDeveloperCliCredential,
        AzurePowerShellCredential,
        EnvironmentCredential,
        ManagedIdentityCredential,
    ):
        with pytest.raises(CredentialUnavailableError):
            kind().get_token(ARM)
    with pytest.raises(ClientAuthenticationError):
        DefaultAzureCredential().get_token(ARM)


def test_the_subscription_is_made_up(cloud_shell):
    assert default_subscription_id(default) == "00000000-1111-4222-8333-444444444444"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("signed-out", "Please run 'az login'"),
        ("audience", "Please run 'az login'"),
        ("portal-timeout", "Please run 'az login'"),
        ("cross-tenant", "Please run 'az login'"),
        ("other-tenant", "getting access token for non-current tenants is not supported"),
        ("msi", "Failed to connect to MSI"),
        ("ERROR: AADSTS53000: of one's own", "AADSTS53000"),
    ],
)
def test_az_fails_as_it_is_known_to(cloud_shell, failure, said):
    cloud_shell.az_fails(failure)
    with pytest.raises(ClientAuthenticationError, match=said):
        AzureCliCredential().get_token(ACR)


def test_az_is_slow(cloud_shell):
    cloud_shell.az_login(seconds=60)
    with pytest.raises(CredentialUnavailableError, match="Failed to invoke the Azure CLI"):
        AzureCliCredential(process_timeout=1).get_token(ACR)


def test_a_shells_az_is_the_same(team):
    shown = subprocess.run(["az", "account", "show"], capture_output=True, text=True, check=True).stdout
    assert "grace@contoso.example" in shown
    token = [
        "az",
        "account",
        "get-access-token",
        "--resource",
        "https://vault.azure.net",
        "--query",
        "accessToken",
        "-o",
        "tsv",
    ]
    assert subprocess.run(token, capture_output=True, text=True, check=True).stdout.count(".") == 2
    assert subprocess.run(["az", "vm", "list"], capture_output=True, check=False).returncode == 1


def test_an_endpoint_that_hangs_suspends_the_credential(cloud_shell):
    cloud_shell.script(faults.hang())
    with pytest.raises(CredentialUnavailableError):
        hasty.get_token(ARM)


def test_and_nobody_after_it(cloud_shell):
    assert hasty.get_token(ARM).token
    assert len(cloud_shell.requests) == 1


def test_an_acquisition_is_left_in_flight(cloud_shell):
    cloud_shell.script(faults.hang())

    def ask():
        with pytest.raises(ClientAuthenticationError):
            default.get_token(ARM)

    threading.Thread(target=ask).start()
    while not cloud_shell.requests:
        time.sleep(0.01)


def test_and_is_nobodys_afterwards(cloud_shell):
    assert default.get_token(ARM).token
    assert [request.status for request in cloud_shell.requests] == [200]
