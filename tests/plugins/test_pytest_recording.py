# pytest --block-network --allowed-hosts=127.0.0.1,localhost
"""pytest-recording, with the network blocked."""

import pytest

from azure_cloudshell_credential import CloudShellCredential


@pytest.mark.vcr
def test_with_pytest_recording(cloud_shell):
    assert CloudShellCredential().get_token("https://vault.azure.net/.default").token
