"""``DefaultCloudShellCredential``: in Cloud Shell, on a laptop, in CI and on a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential, DefaultAzureCredential

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential._azure import explanation
from azure_cloudshell_credential._endpoint import environment
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.broker import _broker
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity, faults

from . import misbehaving as peer
from .conftest import ARM, VAULT, Everything, in_threads
from .misbehaving import Behaviour, MisbehavingServer

# Nothing here may ask Windows, a browser or the developer's own logins.
QUIET = {"exclude_powershell_credential": True, "exclude_developer_cli_credential": True}


def sync_token(scope: str = ARM, **options: Any) -> str:
    with DefaultCloudShellCredential(**{**QUIET, **options}) as credential:
        return credential.get_token(scope).token


def async_token(scope: str = ARM, **options: Any) -> str:
    async def main() -> str:
        async with AsyncDefaultCloudShellCredential(**{**QUIET, **options}) as credential:
            return (await credential.get_token(scope)).token

    return asyncio.run(main())


@pytest.fixture(params=[sync_token, async_token], ids=["sync", "async"])
def token(request: pytest.FixtureRequest) -> Any:
    return request.param


def names(credential: Any) -> list[str]:
    return [type(step).__name__ for step in credential.credentials]


def inner(credential: Any) -> list[str]:
    return names(credential.credentials[-1])


@pytest.mark.parametrize("make", [DefaultCloudShellCredential, AsyncDefaultCloudShellCredential], ids=["sync", "async"])
class TestSteps:
    def test_in_cloud_shell(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make()
        assert names(credential) == ["CloudShellCredential", "DefaultAzureCredential"]
        assert "ManagedIdentityCredential" not in inner(credential)
        assert "AzureCliCredential" in inner(credential)

    def test_elsewhere(self, make: Any) -> None:
        credential = make()
        assert names(credential) == ["CloudShellCredential", "DefaultAzureCredential"]
        assert inner(credential).index("ManagedIdentityCredential") < inner(credential).index("AzureCliCredential")
        assert "EnvironmentCredential" not in inner(credential)

    @pytest.mark.parametrize("secret", ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_PASSWORD"])
    def test_a_service_principal_comes_first(self, make: Any, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        monkeypatch.setenv("AZURE_CLIENT_ID", "x")
        monkeypatch.setenv(secret, "x")
        assert names(make()) == ["EnvironmentCredential", "CloudShellCredential", "DefaultAzureCredential"]
        assert names(make(exclude_environment_credential=True)) == ["CloudShellCredential", "DefaultAzureCredential"]

    def test_steps_can_be_excluded(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make(
            exclude_environment_credential=True, exclude_cloud_shell_credential=True, exclude_cli_credential=True
        )
        assert names(credential) == ["DefaultAzureCredential"]
        assert not {"AzureCliCredential", "ManagedIdentityCredential"} & set(inner(credential))

    def test_an_emptied_rest_is_left_out(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        assert names(make()) == ["EnvironmentCredential"]

    def test_a_service_principal_alone_may_have_no_variables_here(self, make: Any) -> None:
        others = set(_broker._STEPS) - {"environment"}
        assert names(make(**{f"exclude_{step}_credential": True for step in others})) == ["EnvironmentCredential"]

    def test_nothing_left_is_a_value_error(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        with pytest.raises(ValueError, match="at least one credential"):
            make(exclude_environment_credential=True)

    @pytest.mark.parametrize(
        ("chosen", "expected"),
        [
            ("dev", ["CloudShellCredential", "DefaultAzureCredential"]),
            ("prod", ["CloudShellCredential", "DefaultAzureCredential"]),
            ("AzureCliCredential", ["DefaultAzureCredential"]),
            ("ManagedIdentityCredential", ["CloudShellCredential"]),
        ],
    )
    def test_the_choice_in_the_environment_is_honoured(
        self,
        make: Any,
        in_cloud_shell: CloudShellEmulator,
        monkeypatch: pytest.MonkeyPatch,
        chosen: str,
        expected: list[str],
    ) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", chosen)
        assert names(make()) == expected

    @pytest.mark.parametrize(
        "environ",
        [
            {"CI": "true", "GITHUB_ACTIONS": "true"},
            {"MSI_ENDPOINT": "http://169.254.169.254/x"},
            {"MSI_ENDPOINT": "nonsense", "ACC_CLOUD": "PROD"},
            {"AZURE_CLIENT_ID": "x"},
            {"IDENTITY_ENDPOINT": "http://localhost:1", "IDENTITY_HEADER": "x"},
        ],
    )
    def test_construction_never_raises_and_never_blocks(
        self, make: Any, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
    ) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        start = time.monotonic()
        make()
        assert time.monotonic() - start < 2

    def test_keywords_are_passed_on(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make(timeout=7, process_timeout=3, authority="login.microsoftonline.us")
        assert credential.credentials[0]._policy.timeout == 7
        cli = credential.credentials[-1].credentials[inner(credential).index("AzureCliCredential")]
        assert cli._process_timeout == 3

    def test_an_endpoint_can_be_given(self, make: Any) -> None:
        credential = make(endpoint="http://localhost:4242/oauth2/token")
        assert credential.credentials[0].endpoint == "http://localhost:4242/oauth2/token"

    def test_tenant_id_is_refused_as_azure_identity_does(self, make: Any) -> None:
        with pytest.raises(TypeError, match="tenant_id"):
            make(tenant_id="t")


def test_in_cloud_shell_the_token_is_its_users(token: Any, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
    assert token() == in_cloud_shell.issue("https://management.azure.com")[0]


def test_an_unsupported_audience_ends_in_the_token_of_az(
    token: Any, in_cloud_shell: CloudShellEmulator, fake_az: str
) -> None:
    assert token("https://containerregistry.azure.net/.default") == fake_az
    assert len(in_cloud_shell.requests) == 1


def test_on_a_laptop_it_is_the_token_of_az(token: Any, fake_az: str) -> None:
    # Without the managed identity step, which asks an address beyond this machine and waits for it.
    assert token(exclude_managed_identity_credential=True) == fake_az


def test_a_service_principal_comes_first(
    token: Any, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, fake_az: str
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "11111111-2222-4333-8444-555555555555")
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-2222-4333-8444-666666666666")
    # Its authority is a closed port on this machine: what fails is the attempt to sign in as it, which ends the chain
    # as in DefaultAzureCredential.
    with pytest.raises(ClientAuthenticationError, match="EnvironmentCredential") as raised:
        token(authority="https://localhost:9", retry_total=0, disable_instance_discovery=True)
    assert "CloudShellCredential" not in raised.value.message
    assert in_cloud_shell.requests == []


def test_managed_identity_elsewhere_is_kept(
    token: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch, fake_az: str
) -> None:
    content = {"access_token": "token-of-app-service", "expires_on": str(int(time.time()) + 3600), "resource": "x"}
    app_service = misbehaving(peer.reply(json.dumps(content).encode()))
    monkeypatch.setenv("IDENTITY_ENDPOINT", app_service.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    assert token() == "token-of-app-service"


def test_in_cloud_shells_image_on_another_host_managed_identity_is_kept(
    token: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"access_token": "token-of-app-service", "expires_on": str(int(time.time()) + 3600), "resource": "x"}
    app_service = misbehaving(peer.reply(json.dumps(content).encode()))
    monkeypatch.setenv("IDENTITY_ENDPOINT", app_service.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    # The markers are in the image; nothing listens at the documented address.
    monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
    monkeypatch.setenv("AZD_IN_CLOUDSHELL", "1")
    monkeypatch.setattr(environment, "DEFAULT_ENDPOINT", "http://localhost:9/oauth2/token")
    assert token() == "token-of-app-service"


def test_when_nothing_works_it_says_why_once_in_one_paragraph(
    token: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ClientAuthenticationError) as raised:
        token(exclude_managed_identity_credential=True)
    message = raised.value.message
    assert message == (
        "No credential has a token for https://management.azure.com. AzureCliCredential: Azure CLI not found on path. "
        "Install the Azure CLI and run 'az login'."
    )


def test_azure_identitys_own_chains_still_log_their_failures(log: Everything) -> None:
    with pytest.raises(ClientAuthenticationError):
        ChainedTokenCredential(CloudShellCredential()).get_token(ARM)
    assert [line for line in log.lines if "Attempted credentials" in line]


@pytest.fixture
def counted_az(fake_az: str, tmp_path: Path) -> Callable[[], int]:
    """How often az has been started."""
    program = tmp_path / "bin" / "az"
    count = tmp_path / "starts"
    first, rest = program.read_text().split("\n", 1)
    program.write_text(f"{first}\nopen({str(count)!r}, 'a').write('x')\n{rest}")
    return lambda: len(count.read_text()) if count.exists() else 0


ACR = "https://containerregistry.azure.net/.default"


class TestCache:
    def test_a_token_of_az_is_kept(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        tokens = {credential.get_token(ACR) for _ in range(5)}
        info = credential.get_token_info(ACR)
        assert len(tokens) == 1
        assert info.token == tokens.pop().token
        assert counted_az() == 1
        assert len(in_cloud_shell.requests) == 1

    def test_by_scope_and_tenant(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        credential.get_token(ACR)
        other = "99999999-0000-4000-8000-000000000000"
        for _ in range(2):
            assert credential.get_token(ACR, tenant_id=other).token
            assert credential.get_token_info(ARM, options={"tenant_id": other}).token
        assert counted_az() == 3

    def test_64_threads_start_az_once(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        assert len(set(in_threads(64, lambda _: credential.get_token(ACR)))) == 1
        assert counted_az() == 1

    def test_50_tasks_start_az_once(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        async def main() -> int:
            async with AsyncDefaultCloudShellCredential(**QUIET) as credential:
                return len(set(await asyncio.gather(*(credential.get_token(ACR) for _ in range(50)))))

        assert asyncio.run(main()) == 1
        assert counted_az() == 1

    def test_on_trio(self, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
        credential = AsyncDefaultCloudShellCredential(**QUIET)
        assert trio.run(credential.get_token, ACR).token == fake_az
        assert trio.run(credential.get_token_info, ARM).token != fake_az

    def test_claims_are_always_asked_for(
        self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int], mocker: Any
    ) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        first = credential.get_token(ARM)
        # az itself refuses a challenge; a credential behind Cloud Shell that satisfies it:
        expires = int(time.time()) + 3600
        answers = [AccessTokenInfo("better", expires), AccessTokenInfo("best", expires)]
        asked = mocker.patch.object(DefaultAzureCredential, "get_token_info", side_effect=answers)
        assert credential.get_token(ARM, claims="{}").token == "better"
        assert credential.get_token(ARM, claims="{}").token == "best"
        assert asked.call_args.kwargs["options"] == {"claims": "{}"}
        # It has replaced the one that was not good enough.
        assert credential.get_token(ARM).token == "best" != first.token
        assert asked.call_count == 2

    def test_the_kind_and_the_refresh_time_of_a_token_are_kept(self, mocker: Any) -> None:
        expires = int(time.time()) + 3600
        info = AccessTokenInfo("x", expires, token_type="pop", refresh_on=expires - 1800)
        mocker.patch.object(DefaultAzureCredential, "get_token_info", return_value=info)
        options: Any = {"pop": {"nonce": "n"}}
        kept = DefaultCloudShellCredential(**QUIET).get_token_info(ARM, options=options)
        assert (kept.token_type, kept.refresh_on) == ("pop", expires - 1800)

    def test_a_failure_is_not_kept(self, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        credential = DefaultCloudShellCredential(**QUIET)
        for _ in range(2):
            with pytest.raises(ClientAuthenticationError, match="AudienceNotSupported"):
                credential.get_token(ACR)
        assert len(in_cloud_shell.requests) == 2

    def test_without_a_scope(self) -> None:
        with pytest.raises(ValueError, match="requires a scope"):
            DefaultCloudShellCredential(**QUIET).get_token()


def test_what_a_credential_says_is_read_from_the_list_of_azure_identity() -> None:
    message = (
        "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n"
        "\tManagedIdentityCredential: ManagedIdentityCredential authentication unavailable. Identity not found.\n"
        "Visit https://x y\n"
        "\tAzureCliCredential: ERROR: first line\nsecond line eyJhbGciOiJub25lIn0.eyJhIjoxfQ.\n"
        "To mitigate this issue, please refer to x\nTo mitigate this issue, please refer to x."
    )
    reasons = explanation.reasons_in("DefaultAzureCredential", ClientAuthenticationError(message=message))
    assert [(reason.name, reason.text) for reason in reasons] == [
        ("ManagedIdentityCredential", "Identity not found."),
        ("AzureCliCredential", "ERROR: first line second line [redacted]"),
    ]
    (odd,) = explanation.reasons_in("Odd", ClientAuthenticationError(message="odd"))
    assert (odd.name, odd.text) == ("Odd", "odd")


class Peer:
    """A credential that is not ours, with what it answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_token_info(self, *scopes: str, options: Any = None) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def get_token(self, *scopes: str, **options: Any) -> Any:
        return self.get_token_info(*scopes)


