# pytest --numprocesses=2
"""pytest-xdist: each worker has an emulator of its own."""

import pytest

from azure_cloudshell_credential import CloudShellCredential


@pytest.mark.parametrize("name", ["vault", "storage"])
def test_with_pytest_xdist(cloud_shell, name):
    cloud_shell.deny(name)
    assert CloudShellCredential().get_token("https://graph.microsoft.com/.default").token
    assert len(cloud_shell.requests) == 1
