# pytest --allow-hosts=127.0.0.1,localhost
"""pytest-socket."""

from azure_cloudshell_credential import CloudShellCredential


def test_with_pytest_socket(cloud_shell):
    assert CloudShellCredential().get_token("https://vault.azure.net/.default").token