def jwt_of(user: str, tenant: str, object_id: str) -> str:
    claims = {"upn": user, "tid": tenant, "oid": object_id}
    return f"eyJ9.{b64encode(json.dumps(claims).encode()).decode()}.{user}"


def answers_of(first: Any, *others: Any) -> Any:
    """A default chain whose last step is a credential with this answer."""
    credential = DefaultCloudShellCredential(**QUIET)
    chain = credential
    chain.credentials = (*chain.credentials[:-1], Peer(first), *map(Peer, others))
    return credential


def info(value: str, expires_on: Any = None) -> AccessTokenInfo:
    return AccessTokenInfo(value, int(time.time()) + 3600 if expires_on is None else expires_on)


BOB = jwt_of("bob@fabrikam.example", "99999999-aaaa-4bbb-8ccc-222222222222", "bob")
ADA = jwt_of(Identity().user, Identity().tenant_id.upper(), Identity().object_id)


class TestWhatOthersReturn:
    @pytest.mark.parametrize(
        "expires_on", [None, "2030-01-01 00:00:00", "1795000000", float("nan"), float("inf"), True, -1]
    )
    def test_nonsense_is_a_failure_and_no_wait_without_end(self, expires_on: Any) -> None:
        answer = info("x")
        answer = AccessTokenInfo("x", expires_on)
        with pytest.raises(ClientAuthenticationError, match="Peer: it returned"):
            answers_of(answer).get_token(ARM)

    @pytest.mark.parametrize("value", [None, "", "two lines\n", "t\u00f6ken", 7])
    def test_so_is_what_is_no_token(self, value: Any) -> None:
        with pytest.raises(ClientAuthenticationError, match="Peer: it returned"):
            answers_of(AccessTokenInfo(value, int(time.time()) + 3600)).get_token(ARM)

    def test_a_fraction_of_a_second_is_rounded_down(self) -> None:
        expires = int(time.time()) + 3600
        assert answers_of(info("x", expires + 0.45)).get_token(ARM).expires_on == expires

    def test_any_exception_reaches_everybody_who_waits(self) -> None:
        credential = answers_of(ZeroDivisionError("odd"))

        def ask(_: int) -> None:
            with pytest.raises(ZeroDivisionError, match="odd"):
                credential.get_token(ARM)

        in_threads(16, ask)


