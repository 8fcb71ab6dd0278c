"""The same situations put to azure-identity's ``ManagedIdentityCredential`` and to ours.

What azure-identity does is pinned as documentation: the table of docs/behaviour.md rests on it. A
failure here after an upgrade of azure-identity may be good news; then the table changes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import azure.identity
import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.identity import (
    AzureCliCredential,
    ChainedTokenCredential,
    CredentialUnavailableError,
    ManagedIdentityCredential,
)

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from . import misbehaving as peer
from .conftest import ARM, CANARY
from .misbehaving import Behaviour, MisbehavingServer

pytestmark = pytest.mark.skipif(
    tuple(map(int, azure.identity.__version__.split(".")[:2])) < (1, 27), reason="pins azure-identity 1.27"
)

Start = Callable[[Behaviour], MisbehavingServer]


@pytest.fixture
def theirs(in_cloud_shell: CloudShellEmulator) -> Iterator[ManagedIdentityCredential]:
    with ManagedIdentityCredential(retry_backoff_factor=0.01) as credential:
        yield credential


@pytest.fixture
def ours(in_cloud_shell: CloudShellEmulator) -> CloudShellCredential:
    return CloudShellCredential(retry_backoff_factor=0.01, timeout=2)


def with_az(credential: Any, scope: str = ARM) -> str:
    token: str = ChainedTokenCredential(credential, AzureCliCredential()).get_token(scope).token
    return token


# Each with what azure-identity's chain does: "stops", or goes on to "az".
CHAINS: list[tuple[str, Any, str, str]] = [
    ("audience not supported", None, "https://azconfig.io/.default", "stops"),
    ("portal timeout", faults.portal_timeout(), ARM, "stops"),
    ("Entra says no", faults.interaction_required(), ARM, "stops"),
    ("server error", faults.server_error(500), ARM, "stops"),
    ("connection dropped", faults.drop(), ARM, "stops"),
    ("empty reply", ScriptedReply(200, ""), ARM, "stops"),
    ("reply without a token", ScriptedReply(200, "{}"), ARM, "stops"),
    ("HTML", faults.garbage(), ARM, "az"),
]


@pytest.mark.parametrize(("does", "scope", "outcome"), [row[1:] for row in CHAINS], ids=[row[0] for row in CHAINS])
def test_a_chain(
    in_cloud_shell: CloudShellEmulator,
    theirs: Any,
    ours: Any,
    fake_az: str,
    does: Any,
    scope: str,
    outcome: str,
) -> None:
    if does is not None:
        in_cloud_shell.script(*[does] * 20)
    if outcome == "stops":
        with pytest.raises(ClientAuthenticationError):
            with_az(theirs, scope)
    else:
        assert with_az(theirs, scope) == fake_az
    assert with_az(ours, scope) == fake_az


def test_connection_refused(monkeypatch: pytest.MonkeyPatch, fake_az: str) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://localhost:9/oauth2/token")
    with ManagedIdentityCredential(retry_backoff_factor=0.01) as theirs:
        with pytest.raises(ServiceRequestError):
            theirs.get_token(ARM)
        with pytest.raises(ClientAuthenticationError):
            with_az(theirs)
    assert with_az(CloudShellCredential()) == fake_az


def test_an_endpoint_that_hangs(in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
    in_cloud_shell.script(*[faults.hang()] * 20)
    # Its own bound would be 300 seconds, four times.
    with (
        ManagedIdentityCredential(read_timeout=0.2, retry_backoff_factor=0.01) as theirs,
        pytest.raises(ClientAuthenticationError),
    ):
        with_az(theirs)
    assert len(in_cloud_shell.requests) == 4
    in_cloud_shell.requests.clear()
    start = time.monotonic()
    assert with_az(CloudShellCredential(timeout=0.5)) == fake_az
    assert time.monotonic() - start < 3
    assert len(in_cloud_shell.requests) == 1


def test_a_proxy_in_the_environment(
    theirs: Any, ours: Any, misbehaving: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = misbehaving(peer.reply(b"{}"))
    monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
    with pytest.raises(AzureError):
        theirs.get_token(ARM)
    assert b"resource=" in proxy.requests[0]
    proxy.requests.clear()
    assert ours.get_token(ARM).token
    assert proxy.requests == []


def requests_of_threads(in_cloud_shell: CloudShellEmulator, credential: Any) -> int:
    in_cloud_shell.reset()
    in_cloud_shell.latency = 0.2
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: credential.get_token(ARM), range(20)))
    return len(in_cloud_shell.requests)


def test_20_threads_on_a_cold_cache(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    assert requests_of_threads(in_cloud_shell, theirs) == 20
    assert requests_of_threads(in_cloud_shell, ours) == 1


def test_a_reply_that_spells_the_resource_in_another_way(
    in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any
) -> None:
    body = '{"access_token":"x","expires_in":"3600","resource":"https://management.core.windows.net/"}'
    for credential, requests in ((theirs, 3), (ours, 1)):
        in_cloud_shell.reset()
        in_cloud_shell.script(*[ScriptedReply(200, body)] * 3)
        for _ in range(3):
            assert credential.get_token(ARM).token == "x"
        assert len(in_cloud_shell.requests) == requests


def test_a_reply_without_the_resource(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    body = '{"access_token":"x","expires_in":"3600"}'
    in_cloud_shell.script(ScriptedReply(200, body), ScriptedReply(200, body))
    with pytest.raises(KeyError, match="resource"):
        theirs.get_token(ARM)
    assert ours.get_token(ARM).token == "x"


def test_a_token_for_another_resource(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    in_cloud_shell.script(faults.wrong_resource())
    wrong = theirs.get_token(ARM).token
    in_cloud_shell.script(faults.wrong_resource())
    assert ours.get_token(ARM).token != wrong


def test_an_expired_token(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    in_cloud_shell.script(faults.expired_token(), faults.expired_token())
    assert theirs.get_token(ARM).expires_on < time.time()
    with pytest.raises(CredentialUnavailableError, match="already expired"):
        ours.get_token(ARM)


def test_claims(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    # Asked again, without the claims: a resource that rejected the token gets the same one again.
    first = theirs.get_token(ARM)
    assert theirs.get_token(ARM, claims="{}") == first
    assert "claims" not in in_cloud_shell.requests[1].parameters
    with pytest.raises(CredentialUnavailableError, match="claims"):
        ours.get_token(ARM, claims="{}")


def test_another_tenant(in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any) -> None:
    assert theirs.get_token(ARM, tenant_id="another-tenant").token
    with pytest.raises(CredentialUnavailableError, match="another-tenant"):
        ours.get_token(ARM, tenant_id="another-tenant")


def test_a_token_in_a_reply_that_cannot_be_used(
    in_cloud_shell: CloudShellEmulator, theirs: Any, ours: Any, log: Any
) -> None:
    body = f'{{"access_token":"{CANARY}"}}'
    in_cloud_shell.script(ScriptedReply(200, body), ScriptedReply(200, body))
    with pytest.raises(ClientAuthenticationError, match=CANARY):
        theirs.get_token(ARM)
    assert any(CANARY in line for line in log.lines)
    log.lines.clear()
    with pytest.raises(CredentialUnavailableError) as raised:
        ours.get_token(ARM)
    assert CANARY not in str(raised.value)
    assert not any(CANARY in line for line in log.lines)


def test_logging_enable(in_cloud_shell: CloudShellEmulator, log: Any) -> None:
    assert logging.getLogger().level == logging.DEBUG
    with ManagedIdentityCredential(logging_enable=True) as theirs:
        token = theirs.get_token(ARM).token
    assert any(token in line for line in log.lines)
    log.lines.clear()
    assert CloudShellCredential(logging_enable=True).get_token(ARM).token == token
    assert not any(token in line for line in log.lines)


def test_an_endpoint_on_another_machine(monkeypatch: pytest.MonkeyPatch, mocker: Any) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://192.0.2.1/oauth2/token")
    send = mocker.patch("requests.Session.request", side_effect=OSError("would have left this machine"))
    with ManagedIdentityCredential() as theirs, pytest.raises(OSError, match="would have left"):
        theirs.get_token(ARM)
    assert send.call_args.args[1] == "http://192.0.2.1/oauth2/token"
    with pytest.raises(CredentialUnavailableError, match="no token request leaves this machine"):
        CloudShellCredential().get_token(ARM)
