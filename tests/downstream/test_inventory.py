"""Somebody's tests: the fixture as a stranger would use it, in a project of its own."""

import os

import pytest
from inventory import token_for_the_vault

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import faults


def test_the_vault_is_asked_for_once(cloud_shell):
    credential = CloudShellCredential()
    assert token_for_the_vault(credential) == token_for_the_vault(credential)
    assert [request.resource for request in cloud_shell.requests] == ["https://vault.azure.net"]


def test_requests_start_empty(cloud_shell):
    assert cloud_shell.requests == []


def test_an_unsupported_audience_is_explained(cloud_shell):
    cloud_shell.deny("https://vault.azure.net")
    with pytest.raises(SystemExit, match="az login"):
        token_for_the_vault(CloudShellCredential())


def test_denied_audiences_are_back(cloud_shell):
    assert token_for_the_vault(CloudShellCredential())


def test_a_portal_that_sleeps_twice_is_survived(cloud_shell):
    cloud_shell.script(faults.portal_timeout(), faults.portal_timeout())
    assert token_for_the_vault(CloudShellCredential(retry_backoff_factor=0))
    assert [request.status for request in cloud_shell.requests] == [400, 400, 200]


def test_expiry_is_noticed(cloud_shell):
    credential = CloudShellCredential()
    first = token_for_the_vault(credential)
    cloud_shell.expire_tokens()
    assert token_for_the_vault(credential) != first


def test_another_user_can_sign_in(cloud_shell):
    cloud_shell.sign_in(user="grace@fabrikam.example", tenant_id="99999999-0000-4000-8000-000000000000")
    assert os.environ["ACC_TID"] == "99999999-0000-4000-8000-000000000000"
    credential = CloudShellCredential()
    assert credential.get_token("https://vault.azure.net", tenant_id=os.environ["ACC_TID"]).token


def test_outside_the_fixture_nothing_is_changed():
    assert "MSI_ENDPOINT" not in os.environ
    with pytest.raises(SystemExit, match="not Azure Cloud Shell"):
        token_for_the_vault(CloudShellCredential())
