"""Somebody's tests of a script that lists machines."""

import pytest
from azure.core.exceptions import HttpResponseError
from machines import names


def test_machines_are_listed(cloud_shell_azure):
    assert names() == ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]
    assert cloud_shell_azure.refused == []


def test_they_are_listed_as_the_user_of_az_too(cloud_shell, cloud_shell_azure):
    cloud_shell.deny("arm")
    cloud_shell.az_login(user="linus@contoso.example")
    assert "web-01" in names()
    assert [call[:3] for call in cloud_shell.az_calls] == [["az", "account", "get-access-token"]]


def test_a_revocation_is_noticed(cloud_shell_azure):
    cloud_shell_azure.resource_manager.challenge_claims('{"access_token":{}}')
    with pytest.raises(Exception, match="az login"):
        names()


def test_another_tenant_is_refused(cloud_shell, cloud_shell_azure):
    cloud_shell.deny("arm")
    cloud_shell.az_login(tenant="99999999-0000-4000-8000-000000000000")
    with pytest.raises(HttpResponseError, match="InvalidAuthenticationTokenTenant"):
        names()