class TestClaims:
    CLAIMS = '{"access_token":{}}'
    ENCODED = "eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="

    def test_a_challenge_is_never_answered_with_the_token_that_was_challenged(
        self, in_cloud_shell: CloudShellEmulator, kind_of_chain: Any
    ) -> None:
        credential = kind_of_chain(**QUIET)
        credential.get_token(ARM)
        for method, options in (
            (credential.get_token, {"claims": self.CLAIMS}),
            (credential.get_token_info, {"options": {"claims": self.CLAIMS, "enable_cae": True}}),
        ):
            with pytest.raises(ClientAuthenticationError) as raised:
                method(ARM, **options)
            # The command can be pasted.
            assert f"az login --claims-challenge {self.ENCODED}" in raised.value.message
            assert "redacted" not in raised.value.message

    def test_nor_by_azs_own_words(self, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        with pytest.raises(ClientAuthenticationError) as raised:
            credential.get_token(ARM, claims=self.CLAIMS)
        assert raised.value.message.count("--claims-challenge") == 1
        assert f"--claims-challenge {self.ENCODED}" in raised.value.message

    def test_64_threads_with_one_challenge_are_one_acquisition(self, in_cloud_shell: CloudShellEmulator) -> None:
        asked: list[Any] = []

        class Slow(Peer):
            def get_token_info(self, *scopes: str, options: Any = None) -> Any:
                asked.append(options)
                time.sleep(0.3)
                return super().get_token_info(*scopes)

        credential = DefaultCloudShellCredential(**QUIET)
        credential.credentials = (Slow(info("satisfying")),)
        tokens = in_threads(64, lambda _: credential.get_token(ARM, claims=self.CLAIMS).token)
        assert set(tokens) == {"satisfying"}
        assert len(asked) == 1


@pytest.fixture(params=["sync", "async"])
def kind_of_chain(request: pytest.FixtureRequest) -> Any:
    if request.param == "sync":
        return DefaultCloudShellCredential

    class Waited:
        def __init__(self, **options: Any) -> None:
            self.credential = AsyncDefaultCloudShellCredential(**options)

        def get_token(self, *scopes: str, **options: Any) -> Any:
            return asyncio.run(self.credential.get_token(*scopes, **options))

        def get_token_info(self, *scopes: str, **options: Any) -> Any:
            return asyncio.run(self.credential.get_token_info(*scopes, **options))

    return Waited


def test_azure_identity_is_not_asked_to_log_requests(in_cloud_shell: CloudShellEmulator, mocker: Any) -> None:
    asked = mocker.spy(DefaultAzureCredential, "__init__")
    credential = DefaultCloudShellCredential(logging_enable=True, **QUIET)
    assert "logging_enable" not in asked.call_args.kwargs
    assert credential.credentials[0]._options["logging_enable"] is True


def test_a_cold_chain_starts_one_thread(in_cloud_shell: CloudShellEmulator, mocker: Any) -> None:
    started = mocker.spy(threading.Thread, "start")
    DefaultCloudShellCredential(**QUIET).get_token(ARM)
    named = [call.args[0] for call in started.call_args_list if call.args[0].name == "azure-cloudshell-credential"]
    assert len(named) == 1


@pytest.mark.parametrize("name", ["vault", "management.azure.com"])
def test_a_name_where_a_scope_belongs_is_said_before_anybody_is_asked(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not a scope: use https://"):
        DefaultCloudShellCredential(**QUIET).get_token(name)


def test_in_cloud_shells_image_without_its_variables_that_comes_first(
    token: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "IMAGE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClientAuthenticationError) as raised:
        token(exclude_managed_identity_credential=True)
    start = (
        f"No credential has a token for {ARM.removesuffix('/.default')}. Cloud Shell: This is Azure Cloud Shell, but"
    )
    assert raised.value.message.startswith(start)
    assert raised.value.message.endswith("Pass on MSI_ENDPOINT and ACC_CLOUD.")


def test_a_reason_that_ends_in_brackets_has_one_full_stop(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    in_cloud_shell.script(*[faults.server_error(503)] * 4)
    with pytest.raises(ClientAuthenticationError, match=r"\(Asked 2 times in [\w. ]+\.\) \w") as raised:
        DefaultCloudShellCredential(**QUIET, retry_total=1, retry_backoff_factor=0).get_token(ARM)
    assert ".)." not in raised.value.message


class TakesAll:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(" and ".join(scopes).replace(" ", "_"), int(time.time()) + 3600)


def test_scopes_of_several_resources_go_to_a_credential_that_takes_them(in_cloud_shell: CloudShellEmulator) -> None:
    chain = ChainedTokenCredential(CloudShellCredential(), TakesAll())
    assert chain.get_token(ARM, VAULT).token == f"{ARM}_and_{VAULT}"
    default = DefaultCloudShellCredential(**QUIET)
    default.credentials = (default.credentials[0], TakesAll())
    assert default.get_token(ARM, VAULT).token == f"{ARM}_and_{VAULT}"
    assert default.get_token(VAULT).token.count(".") == 2


@pytest.mark.parametrize("is_here", [True, False], ids=["Cloud Shell", "laptop"])
def test_where_no_credential_takes_several_scopes_it_says_how_to_ask(
    shell: CloudShellEmulator, fake_az: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (shell.environment if is_here else {}).items():
        monkeypatch.setenv(name, value)

    def scopes(*asked: str) -> str:
        with DefaultCloudShellCredential(**QUIET, exclude_cloud_shell_credential=not is_here) as credential:
            return credential.get_token(*asked).token

    with pytest.raises(ClientAuthenticationError, match=r"Ask for one resource's scopes at a time\.$"):
        scopes(ARM, VAULT)
    if not is_here:
        with pytest.raises(
            ClientAuthenticationError, match=r"Use the scope https://graph\.microsoft\.com/\.default\.$"
        ):
            scopes("User.Read", "Mail.Read")


def test_a_mistake_is_the_same_error_after_a_first_token(fake_az: str) -> None:
    # From then on a DefaultAzureCredential asks az alone, whose own ValueError it passes on.
    credential = DefaultCloudShellCredential(**QUIET)
    for _ in range(2):
        with pytest.raises(ClientAuthenticationError, match=r"Ask for one resource's scopes at a time\.$"):
            credential.get_token(ARM, VAULT)
        with pytest.raises(ClientAuthenticationError, match="tenant"):
            credential.get_token(ARM, tenant_id="no tenant")
        assert credential.get_token(ARM).token == fake_az


def test_a_scope_that_entra_does_not_know_names_the_right_one(
    token: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "az").write_text("#!/bin/sh\necho 'ERROR: AADSTS500011: The resource was not found.' >&2; exit 1\n")
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ClientAuthenticationError, match=r"Use the scope https://servicebus\.azure\.net/\.default\.$"):
        token("https://contoso.servicebus.windows.net/.default")


def test_a_slow_az_is_said_to_be_slow(
    in_cloud_shell: CloudShellEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "az").write_text("#!/bin/sh\nsleep 30\n")
    (folder / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ClientAuthenticationError, match="the Azure CLI did not answer in time"):
        DefaultCloudShellCredential(process_timeout=1, **QUIET).get_token(ACR)
