"""freezegun: the emulator's clock is that of the process, and a token expires when the test says so."""

from datetime import timedelta

import pytest
from azure.core.credentials import AccessToken
from freezegun import freeze_time

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator

SCOPE = "https://vault.azure.net/.default"


def test_a_day_later(cloud_shell):
    credential = CloudShellCredential()
    with freeze_time() as clock:
        first = credential.get_token(SCOPE)
        assert credential.get_token(SCOPE) == first
        clock.tick(timedelta(days=1))
        assert credential.get_token(SCOPE).expires_on > first.expires_on + 80000


@pytest.mark.parametrize("day", ["2020-01-01", "2040-01-01"])
def test_a_day_of_another_year(day):
    """Also on the thread that asks: freezegun leaves the real time to what threading has called a few calls ago."""
    with freeze_time(day) as clock, CloudShellEmulator() as shell:
        now = clock().timestamp()
        assert now < CloudShellCredential(endpoint=shell.endpoint).get_token(SCOPE).expires_on < now + 86400


class OfTheDay:
    def __init__(self, now):
        self.now = now

    def get_token(self, *scopes, **_):
        return AccessToken("token", int(self.now()) + 3600)


def test_the_token_of_another_credential():
    with freeze_time("2020-01-01") as clock, CloudShellBroker(OfTheDay(lambda: clock().timestamp())) as broker:
        assert broker.get_token(SCOPE) == ("token", int(clock().timestamp()) + 3600)
