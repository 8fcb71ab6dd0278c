"""freezegun: the emulator's clock is that of the process, and a token expires when the test says so."""

from datetime import timedelta

from freezegun import freeze_time

from azure_cloudshell_credential import CloudShellCredential

SCOPE = "https://vault.azure.net/.default"


def test_a_day_later(cloud_shell):
    credential = CloudShellCredential()
    with freeze_time() as clock:
        first = credential.get_token(SCOPE)
        assert credential.get_token(SCOPE) == first
        clock.tick(timedelta(days=1))
        assert credential.get_token(SCOPE).expires_on > first.expires_on + 80000
